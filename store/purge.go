package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// purgeBatch bounds how many events of destroyed rooms one transaction deletes, and purgeRooms
	// how many rooms, so that writers do not wait for a purge.
	purgeBatch = 5000
	purgeRooms = 200
	// purgeBatches bounds how many transactions one sweep uses for each table.
	purgeBatches = 50
	// purgeOldBatch bounds how many sessions, departures or bans one transaction deletes. The
	// presences of a session are deleted with it.
	purgeOldBatch = 500
	// endedKept is how long the row of an ended session is kept, so that its client can learn why
	// the session ended.
	endedKept = 24 * time.Hour
	// departuresKept is how long a client that returns can learn why its session is no longer in a
	// room.
	departuresKept = endedKept
)

// purge deletes rows that no caller can ask for any more, in bounded batches. Members of a
// destroyed room can no longer read its messages. The rows are deleted when the feed has retained
// them for its time.
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
	for _, users := range []struct {
		kind     string
		retained time.Duration
	}{
		{kindSession, s.opts.FeedRetention},
		{kindPeer, min(s.opts.FeedRetention, s.opts.PeerRetention)},
	} {
		if err := s.trimUserEvents(ctx, users.kind, now.Add(-users.retained)); err != nil {
			return s.ignoreLocked(err)
		}
	}
	for _, old := range []struct {
		table, at string
		before    time.Time
	}{
		{"departures", "left_at", now.Add(-departuresKept)},
		{"bans", "until", now},
		{"broadcasts", "ended_at", now.Add(-broadcastsKept)},
		{"status_subscriptions", "expires_at", now},
		{"sessions", "ended_at", now.Add(-endedKept)},
	} {
		if err := s.purgeOld(ctx, old.table, old.at, old.before); err != nil {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

// purgeOld deletes rows of a table whose time is at or before an instant, in bounded batches. It
// skips rows that are locked.
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

// purgeRooms deletes events of rooms that were destroyed before an instant, and the rooms
// themselves when all their events are deleted. It reports whether there may be more to delete.
func (s *Store) purgeRooms(ctx context.Context, before time.Time) (bool, error) {
	// The gap in the feed is recorded before anything is deleted. Rooms that are locked are left to
	// a later sweep.
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
	// The events are found by their keys. A ctid is unique only within a partition, and this server
	// may still run when a later release divides the table (docs/adr/0057).
	deleted, err := s.pool.Exec(ctx, `DELETE FROM events e USING (
			SELECT generation, seq FROM events WHERE generation = ANY ($1) LIMIT $2
		) due WHERE e.generation = due.generation AND e.seq = due.seq`, due, purgeBatch)
	if err != nil || deleted.RowsAffected() == purgeBatch {
		return true, err
	}
	if more, err := s.releaseMedia(ctx, due, s.now()); err != nil || more {
		return true, err
	}
	_, err = s.pool.Exec(ctx, "DELETE FROM rooms WHERE generation = ANY ($1)", due)
	return len(due) == purgeRooms, err
}

// trimUserEvents deletes the events of users of a kind that are older than a time, from the oldest
// up to the first that is retained, and records the gap in the feed.
func (s *Store) trimUserEvents(ctx context.Context, kind string, before time.Time) error {
	for range purgeBatches {
		var deleted int
		// Most sweeps find that the oldest event stays, and read no other.
		err := s.pool.QueryRow(ctx, `
			WITH stays AS MATERIALIZED (
				SELECT xact, n FROM (
					SELECT xact, n, at FROM user_events WHERE kind = $1 ORDER BY xact, n LIMIT $3
				) oldest WHERE at > $2 ORDER BY xact, n LIMIT 1
			), due AS (
				(SELECT xact, n FROM user_events WHERE kind = $1 AND (xact, n) < (SELECT xact, n FROM stays)
					ORDER BY xact DESC, n DESC LIMIT 1)
				UNION ALL (SELECT xact, n FROM (
					SELECT xact, n FROM user_events WHERE kind = $1 AND NOT EXISTS (SELECT FROM stays) ORDER BY xact, n LIMIT $3
				) oldest ORDER BY xact DESC, n DESC LIMIT 1)
			), gone AS (
				DELETE FROM user_events WHERE kind = $1 AND (xact, n) <= (SELECT xact, n FROM due)
				RETURNING xact, n
			), newest AS (
				SELECT xact, n FROM gone ORDER BY xact DESC, n DESC LIMIT 1
			), told AS (
				UPDATE user_events_trimmed t SET xact = newest.xact, n = newest.n FROM newest
				WHERE kind = $1 AND (t.xact, t.n) < (newest.xact, newest.n)
			)
			SELECT count(*) FROM gone`, kind, before, purgeBatch).Scan(&deleted)
		if err != nil || deleted < purgeBatch {
			return err
		}
	}
	return nil
}
