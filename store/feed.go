package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// DefaultFeedRetention is how long the feed keeps the events of a destroyed
// room where nobody says otherwise.
const DefaultFeedRetention = time.Hour

// feedPage merges the three sources of the feed, each in order. Places below
// the snapshot's xmin are complete: every transaction that could write there has
// finished. The limit is part of the text, because the planner must know it to
// take the indexes.
const feedPage = `
	SELECT ` + roomColumns + `, p.xact, p.seq, p.type, p.at, p.body, coalesce(r.destroy_reason, '')
	FROM (
		(SELECT xact, generation, seq, type, at, body FROM events
			WHERE (xact, generation, seq) > ($1, $2, $3) AND xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY xact, generation, seq LIMIT %[1]d)
		UNION ALL
		(SELECT created_xact, generation, 0, $4, created_at, '' FROM rooms
			WHERE (created_xact, generation) > ($1, $2) AND created_xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY created_xact, generation LIMIT %[1]d)
		UNION ALL
		(SELECT destroyed_xact, generation, last_seq + 1, $5, destroyed_at, '' FROM rooms JOIN logs USING (generation)
			WHERE (destroyed_xact, generation) >= ($1, $2) AND (destroyed_xact, generation, last_seq + 1) > ($1, $2, $3)
				AND destroyed_xact < pg_snapshot_xmin(pg_current_snapshot())
			ORDER BY destroyed_xact, generation LIMIT %[1]d)
	) p JOIN rooms r USING (generation)
	ORDER BY p.xact, p.generation, p.seq LIMIT %[1]d`

// feedState is read after the page: what is purged in between may be reported
// as missing though it is not, and never the other way round. A cursor that was
// given out is at most where the feed begins for who asks now, FeedEnd.
const feedState = `
	SELECT t.xact, t.generation, t.seq,
		($1::xid8, $2::bigint, $3::bigint) > (pg_snapshot_xmax(s), 0, 0), pg_snapshot_xmin(s) < pg_snapshot_xmax(s)
	FROM feed_trimmed t, pg_current_snapshot() s`

// FeedAfter is the events of the feed next after a cursor, at most n: all that
// committed before the oldest transaction that is under way. Whoever continues
// from the last one misses nothing and sees nothing twice.
func (s *Store) FeedAfter(ctx context.Context, after room.FeedCursor, n int) (room.FeedPage, error) {
	now := s.epoch()
	page := room.FeedPage{Epoch: now.id, Foreign: !now.includes(after.Epoch)}
	var b pgx.Batch
	b.Queue(fmt.Sprintf(feedPage, n), after.Xact, after.Log, after.Seq, room.TypeRoomCreated, room.TypeRoomDestroyed).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				e, err := scanFeedEvent(rows)
				if err != nil {
					return err
				}
				e.Cursor.Epoch = now.id
				page.Events = append(page.Events, e)
			}
			return rows.Err()
		})
	b.Queue(feedState, after.Xact, after.Log, after.Seq).QueryRow(func(row pgx.Row) error {
		return row.Scan(&page.Trimmed.Xact, &page.Trimmed.Log, &page.Trimmed.Seq, &page.Ahead, &page.Busy)
	})
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil {
		return room.FeedPage{}, translate(err)
	}
	return page, nil
}

func scanFeedEvent(row pgx.Row) (room.FeedEvent, error) {
	var (
		e      room.FeedEvent
		at     time.Time
		body   string
		reason room.DestroyReason
	)
	r, err := scanRoom(row, &e.Cursor.Xact, &e.Cursor.Seq, &e.Type, &at, &body, &reason)
	if err != nil {
		return e, err
	}
	e.Cursor.Log = r.Generation
	switch e.Type {
	case room.TypeRoomCreated:
		e.Data = room.Created{Room: r}
	case room.TypeRoomDestroyed:
		e.Data = room.Destroyed{RoomID: r.ID, Generation: r.Generation, Reason: reason, DestroyedAt: at.UTC()}
	default:
		e.Data, err = restore(room.Event{Room: r.ID, Log: r.Generation, Seq: e.Cursor.Seq, At: at.UTC()}, e.Type, body)
	}
	return e, err
}

// FeedEnd is where the feed begins for who has no cursor: everything that
// happens from now on comes after it.
func (s *Store) FeedEnd(ctx context.Context) (room.FeedCursor, error) {
	c := room.FeedCursor{Epoch: s.epoch().id}
	err := s.pool.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())").Scan(&c.Xact)
	return c, translate(err)
}

// Committed is closed after the next commit of this process. Who takes it and
// then reads the feed misses none; other processes' commits it does not tell.
func (s *Store) Committed() <-chan struct{} { return s.committed.wait() }

// mendFeed brings back places that lie in the future of this database: those of
// a dump from another one, which counted its own transactions. The feed would
// hold them back until the count has caught up. They move to one place, now,
// in which each log keeps its order.
func (s *Store) repairFeed(ctx context.Context) error {
	var future bool
	err := s.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM events WHERE xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM rooms WHERE created_xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM rooms WHERE destroyed_xact >= pg_snapshot_xmax(s))
			OR EXISTS (SELECT FROM feed_trimmed WHERE xact >= pg_snapshot_xmax(s))
		FROM pg_current_snapshot() s`).Scan(&future)
	if err != nil || !future {
		return translate(err)
	}
	s.opts.Log.Warn("the feed's places are those of another database and are set anew")
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Whoever writes events writes to one of these first, so nobody does meanwhile.
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil { // it may be all there is
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE rooms, logs IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		var next uint64
		if err := tx.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())").Scan(&next); err != nil {
			return err
		}
		var b pgx.Batch
		for _, place := range []struct{ table, column string }{
			{"events", "xact"}, {"rooms", "created_xact"}, {"logs", "last_xact"}, {"rooms", "destroyed_xact"}, {"feed_trimmed", "xact"},
		} {
			b.Queue("UPDATE "+place.table+" SET "+place.column+" = pg_current_xact_id() WHERE "+place.column+" >= $1", next)
		}
		return send(ctx, tx, &b)
	})
	if err != nil {
		return fmt.Errorf("mend the feed: %w", translate(err))
	}
	return nil
}

// signal wakes whoever waits. It costs next to nothing while nobody does.
type signal struct{ next atomic.Pointer[chan struct{}] }

// wait is a channel that the next raise closes.
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
