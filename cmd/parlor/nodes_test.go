package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	env     []string
	servers []*process
	admin   string // an admin token
}

// sharedEnv returns the settings that servers of one database share.
func sharedEnv(t *testing.T, databaseURL string) []string {
	t.Helper()
	return []string{
		"DATABASE_URL=" + databaseURL, "PARLOR_SECRET=" + string(goodSecret), "PARLOR_MIGRATE=true",
		"PARLOR_MEDIA_URL=file://" + storetest.Folder(t),
	}
}

// startNodes starts servers on one database, with some settings, and waits until they have heard each
// other.
func startNodes(t *testing.T, n int, settings []string) *nodes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	env := append(append(sharedEnv(t, ownDatabase(t)+"&pool_max_conns=8"), "PARLOR_MESSAGE_RATE=0"), settings...)
	c := &nodes{t: t, ctx: ctx, env: env}
	for range n {
		c.servers = append(c.servers, startParlorWith(t, storetest.Folder(t), env))
	}
	awaitBus(ctx, t, c.servers)
	c.admin = strings.TrimSpace(parlor(ctx, t, env, "token", "--admin").out)
	return c
}

// awaitBus waits until every server hears all others, and the database lists no more.
func awaitBus(ctx context.Context, t *testing.T, servers []*process) {
	t.Helper()
	for _, p := range servers {
		heard := fmt.Sprintf("\nparlor_bus_nodes %d\n", len(servers)-1)
		for metrics := ""; !strings.Contains(metrics, heard) || !strings.Contains(metrics, "\nparlor_bus_nodes_unheard 0\n"); {
			if ctx.Err() != nil {
				t.Fatalf("a server does not hear the others: %s", p.logged())
			}
			wait(ctx, 10*time.Millisecond)
			metrics = get(t, p.ops+"/metrics")
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
	cancel func()        // ends the stream
	change chan struct{} // closed and replaced when one of them changes
}

type receivedEvent struct {
	event room.EventType
	data  string
}

// login starts a session and opens its stream at a server. Its calls go to another.
func (c *nodes) login(user string, calls, stream int) *member {
	c.t.Helper()
	return c.loginGranted(user, calls, stream, time.Hour, nil)
}

// loginGranted is login with a token that lasts for a time and grants something.
func (c *nodes) loginGranted(user string, calls, stream int, ttl time.Duration, grants *room.Grants) *member {
	c.t.Helper()
	m := c.member(user, calls)
	if err := m.begin(c.ctx, c.token(user, ttl, grants)); err != nil {
		c.t.Fatal(err)
	}
	m.open(stream)
	return m
}

// member returns a user whose calls go to a server.
func (c *nodes) member(user string, calls int) *member {
	return &member{client: &client{http: http.DefaultClient, base: c.servers[calls].url, user: user}, nodes: c, change: make(chan struct{})}
}

func (c *nodes) token(user string, ttl time.Duration, grants *room.Grants) string {
	c.t.Helper()
	token, err := (&auth.Tokens{Secret: []byte(goodSecret)}).SignGrants(room.User{ID: room.UserID(user)}, grants, ttl)
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

// feed opens the feed of a server.
func (c *nodes) feed(server int) *member {
	c.t.Helper()
	m := c.member(fmt.Sprintf("feed %d", server), server)
	m.key = c.admin
	m.follow(server, "/v1/admin/events")
	m.await(room.TypeFeedReady, "")
	return m
}

// open opens the stream at a server, where it left off, and waits until it has begun.
func (m *member) open(stream int) {
	m.nodes.t.Helper()
	begun := m.received()
	m.follow(stream, "/v1/events")
	m.awaitAfter(begun, room.TypeSessionReady, "")
}

// follow opens a stream at a server.
func (m *member) follow(server int, path string) {
	m.nodes.t.Helper()
	ctx, cancel := context.WithCancel(m.nodes.ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.nodes.servers[server].url+path, nil)
	if err != nil {
		m.nodes.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.key)
	m.mu.Lock()
	if m.lastID != "" {
		r.Header.Set("Last-Event-ID", m.lastID)
	}
	m.ended, m.cancel = false, cancel
	m.mu.Unlock()
	reply, err := http.DefaultClient.Do(r) //nolint:bodyclose // read closes it
	if err != nil || reply.StatusCode != http.StatusOK {
		m.nodes.t.Fatalf("stream of %s: %v", m.user, err)
	}
	go m.read(reply)
}

// hangUp closes the stream.
func (m *member) hangUp() {
	m.nodes.t.Helper()
	m.cancel()
	m.until("the end of the stream", func() bool { return m.ended })
}

// read reads a stream until it ends. What is cut off at its end was not received, and an id counts
// only with its event.
func (m *member) read(reply *http.Response) {
	defer reply.Body.Close()
	defer m.update(func() { m.ended = true })
	var (
		e  receivedEvent
		id string
	)
	for lines := bufio.NewReader(reply.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.event = room.EventType(value)
		case "data":
			e.data = value
		case "id":
			id = value
		case "":
			m.update(func() {
				if m.lastID = cmp.Or(id, m.lastID); e.event != "" {
					m.events = append(m.events, e)
				}
			})
			e, id = receivedEvent{}, ""
		}
	}
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
	return m.awaitAfter(0, event, text)
}

// awaitAfter is await for an event that is not among the first ones.
func (m *member) awaitAfter(first int, event room.EventType, text string) (data string) {
	m.nodes.t.Helper()
	m.until(fmt.Sprintf("%s with %q", event, text), func() bool {
		i := slices.IndexFunc(m.events[first:], func(e receivedEvent) bool { return e.event == event && strings.Contains(e.data, text) })
		if i >= 0 {
			data = m.events[first+i].data
		}
		return i >= 0
	})
	return data
}

// received returns the number of events.
func (m *member) received() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events)
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

// isRefused tries to enter a room.
func (m *member) isRefused(roomID string, want int) {
	m.nodes.t.Helper()
	status, err := m.call(m.nodes.ctx, http.MethodPost, "/v1/rooms/"+roomID+"/enter", nil, nil)
	if err != nil || status != want {
		m.nodes.t.Errorf("%s enters %s: status %d, error %v", m.user, roomID, status, err)
	}
}

// adminCall makes a call of the admin API at a server.
func (c *nodes) adminCall(server int, method, path string, body any) {
	c.t.Helper()
	admin := &client{http: http.DefaultClient, base: c.servers[server].url, user: "admin", key: c.admin}
	admin.mustCall(c.ctx, c.t, method, path, body, nil)
}

// list returns what parlor nodes prints about each server, by its state.
func (c *nodes) list() map[room.NodeState][]string {
	c.t.Helper()
	got := parlor(c.ctx, c.t, c.env, "nodes")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if got.code != exitOK || got.err != "" || !strings.HasPrefix(lines[0], "STATE ") {
		c.t.Fatalf("parlor nodes: exit code %d, %s%s", got.code, got.out, got.err)
	}
	listed := make(map[room.NodeState][]string)
	for _, line := range lines[1:] {
		state, rest, _ := strings.Cut(line, " ")
		listed[room.NodeState(state)] = append(listed[room.NodeState(state)], strings.TrimSpace(rest))
	}
	return listed
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
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) { start(t, 2).deliver() })
}

func (c *nodes) deliver() {
	t := c.t
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

// TestNodesShowEverything makes each kind of change through one server, and waits for it on streams at
// others.
func TestNodesShowEverything(t *testing.T) {
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
				t.Parallel()
				start(t, n).showEverything()
			})
		}
	})
}

func (c *nodes) showEverything() {
	t, last := c.t, len(c.servers)-1
	admin := func(method, path string, body any) func() {
		return func() { c.adminCall(1, method, "/v1/admin/"+path, body) }
	}
	call := func(m *member, method, path string, body any) func() {
		return func() { m.mustCall(c.ctx, t, method, "/v1/"+path, body, nil) }
	}
	config := func(name string, value any) map[string]any { return map[string]any{name: value} }
	admin(http.MethodPost, "rooms", map[string]any{"roomID": "hall", "config": config("memberTimeout", 5)})()
	admin(http.MethodPost, "rooms", map[string]any{"roomID": "full", "config": config("maxMembers", 1)})()
	admin(http.MethodPost, "rooms", map[string]any{"roomID": "single", "config": config("sameUser", "replace")})()

	alice, bob := c.login("alice", 1, 0), c.login("bob", 0, last)
	carol := c.loginGranted("carol", 1, 0, time.Hour, &room.Grants{Rooms: []room.Grant{{RoomID: "*", Join: true, Kick: true}}})
	erin, phone, tablet := c.login("erin", 1, last), c.login("bob", 0, last), c.login("alice", 0, last)
	feeds := []*member{c.feed(0), c.feed(last)}
	alice.enter(c.ctx, t, "full")
	alice.enter(c.ctx, t, "single")
	for _, m := range []*member{alice, bob, carol, erin} {
		m.enter(c.ctx, t, "hall")
	}
	alice.await(room.TypeMembersJoined, `"erin"`)

	// message sends a message, and recalls it later.
	message := func(path string) (send, recall func()) {
		var reply struct{ Message struct{ MessageID string } }
		return func() {
				alice.mustCall(c.ctx, t, http.MethodPost, path, map[string]string{"kind": "text", "text": "to " + path}, &reply)
			}, func() {
				alice.mustCall(c.ctx, t, http.MethodDelete, path+"/"+reply.Message.MessageID, nil, nil)
			}
	}
	send, recall := message("/v1/rooms/hall/messages")
	sendPeer, recallPeer := message("/v1/users/bob/messages")
	var ready struct{ SessionID string }
	if err := json.Unmarshal([]byte(phone.await(room.TypeSessionReady, "")), &ready); err != nil {
		t.Fatal(err)
	}
	type delivery struct {
		to    *member
		event room.EventType
		text  string
	}
	to := func(event room.EventType, text string, members ...*member) (all []delivery) {
		for _, m := range members {
			all = append(all, delivery{m, event, text})
		}
		return all
	}
	state := func(m *member, text string) []delivery { return to(room.TypeRoomStateChanged, text, m) }
	reenter, bobJoined := call(bob, http.MethodPost, "rooms/hall/enter", nil), to(room.TypeMembersJoined, `"bob"`, alice)
	bobLeft := to(room.TypeMembersLeft, `"bob"`, alice)
	for _, step := range []struct {
		name string
		do   func()
		want []delivery
	}{
		{"message", send, to(room.TypeMessagesReceived, "to /v1/rooms", alice, bob, feeds[0], feeds[1])},
		{"recall", recall, to(room.TypeMessageRecalled, `"alice"`, alice, bob, feeds[0], feeds[1])},
		{"peer message", sendPeer, to(room.TypePeerMessagesReceived, "to /v1/users", alice, bob, phone)},
		{"peer recall", recallPeer, to(room.TypePeerMessageRecalled, `"alice"`, alice, bob, phone)},
		{"custom status", func() {
			call(alice, http.MethodPost, "status-subscriptions", map[string]any{"userIDs": []string{"bob"}, "durationSeconds": 60})()
			call(bob, http.MethodPut, "status", map[string]any{"customStatus": "busy"})()
		}, to(room.TypeStatusesUpdated, "busy", alice, tablet)},
		{"barrage", func() { alice.say(1, "hall", "barrage", "shower") }, to(room.TypeMessagesReceived, "shower", alice, bob)},
		{
			"command", call(alice, http.MethodPost, "rooms/hall/messages", map[string]string{"kind": "command", "data": "bm9kZXM="}),
			to(room.TypeMessagesReceived, "bm9kZXM=", alice, bob),
		},
		{
			"attributes", call(alice, http.MethodPatch, "rooms/hall/attributes", map[string]any{"set": config("color", "red")}),
			to(room.TypeAttributesUpdated, "red", alice, bob, feeds[0], feeds[1]),
		},
		{
			"settings", admin(http.MethodPatch, "rooms/hall", map[string]any{"roomName": "The hall"}),
			to(room.TypeRoomUpdated, "The hall", alice, bob, feeds[0], feeds[1]),
		},
		{
			"member attributes", call(alice, http.MethodPatch, "rooms/hall/member-attributes", map[string]any{"userIDs": []string{"bob"}, "set": config("hand", "up")}),
			to(room.TypeMemberAttributesUpdated, `"hand"`, alice, bob),
		},
		{
			"profile", func() {
				call(tablet, http.MethodPost, "users/bob/messages", map[string]string{"kind": "command", "data": "AA=="})() // caches its session
				call(alice, http.MethodPatch, "profile", config("userName", "Alice L."))()
			},
			slices.Concat(to(room.TypeUserInfoUpdated, `"Alice L."`, bob, feeds[0], feeds[1]), to(room.TypeProfileUpdated, `"Alice L."`, alice, tablet)),
		},
		{
			"message with the new name", call(tablet, http.MethodPost, "users/bob/messages", map[string]string{"kind": "command", "data": "AA=="}),
			to(room.TypePeerMessagesReceived, `"Alice L."`, bob, phone),
		},
		{
			"refused join", func() { bob.isRefused("full", http.StatusConflict) },
			state(bob, `"enterFailed"`),
		},
		{
			"switch", call(bob, http.MethodPost, "rooms/hall/switch", map[string]any{"toRoom": config("roomID", "garden"), "createIfNotExists": true}),
			slices.Concat(state(bob, `"switch"`), state(bob, `"disconnected"`), bobLeft, to(room.TypeMembersLeft, `"bob"`, feeds...)),
		},
		{"enter", reenter, slices.Concat(state(bob, `"connected"`), bobJoined)},
		{"leave all", call(bob, http.MethodDelete, "sessions/current/rooms", nil), slices.Concat(state(bob, `"disconnected"`), bobLeft)},
		{"enter", reenter, bobJoined},
		{
			"kick by a member", call(carol, http.MethodPost, "rooms/hall/kick", map[string]any{"userIDs": []string{"bob"}, "reason": "too loud"}),
			slices.Concat(state(bob, "too loud"), bobLeft),
		},
		{"enter", reenter, bobJoined},
		{
			"ban", admin(http.MethodPost, "rooms/hall/kick", map[string]any{"userIDs": []string{"bob"}, "banSeconds": 60}),
			slices.Concat(state(bob, `"kickedOut"`), bobLeft),
		},
		{
			"banned", func() { bob.isRefused("hall", http.StatusForbidden) },
			state(bob, `"banned"`),
		},
		{"unban", func() { admin(http.MethodDelete, "rooms/hall/bans/bob", nil)(); reenter() }, bobJoined},
		{"replace", call(tablet, http.MethodPost, "rooms/single/enter", nil), slices.Concat(state(alice, `"replaced"`), state(tablet, `"connected"`))},
		{"end of a session", admin(http.MethodDelete, "users/bob/sessions/"+ready.SessionID, nil), to(room.TypeConnectionStateChanged, `"kickedOut"`, phone)},
		{"member timeout", erin.hangUp, to(room.TypeMembersLeft, `"erin"`, alice, bob)},
		{"destroy", admin(http.MethodDelete, "rooms/hall?reason=closing", nil), slices.Concat(state(alice, "closing"), state(bob, "closing"), to(room.TypeRoomDestroyed, `"hall"`, feeds...))},
	} {
		received := make(map[*member]int)
		for _, w := range step.want {
			received[w.to] = w.to.received()
		}
		step.do()
		began := time.Now()
		for _, w := range step.want {
			w.to.awaitAfter(received[w.to], w.event, w.text)
		}
		t.Logf("%s: %s after the reply", step.name, time.Since(began).Round(time.Millisecond))
	}
	// After a renewal, the stream warns again and does not end when the first token expires.
	dave := c.loginGranted("dave", 1, 0, room.TokenWarning+time.Second, nil)
	dave.await(room.TypeTokenWillExpire, "")
	warned := dave.received()
	call(dave, http.MethodPut, "sessions/current/token", map[string]string{"token": c.token("dave", room.TokenWarning+2*time.Second, nil)})()
	dave.awaitAfter(warned, room.TypeTokenWillExpire, "")

	const crowd = 110 // more than room.PresenceBatchThreshold
	alice.enter(c.ctx, t, "large")
	bob.enter(c.ctx, t, "large")
	var entering sync.WaitGroup
	for i := range crowd {
		m := c.member(fmt.Sprintf("crowd-%d", i), i%len(c.servers))
		if i%10 == 0 {
			entering.Wait()
		}
		entering.Go(func() {
			if err := m.loginWith(c.ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
				t.Error(err)
			} else if err := m.succeed(c.ctx, http.MethodPost, "/v1/rooms/large/enter", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	entering.Wait()
	began := time.Now()
	for _, m := range []*member{alice, bob} {
		m.until("all members of a large room", func() bool {
			joined := 0
			for _, e := range m.events {
				if e.event == room.TypeMembersJoined {
					joined += strings.Count(e.data, `"userID":"crowd-`)
				}
			}
			return joined == crowd
		})
	}
	t.Logf("all %d joins of a large room: %s after the last reply", crowd, time.Since(began).Round(time.Millisecond))
}

// TestNodesHide sends messages to one member of a large room through each server, and compares what
// the streams of others receive at each server, live and after a reconnect at another.
func TestNodesHide(t *testing.T) {
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) { start(t, 2).hide() })
}

func (c *nodes) hide() {
	t := c.t
	alice, phone, bob, there := c.login("alice", 0, 0), c.login("alice", 1, 1), c.login("bob", 0, 1), c.login("bob", 0, 0)
	others := []*member{c.login("dave", 0, 0), c.login("dave", 1, 1)}
	for _, m := range append(others, alice, phone, bob, there) {
		m.enter(c.ctx, t, "hall")
	}
	for i := range room.PresenceBatchThreshold {
		m := c.member(fmt.Sprintf("crowd-%d", i), i%2)
		if err := m.loginWith(c.ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
			t.Fatal(err)
		}
		m.enter(c.ctx, t, "hall")
	}
	alice.say(0, "hall", "text", "first")
	cursors := make(map[*member]string)
	for _, m := range append(others, bob) {
		m.await(room.TypeMessagesReceived, `"first"`)
		m.update(func() { cursors[m] = m.lastID })
	}
	send := func(server int, fields map[string]any) (id string) {
		at := *alice.client
		at.base = c.servers[server].url
		fields["to"] = []string{"bob", "absent"}
		var reply struct{ Message struct{ MessageID string } }
		at.mustCall(c.ctx, t, http.MethodPost, "/v1/rooms/hall/messages", fields, &reply)
		return reply.Message.MessageID
	}
	for server := range 2 {
		text := fmt.Sprint("secret ", server)
		send(server, map[string]any{"kind": "barrage", "text": text})
		send(server, map[string]any{"kind": "command", "data": "c2VjcmV0"})
		send(server, map[string]any{"kind": "custom", "text": text, "subType": 1})
		for _, m := range []*member{phone, bob, there} {
			for _, kind := range []string{"barrage", "command", "custom"} {
				m.until(kind, func() bool {
					return slices.ContainsFunc(m.events, func(e receivedEvent) bool {
						return strings.Contains(e.data, `"kind":"`+kind+`"`) && (kind == "command" || strings.Contains(e.data, text))
					})
				})
			}
		}
		recalled := send(server, map[string]any{"kind": "text", "text": text + strings.Repeat(" secret", 2000)}) // does not fit into one packet
		alice.mustCall(c.ctx, t, http.MethodDelete, "/v1/rooms/hall/messages/"+recalled, nil, nil)
		recalled = send(server, map[string]any{"kind": "text", "text": text})
		c.adminCall(1-server, http.MethodDelete, "/v1/admin/rooms/hall/messages/"+recalled, nil)
		bob.await(room.TypeMessageRecalled, recalled)
	}
	alice.say(1, "hall", "text", "end")
	bob.await(room.TypeMessagesReceived, `"end"`)
	all := bob.bySeq("first")
	for i, m := range others {
		m.await(room.TypeMessagesReceived, `"end"`)
		m.isHidden("live", all)
		// Another server replays the events, from its memory or from the database.
		m.hangUp()
		m.update(func() { m.events, m.lastID = nil, cursors[m] })
		m.open(1 - i)
		m.await(room.TypeMessagesReceived, `"end"`)
		m.isHidden("replayed", all)
	}
}

// bySeq returns the events of a room that follow a message.
func (m *member) bySeq(text string) map[int64]receivedEvent {
	m.nodes.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	events := make(map[int64]receivedEvent)
	begun := false
	for _, e := range m.events {
		var place struct{ Seq int64 }
		if err := json.Unmarshal([]byte(e.data), &place); err != nil {
			m.nodes.t.Error(err)
		}
		if begun && place.Seq > 0 {
			events[place.Seq] = e
		}
		begun = begun || strings.Contains(e.data, `"text":"`+text+`"`) || text == ""
	}
	return events
}

// isHidden checks that a member has received each of the events as it is, or only its seq if it has
// an audience.
func (m *member) isHidden(when string, all map[int64]receivedEvent) {
	t := m.nodes.t
	t.Helper()
	got := m.bySeq("")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		for _, word := range []string{"secret", "c2VjcmV0", "absent", `"to"`, "audience", "recalled"} {
			if strings.Contains(e.data, word) {
				t.Errorf("%s, %s: %s: %s", m.user, when, e.event, e.data)
			}
		}
	}
	hidden := 0
	for seq, want := range all {
		if strings.Contains(want.data, `"to":[`) || strings.Contains(want.data, `"audience":[`) {
			var place struct{ Generation int64 }
			if err := json.Unmarshal([]byte(want.data), &place); err != nil {
				t.Error(err)
			}
			want = receivedEvent{room.TypeRoomSeqAdvanced, fmt.Sprintf(`{"roomID":"hall","generation":%d,"seq":%d}`, place.Generation, seq)}
			hidden++
		}
		if got[seq] != want {
			t.Errorf("%s, %s: event %d is %v, want %v", m.user, when, seq, got[seq], want)
		}
	}
	if hidden != 10 {
		t.Errorf("%d events were sent to some", hidden)
	}
}

// TestNodesMoveStreams moves a stream between servers while messages are sent through both.
func TestNodesMoveStreams(t *testing.T) {
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) { start(t, 2).moveStreams() })
}

func (c *nodes) moveStreams() {
	t := c.t
	alice, bob := c.login("alice", 0, 0), c.login("bob", 0, 1)
	alice.enter(c.ctx, t, "hall")
	bob.enter(c.ctx, t, "hall")
	var sending sync.WaitGroup
	sendCtx, stop := context.WithCancel(c.ctx)
	defer stop()
	var want []string
	sending.Go(func() {
		for i := 0; sendCtx.Err() == nil; i++ {
			at, text := *alice.client, fmt.Sprint("message ", i)
			at.base = c.servers[i%2].url
			if err := at.sendText(c.ctx, "hall", text); err != nil {
				t.Error(err)
				return
			}
			want = append(want, text)
		}
	})
	for i := range 20 {
		bob.hangUp()
		received := bob.received()
		bob.open(i % 2)
		bob.awaitAfter(received, room.TypeMessagesReceived, "")
	}
	stop()
	sending.Wait()
	bob.until("all messages", func() bool { return strings.Contains(bob.events[len(bob.events)-1].data, `"`+want[len(want)-1]+`"`) })
	if got := bob.texts(); !slices.Equal(got, want) {
		t.Errorf("bob received %d of %d messages, or in another order", len(got), len(want))
	}
	t.Logf("%d messages", len(want))
}

// TestNodesTakeAway checks that a session that was removed through one server receives nothing that
// is sent afterwards through another, where its stream is open.
func TestNodesTakeAway(t *testing.T) {
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) { start(t, 2).takeAway() })
}

func (c *nodes) takeAway() {
	t := c.t
	alice := c.login("alice", 0, 0)
	moderator := c.loginGranted("moderator", 0, 0, time.Hour, &room.Grants{Rooms: []room.Grant{{RoomID: "*", Join: true, Kick: true}}})
	for i, tt := range []struct {
		name   string
		remove func(user, room string)
		event  room.EventType
		text   string
	}{
		{"kick", func(user, id string) {
			c.adminCall(0, http.MethodPost, "/v1/admin/rooms/"+id+"/kick", map[string]any{"userIDs": []string{user}, "banSeconds": 60})
		}, room.TypeRoomStateChanged, `"kickedOut"`},
		{"kick by a member", func(user, id string) {
			moderator.enter(c.ctx, t, id)
			moderator.mustCall(c.ctx, t, http.MethodPost, "/v1/rooms/"+id+"/kick", map[string]any{"userIDs": []string{user}}, nil)
			moderator.mustCall(c.ctx, t, http.MethodDelete, "/v1/sessions/current/rooms", nil, nil)
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
	overCarriers(t, func(t *testing.T, start func(*testing.T, int) *nodes) { start(t, 2).ofOneSession() })
}

func (c *nodes) ofOneSession() {
	t := c.t
	alice, bob := c.login("alice", 0, 0), c.login("bob", 0, 1)
	alice.enter(c.ctx, t, "hall")
	bob.enter(c.ctx, t, "hall")
	bob.await(room.TypeRoomStateChanged, `"connected"`)

	old := c.member("bob", 0)
	old.key = bob.key
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

// TestListNodes lists servers that run, one that stops, and one that was killed: through the API,
// and with the command, which needs no server.
func TestListNodes(t *testing.T) {
	t.Parallel()
	c := startNodes(t, 3, []string{"PARLOR_DRAIN=6s", "PARLOR_DRAIN_DELAY=2s"})
	c.login("alice", 0, 1)
	started := make(map[room.NodeID]bool)
	for i, p := range c.servers {
		admin := &client{http: http.DefaultClient, base: p.url, user: "admin", key: c.admin}
		var reply struct {
			Nodes []struct {
				NodeID                room.NodeID
				NodeName, Version     string
				State                 room.NodeState
				StreamCount           int
				Self                  bool
				StartedAt, LeaseUntil time.Time
				HeardSince            *time.Time
			}
		}
		admin.mustCall(c.ctx, t, http.MethodGet, "/v1/admin/nodes", nil, &reply)
		if len(reply.Nodes) != len(c.servers) {
			t.Fatalf("server %d lists %+v", i, reply.Nodes)
		}
		for j, n := range reply.Nodes { // they were started in this order
			started[n.NodeID] = true
			if n.Self != (i == j) || (n.HeardSince == nil) != n.Self || (n.StreamCount == 1) != (j == 1) {
				t.Errorf("server %d lists %+v", i, n)
			}
			if n.State != room.NodeRunning || n.NodeName != hostName() || n.Version == "" || !n.LeaseUntil.After(n.StartedAt) {
				t.Errorf("server %d lists %+v", i, n)
			}
			if n.HeardSince != nil && (n.HeardSince.Before(reply.Nodes[0].StartedAt) || time.Since(*n.HeardSince) < 0) {
				t.Errorf("server %d hears %+v", i, n)
			}
		}
	}
	if listed := c.list(); len(started) != 3 || len(listed[room.NodeRunning]) != 3 || !strings.HasPrefix(listed[room.NodeRunning][0], hostName()+" ") {
		t.Errorf("3 servers run, and listed are %q", listed)
	}

	c.servers[2].signal(syscall.SIGKILL)
	if err := c.servers[1].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for listed := c.list(); len(listed[room.NodeStopping]) != 1 || len(listed[room.NodeRunning]) == 0; listed = c.list() {
		if c.ctx.Err() != nil {
			t.Fatalf("one server stops, and listed are %q", listed)
		}
		wait(c.ctx, 50*time.Millisecond)
	}
	<-c.servers[1].done
	c.servers[0].signal(syscall.SIGTERM)
	for listed := c.list(); len(listed) != 1 || len(listed[room.NodeLate]) != 1; listed = c.list() {
		if c.ctx.Err() != nil {
			t.Fatalf("one server was killed, the others have ended, and listed are %q", listed)
		}
		wait(c.ctx, 50*time.Millisecond)
	}

	private := startParlor(t, storetest.Folder(t))
	want := "running " + hostName()
	for range 2 { // it runs, and it has ended
		got := parlor(c.ctx, t, nil, "nodes", "--data", private.data)
		if got.code != exitOK || !strings.Contains(strings.Join(strings.Fields(got.out), " "), want) {
			t.Errorf("exit code %d, %s%s; want %q", got.code, got.out, got.err, want)
		}
		private.signal(syscall.SIGTERM)
		want = "no servers are registered"
	}
	for url, code := range map[string]int{"": exitUsage, "postgres": exitUsage, "postgres://127.0.0.1:9/parlor": exitError} {
		if got := parlor(c.ctx, t, []string{"DATABASE_URL=" + url}, "nodes"); got.code != code || got.out != "" || !strings.HasPrefix(got.err, "parlor: ") {
			t.Errorf("with DATABASE_URL=%s: exit code %d, %s%s", url, got.code, got.out, got.err)
		}
	}
}
