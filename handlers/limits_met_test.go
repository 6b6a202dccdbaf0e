package handlers_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"parlor/handlers"
	"parlor/room"
)

// TestRefusedConnections: whoever has no place is told so and when to try again,
// whatever was called, and an EventSource in a way from which it comes back.
func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	var refusal atomic.Pointer[error]
	s := newService(t, func(c *setup) {
		c.api.Refused = func(context.Context) error {
			if err := refusal.Load(); err != nil {
				return *err
			}
			return nil
		}
	})
	alice := s.login("alice")
	alice.enter("lobby")
	for err, code := range map[error]string{
		handlers.ErrServerFull: "server_full", handlers.ErrTooManyConnections: "too_many_connections",
	} {
		refusal.Store(&err)
		for _, path := range []string{"/v1/sessions/current", "/v1/events", roomPath("lobby", "")} {
			r := alice.call("GET", path, nil)
			p := r.refused(http.StatusServiceUnavailable, code)
			if got := r.Header.Get("Retry-After"); got != "5" || !r.Close {
				t.Errorf("%s: Retry-After is %q, and the connection ends: %t", path, got, r.Close)
			}
			if s.log.contains(`"level":"WARN"`) || s.log.contains(`"level":"INFO"`) {
				t.Errorf("the refusal of %s is in the log", p.RequestID)
			}
		}
		stream := alice.open(alice.StreamURL)
		if e := expect[room.Reconnect](stream); e.AfterMs < 5000 || e.AfterMs > 20_000 {
			t.Errorf("an EventSource is to come back after %d ms", e.AfterMs)
		}
		stream.end()
		refusal.Store(nil)
	}
	alice.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
}
