package store

import (
	"context"
	"fmt"
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

// UpdateMemberAttributes changes the attributes of members of a room that the session is in, or of
// any room for an admin, or their user data. It returns their new attributes, in the order in which the members joined, and the users who are not
// in the room. Errors: room.ErrRoomNotFound, room.ErrNotInRoom, room.ErrAttributesFull.
func (s *Store) UpdateMemberAttributes(
	ctx context.Context, by room.Actor, id room.RoomID, users []room.UserID, u room.MemberAttributesUpdate,
) (infos []room.MemberAttributesInfo, absent []room.UserID, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lockRoomFor(ctx, tx, by, id)
		if err != nil {
			return c, err
		}
		rows, err := tx.Query(ctx, fmt.Sprintf(memberAttributesByID, "m.user_data, "), r.Generation, users)
		if err != nil {
			return c, err
		}
		members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.MemberAttributesInfo, error) {
			var (
				userData string
				joined   room.Seq
			)
			m, err := scanMemberAttributes(row, &userData, &joined)
			m.UserData = &userData
			return m, err
		})
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
			if u.UserData != nil {
				b.Queue("UPDATE members SET user_data = $3 WHERE generation = $1 AND user_id = $2", r.Generation, m.UserID, *u.UserData)
			}
		}
		if err := queueRoom(&b, r, c.Events); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, roomKey(id))
	return infos, absent, err
}

// memberAttributesByID selects users and their attributes, and more columns of the members m.
const memberAttributesByID = `
	SELECT m.user_id, a.pairs, %sm.joined_seq FROM members m LEFT JOIN member_attributes a USING (generation, user_id)
	WHERE generation = $1 AND user_id = ANY ($2) ORDER BY m.joined_seq, user_id`

func scanMemberAttributes(row pgx.Row, more ...any) (room.MemberAttributesInfo, error) {
	var (
		m     room.MemberAttributesInfo
		pairs memberPairs
	)
	err := row.Scan(append([]any{&m.UserID, &pairs}, more...)...)
	m.Attributes = pairs.attributes()
	return m, err
}

// MemberAttributesByID returns the attributes of the users who are in the room, and omits the
// others. Errors: room.ErrRoomNotFound.
func (s *Store) MemberAttributesByID(
	ctx context.Context, g room.LogID, users []room.UserID,
) (room.MemberPage[room.MemberAttributesInfo], error) {
	return memberAttributes(ctx, s.pool, g, users)
}

func memberAttributes(
	ctx context.Context, db rowsQuerier, g room.LogID, users []room.UserID,
) (room.MemberPage[room.MemberAttributesInfo], error) {
	return memberPage(ctx, db, scanMemberAttributes, len(users), fmt.Sprintf(memberAttributesByID, ""), g, users)
}

// MemberAttributes returns a page of at most limit members who have attributes. Errors:
// room.ErrRoomNotFound.
func (s *Store) MemberAttributes(
	ctx context.Context, g room.LogID, after room.MemberCursor, limit int,
) (room.MemberPage[room.MemberAttributesInfo], error) {
	return memberPage(ctx, s.pool, scanMemberAttributes, limit, `
		SELECT user_id, a.pairs, m.joined_seq FROM members m CROSS JOIN LATERAL (
			SELECT pairs FROM member_attributes WHERE generation = m.generation AND user_id = m.user_id LIMIT 1
		) a WHERE generation = $1 AND (m.joined_seq, user_id) > ($2, $3)
		ORDER BY m.joined_seq, user_id LIMIT $4`, g, after.JoinedSeq, after.User, limit+1)
}
