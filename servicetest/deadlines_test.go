package servicetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// lastByteWithheld is a transport that never sends the last byte of a body.
type lastByteWithheld struct{ http.RoundTripper }

func (t lastByteWithheld) RoundTrip(r *http.Request) (*http.Response, error) {
	withheld, release := io.Pipe()
	defer release.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(string(body[:len(body)-1])), withheld), withheld}
	return t.RoundTripper.RoundTrip(r)
}

// TestSlowBodies checks, over every transport, that each call with a body replies to a client whose
// body stalls, and that other streams on the server are not affected.
func TestSlowBodies(t *testing.T) {
	overEveryTransport(t, func(t *testing.T, s *service, protocol int) {
		alice := s.loginWith(s.signed(set("rooms", []object{{"roomID": "*", "create": true, "join": true, "send": true, "kick": true}})))
		alice.enter("lobby")
		stream, _ := alice.listen()
		slow := s.httpClient(lastByteWithheld{s.http.Transport.(*checked).next})
		var calls sync.WaitGroup
		for _, call := range samples(s) {
			if call.body == nil {
				continue
			}
			r := call.caller(alice).request(call.method, call.path, call.body)
			calls.Go(func() {
				reply, err := slow.Do(r)
				if err != nil {
					t.Errorf("%s: %v", call, err)
					return
				}
				defer reply.Body.Close()
				text, err := io.ReadAll(reply.Body)
				if reply.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(text), `"code":"body_timeout"`) {
					t.Errorf("%s got status %d: %s, %v", call, reply.StatusCode, text, err)
				}
				if protocol == 1 && !reply.Close {
					t.Errorf("%s: the connection was not closed", call)
				}
			})
		}
		calls.Wait()
		alice.send("lobby", "still there?")
		if got := stream.text(); got != "still there?" {
			t.Errorf("the stream received %q", got)
		}
	}, func(c *setup) { c.api.BodyTimeout = time.Second })
}

// TestUnreadBodies checks that the server also gives up on a stalled body that no handler reads.
// net/http reads it before it sends the reply, even on unknown paths and without a key.
func TestUnreadBodies(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.BodyTimeout = time.Second })
	alice := s.login("alice")
	var calls sync.WaitGroup
	for _, call := range []struct {
		line, header string
		status       int
	}{
		{"GET /", "", http.StatusOK},
		{"POST /", "", http.StatusMethodNotAllowed},
		{"GET /nothing", "", http.StatusNotFound},
		{"GET /openapi.yaml", "", http.StatusOK},
		{"POST /v1/sessions", "Content-Type: text/plain\r\n", http.StatusUnsupportedMediaType},
		{"POST /v1/rooms", "", http.StatusUnauthorized},
		{"GET /v1/events", "", http.StatusUnauthorized},
		{"GET /v1/events", "Authorization: Bearer " + alice.SessionKey + "\r\n", http.StatusRequestTimeout},
		{"GET /v1/admin/events", "Authorization: Bearer " + s.admin().SessionKey + "\r\n", http.StatusRequestTimeout},
		{"POST /v1/media", "", http.StatusUnauthorized},
		{"POST /v1/media/uploads", "Tus-Resumable: 1.0.0\r\n", http.StatusUnauthorized},
		{"POST /v1/media/uploads", "Authorization: Bearer " + alice.SessionKey + "\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n", http.StatusCreated},
		{"OPTIONS /v1/media/uploads", "Tus-Resumable: 1.0.0\r\n", http.StatusOK},
		{"GET /v1/media/3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61/cat.png", "", http.StatusUnauthorized},
	} {
		calls.Go(func() {
			answer, err := s.sendPartial(call.line + " HTTP/1.1\r\nHost: parlor\r\n" + call.header + "Content-Length: 4096\r\n\r\n")
			if want := fmt.Sprintf("HTTP/1.1 %d ", call.status); err != nil || !strings.HasPrefix(answer, want) {
				t.Errorf("%s: got %.80q, then %v", call.line, answer, err)
			}
		})
	}
	calls.Wait()
}

// sendPartial sends the beginning of a request, and returns everything that the server sends until
// it closes the connection.
func (s *service) sendPartial(begin string) (string, error) {
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, begin); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// slowPosts is a store that takes longer to store a message than a body may take to arrive.
type slowPosts struct {
	handlers.Store
	by time.Duration
}

func (s slowPosts) PostMessage(ctx context.Context, send room.RoomSend) (room.Message, bool, error) {
	select {
	case <-time.After(s.by):
	case <-ctx.Done():
		return room.Message{}, false, ctx.Err()
	}
	return s.Store.PostMessage(ctx, send)
}

// TestSlowCallKeepsConnection checks that the deadline for a body does not apply to the call: a
// slow call gets its reply, and its connection is reused.
func TestSlowCallKeepsConnection(t *testing.T) {
	const bodyTimeout = 700 * time.Millisecond
	overEveryTransport(t, func(_ *testing.T, s *service, _ int) {
		alice := s.login("alice")
		alice.enter("lobby")
		alice.send("lobby", "late")
		alice.send("lobby", "next")
	}, func(c *setup) {
		c.api.BodyTimeout = bodyTimeout
		c.wrap = func(s handlers.Store) handlers.Store { return slowPosts{s, bodyTimeout * 3 / 2} }
	})
}
