package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"parlor/room"
)

// TestTransports runs the same conversation over everything that carries it:
// where the stream's socket can be taken over, and where it cannot.
func TestTransports(t *testing.T) {
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
			s := newService(t, func(setup *setup) {
				protocols := &http.Protocols{}
				protocols.SetHTTP1(true)
				protocols.SetHTTP2(true)
				protocols.SetUnencryptedHTTP2(true)
				setup.server.Config.Protocols = protocols
				setup.server.EnableHTTP2 = c.http2
				if c.tls {
					setup.start = (*httptest.Server).StartTLS
				}
			})
			if c.http2 && !c.tls {
				plain := &http.Transport{Protocols: &http.Protocols{}}
				plain.Protocols.SetUnencryptedHTTP2(true)
				t.Cleanup(plain.CloseIdleConnections)
				s.http = s.over(plain)
			}
			converse(t, s, map[bool]int{false: 1, true: 2}[c.http2])
		})
	}
}

func converse(t *testing.T, s *service, protocol int) {
	alice, bob := s.login("alice"), s.login("bob")
	if scheme, _, _ := strings.Cut(s.url, ":"); !strings.HasPrefix(alice.StreamURL, scheme+"://") {
		t.Errorf("the stream of a session over %s is at %s", scheme, alice.StreamURL)
	}
	alice.enter("lobby")
	bob.enter("lobby")
	hers, _ := alice.listen(resume(""))
	his, _ := s.stranger().listenAt(bob.StreamURL)
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
	hers.hangUp()
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
