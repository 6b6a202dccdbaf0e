package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// LeaveRoom removes the session from a room. Errors: room.ErrRoomNotFound, room.ErrNotInRoom and
// those of room.Session.Usable.
func (s *Store) LeaveRoom(ctx context.Context, by room.Actor, id room.RoomID) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		leaving, err := lockSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return c, err
		}
		if c, err = leaveRooms(ctx, tx, []presence{{leaving.ID, r.Generation}}, room.ReasonLeft, "", now); err != nil {
			return c, err
		}
		if len(c.Left) == 0 {
			return c, room.ErrNotInRoom
		}
		return c, nil
	}, sessionKey(by.Session()), roomKey(id))
}

// LeaveAllRooms removes the session, but no other session of its user, from all its rooms and
// returns these. Errors: those of room.Session.Usable.
func (s *Store) LeaveAllRooms(ctx context.Context, by room.Actor) ([]room.RoomID, error) {
	locks, err := s.lockKeysOf(ctx, "session_id = $1 AND "+notEnded, by.Session())
	if err != nil {
		return nil, err
	}
	var left []room.RoomID
	err = s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		leaving, err := lockSession(ctx, tx, by.Session(), now)
		if err != nil {
			return room.Change{}, err
		}
		presences, err := presencesOf(ctx, tx, []room.SessionID{leaving.ID}, "true")
		if err != nil {
			return room.Change{}, err
		}
		c, err := leaveRooms(ctx, tx, presences, room.ReasonLeft, "", now)
		left = make([]room.RoomID, 0, len(c.Left)) // reset what an earlier try has set
		for _, p := range c.Left {
			left = append(left, p.Room)
		}
		return c, err
	}, locks...)
	return left, err
}

// leaveRooms ends presences of sessions whose rows the transaction has locked. It processes the
// rooms one by one, in the order of their locks.
func leaveRooms(
	ctx context.Context, tx pgx.Tx, presences []presence, reason room.LeaveReason, adminReason string, now time.Time,
) (room.Change, error) {
	sessions := make(map[room.LogID][]room.SessionID)
	for _, p := range presences {
		sessions[p.generation] = append(sessions[p.generation], p.session)
	}
	locked, err := lockRoomsByGeneration(ctx, tx, "$1::bigint[]", slices.Collect(maps.Keys(sessions)))
	if err != nil {
		return room.Change{}, err
	}
	var c room.Change
	for _, r := range locked {
		requests, err := leaveRequests(ctx, tx, r, bySession, sessions[r.Generation])
		if err != nil {
			return room.Change{}, err
		}
		if len(requests) == 0 {
			continue // the session has left meanwhile
		}
		left, err := leave(ctx, tx, r, requests, reason, adminReason, now)
		if err != nil {
			return room.Change{}, err
		}
		c = c.And(left)
	}
	return c, nil
}

// The conditions of leaveRequests, for sessions and for users with all their sessions.
const (
	bySession = "a.session_id = ANY ($2)"
	byUser    = "a.user_id = ANY ($2)"
)

// leaveRequests reads the leave requests of members of a room that the transaction has locked, in
// the order in which the members joined. Sessions and users that are not in the room are omitted.
func leaveRequests[ID room.SessionID | room.UserID](
	ctx context.Context, tx pgx.Tx, r room.Room, which string, ids []ID,
) ([]room.LeaveRequest, error) {
	rows, err := tx.Query(ctx, `
		SELECT m.user_id, m.user_name, NOT m.announced, array_agg(a.session_id::text ORDER BY a.stay) FILTER (WHERE `+which+`),
			bool_and(`+which+`),
			(SELECT pairs FROM member_attributes n WHERE n.generation = m.generation AND n.user_id = m.user_id)
		FROM (SELECT DISTINCT user_id FROM attendances a WHERE generation = $1 AND `+which+`) leaving
		CROSS JOIN LATERAL (SELECT * FROM members WHERE generation = $1 AND user_id = leaving.user_id LIMIT 1) m
		CROSS JOIN LATERAL (SELECT * FROM attendances WHERE generation = $1 AND user_id = leaving.user_id OFFSET 0) a
		GROUP BY m.generation, m.user_id, m.user_name, m.announced, m.joined_seq ORDER BY m.joined_seq, m.user_id`, r.Generation, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.LeaveRequest, error) {
		var (
			request room.LeaveRequest
			pairs   memberPairs
		)
		err := row.Scan(&request.User.ID, &request.User.Name, &request.JoinPending, &request.Sessions, &request.Last, &pairs)
		request.Attributes = pairs.attributes()
		return request, err
	})
}

// leave removes members from a room that the transaction has locked, and writes the result. It
// publishes the room's pending joins and leaves first, if it must.
func leave(
	ctx context.Context, tx pgx.Tx, r room.Room, requests []room.LeaveRequest,
	reason room.LeaveReason, adminReason string, now time.Time,
) (room.Change, error) {
	var flushed room.Change
	if r.FlushesBeforeLeave(requests) {
		var err error
		if r, flushed, err = flushRoomPresence(ctx, tx, r, now); err != nil {
			return room.Change{}, err
		}
	}
	batched, version := r.BatchesLeave(requests), r.AttributesVersion
	r, c := r.Leave(requests, reason, adminReason, now)
	var b pgx.Batch
	queueLeft(&b, c.Left, now)
	for _, request := range requests {
		if !request.Last {
			continue
		}
		b.Queue("DELETE FROM members WHERE generation = $1 AND user_id = $2", r.Generation, request.User.ID)
		if batched {
			b.Queue("INSERT INTO partings (generation, user_id, user_name, reason) VALUES ($1, $2, $3, $4)",
				r.Generation, request.User.ID, request.User.Name, reason)
		}
		queueLeaveAttributes(&b, r, request)
	}
	if r.AttributesVersion != version {
		queueAttributes(&b, r)
	}
	if err := queueRoom(&b, r, c.Events); err != nil {
		return room.Change{}, err
	}
	if err := sendBatch(ctx, tx, &b); err != nil { // it sets the presence IDs in c
		return room.Change{}, err
	}
	return flushed.And(c), nil
}

// queueLeft deletes presences, and stores the reasons for clients that return later. The presences'
// IDs are set only after the batch has been sent.
func queueLeft(b *pgx.Batch, left []room.Left, now time.Time) {
	for i, p := range left {
		b.Queue("DELETE FROM attendances WHERE session_id = $1 AND generation = $2 RETURNING stay", p.Session, p.Generation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&left[i].Presence) })
		b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, note, left_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.Session, p.Generation, p.Room, p.Reason, p.AdminReason, now)
	}
}
