package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// purgeBatch bounds how many events of destroyed rooms one transaction
	// deletes, and purgeRooms how many rooms, so that writers never wait for a
	// purge.
	purgeBatch = 5000
	purgeRooms = 200
	// purgeBatches bounds the purging of one sweep.
	purgeBatches = 50
	// purgeOldBatch bounds how many sessions, departures or bans one transaction
	// deletes. With a session go its stays.
	purgeOldBatch = 500
	// endedKept is how long an ended session's row can still say why it ended.
	endedKept = 24 * time.Hour
	// departuresKept is how long a session that comes back can be told why it
	// is out of a room; as long as an ended session can be told that it is over.
	departuresKept = endedKept
)

// purge deletes what nobody can ask for any more, a bounded piece at a time. A
// destroyed room's messages go with it, at once for its members, and for good
// when the feed has kept them for its time.
func (s *Store) purge(ctx context.Context, now time.Time) error {
	for range purgeBatches {
		more, err := s.purgeRooms(ctx, now.Add(-s.opts.FeedRetention))
		if err != nil {
			return s.ignoreLocked(err)
		}
		if !more {
			break
		}
	}
	for _, old := range []struct {
		table, at string
		before    time.Time
	}{
		{"departures", "left_at", now.Add(-departuresKept)},
		{"bans", "until", now},
		{"sessions", "ended_at", now.Add(-endedKept)},
	} {
		if err := s.purgeOld(ctx, old.table, old.at, old.before); err != nil {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

// purgeOld deletes the rows of a table that are of an instant or before, a bounded piece
// at a time, but for those that somebody keeps locked.
func (s *Store) purgeOld(ctx context.Context, table, at string, before time.Time) error {
	for range purgeBatches {
		deleted, err := s.pool.Exec(ctx, fmt.Sprintf(`
			DELETE FROM %[1]s WHERE ctid = ANY (ARRAY (
				SELECT ctid FROM %[1]s WHERE %[2]s <= $1 ORDER BY %[2]s LIMIT $2 FOR UPDATE SKIP LOCKED))`, table, at), before, purgeOldBatch)
		if err != nil || deleted.RowsAffected() < purgeOldBatch {
			return err
		}
	}
	return nil
}

// purgeRooms deletes a piece of the logs of some rooms that were destroyed before
// an instant, and the rooms when that was the last piece. It reports whether
// there may be more to do.
func (s *Store) purgeRooms(ctx context.Context, before time.Time) (bool, error) {
	// First of all readers are told where the feed has a hole. Rooms that somebody keeps
	// locked are for another time.
	rows, err := s.pool.Query(ctx, `
		WITH due AS MATERIALIZED (
			SELECT r.generation, destroyed_xact AS xact, l.last_seq + 1 AS seq FROM rooms r
			CROSS JOIN LATERAL (
				SELECT last_seq FROM logs WHERE generation = r.generation LIMIT 1 FOR UPDATE SKIP LOCKED
			) l
			WHERE destroyed_at <= $1 ORDER BY destroyed_at LIMIT $2 FOR UPDATE OF r SKIP LOCKED
		), newest AS (
			SELECT xact, generation, seq FROM due ORDER BY xact DESC, generation DESC LIMIT 1
		), told AS (
			UPDATE feed_trimmed t SET xact = n.xact, generation = n.generation, seq = n.seq FROM newest n
			WHERE (t.xact, t.generation, t.seq) < (n.xact, n.generation, n.seq)
		)
		SELECT generation FROM due`, before, purgeRooms)
	if err != nil {
		return false, err
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[room.LogID])
	if err != nil || len(due) == 0 {
		return false, err
	}
	deleted, err := s.pool.Exec(ctx, `DELETE FROM events WHERE ctid = ANY (ARRAY (
		SELECT ctid FROM events WHERE generation = ANY ($1) LIMIT $2))`, due, purgeBatch)
	if err != nil || deleted.RowsAffected() == purgeBatch {
		return true, err
	}
	if more, err := s.releaseMedia(ctx, due, s.now()); err != nil || more {
		return true, err
	}
	_, err = s.pool.Exec(ctx, "DELETE FROM rooms WHERE generation = ANY ($1)", due)
	return len(due) == purgeRooms, err
}
