package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Members is a page of a room's members, at most limit of them, and the cursor
// of the next page; more is false on the last one.
func (s *Store) Members(ctx context.Context, g room.LogID, after room.MemberCursor, limit int) (page []room.Member, next room.MemberCursor, more bool, err error) {
	// One row more than asked for tells whether there is a next page.
	rows, err := s.pool.Query(ctx, `
		SELECT user_id, user_name, joined_at, joined_seq FROM members
		WHERE generation = $1 AND (joined_seq, user_id) > ($2, $3)
		ORDER BY joined_seq, user_id LIMIT $4`, g, after.JoinedSeq, after.User, limit+1)
	if err != nil {
		return nil, next, false, translate(err)
	}
	defer rows.Close()
	page = make([]room.Member, 0, limit)
	for rows.Next() {
		if len(page) == limit {
			more = true
			continue
		}
		var m room.Member
		if err := rows.Scan(&m.ID, &m.Name, &m.JoinedAt, &next.JoinedSeq); err != nil {
			return nil, next, false, translate(err)
		}
		m.JoinedAt = m.JoinedAt.UTC()
		next.User = m.ID
		page = append(page, m)
	}
	return page, next, more, translate(rows.Err())
}

// MembersByID is those of the users who are in the room, in order of entering.
func (s *Store) MembersByID(ctx context.Context, g room.LogID, users []room.UserID) ([]room.Member, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT user_id, user_name, joined_at FROM members
		WHERE generation = $1 AND user_id = ANY ($2) ORDER BY joined_seq, user_id`, g, users)
	if err != nil {
		return nil, translate(err)
	}
	members, err := pgx.CollectRows(rows, scanMember)
	return members, translate(err)
}

func scanMember(row pgx.CollectableRow) (room.Member, error) {
	var m room.Member
	err := row.Scan(&m.ID, &m.Name, &m.JoinedAt)
	m.JoinedAt = m.JoinedAt.UTC()
	return m, err
}

// LeaveAllRooms takes the session, and no other of its user, out of all its
// rooms and returns them. Errors: those of a session that is over.
func (s *Store) LeaveAllRooms(ctx context.Context, session room.SessionID) ([]room.RoomID, error) {
	locks, err := s.lockKeysOf(ctx, "session_id = $1 AND "+notEnded, session)
	if err != nil {
		return nil, err
	}
	var left []room.RoomID
	err = s.inTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
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

// LeaveRoom takes the session out of a room. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom and those of a session that is over.
func (s *Store) LeaveRoom(ctx context.Context, session room.SessionID, id room.RoomID) error {
	return s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
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
	}, sessionKey(session), roomKey(id))
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

// KickMembers takes users out of a room, with all their sessions, and keeps them from
// coming back for a time; 0 lets them. It returns those who were in it. A ban
// holds for all. Errors: room.ErrRoomNotFound.
func (s *Store) KickMembers(ctx context.Context, id room.RoomID, users []room.UserID, note string, ban time.Duration) ([]room.UserID, error) {
	var kicked []room.UserID
	err := s.inTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		kicked = []room.UserID{} // anew with each try
		now := s.now()
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return room.Change{}, err
		}
		r, told, err := flushPresenceOfEmptying(ctx, tx, r, len(users), now)
		if err != nil {
			return room.Change{}, err
		}
		l, err := leaveRequests(ctx, tx, r, byUser, users)
		if err != nil {
			return room.Change{}, err
		}
		for _, kick := range l {
			kicked = append(kicked, kick.User.ID)
		}
		if ban > 0 {
			if err := banUsers(ctx, tx, id, users, note, now.Add(ban)); err != nil {
				return room.Change{}, err
			}
		}
		if len(l) == 0 {
			return room.Change{}, nil
		}
		left, err := leave(ctx, tx, r, l, room.ReasonKicked, note, now)
		return told.And(left), err
	}, roomKey(id))
	return kicked, err
}
