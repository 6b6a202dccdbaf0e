package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parlor/auth"
	"parlor/room"
	"parlor/store/storetest"
)

// nodes are servers that share a database.
type nodes struct {
	t       *testing.T
	ctx     context.Context
	servers []*process
	admin   string // an admin token
}

// startNodes starts servers on one database, and waits until they have heard each other.
func startNodes(t *testing.T, n int, args ...string) *nodes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	env := []string{"DATABASE_URL=" + ownDatabase(t), "PARLOR_SECRET=" + string(goodSecret), "PARLOR_MIGRATE=true", "PARLOR_MESSAGE_RATE=0"}
	c := &nodes{t: t, ctx: ctx}
	for range n {
		c.servers = append(c.servers, startParlorWith(t, storetest.Folder(t), env, args...))
	}
	c.awaitBus()
	c.admin = strings.TrimSpace(parlor(ctx, t, env, "token", "--admin").out)
	return c
}

// awaitBus waits until every server hears all others.
func (c *nodes) awaitBus() {
	c.t.Helper()
	for _, p := range c.servers {
		want := fmt.Sprintf("\nparlor_bus_nodes %d\n", len(c.servers)-1)
		for !strings.Contains(get(c.t, p.ops+"/metrics"), want) {
			if c.ctx.Err() != nil {
				c.t.Fatalf("a server does not hear the others: %s", p.logged())
			}
			wait(c.ctx, 10*time.Millisecond)
		}
	}
}

// member is a session, whose calls go to one server while its stream is open at another.
type member struct {
	*client
	nodes *nodes

	mu     sync.Mutex // guards all below
	events []receivedEvent
	lastID string
	ended  bool
	change chan struct{} // closed and replaced when one of them changes
}

type receivedEvent struct {
	event room.EventType
	data  string
}

// login starts a session and opens its stream at a server. Its calls go to another.
func (c *nodes) login(user string, calls, stream int) *member {
	c.t.Helper()
	m := &member{client: &client{http: http.DefaultClient, base: c.servers[calls].url, user: user}, nodes: c, change: make(chan struct{})}
	if err := m.loginWith(c.ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
		c.t.Fatal(err)
	}
	m.open(stream)
	return m
}

// open opens the stream at a server, where it left off, and waits until it has begun.
func (m *member) open(stream int) {
	m.nodes.t.Helper()
	r, err := http.NewRequestWithContext(m.nodes.ctx, http.MethodGet, m.nodes.servers[stream].url+"/v1/events", nil)
	if err != nil {
		m.nodes.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.key)
	m.mu.Lock()
	r.Header.Set("Last-Event-ID", m.lastID)
	m.ended = false
	m.mu.Unlock()
	reply, err := http.DefaultClient.Do(r) //nolint:bodyclose // read closes it
	if err != nil || reply.StatusCode != http.StatusOK {
		m.nodes.t.Fatalf("stream of %s: %v", m.user, err)
	}
	go m.read(reply)
	m.await(room.TypeSessionReady, "")
}

func (m *member) read(reply *http.Response) {
	defer reply.Body.Close()
	var e receivedEvent
	for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			e.event = room.EventType(value)
		case "data":
			e.data = value
		case "id":
			m.update(func() { m.lastID = value })
		case "":
			if e.event != "" {
				m.update(func() { m.events = append(m.events, e) })
			}
			e = receivedEvent{}
		}
	}
	m.update(func() { m.ended = true })
}

func (m *member) update(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
	close(m.change)
	m.change = make(chan struct{})
}

// until waits until the condition holds. It is called with the lock held.
func (m *member) until(what string, condition func() bool) {
	m.nodes.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		m.mu.Lock()
		met, change := condition(), m.change
		m.mu.Unlock()
		if met {
			return
		}
		select {
		case <-change:
		case <-timeout:
			m.nodes.t.Fatalf("%s waits for %s; its events are %v", m.user, what, m.events)
		}
	}
}

// await waits for an event that contains a text, and returns it.
func (m *member) await(event room.EventType, text string) (data string) {
	m.nodes.t.Helper()
	m.until(fmt.Sprintf("%s with %q", event, text), func() bool {
		i := slices.IndexFunc(m.events, func(e receivedEvent) bool { return e.event == event && strings.Contains(e.data, text) })
		if i >= 0 {
			data = m.events[i].data
		}
		return i >= 0
	})
	return data
}

// awaitEnd waits until the stream has ended with an event that contains a text.
func (m *member) awaitEnd(text string) {
	m.nodes.t.Helper()
	m.await(room.TypeConnectionStateChanged, text)
	m.until("the end of the stream", func() bool { return m.ended })
}

// texts returns the received messages, in order, and fails the test if a log misses a seq.
func (m *member) texts() (texts []string) {
	m.nodes.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	last := make(map[int64]int64) // by log; that of the inbox is 0
	for _, e := range m.events {
		var body struct {
			Generation  int64
			Seq         int64
			MessageList []struct{ Text string }
		}
		if err := json.Unmarshal([]byte(e.data), &body); err != nil {
			m.nodes.t.Error(err)
		}
		if before := last[body.Generation]; before > 0 && body.Seq > 0 && body.Seq != before+1 {
			m.nodes.t.Errorf("%s received seq %d of log %d after %d", m.user, body.Seq, body.Generation, before)
		}
		last[body.Generation] = max(last[body.Generation], body.Seq)
		for _, message := range body.MessageList {
			texts = append(texts, message.Text)
		}
	}
	return texts
}

// adminCall makes a call of the admin API at a server.
func (c *nodes) adminCall(server int, method, path string, body any) {
	c.t.Helper()
	admin := &client{http: http.DefaultClient, base: c.servers[server].url, user: "admin", key: c.admin}
	admin.mustCall(c.ctx, c.t, method, path, body, nil)
}

// say sends a message through a server.
func (m *member) say(server int, roomID, kind, text string) {
	m.nodes.t.Helper()
	at := *m.client
	at.base = m.nodes.servers[server].url
	at.mustCall(m.nodes.ctx, m.nodes.t, http.MethodPost, "/v1/rooms/"+roomID+"/messages", map[string]string{"kind": kind, "text": text}, nil)
}

// TestNodesDeliver checks that what happens at one server reaches the streams of another.
func TestNodesDeliver(t *testing.T) {
	t.Parallel()
	c := startNodes(t, 2)
	alice, bob := c.login("alice", 0, 0), c.login("bob", 0, 1) // bob's calls and stream are at different servers
	alice.enter(c.ctx, t, "hall")
	bob.enter(c.ctx, t, "hall")
	bob.await(room.TypeRoomStateChanged, `"state":"connected"`)
	alice.await(room.TypeMembersJoined, `"userID":"bob"`)

	var want []string
	for i := range 20 {
		text := fmt.Sprintf("message %d", i)
		alice.say(i%2, "hall", "text", text)
		want = append(want, text)
	}
	for _, m := range []*member{alice, bob} {
		m.await(room.TypeMessagesReceived, `"message 19"`)
		if got := m.texts(); !slices.Equal(got, want) {
			t.Errorf("%s received %v", m.user, got)
		}
	}
	alice.say(0, "hall", "barrage", "shower")
	bob.await(room.TypeMessagesReceived, `"shower"`)
	alice.say(0, "hall", "text", strings.Repeat("long ", 4000)) // does not fit into one packet
	bob.await(room.TypeMessagesReceived, "long long")
	alice.mustCall(c.ctx, t, http.MethodPatch, "/v1/rooms/hall/attributes", map[string]any{"set": map[string]string{"color": "red"}}, nil)
	bob.await(room.TypeAttributesUpdated, `"red"`)
	alice.mustCall(c.ctx, t, http.MethodPost, "/v1/users/bob/messages", map[string]string{"kind": "text", "text": "psst"}, nil)
	bob.await(room.TypePeerMessagesReceived, `"psst"`)

	bob.mustCall(c.ctx, t, http.MethodPost, "/v1/rooms/hall/leave", nil, nil)
	bob.await(room.TypeRoomStateChanged, `"disconnected"`)
	alice.await(room.TypeMembersLeft, `"userID":"bob"`)
	alice.say(1, "hall", "text", "bob is gone")
	alice.await(room.TypeMessagesReceived, `"bob is gone"`)
	if slices.Contains(bob.texts(), "bob is gone") {
		t.Error("bob receives messages of a room that he has left")
	}
}

// TestNodesTakeAway checks that a session that was removed through one server receives nothing that
// is sent afterwards through another, where its stream is open.
func TestNodesTakeAway(t *testing.T) {
	t.Parallel()
	c := startNodes(t, 2)
	alice := c.login("alice", 0, 0)
	for i, tt := range []struct {
		name   string
		remove func(user, room string)
		event  room.EventType
		text   string
	}{
		{"kick", func(user, id string) {
			c.adminCall(0, http.MethodPost, "/v1/admin/rooms/"+id+"/kick", map[string]any{"userIDs": []string{user}, "banSeconds": 60})
		}, room.TypeRoomStateChanged, `"kickedOut"`},
		{"session ended", func(user, _ string) {
			c.adminCall(0, http.MethodDelete, "/v1/admin/users/"+user+"/sessions", nil)
		}, room.TypeConnectionStateChanged, `"kickedOut"`},
		{"tokens void", func(user, _ string) {
			c.adminCall(0, http.MethodPut, "/v1/admin/users/"+user+"/tokens-void-before", map[string]any{"before": time.Now().Add(time.Minute).UTC().Format(time.RFC3339)})
		}, room.TypeConnectionStateChanged, `"kickedOut"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for try := range 10 {
				user, id := fmt.Sprintf("user-%d-%d", i, try), fmt.Sprintf("room-%d-%d", i, try)
				m := c.login(user, 1, 1)
				alice.enter(c.ctx, t, id)
				m.enter(c.ctx, t, id)
				m.await(room.TypeRoomStateChanged, `"connected"`)
				tt.remove(user, id)
				for _, kind := range []string{"barrage", "text"} {
					alice.say(1, id, kind, "after the end")
				}
				alice.await(room.TypeMessagesReceived, id)
				m.await(tt.event, tt.text)
				if slices.Contains(m.texts(), "after the end") {
					t.Fatalf("%s received what was sent after the call", user)
				}
				alice.mustCall(c.ctx, t, http.MethodPost, "/v1/rooms/"+id+"/leave", nil, nil)
			}
		})
	}
}

// TestNodesOfOneSession moves a session between servers.
func TestNodesOfOneSession(t *testing.T) {
	t.Parallel()
	c := startNodes(t, 2)
	alice, bob := c.login("alice", 0, 0), c.login("bob", 0, 1)
	alice.enter(c.ctx, t, "hall")
	bob.enter(c.ctx, t, "hall")
	bob.await(room.TypeRoomStateChanged, `"connected"`)

	old := &member{client: bob.client, nodes: c, change: make(chan struct{})}
	old.open(1)
	bob.awaitEnd(`"superseded"`) // by the newer stream at the same server
	bob.open(0)
	old.awaitEnd(`"superseded"`) // by the newer stream at another server
	alice.say(1, "hall", "text", "hello")
	bob.await(room.TypeMessagesReceived, `"hello"`)

	bob.open(1)
	bob.mustCall(c.ctx, t, http.MethodDelete, "/v1/sessions/current", nil, nil)
	bob.awaitEnd(`"loggedOut"`)
	alice.await(room.TypeMembersLeft, `"bob"`)
}
