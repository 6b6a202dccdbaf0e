package servicetest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// TestRefusedConnections checks that a call above the limit of connections gets an error with the
// time to wait, and that EventSource gets a reply after which it reconnects.
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
				t.Errorf("the log contains the rejected request %s", p.RequestID)
			}
		}
		stream := alice.open(alice.StreamURL)
		if e := expect[room.Reconnect](stream); e.AfterMs < 5000 || e.AfterMs > 20_000 {
			t.Errorf("EventSource is asked to reconnect after %d ms", e.AfterMs)
		}
		stream.end()
		refusal.Store(nil)
	}
	alice.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
}

// trustProxy makes the address of the tests a trusted proxy, so that they can choose client
// addresses in X-Forwarded-For.
func trustProxy(c *setup) {
	c.api.TrustedProxies = handlers.TrustedProxies{netip.MustParsePrefix("127.0.0.1/32")}
}

func forwardedFor(address string) func(*http.Request) { return header("X-Forwarded-For", address) }

// TestStreamLimits checks the limits on streams in total, for each address and for each user. Open
// streams are kept, a session can always replace its own stream, and an ended stream frees its
// slot.
func TestStreamLimits(t *testing.T) {
	overEveryTransport(t, func(_ *testing.T, s *service, _ int) {
		refused := func(c *client, address string, status int, code string) {
			s.Helper()
			r := c.call("GET", "/v1/events", nil, forwardedFor(address))
			if r.refused(status, code); r.Header.Get("Retry-After") != "5" {
				s.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
			}
			stream := c.open(c.StreamURL, forwardedFor(address))
			expect[room.Reconnect](stream)
			stream.end()
		}
		first, second, third := s.login("alice"), s.login("alice"), s.login("alice")
		one, _ := first.listen(forwardedFor("192.0.2.1"))
		two, _ := second.listen(forwardedFor("192.0.2.2"))
		refused(third, "192.0.2.3", http.StatusTooManyRequests, "too_many_streams")

		again, _ := first.listen(forwardedFor("192.0.2.9"))
		expect[room.ConnectionStateChanged](one)
		one.end()

		bob, carol := s.login("bob"), s.login("carol")
		bobStream, _ := bob.listen(forwardedFor("2001:db8::1"))
		carolStream, _ := carol.listen(forwardedFor("2001:db8::2"))
		dora, eve := s.login("dora"), s.login("eve")
		refused(dora, "2001:db8::3", http.StatusTooManyRequests, "too_many_streams") // in the same /64
		last, _ := dora.listen(forwardedFor("2001:db8:0:1::1"))
		refused(eve, "192.0.2.5", http.StatusServiceUnavailable, "server_full")
		one, _ = first.listen(forwardedFor("2001:db8::3")) // the total and the address are at their limits, but it replaces the session's own stream
		expect[room.ConnectionStateChanged](again)
		again.end()

		two.disconnect()
		eventually(s, "the second session is detached", func() bool { return second.state() == "detached" })
		var room5 *stream
		eventually(s, "a stream can be opened after another one has ended", func() bool {
			if r, err := s.http.Do(third.request("GET", "/v1/events", nil, forwardedFor("192.0.2.3"))); err == nil && r.StatusCode == http.StatusOK { //nolint:bodyclose // the reader closes it
				room5 = read(s, r)
				return true
			}
			return false
		})
		for _, stream := range []*stream{one, bobStream, carolStream, last, room5} {
			stream.disconnect()
		}
	}, trustProxy, func(c *setup) {
		c.api.Limits = handlers.Limits{Streams: 5, StreamsPerAddress: 2, StreamsPerUser: 2}
	})
}

// TestRateLimitsPerUser checks that each limit is shared by a user's sessions, that the rejection
// has the time to wait, that other users are not affected, and that admins have no limit.
func TestRateLimitsPerUser(t *testing.T) {
	t.Parallel()
	met := make(map[handlers.Limit]int)
	var mu sync.Mutex // guards met
	s := newService(t, func(c *setup) {
		hourly := func(n int) handlers.Rate { return handlers.Rate{Count: n, Window: time.Hour} }
		c.api.Rates = handlers.Rates{
			Messages: hourly(3), Barrage: hourly(3), BarrageBytes: hourly(8192), Logins: hourly(3),
			RoomsCreated: hourly(2), Joins: hourly(8), Attributes: hourly(2), InboxChanges: hourly(2), Statuses: hourly(2), Profiles: hourly(2),
		}
		c.api.Limited = func(limit handlers.Limit, _ netip.Prefix) {
			mu.Lock()
			defer mu.Unlock()
			met[limit]++
		}
	})
	tooFast := func(r reply, code, limit string) {
		t.Helper()
		r.refused(http.StatusTooManyRequests, code)
		h := r.Header
		if h.Get("Retry-After") == "" || h.Get("Retry-After") == "60" || !strings.Contains(strings.Join(h.Values("RateLimit"), ", "), `"`+limit+`";r=0;t=`) ||
			!strings.Contains(strings.Join(h.Values("RateLimit-Policy"), ", "), `"`+limit+`";q=`) {
			t.Errorf("reply to %s has the headers %v", r.call, h)
		}
	}
	text := object{"kind": "text", "text": "x"}

	alice, phone := s.login("alice"), s.loginWith(s.signed(everyGrant))
	s.login("alice")
	login := object{"token": s.token("alice", time.Hour)}
	tooFast(s.anonymous().call("POST", "/v1/sessions", login), "too_many_logins", "logins")
	tooFast(phone.call("PUT", "/v1/sessions/current/token", login), "too_many_logins", "logins")
	bob := s.login("bob")

	alice.call("POST", "/v1/rooms", object{"roomID": "one"}).is(http.StatusCreated)
	phone.enter("two")
	phone.enter("one") // it exists already
	bob.enter("three")
	tooFast(alice.call("POST", "/v1/rooms", object{"roomID": "four"}), "too_many_rooms_created", "roomsCreated")
	tooFast(phone.call("POST", roomPath("four", "/enter"), nil), "too_many_rooms_created", "roomsCreated")
	change := object{"toRoom": object{"roomID": "four"}, "createIfNotExists": true}
	tooFast(phone.call("POST", roomPath("one", "/switch"), change), "too_many_rooms_created", "roomsCreated")
	if r := alice.call("POST", roomPath("three", "/enter"), nil).is(http.StatusOK); r.Header.Get("Retry-After") != "" {
		t.Errorf("entering an existing room got the headers %v", r.Header)
	}

	phone.call("POST", roomPath("two", "/leave"), nil).is(http.StatusOK)
	for _, call := range []struct{ method, path string }{
		{"POST", roomPath("three", "/join")},
		{"POST", roomPath("three", "/enter")},
		{"POST", roomPath("one", "/leave")},
		{"DELETE", "/v1/sessions/current/rooms"},
	} {
		tooFast(phone.call(call.method, call.path, nil), "too_many_joins", "joins")
	}
	tooFast(alice.call("POST", "/v1/rooms", object{"roomID": "four"}), "too_many_joins", "joins")
	tooFast(phone.call("POST", roomPath("one", "/switch"), change), "too_many_joins", "joins")

	attributes := object{"set": object{"k": "v"}}
	mine := object{"userIDs": []string{"alice"}, "set": object{"k": "v"}}
	alice.call("PATCH", roomPath("one", "/attributes"), attributes).is(http.StatusOK)
	phone.call("PATCH", roomPath("one", "/member-attributes"), mine).is(http.StatusOK)
	tooFast(phone.call("PATCH", roomPath("one", "/attributes"), attributes), "too_many_attribute_changes", "attributes")
	tooFast(alice.call("PATCH", roomPath("one", "/member-attributes"), mine), "too_many_attribute_changes", "attributes")
	tooFast(phone.call("PATCH", roomPath("one", ""), object{"roomName": "One"}), "too_many_attribute_changes", "attributes")

	alice.call("PUT", "/v1/blocks/bob", nil).is(http.StatusNoContent)
	phone.call("DELETE", "/v1/blocks/bob", nil).is(http.StatusNoContent)
	tooFast(alice.call("PUT", "/v1/blocks/bob", nil), "too_many_inbox_changes", "inboxChanges")
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"DELETE", "/v1/blocks/bob", nil},
		{"POST", "/v1/conversations/bob/read", object{"seq": 1}},
		{"DELETE", "/v1/conversations/bob", nil},
		{"POST", "/v1/inbox/read", nil},
	} {
		tooFast(phone.call(call.method, call.path, call.body), "too_many_inbox_changes", "inboxChanges")
	}
	alice.call("PATCH", "/v1/profile", object{"userName": "Alice"}).is(http.StatusOK)
	phone.call("PATCH", "/v1/profile", object{"userName": "Alice A."}).is(http.StatusOK)
	tooFast(alice.call("PATCH", "/v1/profile", object{"userName": "Alice B."}), "too_many_profile_changes", "profiles")
	alice.call("PUT", "/v1/status", object{"customStatus": "1"}).is(http.StatusNoContent)
	subscription := object{"userIDs": []string{"bob"}, "durationSeconds": 60}
	phone.call("POST", "/v1/status-subscriptions", subscription).is(http.StatusOK)
	tooFast(phone.call("PUT", "/v1/status", object{"customStatus": "2"}), "too_many_status_changes", "statuses")
	tooFast(alice.call("POST", "/v1/status-subscriptions", subscription), "too_many_status_changes", "statuses")
	tooFast(alice.call("DELETE", "/v1/status-subscriptions?userID=bob", nil), "too_many_status_changes", "statuses")

	sent := message(alice.call("POST", roomPath("one", "/messages"), object{"kind": "text", "text": "1", "clientMessageID": "1"}).is(http.StatusCreated))
	phone.call("POST", peerPath("bob"), text).is(http.StatusCreated)
	alice.call("POST", roomPath("one", "/messages"), text).is(http.StatusCreated)
	tooFast(phone.call("POST", roomPath("one", "/messages"), text), "too_many_messages", "messages")
	tooFast(alice.call("POST", peerPath("bob"), text), "too_many_messages", "messages")
	again := alice.call("POST", roomPath("one", "/messages"), object{"kind": "text", "text": "1", "clientMessageID": "1"}).is(http.StatusCreated)
	if message(again).ID != sent.ID || again.Header.Get("Retry-After") != "" {
		t.Errorf("the reply for a stored message has the headers %v", again.Header)
	}

	barrage := func(bytes int) object { return object{"kind": "barrage", "text": strings.Repeat("x", bytes)} }
	alice.call("POST", roomPath("one", "/messages"), barrage(5000)).is(http.StatusAccepted)
	r := phone.call("POST", roomPath("one", "/messages"), barrage(5000))
	r.refused(http.StatusTooManyRequests, "too_much_barrage")
	if got := strings.Join(r.Header.Values("RateLimit"), ", "); !strings.Contains(got, `"barrageBytes";r=3192;`) {
		t.Errorf("the header for the limit of bytes is %s", got)
	}
	phone.call("POST", roomPath("one", "/messages"), barrage(10)).is(http.StatusAccepted)
	tooFast(alice.call("POST", roomPath("one", "/messages"), barrage(10)), "too_much_barrage", "barrage")

	bob.send("three", "others are not concerned")
	admin := s.admin()
	for range 10 {
		admin.call("POST", "/v1/admin/rooms/one/messages", object{"sender": object{"userID": "alice"}, "message": text}).is(http.StatusCreated)
	}
	mu.Lock()
	defer mu.Unlock()
	for limit, n := range map[handlers.Limit]int{
		handlers.LimitLogins: 2, handlers.LimitRoomsCreated: 3, handlers.LimitJoins: 6, handlers.LimitAttributes: 3,
		handlers.LimitInboxChanges: 5, handlers.LimitStatuses: 3, handlers.LimitProfiles: 1,
		handlers.LimitMessages: 3, handlers.LimitBarrage: 1, handlers.LimitBarrageBytes: 1,
	} {
		if met[limit] != n {
			t.Errorf("limit %s: want %d rejections reported, got %d", limit, n, met[limit])
		}
	}
}

// TestRetriesDoNotCount checks that a retry of a stored message does not count as a message, and
// that there is still a limit.
func TestRetriesDoNotCount(t *testing.T) {
	t.Parallel()
	const messages, retries = 3, 100
	s := newService(t, func(c *setup) { c.api.Rates.Messages = handlers.Rate{Count: messages, Window: time.Hour} })
	s.login("peer")
	quota := func(r reply) string {
		remaining, _, _ := strings.Cut(r.Header.Get("RateLimit"), ";t=") // the time passes
		return remaining
	}
	for i, path := range []string{roomPath("lobby", "/messages"), peerPath("peer")} {
		alice := s.login(room.UserID(fmt.Sprint("alice", i)))
		alice.enter("lobby")
		post := func(id string, body object) reply {
			sent := maps.Clone(body)
			sent["clientMessageID"] = id
			return alice.call("POST", path, sent)
		}
		text := object{"kind": "text", "text": "x"}
		first := post("1", text).is(http.StatusCreated)
		for n := range retries / 2 {
			again := post("1", text).is(http.StatusCreated)
			if message(again).ID != message(first).ID || quota(again) != quota(first) {
				t.Fatalf("retry %d: got %s with the quota %q, want %q", n, again.body, quota(again), quota(first))
			}
		}
		post("1", object{"kind": "text", "text": "y"}).refused(http.StatusConflict, "client_message_id_reused") // counts
		post("2", text).is(http.StatusCreated)
		for range retries / 2 { // now the limit is reached
			post("2", text).is(http.StatusCreated)
		}
		for range 2 { // a stranger's repetitions are bounded
			post("1", text).refused(http.StatusTooManyRequests, "too_many_messages")
			post("3", text).refused(http.StatusTooManyRequests, "too_many_messages")
		}
	}
}

// TestLoginRateLimit checks that logins from one address are limited before their tokens are
// verified.
func TestLoginRateLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, trustProxy, func(c *setup) { c.api.Rates.LoginsPerAddress = handlers.Rate{Count: 2, Window: time.Hour} })
	try := func(address, token string) reply {
		t.Helper()
		return s.anonymous().call("POST", "/v1/sessions", object{"token": token}, forwardedFor(address))
	}
	good := s.token("alice", time.Hour)
	try("2001:db8::1", "bad").refused(http.StatusUnauthorized, "token_invalid")
	try("2001:db8::2", "bad").refused(http.StatusUnauthorized, "token_invalid")
	r := try("2001:db8::3", good)
	if r.refused(http.StatusTooManyRequests, "too_many_logins"); r.Header.Get("Retry-After") != "1800" {
		t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
	}
	for _, elsewhere := range []string{"2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"} { // the last is the proxy itself
		s.log.secret(as[session](try(elsewhere, good).is(http.StatusCreated)).SessionKey)
	}
}
