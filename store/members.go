package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Members returns a page of at most limit members of a room. Errors: room.ErrRoomNotFound.
func (s *Store) Members(
	ctx context.Context, g room.LogID, after room.MemberCursor, limit int,
) (room.MemberPage[room.Member], error) {
	return members(ctx, s.pool, g, after, limit)
}

func members(
	ctx context.Context, db rowsQuerier, g room.LogID, after room.MemberCursor, limit int,
) (room.MemberPage[room.Member], error) {
	return memberPage(ctx, db, scanMember, limit, `
		SELECT `+memberColumns+`, joined_seq FROM members
		WHERE generation = $1 AND (joined_seq, user_id) > ($2, $3)
		ORDER BY joined_seq, user_id LIMIT $4`, g, after.JoinedSeq, after.User, limit+1)
}

// RoomWithMembers returns a room that the session is in, its first members, at most limit, and the
// attributes of those that have any. They are read in one snapshot: all are true at the newest event
// of the room's log. Errors: room.ErrRoomNotFound, room.ErrNotInRoom.
func (s *Store) RoomWithMembers(
	ctx context.Context, session room.SessionID, id room.RoomID, limit int,
) (r room.Room, page room.MemberPage[room.Member], attributes []room.MemberAttributesInfo, err error) {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) (err error) {
		if r, err = sessionRoom(ctx, tx, session, id); err != nil {
			return err
		}
		if page, err = members(ctx, tx, r.Generation, room.MemberCursor{}, limit); err != nil {
			return err
		}
		users := make([]room.UserID, len(page.List))
		for i, m := range page.List {
			users[i] = m.ID
		}
		all, err := memberAttributes(ctx, tx, r.Generation, users)
		attributes = slices.DeleteFunc(all.List, func(m room.MemberAttributesInfo) bool { return len(m.Attributes) == 0 })
		return err
	})
	return r, page, attributes, translate(err)
}

// MembersByID returns the users who are in the room, and omits the others. Errors:
// room.ErrRoomNotFound.
func (s *Store) MembersByID(
	ctx context.Context, g room.LogID, users []room.UserID,
) (room.MemberPage[room.Member], error) {
	return memberPage(ctx, s.pool, scanMember, len(users), `
		SELECT `+memberColumns+`, joined_seq FROM members
		WHERE generation = $1 AND user_id = ANY ($2)`, g, users)
}

// memberPage reads a page of at most limit members from a query about the log $1, whose first
// column is user_id and whose last one is joined_seq. One additional row shows whether there is a
// next page. The end of the log is read by the same statement, and so in the same snapshot.
func memberPage[T room.Member | room.MemberAttributesInfo](
	ctx context.Context, db rowsQuerier, scan func(pgx.Row, ...any) (T, error), limit int, query string, args ...any,
) (page room.MemberPage[T], err error) {
	rows, err := db.Query(ctx, "SELECT m.*, l.last_seq FROM logs l LEFT JOIN LATERAL ("+query+`) m ON true
		WHERE l.generation = $1 ORDER BY m.joined_seq, m.user_id`, args...)
	if err != nil {
		return page, translate(err)
	}
	defer rows.Close()
	page.List = []T{}
	var last room.MemberCursor
	for rows.Next() {
		switch columns := rows.RawValues(); {
		case columns[0] == nil: // the log has no such members
			err = rows.Scan(append(make([]any, len(columns)-1), &page.Seq)...)
		case len(page.List) == limit:
			page.Next = last
		default:
			var m T
			m, err = scan(rows, &last.JoinedSeq, &page.Seq)
			last.User = room.UserID(columns[0])
			page.List = append(page.List, m)
		}
		if err != nil {
			return page, translate(err)
		}
	}
	if rows.CommandTag().RowsAffected() == 0 && rows.Err() == nil {
		return page, room.ErrRoomNotFound
	}
	return page, translate(rows.Err())
}

// memberColumns are the columns of members of the room $1.
const memberColumns = `user_id, user_name, avatar_url, user_data, CASE WHEN NOT (SELECT member_states FROM rooms WHERE generation = $1) THEN ''
	WHEN reconnecting THEN 'reconnecting' ELSE 'online' END AS state, joined_at`

func scanMember(row pgx.Row, more ...any) (room.Member, error) {
	var (
		m      room.Member
		joined time.Time
	)
	err := row.Scan(append([]any{&m.ID, &m.Name, &m.AvatarURL, &m.UserData, &m.State, &joined}, more...)...)
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
		return leave(ctx, tx, r, requests, room.ReasonKicked, reason, now)
	}, roomKey(id))
	return kicked, err
}
