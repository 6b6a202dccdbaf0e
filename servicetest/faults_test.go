package servicetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// brokenRooms is a store that fails to read rooms.
type brokenRooms struct {
	handlers.Store
	fail func() error
}

func (b brokenRooms) SessionRoom(context.Context, room.SessionID, room.RoomID) (room.Room, error) {
	return room.Room{}, b.fail()
}

// TestInternalErrorsAreOnlyLogged checks that a reply to an internal error contains a request ID
// and no details.
func TestInternalErrorsAreOnlyLogged(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name string
		fail func() error
	}{
		{"error", func() error { return errors.New("the innermost cause at /var/lib, SQLSTATE 42P01") }},
		{"panic", func() error { panic("the innermost cause") }},
	} {
		s := newService(t, func(c *setup) {
			c.allowErrors = true
			c.wrap = func(s handlers.Store) handlers.Store { return brokenRooms{s, step.fail} }
		})
		// The contract declares no status 500, because clients cannot rely on it.
		r := s.unchecked().withKey(s.login("alice").SessionKey).call("GET", roomPath("lobby", ""), nil)
		p := r.refused(http.StatusInternalServerError, "internal")
		for _, err := range []error{checkHeaders(r.Response), checkSecrecy(r.body), checkProblem(r.Response, r.body)} {
			if err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		if strings.Contains(string(r.body), "innermost") {
			t.Errorf("%s: the reply says %s", step.name, r.body)
		}
		if !s.log.contains("the innermost cause") || !s.log.contains(p.RequestID) {
			t.Errorf("%s: the log does not contain the error of request %s", step.name, p.RequestID)
		}
	}
}

// TestErrorContextIsHidden checks that an error of package room is sent as it is, without the
// errors that wrap it.
func TestErrorContextIsHidden(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) {
		c.wrap = func(s handlers.Store) handlers.Store {
			return brokenRooms{s, func() error { return fmt.Errorf("pgx: %w: SQLSTATE 1", fmt.Errorf("again: %w", room.ErrNotInRoom)) }}
		}
	})
	p := s.login("alice").call("GET", roomPath("lobby", ""), nil).refused(http.StatusConflict, "not_in_room")
	if p.Detail != room.ErrNotInRoom.Message {
		t.Errorf("the detail is %q", p.Detail)
	}
}

// TestCanceledCall checks that a call whose client has disconnected is logged as 499, not as an
// internal error.
func TestCanceledCall(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := newService(t, func(c *setup) {
		c.wrap = func(s handlers.Store) handlers.Store { return blockedStore{s, asked} }
	})
	alice := s.login("alice")
	ctx, disconnect := context.WithCancel(context.Background())
	go func() {
		<-asked
		disconnect()
	}()
	reply, err := alice.http.Do(alice.request("GET", roomPath("lobby", ""), nil).WithContext(ctx))
	if err == nil {
		_ = reply.Body.Close()
		t.Errorf("the canceled call got status %d", reply.StatusCode)
	}
	eventually(t, "the log contains the call", func() bool { return s.log.contains(`"status":499`) })
}

// TestCanceledCallIsAnswered checks that a call that is canceled although its client is still there
// gets a reply that says so: net/http would send an empty 200.
func TestCanceledCallIsAnswered(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) {
		c.front = func(w http.ResponseWriter, r *http.Request, api http.Handler) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			if r.Method == http.MethodGet {
				cancel()
			}
			api.ServeHTTP(w, r.WithContext(ctx))
		}
	})
	r := s.login("alice").call("GET", roomPath("lobby", ""), nil)
	r.refused(http.StatusServiceUnavailable, "unavailable")
	if r.Header.Get("Retry-After") != "1" || !r.Close {
		t.Errorf("the reply has the header %v, and closes the connection: %t", r.Header, r.Close)
	}
	eventually(t, "the log contains the call", func() bool { return s.log.contains(`"status":499`) })
}

// blockedStore is a store that blocks each read of a room until its context ends.
type blockedStore struct {
	handlers.Store
	asked chan struct{}
}

func (w blockedStore) SessionRoom(ctx context.Context, _ room.SessionID, _ room.RoomID) (room.Room, error) {
	close(w.asked)
	<-ctx.Done()
	return room.Room{}, ctx.Err()
}

// deadlineStore is a store that requires a deadline in the contexts of its calls.
type deadlineStore struct {
	handlers.Store
	t testing.TB
}

func (p deadlineStore) check(ctx context.Context, what string) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > 10*time.Second {
		p.t.Errorf("%s is called without a deadline", what)
	}
}

func (p deadlineStore) SessionByKey(ctx context.Context, key room.KeyHash) (room.Session, error) {
	p.check(ctx, "a look for a session key")
	return p.Store.SessionByKey(ctx, key)
}

func (p deadlineStore) SessionByStreamKey(ctx context.Context, key room.KeyHash) (room.Session, error) {
	p.check(ctx, "a look for a stream key")
	return p.Store.SessionByStreamKey(ctx, key)
}

func (p deadlineStore) CreateSession(ctx context.Context, by room.Actor, session room.Session, naming room.Naming, key, streamKey room.KeyHash) (room.Profile, error) {
	p.check(ctx, "createSession")
	return p.Store.CreateSession(ctx, by, session, naming, key, streamKey)
}

func (p deadlineStore) OpenStream(ctx context.Context, id room.SessionID, epoch string, cursor []room.Position) (room.OpenedStream, error) {
	p.check(ctx, "the start of a stream")
	return p.Store.OpenStream(ctx, id, epoch, cursor)
}

func (p deadlineStore) FeedEnd(ctx context.Context, parts room.FeedParts) (room.FeedCursor, error) {
	p.check(ctx, "the end of the feed")
	return p.Store.FeedEnd(ctx, parts)
}

func (p deadlineStore) FeedAfter(ctx context.Context, after room.FeedCursor, parts room.FeedParts, n int) (room.FeedPage, error) {
	p.check(ctx, "a page of the feed")
	return p.Store.FeedAfter(ctx, after, parts, n)
}

// TestStoreCallsHaveDeadlines checks that a database that does not respond cannot block a call or
// the start of a stream forever.
func TestStoreCallsHaveDeadlines(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) {
		c.wrap = func(s handlers.Store) handlers.Store { return deadlineStore{s, t} }
	})
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	stream.disconnect()
	s.anonymous().listenAt(alice.StreamURL)
	feed, _ := s.admin().follow("")
	alice.enter("cellar")
	expect[room.Created](feed)
	s.admin().follow(feed.id)
	for _, call := range samples(s) {
		if !strings.HasPrefix(call.id, "stream") && call.id != "endSession" {
			call.by(call.caller(alice), nil)
		}
	}
}

// TestObservedRoutes checks that metrics are labelled with the pattern of a route, not with a path,
// so that there are few labels.
func TestObservedRoutes(t *testing.T) {
	t.Parallel()
	var (
		mu       sync.Mutex
		observed []string
	)
	s := newService(t, func(c *setup) {
		c.api.Observe = func(route, method string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			observed = append(observed, fmt.Sprintf("%s %s %d", method, route, status))
			if took <= 0 {
				t.Errorf("%s took %s", route, took)
			}
		}
	})
	alice := s.login("alice")
	alice.enter("a#b")
	alice.call("GET", "/v1/rooms/a%23b/members?limit=0", nil).is(http.StatusBadRequest)
	alice.call("GET", "/v1/rooms/a%23b/attic", nil).is(http.StatusNotFound)
	alice.call("PUT", "/v1/rooms/a%23b", nil).is(http.StatusMethodNotAllowed)
	s.anonymous().call("GET", "/anything", nil).is(http.StatusNotFound)
	alice.logout()
	want := []string{
		"POST /v1/sessions 201", "POST /v1/rooms/{roomID}/enter 201", "GET /v1/rooms/{roomID}/members 400", "GET  404", "PUT  405", "GET  404",
		"DELETE /v1/sessions/current 204",
	}
	eventually(t, "all calls are counted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(observed) == len(want)
	})
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(observed, want) {
		t.Errorf("observed routes are %q", observed)
	}
}

// TestSecretsStayOutOfTheLog sends secrets in all parts of a request. The harness looks for them in
// the log of every test.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	// Some of the requests open the stream, which is not read.
	send := func(r *http.Request) {
		t.Helper()
		reply, err := s.unchecked().http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
	}
	for _, secret := range []string{alice.SessionKey, alice.streamKey(), s.token("alice", time.Hour)} {
		for _, path := range []string{
			"/v1/events?stream_key=" + secret, "/v1/events?stream_ticket=" + secret, "/v1/events?key=" + secret, "/v1/rooms/lobby?stream_key=" + secret, "/nothing?token=" + secret,
			"/v1/events?stream_key=%zz" + secret, "/v1/rooms/lobby/members?cursor=" + secret,
		} {
			send(alice.request("GET", path, nil, header("Authorization", "Basic "+secret)))
			send(alice.request("GET", path, nil, header("Authorization", "Bearer "+secret), header("Referer", s.url+path)))
			send(alice.request("POST", path, raw(secret), header("X-Secret", secret), header("Content-Type", secret)))
		}
		send(alice.request("POST", "/v1/sessions", object{"token": secret + "x"}))
		send(alice.request("POST", "/v1/sessions", object{"token": "x", secret: 1}))
	}
	if !s.log.contains("/v1/rooms/lobby/members") {
		t.Error("the log does not contain the calls")
	}
}
