package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// DefaultFeedRetention is how long the feed retains the events of a destroyed room if the
// configuration does not set it.
const DefaultFeedRetention = time.Hour

// feedPage merges the three sources of the feed, each in order. Positions below the xmin of the
// snapshot are complete, because every transaction that could write there has finished. The limit
// is part of the text, because the planner must know it to use the indexes.
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

// feedState is read after the page: an event that is purged in between may be reported as missing
// although it was not, but never the other way round. A valid cursor is never ahead of FeedEnd.
const feedState = `
	SELECT t.xact, t.generation, t.seq,
		($1::xid8, $2::bigint, $3::bigint) > (pg_snapshot_xmax(s), 0, 0), pg_snapshot_xmin(s) < pg_snapshot_xmax(s)
	FROM feed_trimmed t, pg_current_snapshot() s`

// FeedAfter returns the next events of the feed after a cursor, at most n, from transactions that
// committed before the oldest one in flight. A reader that continues from the last event misses no
// event and gets none twice.
func (s *Store) FeedAfter(ctx context.Context, after room.FeedCursor, n int) (room.FeedPage, error) {
	current := s.epoch()
	page := room.FeedPage{Epoch: current.id, Foreign: !current.includes(after.Epoch)}
	var b pgx.Batch
	b.Queue(fmt.Sprintf(feedPage, n), after.Xact, after.Log, after.Seq, room.TypeRoomCreated, room.TypeRoomDestroyed).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				e, err := scanFeedEvent(rows)
				if err != nil {
					return err
				}
				e.Cursor.Epoch = current.id
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
		e.Data = room.Destroyed{RoomID: r.ID, Generation: r.Generation, Reason: reason, DestroyedAt: room.InstantOf(at)}
	default:
		e.Data, err = restore(room.Event{Room: r.ID, Log: r.Generation, Seq: e.Cursor.Seq, At: at.UTC()}, e.Type, body)
	}
	return e, err
}

// FeedEnd returns the cursor for a reader without one: all events from now on come after it.
func (s *Store) FeedEnd(ctx context.Context) (room.FeedCursor, error) {
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
		FROM pg_current_snapshot() s`).Scan(&future)
	if err != nil || !future {
		return translate(err)
	}
	s.opts.Log.Warn("feed positions repaired: they were those of another database")
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Every transaction that writes events writes to rooms or logs first, so the lock stops
		// them all. The update may affect all rows, so it has no timeout.
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
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
		for _, position := range []struct{ table, column string }{
			{"events", "xact"}, {"rooms", "created_xact"}, {"logs", "last_xact"}, {"rooms", "destroyed_xact"}, {"feed_trimmed", "xact"},
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
