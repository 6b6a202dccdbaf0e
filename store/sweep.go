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
	// sweepBatch bounds how many sessions or rooms that are due one transaction
	// holds.
	sweepBatch = 200
	// sweepBatches bounds one look for each of them, so that none keeps the others
	// waiting.
	sweepBatches = 20
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
	if s.lease.clientsReconnected(s.clock.process()) {
		if err := s.sweepSessions(ctx, timedOut, now); err != nil {
			return fmt.Errorf("take out members that timed out: %w", err)
		}
	}
	if err := s.flushPresence(ctx, now); err != nil {
		return fmt.Errorf("announce members: %w", err)
	}
	if err := s.destroyDue(ctx, now); err != nil {
		return fmt.Errorf("destroy rooms that are due: %w", err)
	}
	if s.clock.checkDeletes() != nil {
		return nil
	}
	if s.opts.MessageRetention > 0 {
		if err := s.trimRoomLogs(ctx, now.Add(-s.opts.MessageRetention)); err != nil {
			return fmt.Errorf("trim logs: %w", err)
		}
	}
	if err := s.trimInboxes(ctx, now.Add(-s.opts.PeerRetention)); err != nil {
		return fmt.Errorf("trim inboxes: %w", err)
	}
	if err := s.deleteAbsentUsers(ctx, now.Add(-s.opts.UserRetention)); err != nil {
		return fmt.Errorf("forget users: %w", err)
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
	return s.clock.checkDeletes() == nil, nil
}

// due is a kind of session that something must happen to: the condition that finds it
// at the instant $2, but for stays in the rooms $3, the column that says since when, and
// what happens, in a transaction that holds the rows.
type dueSessions struct {
	condition, since string
	act              func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, locked []room.LogID) (room.Change, error)
}

// overdue is the stays whose session has been detached for memberTimeout at $2, but for
// those in the rooms $3.
const overduePresence = "s.detached_at + make_interval(secs => r.member_timeout) <= $2 AND a.generation <> ALL ($3::bigint[])"

// An EXISTS with an OFFSET is asked for each session by itself. Without one the planner
// may read all stays first.
var (
	expired = dueSessions{
		condition: `s.ended_at IS NULL AND s.token_expires_at <= $2 AND NOT EXISTS (
			SELECT FROM attendances a WHERE a.session_id = s.session_id AND a.generation = ANY ($3::bigint[]) OFFSET 0)`,
		since: "token_expires_at",
		act: func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, _ []room.LogID) (room.Change, error) {
			return endSessions(ctx, tx, sessions, room.EndTokenExpired, "", now)
		},
	}
	timedOut = dueSessions{
		condition: `s.ended_at IS NULL AND s.detached_at <= $2 AND EXISTS (
			SELECT FROM attendances a
			CROSS JOIN LATERAL (SELECT member_timeout FROM rooms WHERE generation = a.generation LIMIT 1) r
			WHERE a.session_id = s.session_id AND ` + overduePresence + ` OFFSET 0)`,
		since: "detached_at",
		act: func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, locked []room.LogID) (room.Change, error) {
			stays, err := presencesOf(ctx, tx, sessions, overduePresence, now, locked)
			if err != nil {
				return room.Change{}, err
			}
			return leaveRooms(ctx, tx, stays, room.ReasonTimedOut, "", now)
		},
	}
)

// sweepSessions takes due sessions, so many in a transaction as may well be due
// together: everybody in a room whose network went away. Rooms that another transaction
// keeps locked are left out.
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
			found, looked := s.findLockedRooms(ctx, swept)
			switch {
			case looked != nil:
				return looked
			case found:
				continue // without them
			}
			return s.ignoreLocked(err) // something else is locked
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
	// sweepLockTimeout is how long a sweep waits for a lock: it has others to serve. A room
	// that people enter all the time is locked all the time, but never for long.
	sweepLockTimeout = 250 * time.Millisecond
	// lockedFor is how long a sweep leaves a room out that it found locked.
	lockedFor = 5 * time.Second
)

// sweepTx is commit for sweeps, which do not wait long.
func (s *Store) sweepTx(ctx context.Context, fn func(pgx.Tx) (room.Change, error)) error {
	wait := "SET LOCAL lock_timeout = " + milliseconds(min(s.opts.LockTimeout, sweepLockTimeout))
	return s.commit(ctx, room.Server(), func(tx pgx.Tx) (room.Change, error) {
		if _, err := tx.Exec(ctx, wait); err != nil {
			return room.Change{}, err
		}
		return fn(tx)
	})
}

// held logs that a part of a sweep has to wait for a lock, and returns nil: the other
// parts go on. Other errors it returns.
func (s *Store) ignoreLocked(err error) error {
	if err == nil || !lockRefused(err) {
		return translate(err)
	}
	s.opts.Log.Warn("sweep held up: another transaction keeps rows locked", "error", err)
	return nil
}

// lockedRooms is the rooms that a sweep found locked, and until when it leaves them out.
type lockedRooms map[room.LogID]time.Time

// rooms is those that are to be left out now.
func (l lockedRooms) rooms() []room.LogID {
	now := time.Now()
	maps.DeleteFunc(l, func(_ room.LogID, until time.Time) bool { return now.After(until) })
	return slices.AppendSeq([]room.LogID{}, maps.Keys(l)) // not null
}

func (l lockedRooms) add(g room.LogID) { l[g] = time.Now().Add(lockedFor) }

// noteLocked looks which rooms of sessions are locked, and reports whether any is.
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
		s.opts.Log.Warn("sweep leaves out rooms that another transaction keeps locked", "rooms", len(locked))
	}
	return len(locked) > 0, translate(err)
}

// destroyDue ends the rooms whose time without members is up. Nobody is in
// them, so nobody but the feed is told. Whether somebody ever was shows in the
// log, or where that was trimmed in when the room goes. The rooms' own rows are locked
// too, so that who entered just before is seen.
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
				destroy_reason = CASE WHEN destroy_at <> created_at + make_interval(secs => unused_timeout) OR EXISTS (
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

// idle is the sessions that had neither a stream nor a room for Options.SessionIdle:
// their clients are gone, whatever their tokens say. They end as if they had logged
// out, which a client that comes back takes as a reason to log in.
func (s *Store) idle() dueSessions {
	return dueSessions{
		// Rooms that are locked ($3) are none of these sessions'.
		condition: fmt.Sprintf(`s.ended_at IS NULL AND s.detached_at <= $2::timestamptz - make_interval(secs => %d)
			AND NOT EXISTS (SELECT FROM attendances a WHERE a.session_id = s.session_id OFFSET 0)
			AND coalesce(cardinality($3::bigint[]), 0) >= 0`, s.opts.SessionIdle/time.Second),
		since: "detached_at",
		act: func(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time, _ []room.LogID) (room.Change, error) {
			return endSessions(ctx, tx, sessions, room.EndLoggedOut, "", now)
		},
	}
}
