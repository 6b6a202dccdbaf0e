package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Members returns a page of at most limit members of a room, in the order in which they joined, and
// the cursor of the next page. more is false for the last page.
func (s *Store) Members(
	ctx context.Context, g room.LogID, after room.MemberCursor, limit int,
) (page []room.Member, next room.MemberCursor, more bool, err error) {
	// One additional row shows whether there is a next page.
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
		var (
			m      room.Member
			joined time.Time
		)
		if err := rows.Scan(&m.ID, &m.Name, &joined, &next.JoinedSeq); err != nil {
			return nil, next, false, translate(err)
		}
		m.JoinedAt = room.InstantOf(joined)
		next.User = m.ID
		page = append(page, m)
	}
	return page, next, more, translate(rows.Err())
}

// MembersByID returns the users who are in the room, in the order in which they joined, and omits
// the others.
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
	var (
		m      room.Member
		joined time.Time
	)
	err := row.Scan(&m.ID, &m.Name, &joined)
	m.JoinedAt = room.InstantOf(joined)
	return m, err
}

// KickMembers removes users from a room, with all their sessions, and returns those who were in it.
// With a ban, none of the users can join again for that time. Errors: room.ErrRoomNotFound.
func (s *Store) KickMembers(
	ctx context.Context, by room.Actor, id room.RoomID, users []room.UserID, reason string, ban time.Duration,
) ([]room.UserID, error) {
	var kicked []room.UserID
	err := s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		kicked = []room.UserID{} // reset what an earlier try has set
		now := s.now()
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return room.Change{}, err
		}
		r, flushed, err := flushPresenceBeforeLeave(ctx, tx, r, len(users), now)
		if err != nil {
			return room.Change{}, err
		}
		requests, err := leaveRequests(ctx, tx, r, byUser, users)
		if err != nil {
			return room.Change{}, err
		}
		for _, request := range requests {
			kicked = append(kicked, request.User.ID)
		}
		if ban > 0 {
			if err := banUsers(ctx, tx, id, users, reason, now.Add(ban)); err != nil {
				return room.Change{}, err
			}
		}
		if len(requests) == 0 {
			return room.Change{}, nil
		}
		left, err := leave(ctx, tx, r, requests, room.ReasonKicked, reason, now)
		return flushed.And(left), err
	}, roomKey(id))
	return kicked, err
}
