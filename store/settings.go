package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// UpdateRoom changes the name and the settings of a room. A session must be in the room, and an
// admin need not. Errors: room.ErrRoomNotFound, room.ErrNotInRoom, room.ErrVersionMismatch.
func (s *Store) UpdateRoom(
	ctx context.Context, by room.Actor, id room.RoomID, u room.RoomUpdate,
) (updated room.Room, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lockRoomFor(ctx, tx, by, id)
		if err != nil {
			return c, err
		}
		if updated, c, err = r.Update(u, now); err != nil || len(c.Events) == 0 {
			return c, err
		}
		var b pgx.Batch
		queueSettings(&b, updated)
		if err := queueRoom(&b, updated, c.Events); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, roomKey(id))
	return updated, err
}

// lockRoomFor locks a room until the transaction ends. A session must be in the room, and an admin
// need not. Errors: room.ErrRoomNotFound, room.ErrNotInRoom.
func lockRoomFor(ctx context.Context, tx pgx.Tx, by room.Actor, id room.RoomID) (room.Room, error) {
	if session := by.Session(); session != "" {
		return lockJoinedRoom(ctx, tx, session, id)
	}
	return lockRoom(ctx, tx, id)
}

// queueSettings writes the name and the settings of a room that the transaction has locked.
func queueSettings(b *pgx.Batch, r room.Room) {
	b.Queue(`UPDATE rooms SET room_name = $2, destroy_delay = $3, unused_timeout = $4, member_timeout = $5, max_members = $6,
		same_user = $7, history_visible = $8, updated_seq = $9, lifetime = $10, history = $11, retention_days = $12,
		retention_count = $13, presence = $14, names_up_to = $15, member_states = $16 WHERE generation = $1`,
		r.Generation, r.Name, r.Config.DestroyDelay, r.Config.UnusedTimeout, r.Config.MemberTimeout, r.Config.MaxMembers,
		r.Config.SameUser, r.Config.HistoryVisible, r.SettingsVersion, r.Config.Lifetime, r.Config.History, r.Config.RetentionDays,
		r.Config.RetentionCount, r.Config.Presence, r.Config.NamesUpTo, r.Config.MemberStates)
}
