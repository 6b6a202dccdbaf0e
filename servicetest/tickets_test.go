package servicetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
)

type streamTicket struct {
	StreamURL string
	ExpiresAt time.Time
}

// ticket creates a stream ticket.
func (c *client) ticket() streamTicket {
	c.Helper()
	t := as[streamTicket](c.call("POST", "/v1/sessions/current/stream-ticket", nil).is(http.StatusCreated))
	_, secret, _ := strings.Cut(t.StreamURL, "stream_ticket=")
	c.log.secret(secret)
	return t
}

// expectStreamRefused requires that a stream is refused. If the stream opens, it does not wait for
// its end.
func (c *client) expectStreamRefused(address, code string) {
	c.Helper()
	got, err := c.http.Do(c.request("GET", address, nil))
	if err != nil {
		c.Fatal(err)
	}
	defer got.Body.Close()
	var p problem
	if got.StatusCode == http.StatusUnauthorized {
		err = json.NewDecoder(got.Body).Decode(&p)
	}
	if err != nil || p.Code != code {
		c.Errorf("opening the stream: got status %d %s, want %s: %v", got.StatusCode, p.Code, code, err)
	}
}

// TestStreamTickets checks that a ticket's URL opens the session's stream once, and nothing else.
// An EventSource that reconnects with it is rejected and gives up. Its page gets another ticket and
// resumes.
func TestStreamTickets(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	ticket := alice.ticket()
	if left := time.Until(ticket.ExpiresAt); left <= 0 || left > time.Minute {
		t.Errorf("the ticket expires after %s", left)
	}
	_, key, _ := strings.Cut(ticket.StreamURL, "stream_ticket=")
	s.anonymous().withKey(key).call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "unauthenticated")

	first, ready := s.anonymous().listenAt(ticket.StreamURL)
	if ready.SessionID != alice.SessionID {
		t.Errorf("the stream belongs to session %s", ready.SessionID)
	}
	bob.send("lobby", "one")
	skipTo[room.MessagesReceived](first)
	s.anonymous().expectStreamRefused(ticket.StreamURL, "stream_ticket_refused")
	bob.send("lobby", "two")
	expect[room.MessagesReceived](first) // the rejected request did not affect the stream
	first.disconnect()

	bob.send("lobby", "three")
	second, ready := s.anonymous().listenAt(alice.ticket().StreamURL + "&last_event_id=" + first.id)
	if got := expect[room.MessagesReceived](second); !ready.Resumed || got.MessageList[0].Text != "three" {
		t.Errorf("the next stream begins with %+v, resumed: %t", got, ready.Resumed)
	}

	old, newer := alice.ticket(), alice.ticket()
	s.anonymous().expectStreamRefused(old.StreamURL, "stream_ticket_refused")
	s.anonymous().listenAt(newer.StreamURL)
	s.anonymous().expectStreamRefused("/v1/events?stream_ticket=et_invented", "stream_ticket_refused")

	expired := alice.ticket()
	s.exec("UPDATE sessions SET ticket_expires_at = now() - interval '1 minute' WHERE session_id = $1", alice.SessionID)
	s.anonymous().expectStreamRefused(expired.StreamURL, "stream_ticket_refused")

	kept := alice.ticket()
	alice.logout()
	s.anonymous().expectStreamRefused(kept.StreamURL, "session_ended")
	alice.call("POST", "/v1/sessions/current/stream-ticket", nil).refused(http.StatusUnauthorized, "session_ended")
}

// TestStreamTicketIsUsedOnce checks that only one of several concurrent requests with a ticket
// opens a stream.
func TestStreamTicketIsUsedOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	ticket := alice.ticket()
	var opened atomic.Int32
	var tries sync.WaitGroup
	for range 20 {
		tries.Go(func() {
			r, err := s.http.Get(ticket.StreamURL)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if r.StatusCode == http.StatusOK {
				opened.Add(1)
			}
		})
	}
	tries.Wait()
	if opened.Load() != 1 {
		t.Errorf("%d streams were opened", opened.Load())
	}
}
