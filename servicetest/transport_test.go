package servicetest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

// overEveryTransport runs a test over each transport that the server itself
// speaks: where the stream's socket can be taken over, and where it cannot.
func overEveryTransport(t *testing.T, test func(t *testing.T, s *service, protocol int), change ...func(*setup)) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		tls   bool
		http2 bool
	}{
		{"HTTP/1.1", false, false},
		{"HTTP/1.1 over TLS", true, false},
		{"HTTP/2", false, true},
		{"HTTP/2 over TLS", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, append(change, func(setup *setup) {
				protocols := &http.Protocols{}
				protocols.SetHTTP1(true)
				protocols.SetHTTP2(true)
				protocols.SetUnencryptedHTTP2(true)
				setup.server.Config.Protocols = protocols
				setup.server.EnableHTTP2 = c.http2
				if c.tls {
					setup.start = (*httptest.Server).StartTLS
				}
			})...)
			if c.http2 && !c.tls {
				plain := &http.Transport{Protocols: &http.Protocols{}}
				plain.Protocols.SetUnencryptedHTTP2(true)
				t.Cleanup(plain.CloseIdleConnections)
				s.http = s.httpClient(plain)
			}
			test(t, s, map[bool]int{false: 1, true: 2}[c.http2])
		})
	}
}

// TestTransports runs the same conversation over everything that carries it.
func TestTransports(t *testing.T) {
	overEveryTransport(t, converse)
}

// TestIdleStreams: a stream and a feed outlive silences that are longer than one
// write may take, here as in the program, where the heartbeat comes after 10 s and
// a write may take 10.
func TestIdleStreams(t *testing.T) {
	overEveryTransport(t, func(t *testing.T, s *service, _ int) {
		alice := s.login("alice")
		alice.enter("lobby")
		stream, _ := alice.listen()
		feed, _ := s.admin().follow("")
		eventually(t, "two heartbeats come to both", func() bool {
			return stream.comments.Load() >= 2 && feed.comments.Load() >= 2
		})
		alice.send("lobby", "still there?")
		if got := stream.text(); got != "still there?" {
			t.Errorf("the stream brings %q", got)
		}
		skipTo[room.MessagesReceived](feed)
	}, func(c *setup) {
		// The hub looks once a second, so its heartbeats are 1 to 2 s apart.
		c.hub.Heartbeat, c.hub.WriteTimeout = 2*time.Second, 750*time.Millisecond
		c.api.Heartbeat, c.api.FeedWriteTimeout = 1500*time.Millisecond, 750*time.Millisecond
	})
}

func converse(t *testing.T, s *service, protocol int) {
	alice, bob := s.login("alice"), s.login("bob")
	if scheme, _, _ := strings.Cut(s.url, ":"); !strings.HasPrefix(alice.StreamURL, scheme+"://") {
		t.Errorf("the stream of a session over %s is at %s", scheme, alice.StreamURL)
	}
	alice.enter("lobby")
	bob.enter("lobby")
	hers, _ := alice.listen(resume(""))
	his, _ := s.anonymous().listenAt(bob.StreamURL)
	if got := hers.reply.ProtoMajor; got != protocol {
		t.Errorf("the stream speaks HTTP/%d", got)
	}
	expect[room.MembersJoined](hers)
	// More than one write of the hub, and than a window of HTTP/2, takes.
	long := strings.Repeat("x", room.MaxTextBytes)
	for range 10 {
		bob.send("lobby", long)
	}
	for range 10 {
		if hers.text() != long || his.text() != long {
			t.Fatal("a long text does not arrive")
		}
	}
	id := hers.id
	hers.disconnect()
	eventually(t, "the session is detached", func() bool { return alice.state() == "detached" })
	bob.send("lobby", "meanwhile")
	hers, ready := alice.listen(resume(id))
	if got := hers.text(); !ready.Resumed || got != "meanwhile" {
		t.Errorf("resumed: %t, with %q", ready.Resumed, got)
	}
	again, _ := alice.listen()
	if got := expect[room.ConnectionStateChanged](hers); got.Event != room.ConnectionSuperseded {
		t.Errorf("the older stream ends with %+v", got)
	}
	hers.end()
	for range 12 {
		again.next() // all since she entered
	}
	if got := his.text(); got != "meanwhile" {
		t.Errorf("he hears %q", got)
	}
	bob.logout()
	if got := his.state(); got != "disconnected loggedOut" {
		t.Errorf("he is %s", got)
	}
	expect[room.ConnectionStateChanged](his)
	his.end()
	expect[room.MembersLeft](again)
}
