package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// AddStreamTicket stores a ticket that can open the session's stream once, and returns when the
// ticket expires. It replaces an earlier ticket, because a session has one stream. Errors:
// room.ErrSessionEnded.
func (s *Store) AddStreamTicket(
	ctx context.Context, id room.SessionID, ticket room.KeyHash, within time.Duration,
) (expires time.Time, err error) {
	expires = s.now().Add(within)
	added, err := s.pool.Exec(ctx, "UPDATE sessions SET ticket_hash = $2, ticket_expires_at = $3 WHERE session_id = $1 AND "+notEnded,
		id, ticket[:], expires)
	if err == nil && added.RowsAffected() == 0 {
		return time.Time{}, room.ErrSessionEnded
	}
	return expires, translate(err)
}

// UseStreamTicket returns the session of a ticket and invalidates the ticket: of several calls with
// the same ticket, one succeeds. Errors: room.ErrTicketRefused.
func (s *Store) UseStreamTicket(ctx context.Context, ticket room.KeyHash) (room.Session, error) {
	session, err := scanSession(s.pool.QueryRow(ctx, `UPDATE sessions SET ticket_hash = NULL, ticket_expires_at = NULL
		WHERE ticket_hash = $1 AND ticket_expires_at > $2 RETURNING `+sessionColumns, ticket[:], s.now()))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Session{}, room.ErrTicketRefused
	}
	return session, translate(err)
}
