package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// memberPairs are the attributes of a member as they are stored.
type memberPairs map[string]memberPair

type memberPair struct {
	Value string `json:"value"`
	Keep  bool   `json:"keep,omitempty"`
}

func (p memberPairs) attributes() room.MemberAttributes {
	a := make(room.MemberAttributes, len(p))
	for key, pair := range p {
		a[key] = room.MemberAttribute(pair)
	}
	return a
}

// queueMemberAttributes writes the attributes of a user in a room that the transaction has locked.
func queueMemberAttributes(b *pgx.Batch, g room.LogID, user room.UserID, a room.MemberAttributes) {
	if len(a) == 0 {
		b.Queue("DELETE FROM member_attributes WHERE generation = $1 AND user_id = $2", g, user)
		return
	}
	pairs := make(memberPairs, len(a))
	for key, attribute := range a {
		pairs[key] = memberPair(attribute)
	}
	b.Queue(`INSERT INTO member_attributes (generation, user_id, pairs) VALUES ($1, $2, $3)
		ON CONFLICT (generation, user_id) DO UPDATE SET pairs = excluded.pairs`, g, user, pairs)
}

// queueLeaveAttributes deletes the attributes of a member who leaves, except those that are kept
// for the user's return. In an empty room it deletes all attributes. Those of a destroyed room are
// deleted with the room.
func queueLeaveAttributes(b *pgx.Batch, r room.Room, l room.LeaveRequest) {
	switch {
	case !r.DestroyedAt.IsZero():
	case r.MemberCount == 0:
		b.Queue("DELETE FROM member_attributes WHERE generation = $1", r.Generation)
	case len(l.Attributes) > 0:
		queueMemberAttributes(b, r.Generation, l.User.ID, l.Attributes.Kept())
	}
}

// UpdateMemberAttributes changes the attributes of members of a room that the session is in. It
// returns their new attributes, in the order in which the members joined, and the users who are not
// in the room. Errors: room.ErrRoomNotFound, room.ErrNotInRoom, room.ErrAttributesFull.
func (s *Store) UpdateMemberAttributes(
	ctx context.Context, by room.Actor, id room.RoomID, users []room.UserID, u room.MemberAttributesUpdate,
) (infos []room.MemberAttributesInfo, absent []room.UserID, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lockJoinedRoom(ctx, tx, by.Session(), id)
		if err != nil {
			return c, err
		}
		rows, err := tx.Query(ctx, memberAttributesByID, r.Generation, users)
		if err != nil {
			return c, err
		}
		members, err := pgx.CollectRows(rows, scanMemberAttributes)
		if err != nil {
			return c, err
		}
		if r, c, infos, err = r.UpdateMemberAttributes(members, u, now); err != nil {
			return c, err
		}
		absent = slices.DeleteFunc(slices.Clone(users), func(user room.UserID) bool {
			return slices.ContainsFunc(infos, func(m room.MemberAttributesInfo) bool { return m.UserID == user })
		})
		if len(c.Events) == 0 {
			return c, nil
		}
		var b pgx.Batch
		for _, m := range infos {
			queueMemberAttributes(&b, r.Generation, m.UserID, m.Attributes)
		}
		if err := queueRoom(&b, r, c.Events); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, roomKey(id))
	return infos, absent, err
}

const memberAttributesByID = `
	SELECT m.user_id, a.pairs FROM members m LEFT JOIN member_attributes a USING (generation, user_id)
	WHERE generation = $1 AND user_id = ANY ($2) ORDER BY m.joined_seq, user_id`

func scanMemberAttributes(row pgx.CollectableRow) (room.MemberAttributesInfo, error) {
	var (
		m     room.MemberAttributesInfo
		pairs memberPairs
	)
	err := row.Scan(&m.UserID, &pairs)
	m.Attributes = pairs.attributes()
	return m, err
}

// MemberAttributesByID returns the attributes of the users who are in the room, in the order in
// which they joined, and omits the others.
func (s *Store) MemberAttributesByID(
	ctx context.Context, g room.LogID, users []room.UserID,
) ([]room.MemberAttributesInfo, error) {
	rows, err := s.pool.Query(ctx, memberAttributesByID, g, users)
	if err != nil {
		return nil, translate(err)
	}
	members, err := pgx.CollectRows(rows, scanMemberAttributes)
	return members, translate(err)
}

// MemberAttributes returns a page of at most limit members who have attributes, in the order in
// which they joined, and the cursor of the next page. more is false for the last page.
func (s *Store) MemberAttributes(
	ctx context.Context, g room.LogID, after room.MemberCursor, limit int,
) (page []room.MemberAttributesInfo, next room.MemberCursor, more bool, err error) {
	// One additional row shows whether there is a next page.
	rows, err := s.pool.Query(ctx, `
		SELECT user_id, a.pairs, m.joined_seq FROM members m CROSS JOIN LATERAL (
			SELECT pairs FROM member_attributes WHERE generation = m.generation AND user_id = m.user_id LIMIT 1
		) a WHERE generation = $1 AND (m.joined_seq, user_id) > ($2, $3)
		ORDER BY m.joined_seq, user_id LIMIT $4`, g, after.JoinedSeq, after.User, limit+1)
	if err != nil {
		return nil, next, false, translate(err)
	}
	defer rows.Close()
	page = make([]room.MemberAttributesInfo, 0, limit)
	for rows.Next() {
		if len(page) == limit {
			more = true
			continue
		}
		var (
			m     room.MemberAttributesInfo
			pairs memberPairs
		)
		if err := rows.Scan(&m.UserID, &pairs, &next.JoinedSeq); err != nil {
			return nil, next, false, translate(err)
		}
		m.Attributes, next.User = pairs.attributes(), m.UserID
		page = append(page, m)
	}
	return page, next, more, translate(rows.Err())
}
