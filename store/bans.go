package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// banUsers bans users from a room until a time. It replaces earlier bans.
func banUsers(
	ctx context.Context, tx pgx.Tx, id room.RoomID, users []room.UserID, adminReason string, until time.Time,
) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO bans (room_id, user_id, until, note) SELECT DISTINCT $1, unnest($2::text[]), $3::timestamptz, $4
		ON CONFLICT (room_id, user_id) DO UPDATE SET until = excluded.until, note = excluded.note`,
		id, users, until, adminReason)
	return err
}

// Bans returns the bans that apply to a room ID, ordered by user.
func (s *Store) Bans(ctx context.Context, id room.RoomID) ([]room.Ban, error) {
	rows, err := s.pool.Query(ctx, `SELECT user_id, until, note FROM bans WHERE room_id = $1 AND until > $2
		ORDER BY user_id`, id, s.now())
	if err != nil {
		return nil, translate(err)
	}
	bans, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Ban, error) {
		var b room.Ban
		var until time.Time
		err := row.Scan(&b.UserID, &until, &b.Reason)
		b.Until = room.InstantOf(until)
		return b, err
	})
	return bans, translate(err)
}

// Unban lifts the ban of a user. Errors: room.ErrBanNotFound.
func (s *Store) Unban(ctx context.Context, by room.Actor, id room.RoomID, user room.UserID) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		lifted, err := tx.Exec(ctx, "DELETE FROM bans WHERE room_id = $1 AND user_id = $2 AND until > $3", id, user, s.now())
		if err == nil && lifted.RowsAffected() == 0 {
			err = room.ErrBanNotFound
		}
		return c, err
	})
}
