package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// sweepBatch bounds how many sessions or rooms that are due one transaction
	// holds.
	sweepBatch = 200
	// sweepBatches bounds one look for each of them, so that none keeps the others
	// waiting.
	sweepBatches = 20
	// purgeBatch bounds how many events of destroyed rooms one transaction
	// deletes, and purgeRooms how many rooms, so that writers never wait for a
	// purge.
	purgeBatch = 5000
	purgeRooms = 200
	// purgeBatches bounds the purging of one sweep.
	purgeBatches = 50
	// endedKept is how long an ended session's row can still say why it ended.
	endedKept = 24 * time.Hour
	// departuresKept is how long a session that comes back can be told why it
	// is out of a room; as long as an ended session can be told that it is over.
	departuresKept = endedKept
)

// Sweep does what is due at this instant of the database's clock: it detaches the
// sessions of dead nodes, ends sessions whose token ran out, takes out
// members whose session was detached for memberTimeout, tells large rooms who
// came and went, destroys rooms that are due, trims inboxes, and purges what is over. Any
// number of processes may sweep: due rows are taken with SKIP LOCKED. One process calls it from one goroutine only, about once a second.
func (s *Store) Sweep(ctx context.Context) error {
	read, err := s.clock.read(ctx, s.pool)
	if err != nil {
		return err
	}
	if err := s.watchSchema(ctx, s.now()); err != nil {
		return fmt.Errorf("look at the schema: %w", err)
	}
	if err := s.detachOrphans(ctx, read); err != nil {
		return fmt.Errorf("detach the sessions of dead nodes: %w", err)
	}
	if err := s.clock.timers(); err != nil {
		return err
	}
	now := s.now()
	if err := s.sweepSessions(ctx, expired, now); err != nil {
		return fmt.Errorf("end expired sessions: %w", err)
	}
	if s.lease.isBack(s.clock.process()) {
		if err := s.sweepSessions(ctx, timedOut, now); err != nil {
			return fmt.Errorf("take out members that timed out: %w", err)
		}
	}
	if err := s.announce(ctx, now); err != nil {
		return fmt.Errorf("announce members: %w", err)
	}
	if err := s.destroyDue(ctx, now); err != nil {
		return fmt.Errorf("destroy rooms that are due: %w", err)
	}
	if s.clock.deletes() != nil {
		return nil
	}
	if s.o.MessageRetention > 0 {
		if err := s.trim(ctx, now.Add(-s.o.MessageRetention)); err != nil {
			return fmt.Errorf("trim logs: %w", err)
		}
	}
	if err := s.trimInboxes(ctx, now.Add(-s.o.PeerRetention)); err != nil {
		return fmt.Errorf("trim inboxes: %w", err)
	}
	if err := s.purge(ctx, now); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}

// mayDelete reads the clock, and reports whether it can be trusted so far that what
// is old by it may be deleted. Where it cannot be, the clock and Sweep have said so.
func (s *Store) mayDelete(ctx context.Context) (bool, error) {
	if _, err := s.clock.read(ctx, s.pool); err != nil {
		return false, err
	}
	return s.clock.deletes() == nil, nil
}

// due is a kind of session that something must happen to: the condition that
// finds it at the instant $1, and what happens, in a transaction that holds the
// rows.
type due struct {
	condition string
	act       func(context.Context, pgx.Tx, []room.SessionID, time.Time) (room.Change, error)
}

// overdue is the stays whose session has been detached for memberTimeout at $1.
const overdue = "s.detached_at + make_interval(secs => r.member_timeout) <= $1"

var (
	expired = due{
		condition: `s.ended_at IS NULL AND s.token_expires_at <= $1`,
		act: func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time) (room.Change, error) {
			return endSessions(ctx, tx, sessions, room.EndTokenExpired, "", now)
		},
	}
	timedOut = due{
		condition: `s.ended_at IS NULL AND s.detached_at <= $1 AND EXISTS (
			SELECT FROM attendances a JOIN rooms r USING (generation) WHERE a.session_id = s.session_id AND ` + overdue + `)`,
		act: func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time) (room.Change, error) {
			stays, err := staysWhere(ctx, tx, overdue+" AND a.session_id = ANY ($2)", now, sessions)
			if err != nil {
				return room.Change{}, err
			}
			return leaveRooms(ctx, tx, stays, room.ReasonTimedOut, "", now)
		},
	}
)

// sweepSessions takes due sessions, so many in a transaction as may well be due
// together: everybody in a room whose network went away.
func (s *Store) sweepSessions(ctx context.Context, d due, now time.Time) error {
	for range sweepBatches {
		var swept []room.SessionID
		err := s.inTx(ctx, func(tx pgx.Tx) (room.Change, error) {
			rows, err := tx.Query(ctx, "SELECT session_id FROM sessions s WHERE "+d.condition+
				" ORDER BY session_id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED", now, sweepBatch)
			if err != nil {
				return room.Change{}, err
			}
			if swept, err = pgx.CollectRows(rows, pgx.RowTo[room.SessionID]); err != nil || len(swept) == 0 {
				return room.Change{}, err
			}
			return d.act(ctx, tx, swept, now)
		})
		if err != nil {
			return err
		}
		if len(swept) < sweepBatch {
			return nil
		}
	}
	return nil
}

// destroyDue ends the rooms whose time without members is up. Nobody is in
// them, so nobody but the feed is told. Whether somebody ever was shows in the
// log, or where that was trimmed in when the room goes. The rooms' own rows are locked
// too, so that who entered just before is seen.
func (s *Store) destroyDue(ctx context.Context, now time.Time) error {
	for range sweepBatches {
		destroyed, err := s.pool.Exec(ctx, `
			WITH due AS (
				SELECT generation FROM rooms r JOIN logs l USING (generation)
				WHERE destroy_at <= $1 AND destroyed_at IS NULL AND NOT closed
				ORDER BY generation LIMIT $2 FOR NO KEY UPDATE OF r, l SKIP LOCKED
			), closed AS (
				UPDATE logs l SET closed = true, last_xact = `+nextXact+` FROM due WHERE l.generation = due.generation
				RETURNING l.generation, last_xact
			)
			UPDATE rooms r SET destroyed_at = destroy_at, destroyed_xact = closed.last_xact,
				destroy_reason = CASE WHEN destroy_at <> created_at + make_interval(secs => unused_timeout) OR EXISTS (
					SELECT FROM events e WHERE e.generation = r.generation AND e.type = $3) THEN $4 ELSE $5 END
			FROM closed WHERE r.generation = closed.generation`,
			now, sweepBatch, room.TypeMembersJoined, room.DestroyEmpty, room.DestroyUnused)
		if err != nil {
			return translate(err)
		}
		s.committed.raise()
		if destroyed.RowsAffected() < sweepBatch {
			break
		}
	}
	return nil
}

// purge deletes what nobody can ask for any more, a bounded piece at a time. A
// destroyed room's messages go with it, at once for its members, and for good
// when the feed has kept them for its time.
func (s *Store) purge(ctx context.Context, now time.Time) error {
	for range purgeBatches {
		more, err := s.purgeRooms(ctx, now.Add(-s.o.FeedRetention))
		if err != nil {
			return translate(err)
		}
		if !more {
			break
		}
	}
	if _, err := s.pool.Exec(ctx, "DELETE FROM departures WHERE left_at < $1", now.Add(-departuresKept)); err != nil {
		return translate(err)
	}
	if _, err := s.pool.Exec(ctx, "DELETE FROM bans WHERE until <= $1", now); err != nil {
		return translate(err)
	}
	_, err := s.pool.Exec(ctx, "DELETE FROM sessions WHERE ended_at < $1", now.Add(-endedKept))
	return translate(err)
}

// purgeRooms deletes a piece of the logs of some rooms that were destroyed before
// an instant, and the rooms when that was the last piece. It reports whether
// there may be more to do.
func (s *Store) purgeRooms(ctx context.Context, before time.Time) (bool, error) {
	// First of all readers are told where the feed has a hole.
	rows, err := s.pool.Query(ctx, `
		WITH due AS (
			SELECT generation, destroyed_xact AS xact, last_seq + 1 AS seq FROM rooms JOIN logs USING (generation)
			WHERE destroyed_at <= $1 ORDER BY destroyed_at LIMIT $2
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
	due, err := pgx.CollectRows(rows, pgx.RowTo[room.Generation])
	if err != nil || len(due) == 0 {
		return false, err
	}
	deleted, err := s.pool.Exec(ctx, `DELETE FROM events WHERE (generation, seq) IN (
		SELECT generation, seq FROM events WHERE generation = ANY ($1) LIMIT $2)`, due, purgeBatch)
	if err != nil || deleted.RowsAffected() == purgeBatch {
		return true, err
	}
	if more, err := s.letMediaGo(ctx, due, s.now()); err != nil || more {
		return true, err
	}
	_, err = s.pool.Exec(ctx, "DELETE FROM rooms WHERE generation = ANY ($1)", due)
	return len(due) == purgeRooms, err
}
