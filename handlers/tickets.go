package handlers

import (
	"context"
	"net/http"
	"time"

	"parlor/room"
)

// ticketStore stores stream tickets.
type ticketStore interface {
	AddStreamTicket(ctx context.Context, id room.SessionID, ticket room.KeyHash, within time.Duration) (expires time.Time, err error)
}

// ticketLifetime is how long a ticket waits for its stream to be opened. It is
// asked for just before.
const ticketLifetime = 30 * time.Second

type streamTicketReply struct {
	StreamURL string    `json:"streamURL"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// createStreamTicket answers with a URL of the session's stream that is good once:
// what proxies and browsers keep of it opens nothing afterwards.
func (a *api) createStreamTicket(w http.ResponseWriter, r *http.Request, session room.Session) error {
	ticket := newKey(ticketPrefix)
	expires, err := a.Store.AddStreamTicket(r.Context(), session.ID, hashKey(ticket), ticketLifetime)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusCreated, streamTicketReply{
		StreamURL: a.baseURL(r) + "/v1/events?stream_ticket=" + ticket, ExpiresAt: expires,
	})
}
