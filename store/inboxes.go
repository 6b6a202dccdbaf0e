package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// lockInboxes is a statement of its own, so that the snapshot of the next statement has everything
// that was committed before the locks.
const lockInboxes = `
	SELECT user_id, log, last_seq FROM inboxes WHERE user_id IN ($1, $2) ORDER BY log FOR NO KEY UPDATE`

// lockInboxesOf locks the inboxes of two users, and returns those that exist.
func lockInboxesOf(ctx context.Context, tx pgx.Tx, a, b room.UserID) (map[room.UserID]room.Inbox, error) {
	rows, err := tx.Query(ctx, lockInboxes, a, b)
	if err != nil {
		return nil, err
	}
	var (
		user    room.UserID
		in      room.Inbox
		inboxes = make(map[room.UserID]room.Inbox, 2)
	)
	_, err = pgx.ForEachRow(rows, []any{&user, &in.Log, &in.LastSeq}, func() error {
		inboxes[user] = in
		return nil
	})
	return inboxes, err
}

const inboxColumns = "log, last_seq, oldest_seq, counted_seq, read_seq, unread"

func scanInbox(row pgx.Row) (in room.Inbox, err error) {
	return in, row.Scan(&in.Log, &in.LastSeq, &in.OldestSeq, &in.CountedSeq, &in.ReadSeq, &in.Unread)
}

// lockInbox locks the inbox of a user who has a session. A user who was deleted in the meantime has
// no session any more. Errors: room.ErrSessionEnded.
func lockInbox(ctx context.Context, tx pgx.Tx, user room.UserID) (room.Inbox, error) {
	in, err := scanInbox(tx.QueryRow(ctx, "SELECT "+inboxColumns+" FROM inboxes WHERE user_id = $1 FOR NO KEY UPDATE", user))
	if errors.Is(err, pgx.ErrNoRows) {
		return in, room.ErrSessionEnded
	}
	return in, err
}

// queueInboxEvent stores an event about a peer at the end of an inbox that the transaction has
// locked.
func queueInboxEvent(b *pgx.Batch, peer room.UserID, e room.Event) error {
	body, err := encodeBody(e.Body)
	if err != nil {
		return err
	}
	b.Queue("UPDATE inboxes SET last_seq = $2, oldest_at = coalesce(oldest_at, $3) WHERE log = $1", e.Log, e.Seq, e.At)
	b.Queue("INSERT INTO events (generation, seq, type, at, peer_id, body) VALUES ($1, $2, $3, $4, $5, $6)",
		e.Log, e.Seq, e.Body.Type(), e.At, peer, string(body))
	return nil
}
