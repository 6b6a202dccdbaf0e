package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// DefaultFeedRetention is how long the feed retains the events of a destroyed room if the
// configuration does not set it.
const DefaultFeedRetention = time.Hour

// feedPage merges the sources of the feed, each in order. Positions below the xmin of the snapshot
// are complete, because every transaction that could write there has finished. The limit is part of
// the text, because the planner must know it to use the indexes.
const feedPage = `
	SELECT p.xact, p.log, p.seq, p.type, p.at, p.body, p.log_seq,
		coalesce(r.room_id, ''), coalesce(r.destroy_reason, ''), coalesce(r.creator_id, '')
	FROM (
		(SELECT xact, generation AS log, seq, type, at, body, seq AS log_seq FROM events
			WHERE (xact, generation, seq) > ($1, $2, $3) AND xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY xact, generation, seq LIMIT %[1]d)
		UNION ALL
		(SELECT created_xact, generation, 0, $4, created_at, '', 0 FROM rooms
			WHERE (created_xact, generation) > ($1, $2) AND created_xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY created_xact, generation LIMIT %[1]d)
		UNION ALL
		(SELECT destroyed_xact, generation, last_seq + 1, $5, destroyed_at, '', 0 FROM rooms JOIN logs USING (generation)
			WHERE (destroyed_xact, generation) >= ($1, $2) AND (destroyed_xact, generation, last_seq + 1) > ($1, $2, $3)
				AND destroyed_xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY destroyed_xact, generation LIMIT %[1]d)
		%[2]s
	) p LEFT JOIN LATERAL (
		SELECT room_id, destroy_reason, creator_id FROM rooms WHERE generation = p.log LIMIT 1
	) r ON true
	ORDER BY p.xact, p.log, p.seq LIMIT %[1]d`

// userEventsOf is the source of the events of a kind of user events. $6 is the n after which those
// of transaction $1 follow.
const userEventsOf = `
		UNION ALL
		(SELECT xact, 0, n, type, at, body, coalesce(seq, 0) FROM user_events
			WHERE kind = '%[2]s' AND (xact, n) > ($1, $6) AND xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY xact, n LIMIT %[1]d)`

// The kinds of user events.
const (
	kindSession = "session"
	kindPeer    = "peer"
)

// userEventKinds returns the kinds of user events that a feed has.
func userEventKinds(parts room.FeedParts) (kinds []string) {
	if parts.Sessions {
		kinds = append(kinds, kindSession)
	}
	if parts.Peers {
		kinds = append(kinds, kindPeer)
	}
	return kinds
}

// feedState is read after the page: an event that is purged in between may be reported as missing
// although it was not, but never the other way round. A valid cursor is never ahead of FeedEnd.
const feedState = `
	SELECT t.xact, t.log, t.seq,
		($1::xid8, $2::bigint, $3::bigint) > (pg_snapshot_xmax(s), 0, 0), pg_snapshot_xmin(s) < pg_snapshot_xmax(s)
	FROM (
		SELECT xact, generation AS log, seq FROM feed_trimmed
		UNION ALL SELECT xact, 0, n FROM user_events_trimmed WHERE kind = ANY ($4::text[])
		ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1
	) t, pg_current_snapshot() s`

// FeedAfter returns the next events of the feed after a cursor, at most n, from transactions that
// committed before the oldest one in flight. A reader that continues from the last event misses no
// event and gets none twice. Errors: room.ErrNotInFeed.
func (s *Store) FeedAfter(
	ctx context.Context, after room.FeedCursor, parts room.FeedParts, n int,
) (room.FeedPage, error) {
	if err := s.checkParts(parts); err != nil {
		return room.FeedPage{}, err
	}
	current := s.epoch()
	page := room.FeedPage{Epoch: current.id, Foreign: !current.includes(after.Epoch)}
	kinds := userEventKinds(parts)
	sources, args := "", []any{after.Xact, after.Log, after.Seq, room.TypeRoomCreated, room.TypeRoomDestroyed}
	for _, kind := range kinds {
		sources += fmt.Sprintf(userEventsOf, n, kind)
	}
	if len(kinds) > 0 {
		args = append(args, afterUserEvent(after))
	}
	var created []room.LogID
	var b pgx.Batch
	b.Queue(fmt.Sprintf(feedPage, n, sources), args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			e, err := scanFeedEvent(rows)
			if err != nil {
				return err
			}
			if e.Type == room.TypeRoomCreated {
				created = append(created, e.Cursor.Log)
			}
			e.Cursor.Epoch = current.id
			page.Events = append(page.Events, e)
		}
		return rows.Err()
	})
	b.Queue(feedState, after.Xact, after.Log, after.Seq, append([]string{}, kinds...)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&page.Trimmed.Xact, &page.Trimmed.Log, &page.Trimmed.Seq, &page.Ahead, &page.Busy)
	})
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil {
		return room.FeedPage{}, translate(err)
	}
	if len(created) > 0 {
		if err := s.addCreatedRooms(ctx, created, &page); err != nil {
			return room.FeedPage{}, translate(err)
		}
	}
	return page, nil
}

// checkParts returns room.ErrNotInFeed if the feed does not have the parts.
func (s *Store) checkParts(parts room.FeedParts) error {
	if parts.Peers && !s.opts.FeedPeers {
		return room.ErrNotInFeed
	}
	return nil
}

// afterUserEvent returns the number after which the user events of the cursor's transaction follow:
// they come before the events of its rooms.
func afterUserEvent(c room.FeedCursor) room.Seq {
	if c.Log > 0 {
		return maxSeq
	}
	return c.Seq
}

// addCreatedRooms adds to the creations of rooms in a page what the rooms are like now. A room that
// was purged since the page was read is missing from it, and the page says so.
func (s *Store) addCreatedRooms(ctx context.Context, created []room.LogID, page *room.FeedPage) error {
	rows, err := s.pool.Query(ctx, "SELECT "+roomColumns+" FROM rooms r WHERE generation = ANY ($1)", created)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
	if err != nil {
		return err
	}
	rooms := make(map[room.LogID]room.Room, len(found))
	for _, r := range found {
		rooms[r.Generation] = r
	}
	for i, e := range page.Events {
		c, ok := e.Data.(room.Created)
		if !ok {
			continue
		}
		if c.Room, ok = rooms[e.Cursor.Log]; !ok && page.Trimmed.Before(e.Cursor) {
			page.Trimmed = e.Cursor
		}
		page.Events[i].Data = c
	}
	page.Events = slices.DeleteFunc(page.Events, func(e room.FeedEvent) bool {
		c, ok := e.Data.(room.Created)
		return ok && c.Room.Generation == 0
	})
	return nil
}

func scanFeedEvent(row pgx.Row) (room.FeedEvent, error) {
	var (
		e       room.FeedEvent
		at      time.Time
		body    string
		seq     room.Seq
		id      room.RoomID
		reason  room.DestroyReason
		creator room.UserID
	)
	err := row.Scan(&e.Cursor.Xact, &e.Cursor.Log, &e.Cursor.Seq, &e.Type, &at, &body, &seq, &id, &reason, &creator)
	if err != nil {
		return e, err
	}
	switch e.Type {
	case room.TypeRoomCreated:
		e.Data = room.CreatedBy(room.Room{}, creator)
	case room.TypeRoomDestroyed:
		e.Data = room.Destroyed{RoomID: id, Generation: e.Cursor.Log, Reason: reason, DestroyedAt: room.InstantOf(at)}
	case room.TypeSessionStarted:
		var started room.Started
		err = json.Unmarshal([]byte(body), &started)
		e.Data = started
	case room.TypeSessionEnded:
		var ended room.Ended
		err = json.Unmarshal([]byte(body), &ended)
		ended.EndedAt = room.InstantOf(at)
		e.Data = ended
	default:
		e.Data, err = restore(room.Event{Room: id, Log: e.Cursor.Log, Seq: seq, At: at.UTC()}, e.Type, body)
	}
	return e, err
}

// FeedEnd returns the cursor for a reader without one: all events from now on come after it. Errors:
// room.ErrNotInFeed.
func (s *Store) FeedEnd(ctx context.Context, parts room.FeedParts) (room.FeedCursor, error) {
	if err := s.checkParts(parts); err != nil {
		return room.FeedCursor{}, err
	}
	c := room.FeedCursor{Epoch: s.epoch().id}
	err := s.pool.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())").Scan(&c.Xact)
	return c, translate(err)
}

// Committed returns a channel that is closed after the next commit of this process. A reader that
// takes the channel before it reads the feed misses no commit. Commits of other processes do not
// close it.
func (s *Store) Committed() <-chan struct{} { return s.committed.wait() }

// repairFeed moves feed positions that are in the future of this database to the current one. They
// come with the dump of another database, which counted its own transactions. The feed would not
// deliver those events until this database's count has caught up. Each log keeps its order at the
// new position.
func (s *Store) repairFeed(ctx context.Context) error {
	var future bool
	err := s.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM events WHERE xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM rooms WHERE created_xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM rooms WHERE destroyed_xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM feed_trimmed WHERE xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM user_events WHERE kind IN ('session', 'peer') AND xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM user_events_trimmed WHERE xact >= pg_snapshot_xmax(s))
		FROM pg_current_snapshot() s`).Scan(&future)
	if err != nil || !future {
		return translate(err)
	}
	s.opts.Log.Warn("feed positions repaired: they were those of another database")
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Every transaction that writes events writes to one of these first, so the lock stops them
		// all. The update may affect all rows, so it has no timeout.
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE rooms, logs, user_events IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		var next uint64
		if err := tx.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())").Scan(&next); err != nil {
			return err
		}
		var b pgx.Batch
		for _, position := range []struct{ table, column string }{
			{"events", "xact"},
			{"rooms", "created_xact"},
			{"logs", "last_xact"},
			{"rooms", "destroyed_xact"},
			{"feed_trimmed", "xact"},
			{"user_events", "xact"},
			{"user_events_trimmed", "xact"},
		} {
			b.Queue("UPDATE "+position.table+" SET "+position.column+" = pg_current_xact_id() WHERE "+position.column+" >= $1", next)
		}
		return sendBatch(ctx, tx, &b)
	})
	if err != nil {
		return fmt.Errorf("repair the feed: %w", translate(err))
	}
	return nil
}

// A signal wakes waiting goroutines. It costs next to nothing while none waits.
type signal struct{ next atomic.Pointer[chan struct{}] }

// wait returns a channel that the next raise closes.
func (s *signal) wait() <-chan struct{} {
	for {
		if c := s.next.Load(); c != nil {
			return *c
		}
		if c := make(chan struct{}); s.next.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

func (s *signal) raise() {
	if c := s.next.Load(); c != nil && s.next.CompareAndSwap(c, nil) {
		close(*c)
	}
}
