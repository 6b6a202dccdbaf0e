package servicetest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

// overEveryTransport runs a test over each transport that the server supports: those on which it
// can take over the stream's socket, and those on which it cannot.
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

// TestTransports runs the same conversation over each transport.
func TestTransports(t *testing.T) {
	overEveryTransport(t, converse)
}

// TestIdleStreams checks that a stream and a feed stay open when they are idle for longer than the
// write timeout. In the program, both the heartbeat interval and the write timeout are 10 s by
// default.
func TestIdleStreams(t *testing.T) {
	overEveryTransport(t, func(t *testing.T, s *service, _ int) {
		alice := s.login("alice")
		alice.enter("lobby")
		stream, _ := alice.listen()
		feed, _ := s.admin().follow("")
		eventually(t, "both have received two heartbeats", func() bool {
			return stream.comments.Load() >= 2 && feed.comments.Load() >= 2
		})
		alice.send("lobby", "still there?")
		if got := stream.text(); got != "still there?" {
			t.Errorf("the stream received %q", got)
		}
		skipTo[room.MessagesReceived](feed)
	}, func(c *setup) {
		// The hub checks once a second, so its heartbeats are 1 to 2 s apart.
		c.hub.Heartbeat, c.hub.WriteTimeout = 2*time.Second, 750*time.Millisecond
		c.api.Heartbeat, c.api.FeedWriteTimeout = 1500*time.Millisecond, 750*time.Millisecond
	})
}

func converse(t *testing.T, s *service, protocol int) {
	alice, bob := s.login("alice"), s.login("bob")
	if scheme, _, _ := strings.Cut(s.url, ":"); !strings.HasPrefix(alice.StreamURL, scheme+"://") {
		t.Errorf("streamURL of a session over %s is %s", scheme, alice.StreamURL)
	}
	alice.enter("lobby")
	bob.enter("lobby")
	aliceStream, _ := alice.listen(resume(""))
	bobStream, _ := s.anonymous().listenAt(bob.StreamURL)
	if got := aliceStream.reply.ProtoMajor; got != protocol {
		t.Errorf("the stream used HTTP/%d", got)
	}
	expect[room.MembersJoined](aliceStream)
	// More than one write of the hub, and more than a window of HTTP/2.
	long := strings.Repeat("x", room.MaxTextBytes)
	for range 10 {
		bob.send("lobby", long)
	}
	for range 10 {
		if aliceStream.text() != long || bobStream.text() != long {
			t.Fatal("a long text did not arrive")
		}
	}
	id := aliceStream.id
	aliceStream.disconnect()
	eventually(t, "the session is detached", func() bool { return alice.state() == "detached" })
	bob.send("lobby", "meanwhile")
	aliceStream, ready := alice.listen(resume(id))
	if got := aliceStream.text(); !ready.Resumed || got != "meanwhile" {
		t.Errorf("resumed: %t, next message is %q", ready.Resumed, got)
	}
	again, _ := alice.listen()
	if got := expect[room.ConnectionStateChanged](aliceStream); got.Event != room.ConnectionSuperseded {
		t.Errorf("the older stream ends with %+v", got)
	}
	aliceStream.end()
	for range 12 {
		again.next() // all events since alice entered
	}
	if got := bobStream.text(); got != "meanwhile" {
		t.Errorf("bob received %q", got)
	}
	bob.logout()
	if got := bobStream.state(); got != "disconnected loggedOut" {
		t.Errorf("bob's state event is %s", got)
	}
	expect[room.ConnectionStateChanged](bobStream)
	bobStream.end()
	expect[room.MembersLeft](again)
}
