package handlers_test

import (
	"context"
	"net/http"
	"net/netip"
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

// proxy is the address that tests come from, as that of a trusted proxy: what they
// say in X-Forwarded-For is where they are.
func proxy(c *setup) {
	c.api.TrustedProxies = handlers.TrustedProxies{netip.MustParsePrefix("127.0.0.1/32")}
}

func at(address string) func(*http.Request) { return header("X-Forwarded-For", address) }

// TestStreamLimits: streams are bounded in all, by address and by user. Open ones
// stay, a session may always open its own anew, and an ended one makes room.
func TestStreamLimits(t *testing.T) {
	overEveryTransport(t, func(_ *testing.T, s *service, _ int) {
		refused := func(c *client, address string, status int, code string) {
			s.Helper()
			r := c.call("GET", "/v1/events", nil, at(address))
			if r.refused(status, code); r.Header.Get("Retry-After") != "5" {
				s.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
			}
			stream := c.open(c.StreamURL, at(address))
			expect[room.Reconnect](stream)
			stream.end()
		}
		first, second, third := s.login("alice"), s.login("alice"), s.login("alice")
		one, _ := first.listen(at("192.0.2.1"))
		two, _ := second.listen(at("192.0.2.2"))
		refused(third, "192.0.2.3", http.StatusTooManyRequests, "too_many_streams")

		again, _ := first.listen(at("192.0.2.9"))
		expect[room.ConnectionStateChanged](one)
		one.end()

		bob, carol := s.login("bob"), s.login("carol")
		his, _ := bob.listen(at("2001:db8::1"))
		hers, _ := carol.listen(at("2001:db8::2"))
		dora, eve := s.login("dora"), s.login("eve")
		refused(dora, "2001:db8::3", http.StatusTooManyRequests, "too_many_streams") // of the same /64
		last, _ := dora.listen(at("2001:db8:0:1::1"))
		refused(eve, "192.0.2.5", http.StatusServiceUnavailable, "server_full")
		one, _ = first.listen(at("2001:db8::3")) // full, and too many from there, but the session's own
		expect[room.ConnectionStateChanged](again)
		again.end()

		two.hangUp()
		eventually(s, "the second session is detached", func() bool { return second.state() == "detached" })
		var room5 *stream
		eventually(s, "the stream that ended makes room", func() bool {
			if r, err := s.http.Do(third.request("GET", "/v1/events", nil, at("192.0.2.3"))); err == nil && r.StatusCode == http.StatusOK { //nolint:bodyclose // the reader closes it
				room5 = read(s, r)
				return true
			}
			return false
		})
		for _, stream := range []*stream{one, his, hers, last, room5} {
			stream.hangUp()
		}
	}, proxy, func(c *setup) {
		c.api.Limits = handlers.Limits{Streams: 5, StreamsPerAddress: 2, StreamsPerUser: 2}
	})
}
