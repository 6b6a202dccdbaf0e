package servicetest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"parlor/room"
)

// on returns the client as it calls another server on the same database.
func (c *client) on(other *service) *client {
	other.log.secret(c.SessionKey)
	other.log.secret(c.streamKey())
	return &client{service: other, http: other.http, session: c.session}
}

// TestServerLearnsWhereLogsEnd checks that messages that were sent through another server are on
// all streams of a server as soon as it has told one client that they exist: nobody needs to send
// one through this server first.
func TestServerLearnsWhereLogsEnd(t *testing.T) {
	t.Parallel()
	first := newService(t)
	second := newService(t, func(c *setup) { c.database = first.database })
	type scene struct {
		id room.RoomID
		// bob has a stream at the second server. phone is another session of his.
		bob, phone *client
		// alice sends through the first server.
		alice *client
		// carol was connected to the first server until before the messages were sent.
		carol  *client
		cursor string
	}
	for i, step := range []struct {
		what string
		do   func(scene)
	}{
		{"a session resumes", func(s scene) {
			carolStream, ready := s.carol.on(second).listen(resume(s.cursor))
			if !ready.Resumed {
				t.Error("the stream did not resume")
			}
			for _, want := range []string{"zero", "one", "two"} {
				if got := carolStream.text(); got != want {
					t.Errorf("to the session that resumed, the second server delivered %q, want %q", got, want)
				}
			}
		}},
		{"a session opens its first stream", func(s scene) { s.alice.on(second).listen() }},
		{"a member's other session joins", func(s scene) {
			s.phone.call("POST", roomPath(s.id, "/join"), nil).is(http.StatusOK)
		}},
		{"a session joins again", func(s scene) {
			s.bob.call("POST", roomPath(s.id, "/join"), nil).is(http.StatusOK)
		}},
		{"a session enters again", func(s scene) { s.bob.enter(s.id) }},
		{"a member's other session switches", func(s scene) {
			s.phone.enter("foyer")
			s.phone.call("POST", roomPath("foyer", "/switch"), object{"toRoom": object{"roomID": s.id}}).is(http.StatusOK)
		}},
		{"the room is read", func(s scene) { s.bob.call("GET", roomPath(s.id, ""), nil).is(http.StatusOK) }},
		{"the session's rooms are listed", func(s scene) {
			s.bob.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)
		}},
	} {
		user := func(name string) room.UserID { return room.UserID(fmt.Sprint(name, i)) }
		s := scene{id: room.RoomID(fmt.Sprint("room", i))}
		s.alice, s.carol, s.bob = first.login(user("alice")), first.login(user("carol")), second.login(user("bob"))
		s.phone = second.login(user("bob"))
		for _, c := range []*client{s.alice, s.bob, s.carol} {
			c.enter(s.id)
		}
		carolStream, _ := s.carol.listen()
		carolStream.disconnect()
		s.cursor = carolStream.id
		bobStream, _ := s.bob.listen()
		s.bob.send(s.id, "zero") // the second server now knows the log
		skipTo[room.MessagesReceived](bobStream)
		for _, text := range []string{"one", "two"} {
			s.alice.send(s.id, text)
		}
		step.do(s)
		for _, want := range []string{"one", "two"} {
			if got := bobStream.text(); got != want {
				t.Errorf("when %s, the second server delivered %q, want %q", step.what, got, want)
			}
		}
	}
}

// TestServerLearnsWhereInboxEnds checks the same for the messages of a user, of which the server is
// told when another session of the user opens a stream.
func TestServerLearnsWhereInboxEnds(t *testing.T) {
	t.Parallel()
	first := newService(t)
	second := newService(t, func(c *setup) { c.database = first.database })
	alice, bob := first.login("alice"), second.login("bob")
	bobStream, _ := bob.listen()
	alice.on(second).sendTo("bob", "zero")
	bobStream.peerMessage()
	alice.sendTo("bob", "one")
	second.login("bob").listen()
	if got := bobStream.peerMessage(); got.Text != "one" {
		t.Errorf("the second server delivered %q", got.Text)
	}
}

// TestListNodes lists two servers, of which the one that answers hears the other.
func TestListNodes(t *testing.T) {
	t.Parallel()
	heard := make(map[room.NodeID]time.Time)
	first := newService(t, func(c *setup) { c.store.NodeName, c.store.Version = "web-1", "v1.2.3" })
	second := newService(t, func(c *setup) {
		c.database = first.database
		c.api.HeardNodes = func() map[room.NodeID]time.Time { return heard }
	})
	first.login("alice").listen()
	type node struct {
		NodeID                room.NodeID
		NodeName, Version     string
		StartedAt, LeaseUntil time.Time
		State                 room.NodeState
		StreamCount           int
		Self                  bool
		HeardSince            *time.Time
	}
	list := func(s *service) (nodes []node) {
		t.Helper()
		nodes = as[struct{ Nodes []node }](s.admin().call("GET", "/v1/admin/nodes", nil).is(http.StatusOK)).Nodes
		if len(nodes) != 2 || nodes[0].NodeID != first.store.NodeID() || nodes[1].NodeID != second.store.NodeID() {
			t.Fatalf("the servers are %+v", nodes)
		}
		return nodes
	}
	nodes := list(second)
	if n := nodes[0]; n.NodeName != "web-1" || n.Version != "v1.2.3" || n.State != room.NodeRunning || n.StreamCount != 1 || n.Self || n.HeardSince != nil {
		t.Errorf("the first server is %+v", n)
	}
	if n := nodes[0]; n.LeaseUntil.Sub(n.StartedAt) < room.LeaseTime-time.Second {
		t.Errorf("started at %v, with a lease until %v", n.StartedAt, n.LeaseUntil)
	}
	if n := nodes[1]; n.StreamCount != 0 || !n.Self || n.State != room.NodeRunning {
		t.Errorf("the second server is %+v", n)
	}
	if nodes := list(first); !nodes[0].Self || nodes[1].Self || nodes[1].HeardSince != nil {
		t.Errorf("to the first server, they are %+v", nodes)
	}

	first.store.MarkLeaving()
	if err := first.store.RenewLease(t.Context()); err != nil {
		t.Fatal(err)
	}
	since := room.InstantOf(time.Now()).Time()
	heard[first.store.NodeID()] = since
	if n := list(second)[0]; n.State != room.NodeStopping || n.HeardSince == nil || !n.HeardSince.Equal(since) {
		t.Errorf("the stopping server is %+v", n)
	}
	first.anonymous().withKey(first.token("alice", time.Hour)).call("GET", "/v1/admin/nodes", nil).refused(http.StatusForbidden, "not_admin")
}
