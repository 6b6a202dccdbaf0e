package servicetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

type streamTicket struct {
	StreamURL string
	ExpiresAt time.Time
}

// ticket asks for a stream ticket.
func (c *client) ticket() streamTicket {
	c.Helper()
	t := as[streamTicket](c.call("POST", "/v1/sessions/current/stream-ticket", nil).is(http.StatusCreated))
	_, secret, _ := strings.Cut(t.StreamURL, "stream_ticket=")
	c.log.secret(secret)
	return t
}

// opensNot requires that no stream is opened at an address. It does not wait for the end of one that is.
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
		c.Errorf("the stream is answered with %d %s, and not %s: %v", got.StatusCode, p.Code, code, err)
	}
}

// TestStreamTickets: the URL opens the session's stream once, and nothing else. An
// EventSource that comes back by itself is refused and gives up, and its page asks for
// another ticket and goes on where it was.
func TestStreamTickets(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	ticket := alice.ticket()
	if left := time.Until(ticket.ExpiresAt); left <= 0 || left > time.Minute {
		t.Errorf("the ticket lasts for %s", left)
	}
	_, key, _ := strings.Cut(ticket.StreamURL, "stream_ticket=")
	s.anonymous().withKey(key).call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "unauthenticated")

	first, ready := s.anonymous().listenAt(ticket.StreamURL)
	if ready.SessionID != alice.SessionID {
		t.Errorf("the stream is of %s", ready.SessionID)
	}
	bob.send("lobby", "one")
	skipTo[room.MessagesReceived](first)
	s.anonymous().expectStreamRefused(ticket.StreamURL, "stream_ticket_refused")
	bob.send("lobby", "two")
	expect[room.MessagesReceived](first) // the second try did not disturb the stream
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
	s.execute("UPDATE sessions SET ticket_expires_at = now() - interval '1 minute' WHERE session_id = $1", alice.SessionID)
	s.anonymous().expectStreamRefused(expired.StreamURL, "stream_ticket_refused")

	kept := alice.ticket()
	alice.logout()
	s.anonymous().expectStreamRefused(kept.StreamURL, "session_ended")
	alice.call("POST", "/v1/sessions/current/stream-ticket", nil).refused(http.StatusUnauthorized, "session_ended")
}

// TestStreamTicketIsUsedOnce, however many come with one at the same time.
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

// execute changes the database by hand.
func (s *service) execute(sql string, args ...any) {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.database)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(s.Context())
	if _, err := conn.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
}
