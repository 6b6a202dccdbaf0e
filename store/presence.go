package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// announce tells of the comings and goings in large rooms that were not told at
// once.
func (s *Store) flushPresence(ctx context.Context, now time.Time) error {
	rows, err := s.pool.Query(ctx, "SELECT generation FROM rooms WHERE untold AND destroyed_at IS NULL ORDER BY generation")
	if err != nil {
		return translate(err)
	}
	locked := s.lockedRooms.rooms()
	untold, err := pgx.CollectRows(rows, pgx.RowTo[room.LogID])
	if err != nil {
		return translate(err)
	}
	for _, g := range untold {
		if slices.Contains(locked, g) {
			continue
		}
		err := s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
			// Not SKIP LOCKED, as elsewhere in a sweep: a room that people enter
			// all the time is locked all the time.
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

// announceLast is announceRoom for a room of which some members are about to
// leave, if it may be empty then: nothing may be left to tell at its end.
func flushPresenceOfEmptying(ctx context.Context, tx pgx.Tx, r room.Room, leaving int, now time.Time) (room.Room, room.Change, error) {
	if !r.PresencePending || r.MemberCount > leaving {
		return r, room.Change{}, nil
	}
	return flushRoomPresence(ctx, tx, r, now)
}

// announceRoom tells what is to tell in a room that the transaction holds.
func flushRoomPresence(ctx context.Context, tx pgx.Tx, r room.Room, now time.Time) (room.Room, room.Change, error) {
	var (
		joined []room.Member
		left   []room.LeftMember
		b      pgx.Batch
	)
	b.Queue(`WITH told AS (
			UPDATE members SET announced = true WHERE generation = $1 AND NOT announced
			RETURNING user_id, user_name, joined_at, joined_seq
		) SELECT user_id, user_name, joined_at FROM told ORDER BY joined_seq, joined_at, user_id`, r.Generation).
		Query(func(rows pgx.Rows) (err error) {
			joined, err = pgx.CollectRows(rows, scanMember)
			return err
		})
	b.Queue("DELETE FROM partings WHERE generation = $1 RETURNING user_id, user_name, reason, true", r.Generation).
		Query(collectLeft(&left))
	if err := send(ctx, tx, &b); err != nil {
		return r, room.Change{}, err
	}
	r, events := r.FlushPresence(joined, left, now)
	b = pgx.Batch{}
	if err := queueRoom(&b, r, events); err != nil {
		return r, room.Change{}, err
	}
	return r, room.Change{Events: events}, send(ctx, tx, &b)
}

// collectFormer reads users who are out of a room, leaving out those of whom
// nobody knows that they were in.
func collectLeft(to *[]room.LeftMember) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var (
			m     room.LeftMember
			known bool
		)
		_, err := pgx.ForEachRow(rows, []any{&m.ID, &m.Name, &m.Reason, &known}, func() error {
			if known {
				*to = append(*to, m)
			}
			return nil
		})
		return err
	}
}

// stay is a session in a room.
type presence struct {
	session    room.SessionID
	generation room.LogID
}

// staysOf reads stays of sessions whose rows the transaction holds: nobody adds to
// them meanwhile. The condition is on attendances a, sessions s and rooms r; its
// parameters begin with $2.
func presencesOf(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, condition string, args ...any) ([]presence, error) {
	rows, err := tx.Query(ctx, `SELECT i.id, a.generation FROM unnest($1::uuid[]) AS i (id)
		CROSS JOIN LATERAL (SELECT detached_at FROM sessions WHERE session_id = i.id LIMIT 1) s
		CROSS JOIN LATERAL (SELECT generation FROM attendances WHERE session_id = i.id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT member_timeout FROM rooms WHERE generation = a.generation LIMIT 1) r
		WHERE `+condition, append([]any{sessions}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (presence, error) {
		var st presence
		err := row.Scan(&st.session, &st.generation)
		return st, err
	})
}
