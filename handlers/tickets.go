package handlers

import (
	"context"
	"net/http"
	"time"

	"parlor/room"
)

// ticketStore has the store methods for stream tickets.
type ticketStore interface {
	AddStreamTicket(ctx context.Context, id room.SessionID, ticket room.KeyHash, within time.Duration) (expires time.Time, err error)
}

// ticketLifetime is how long a ticket is valid. Clients request it just before they open the
// stream.
const ticketLifetime = 30 * time.Second

type streamTicketReply struct {
	StreamURL string       `json:"streamURL"`
	ExpiresAt room.Instant `json:"expiresAt"`
}

// createStreamTicket answers with a URL that opens the session's stream once, so that copies in the
// logs of proxies and in the history of browsers are useless afterwards.
func (a *api) createStreamTicket(w http.ResponseWriter, r *http.Request, session room.Session) error {
	ticket := newKey(ticketPrefix)
	expires, err := a.Store.AddStreamTicket(r.Context(), session.ID, hashKey(ticket), ticketLifetime)
	if err != nil {
		return err
	}
	return a.answer(w, r, http.StatusCreated, streamTicketReply{
		StreamURL: a.baseURL(r) + "/v1/events?stream_ticket=" + ticket, ExpiresAt: room.InstantOf(expires),
	})
}
