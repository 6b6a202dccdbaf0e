package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// LeaveRoom takes the session out of a room. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom and those of a session that is over.
func (s *Store) LeaveRoom(ctx context.Context, by room.Actor, id room.RoomID) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return c, err
		}
		if c, err = leaveRooms(ctx, tx, []presence{{who.ID, r.Generation}}, room.ReasonLeft, "", now); err != nil {
			return c, err
		}
		if len(c.Left) == 0 {
			return c, room.ErrNotInRoom
		}
		return c, nil
	}, sessionKey(by.Session()), roomKey(id))
}

// LeaveAllRooms takes the session, and no other of its user, out of all its
// rooms and returns them. Errors: those of a session that is over.
func (s *Store) LeaveAllRooms(ctx context.Context, by room.Actor) ([]room.RoomID, error) {
	locks, err := s.lockKeysOf(ctx, "session_id = $1 AND "+notEnded, by.Session())
	if err != nil {
		return nil, err
	}
	var left []room.RoomID
	err = s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		who, err := lockSession(ctx, tx, by.Session(), now)
		if err != nil {
			return room.Change{}, err
		}
		stays, err := presencesOf(ctx, tx, []room.SessionID{who.ID}, "true")
		if err != nil {
			return room.Change{}, err
		}
		c, err := leaveRooms(ctx, tx, stays, room.ReasonLeft, "", now)
		left = make([]room.RoomID, 0, len(c.Left)) // anew with each try
		for _, d := range c.Left {
			left = append(left, d.Room)
		}
		return c, err
	}, locks...)
	return left, err
}

// leaveRooms ends stays of sessions whose rows the transaction holds. It goes
// room by room, because that is the order of the locks.
func leaveRooms(ctx context.Context, tx pgx.Tx, stays []presence, reason room.LeaveReason, note string, now time.Time) (room.Change, error) {
	sessions := make(map[room.LogID][]room.SessionID)
	for _, st := range stays {
		sessions[st.generation] = append(sessions[st.generation], st.session)
	}
	locked, err := lockRoomsByGeneration(ctx, tx, "$1::bigint[]", slices.Collect(maps.Keys(sessions)))
	if err != nil {
		return room.Change{}, err
	}
	var c room.Change
	for _, r := range locked {
		leaving := sessions[r.Generation]
		r, told, err := flushPresenceOfEmptying(ctx, tx, r, len(leaving), now)
		if err != nil {
			return room.Change{}, err
		}
		l, err := leaveRequests(ctx, tx, r, bySession, leaving)
		if err != nil {
			return room.Change{}, err
		}
		if len(l) == 0 {
			continue // others took their places meanwhile
		}
		left, err := leave(ctx, tx, r, l, reason, note, now)
		if err != nil {
			return room.Change{}, err
		}
		c = c.And(told).And(left)
	}
	return c, nil
}

// Who leaves is named by sessions, or by users with all their sessions.
const (
	bySession = "a.session_id = ANY ($2)"
	byUser    = "a.user_id = ANY ($2)"
)

// leavers reads what the rules need to know of those who leave a room that
// the transaction holds, in order of entering. Who is not in it is left out.
func leaveRequests[ID room.SessionID | room.UserID](ctx context.Context, tx pgx.Tx, r room.Room, which string, ids []ID) ([]room.LeaveRequest, error) {
	rows, err := tx.Query(ctx, `
		SELECT m.user_id, m.user_name, NOT m.announced, array_agg(a.session_id::text ORDER BY a.stay) FILTER (WHERE `+which+`),
			bool_and(`+which+`),
			(SELECT pairs FROM member_attributes n WHERE n.generation = m.generation AND n.user_id = m.user_id)
		FROM members m JOIN attendances a USING (generation, user_id)
		WHERE m.generation = $1 AND m.user_id IN (SELECT user_id FROM attendances a WHERE generation = $1 AND `+which+`)
		GROUP BY m.generation, m.user_id ORDER BY m.joined_seq, m.user_id`, r.Generation, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.LeaveRequest, error) {
		var (
			l     room.LeaveRequest
			pairs memberPairs
		)
		err := row.Scan(&l.User.ID, &l.User.Name, &l.JoinPending, &l.Sessions, &l.Last, &pairs)
		l.Attributes = pairs.attributes()
		return l, err
	})
}

// leave writes what the rules decide of leavers.
func leave(ctx context.Context, tx pgx.Tx, r room.Room, leavers []room.LeaveRequest, reason room.LeaveReason, note string, now time.Time) (room.Change, error) {
	later, version := r.BatchesPresence(), r.AttributesVersion
	r, c := r.Leave(leavers, reason, note, now)
	var b pgx.Batch
	queueLeft(&b, c.Left, now)
	for _, l := range leavers {
		if !l.Last {
			continue
		}
		b.Queue("DELETE FROM members WHERE generation = $1 AND user_id = $2", r.Generation, l.User.ID)
		if later && !l.JoinPending {
			b.Queue("INSERT INTO partings (generation, user_id, user_name, reason) VALUES ($1, $2, $3, $4)",
				r.Generation, l.User.ID, l.User.Name, reason)
		}
		queueLeaverAttributes(&b, r, l)
	}
	if r.AttributesVersion != version {
		queueAttributes(&b, r)
	}
	if err := queueRoom(&b, r, c.Events); err != nil {
		return room.Change{}, err
	}
	return c, send(ctx, tx, &b)
}

// queueDepartures takes sessions out of rooms and keeps why, for when they come
// back.
func queueLeft(b *pgx.Batch, departures []room.Left, now time.Time) {
	for i, d := range departures {
		b.Queue("DELETE FROM attendances WHERE session_id = $1 AND generation = $2 RETURNING stay", d.Session, d.Generation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&departures[i].Presence) })
		b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, note, left_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			d.Session, d.Generation, d.Room, d.Reason, d.AdminReason, now)
	}
}
