package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// flushPresence publishes the joins and leaves that large rooms have batched.
func (s *Store) flushPresence(ctx context.Context, now time.Time) error {
	rows, err := s.pool.Query(ctx, "SELECT generation FROM rooms WHERE untold AND destroyed_at IS NULL ORDER BY generation")
	if err != nil {
		return translate(err)
	}
	locked := s.lockedRooms.rooms()
	pending, err := pgx.CollectRows(rows, pgx.RowTo[room.LogID])
	if err != nil {
		return translate(err)
	}
	for _, g := range pending {
		if slices.Contains(locked, g) {
			continue
		}
		err := s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
			// This waits for the lock, unlike the other parts of a sweep: with SKIP LOCKED, a room
			// that users join all the time would never be flushed.
			held, err := lockRoomsByGeneration(ctx, tx, "$1::bigint[]", []room.LogID{g})
			if err != nil || len(held) == 0 || !held[0].PresencePending {
				return room.Change{}, err
			}
			_, c, err := flushRoomPresence(ctx, tx, held[0], now)
			return c, err
		})
		if lockRefused(err) {
			s.lockedRooms.add(g)
		}
		if err := s.ignoreLocked(err); err != nil {
			return err
		}
	}
	return nil
}

// flushPresenceBeforeJoin publishes the pending joins and leaves of a room, if a user who joins
// left a moment ago: each leave is published before the next join.
func flushPresenceBeforeJoin(
	ctx context.Context, tx pgx.Tx, r room.Room, joins []room.JoinRequest, now time.Time,
) (room.Room, room.Change, error) {
	if !slices.ContainsFunc(joins, func(j room.JoinRequest) bool { return j.LeavePending }) {
		return r, room.Change{}, nil
	}
	return flushRoomPresence(ctx, tx, r, now)
}

// flushRoomPresence publishes the pending joins and leaves of a room that the transaction has
// locked.
func flushRoomPresence(ctx context.Context, tx pgx.Tx, r room.Room, now time.Time) (room.Room, room.Change, error) {
	var (
		joined []room.Member
		left   []room.LeftMember
		b      pgx.Batch
	)
	b.Queue(`WITH told AS (
			UPDATE members SET announced = true WHERE generation = $1 AND NOT announced
			RETURNING `+memberColumns+`, joined_seq
		) SELECT user_id, user_name, avatar_url, user_data, state, joined_at FROM told ORDER BY joined_at, joined_seq, user_id`, r.Generation).
		Query(func(rows pgx.Rows) (err error) {
			joined, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Member, error) { return scanMember(row) })
			return err
		})
	b.Queue("DELETE FROM partings WHERE generation = $1 RETURNING user_id, user_name, reason, true", r.Generation).
		Query(collectLeft(&left))
	if err := sendBatch(ctx, tx, &b); err != nil {
		return r, room.Change{}, err
	}
	r, events := r.FlushPresence(joined, left, now)
	b = pgx.Batch{}
	if err := queueRoom(&b, r, events); err != nil {
		return r, room.Change{}, err
	}
	return r, room.Change{Events: events}, sendBatch(ctx, tx, &b)
}

// collectLeft reads users who have left a room. It omits those whose join was never published.
func collectLeft(to *[]room.LeftMember) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var (
			m         room.LeftMember
			published bool
		)
		_, err := pgx.ForEachRow(rows, []any{&m.ID, &m.Name, &m.Reason, &published}, func() error {
			if published {
				*to = append(*to, m)
			}
			return nil
		})
		return err
	}
}

// A presence is one session in one generation of a room.
type presence struct {
	session    room.SessionID
	generation room.LogID
}

// presencesOf reads the presences of sessions whose rows the transaction has locked, so that none
// can be added meanwhile. The condition is about attendances a, sessions s and rooms r; its
// parameters begin with $2.
func presencesOf(
	ctx context.Context, tx pgx.Tx, sessions []room.SessionID, condition string, args ...any,
) ([]presence, error) {
	rows, err := tx.Query(ctx, `SELECT i.id, a.generation FROM unnest($1::uuid[]) AS i (id)
		CROSS JOIN LATERAL (SELECT detached_at FROM sessions WHERE session_id = i.id LIMIT 1) s
		CROSS JOIN LATERAL (SELECT generation FROM attendances WHERE session_id = i.id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT member_timeout FROM rooms WHERE generation = a.generation LIMIT 1) r
		WHERE `+condition, append([]any{sessions}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (presence, error) {
		var p presence
		err := row.Scan(&p.session, &p.generation)
		return p, err
	})
}
