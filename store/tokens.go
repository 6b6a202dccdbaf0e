package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// VoidTokens voids the tokens of a user that were issued before a time, and those that do not
// contain when they were issued. The time replaces that of an earlier call. Sessions that were
// opened or last renewed with such a token are ended with the reason that an admin gives, and
// returned.
func (s *Store) VoidTokens(
	ctx context.Context, by room.Actor, user room.UserID, before time.Time, reason string,
) ([]room.SessionID, error) {
	var ended []room.SessionID
	err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		// A session that is being created either sees the void or is found here. A session that is
		// being renewed holds the lock of its row until it is visible here, too.
		var b pgx.Batch
		b.Queue(lockSessionList, user)
		b.Queue("INSERT INTO token_voids (user_id, before) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET before = excluded.before",
			user, before)
		if err := sendBatch(ctx, tx, &b); err != nil {
			return c, err
		}
		ended, err = lockSessionsWhere(ctx, tx, "user_id = $1 AND ended_at IS NULL AND (token_issued_at IS NULL OR token_issued_at < $2)", user, before)
		if err != nil {
			return c, err
		}
		return endSessions(ctx, tx, ended, room.EndKickedOut, reason, s.now())
	})
	return ended, err
}

// tokenVoid returns the SQL condition that the token of a user is void, from the expressions of the
// user and of when it was issued.
func tokenVoid(user, issued string) string {
	return fmt.Sprintf("EXISTS (SELECT FROM token_voids WHERE user_id = %s AND (%[2]s::timestamptz IS NULL OR %[2]s < before) OFFSET 0)", user, issued)
}
