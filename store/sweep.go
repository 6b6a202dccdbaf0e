package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// sweepBatch bounds how many due sessions or rooms one transaction locks.
	sweepBatch = 200
	// sweepBatches bounds the transactions of each kind in one sweep, so that none delays the
	// others.
	sweepBatches = 20
)

// Sweep does what is due by the database's clock. It detaches the sessions of dead nodes, ends
// sessions whose token has expired, removes members whose session was detached for memberTimeout,
// flushes batched presence, publishes which members are reconnecting and the statuses of users,
// destroys rooms that are due, trims logs and inboxes, and purges old rows. Any number of processes
// may sweep, because due rows are locked with SKIP LOCKED. One process calls Sweep from one goroutine
// only, about once a second.
func (s *Store) Sweep(ctx context.Context) error {
	if _, err := s.clock.read(ctx, s.pool); err != nil {
		return err
	}
	if err := s.watchSchema(ctx, s.now()); err != nil {
		return fmt.Errorf("check the schema: %w", err)
	}
	if err := s.detachOrphans(ctx); err != nil {
		return fmt.Errorf("detach the sessions of dead nodes: %w", err)
	}
	if err := s.clock.checkTimers(); err != nil {
		return err
	}
	now := s.now()
	if err := s.sweepSessions(ctx, expired, now); err != nil {
		return fmt.Errorf("end expired sessions: %w", err)
	}
	if err := s.sweepSessions(ctx, s.idle(), now); err != nil {
		return fmt.Errorf("end idle sessions: %w", err)
	}
	if s.lease.clientsReconnected(now) {
		if err := s.sweepSessions(ctx, timedOut, now); err != nil {
			return fmt.Errorf("remove members that timed out: %w", err)
		}
	}
	if err := s.flushPresence(ctx, now); err != nil {
		return fmt.Errorf("flush presence: %w", err)
	}
	if s.lease.clientsReconnected(now) {
		if err := s.publishStates(ctx, now); err != nil {
			return fmt.Errorf("publish the states of members: %w", err)
		}
		if err := s.publishStatuses(ctx, now); err != nil {
			return fmt.Errorf("publish the statuses of users: %w", err)
		}
	}
	if err := s.destroyDue(ctx, now); err != nil {
		return fmt.Errorf("destroy rooms that are due: %w", err)
	}
	if s.clock.checkDeletes() != nil {
		return nil
	}
	if err := s.trimRoomLogs(ctx, now); err != nil {
		return fmt.Errorf("trim logs: %w", err)
	}
	if err := s.trimInboxes(ctx, now.Add(-s.opts.PeerRetention)); err != nil {
		return fmt.Errorf("trim inboxes: %w", err)
	}
	if err := s.deleteAbsentUsers(ctx, now.Add(-s.opts.UserRetention)); err != nil {
		return fmt.Errorf("delete absent users: %w", err)
	}
	if err := s.purge(ctx, now); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}

// mayDelete reads the clock, and reports whether it can be trusted to delete what is old by it. If
// not, the clock and Sweep have logged why.
func (s *Store) mayDelete(ctx context.Context) (bool, error) {
	if _, err := s.clock.read(ctx, s.pool); err != nil {
		return false, err
	}
	return s.clock.checkDeletes() == nil, nil
}

// dueSessions describes the sessions that one step of a sweep acts on.
type dueSessions struct {
	// condition is the SQL condition that finds such sessions s at the time $2. The rooms $3 are
	// locked, and skipped.
	condition string
	// since is the column with the time since when a session is due.
	since string
	act   sweepAction
}

// A sweepAction acts on sessions whose rows the transaction has locked. It skips locked rooms.
type sweepAction func(
	ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, locked []room.LogID,
) (room.Change, error)

// overduePresence is the condition for presences whose session has been detached for memberTimeout
// at the time $2, except for those in the rooms $3.
const overduePresence = "s.detached_at + make_interval(secs => r.member_timeout) <= $2 AND a.generation <> ALL ($3::bigint[])"

// An EXISTS with an OFFSET is evaluated for each session. Without the OFFSET, the planner may read
// all presences first.
var (
	expired = dueSessions{
		condition: `s.ended_at IS NULL AND s.token_expires_at <= $2 AND NOT EXISTS (
			SELECT FROM attendances a WHERE a.session_id = s.session_id AND a.generation = ANY ($3::bigint[]) OFFSET 0)`,
		since: "token_expires_at",
		act: func(
			ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, _ []room.LogID,
		) (room.Change, error) {
			return endSessions(ctx, tx, sessions, room.EndTokenExpired, "", now)
		},
	}
	timedOut = dueSessions{
		condition: `s.ended_at IS NULL AND s.detached_at <= $2 AND EXISTS (
			SELECT FROM attendances a
			CROSS JOIN LATERAL (SELECT member_timeout FROM rooms WHERE generation = a.generation LIMIT 1) r
			WHERE a.session_id = s.session_id AND ` + overduePresence + ` OFFSET 0)`,
		since: "detached_at",
		act: func(
			ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, locked []room.LogID,
		) (room.Change, error) {
			presences, err := presencesOf(ctx, tx, sessions, overduePresence, now, locked)
			if err != nil {
				return room.Change{}, err
			}
			return leaveRooms(ctx, tx, presences, room.ReasonTimedOut, "", now)
		},
	}
)

// sweepSessions acts on due sessions. Its batches are large, because many sessions can be due at
// once, such as those of all members of a room whose network failed. It skips rooms that another
// transaction has locked.
func (s *Store) sweepSessions(ctx context.Context, d dueSessions, now time.Time) error {
	for range sweepBatches {
		var swept []room.SessionID
		locked := s.lockedRooms.rooms()
		err := s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
			rows, err := tx.Query(ctx, "SELECT session_id FROM sessions s WHERE "+d.condition+
				" ORDER BY "+d.since+" LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED", sweepBatch, now, locked)
			if err != nil {
				return room.Change{}, err
			}
			if swept, err = pgx.CollectRows(rows, pgx.RowTo[room.SessionID]); err != nil || len(swept) == 0 {
				return room.Change{}, err
			}
			return d.act(ctx, tx, swept, now, locked)
		})
		if lockRefused(err) {
			found, findErr := s.findLockedRooms(ctx, swept)
			switch {
			case findErr != nil:
				return findErr
			case found:
				continue // without the locked rooms
			}
			return s.ignoreLocked(err) // the lock is not that of a room
		}
		if err != nil {
			return err
		}
		if len(swept) < sweepBatch {
			return nil
		}
	}
	return nil
}

const (
	// sweepLockTimeout is how long a sweep waits for a lock, so that it does not delay other work.
	// A room that users join all the time is locked all the time, but by no transaction for long.
	sweepLockTimeout = 250 * time.Millisecond
	// lockedFor is how long sweeps skip a room that was locked.
	lockedFor = 5 * time.Second
)

// sweepTx is commit with the lock timeout of sweeps.
func (s *Store) sweepTx(ctx context.Context, fn func(pgx.Tx) (room.Change, error)) error {
	wait := "SET LOCAL lock_timeout = " + milliseconds(min(s.opts.LockTimeout, sweepLockTimeout))
	_, err := s.commit(ctx, room.Server(), func(tx pgx.Tx) (room.Change, error) {
		if _, err := tx.Exec(ctx, wait); err != nil {
			return room.Change{}, err
		}
		return fn(tx)
	})
	return err
}

// ignoreLocked logs that a part of a sweep did not get a lock, and returns nil, so that the sweep
// continues with its other parts. It returns other errors.
func (s *Store) ignoreLocked(err error) error {
	if err == nil || !lockRefused(err) {
		return translate(err)
	}
	s.opts.Log.Warn("sweep incomplete: rows locked by another transaction", "error", err)
	return nil
}

// lockedRooms are the rooms that a sweep found locked, with the time until when sweeps skip them.
type lockedRooms map[room.LogID]time.Time

// rooms returns the rooms to skip now.
func (l lockedRooms) rooms() []room.LogID {
	now := time.Now()
	maps.DeleteFunc(l, func(_ room.LogID, until time.Time) bool { return now.After(until) })
	return slices.AppendSeq([]room.LogID{}, maps.Keys(l)) // an empty array rather than null
}

func (l lockedRooms) add(g room.LogID) { l[g] = time.Now().Add(lockedFor) }

// findLockedRooms finds out which rooms of the sessions are locked, makes sweeps skip them for a
// while, and reports whether there are any.
func (s *Store) findLockedRooms(ctx context.Context, sessions []room.SessionID) (found bool, err error) {
	rows, err := s.pool.Query(ctx, `
		WITH logs_of AS MATERIALIZED (
			SELECT DISTINCT a.generation FROM unnest($1::uuid[]) AS i (id)
			CROSS JOIN LATERAL (SELECT generation FROM attendances WHERE session_id = i.id OFFSET 0) a
		), free AS MATERIALIZED (
			SELECT generation FROM logs WHERE generation = ANY (ARRAY (SELECT generation FROM logs_of)) FOR NO KEY UPDATE SKIP LOCKED
		)
		SELECT generation FROM logs_of EXCEPT SELECT generation FROM free`, sessions)
	if err != nil {
		return false, translate(err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[room.LogID])
	for _, g := range locked {
		s.lockedRooms.add(g)
	}
	if len(locked) > 0 {
		s.opts.Log.Warn("sweep skips rooms locked by another transaction", "rooms", len(locked))
	}
	return len(locked) > 0, translate(err)
}

// destroyDue destroys the rooms whose time without members has passed. They have no members, so
// only the feed is notified. The reason depends on whether the room ever had a member: the log
// shows it, or, if the log was trimmed, the time at which the room is destroyed. The rows of the
// rooms are locked too, so that a member who has just joined is seen.
func (s *Store) destroyDue(ctx context.Context, now time.Time) error {
	for range sweepBatches {
		destroyed, err := s.pool.Exec(ctx, `
			WITH due AS MATERIALIZED (
				SELECT r.generation FROM rooms r
				CROSS JOIN LATERAL (
					SELECT generation FROM logs WHERE generation = r.generation AND NOT closed LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
				) l
				WHERE destroy_at <= $1 AND destroyed_at IS NULL
				ORDER BY destroy_at LIMIT $2 FOR NO KEY UPDATE OF r SKIP LOCKED
			), closed AS (
				UPDATE logs SET closed = true, last_xact = `+nextXact+` WHERE generation = ANY (ARRAY (SELECT generation FROM due))
				RETURNING generation, last_xact
			)
			UPDATE rooms r SET destroyed_at = destroy_at,
				destroyed_xact = (SELECT c.last_xact FROM closed c WHERE c.generation = r.generation),
				destroy_reason = CASE WHEN empty_since IS NOT NULL OR destroy_at <> created_at + make_interval(secs => unused_timeout) OR EXISTS (
					SELECT FROM events e WHERE e.generation = r.generation AND e.type = $3 OFFSET 0) THEN $4 ELSE $5 END
			WHERE generation = ANY (ARRAY (SELECT generation FROM closed))`,
			now, sweepBatch, room.TypeMembersJoined, room.DestroyEmpty, room.DestroyUnused)
		if err != nil {
			return s.ignoreLocked(err)
		}
		s.committed.raise()
		if destroyed.RowsAffected() < sweepBatch {
			break
		}
	}
	return nil
}

// idle describes the sessions that had neither a stream nor a room for Options.SessionIdle. Their
// clients are gone, even if their tokens are valid. They end as after a logout, so that a client
// that returns logs in again.
func (s *Store) idle() dueSessions {
	return dueSessions{
		// These sessions are in no room, so there are no locked rooms ($3) to skip.
		condition: fmt.Sprintf(`s.ended_at IS NULL AND s.detached_at <= $2::timestamptz - make_interval(secs => %d)
			AND NOT EXISTS (SELECT FROM attendances a WHERE a.session_id = s.session_id OFFSET 0)
			AND coalesce(cardinality($3::bigint[]), 0) >= 0`, s.opts.SessionIdle/time.Second),
		since: "detached_at",
		act: func(
			ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, _ []room.LogID,
		) (room.Change, error) {
			return endSessions(ctx, tx, sessions, room.EndLoggedOut, "", now)
		},
	}
}
