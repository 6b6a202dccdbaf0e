package servicetest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

// TestModel makes random calls of a few users, with two sessions each, and of an admin on the same
// few rooms, and compares every reply and every event with a reference model, which is as simple as
// possible.
// A check takes half a second and more, so the test runs only a quarter of the checks that rapid
// asks for. After a failure, rapid can find a shorter sequence if it may search for longer than its
// default of 30 s: -rapid.shrinktime=3m.
func TestModel(t *testing.T) {
	t.Parallel()
	runs, failed := 0, false
	// The moves are in slices of slices because shrinking drops whole slices.
	story := rapid.SliceOf(rapid.SliceOf(rapid.SliceOf(rapid.Custom(drawMove))))
	rapid.Check(t, func(r *rapid.T) {
		moves := slices.Concat(slices.Concat(story.Draw(r, "story")...)...)
		if runs++; runs%4 != 1 && !failed {
			return
		}
		passed := false
		defer func() { failed = failed || !passed || r.Failed() }()
		m := newModel(t, r)
		if failed {
			m.waitTimeout = time.Second // shrinking repeats the failure many times, so do not wait long for it
		}
		for _, next := range moves {
			m.do(next)
			m.compareStreams()
		}
		m.finish()
		passed = true
	})
}

// model runs the service and the reference model side by side.
type model struct {
	*service
	t           *rapid.T
	clock       *clock
	adminClient *client
	observer    *observer
	reference   *referenceModel
	slots       map[string]*slot
	// generations holds all generations that have existed.
	generations map[room.LogID]bool
	sent        int
	waitTimeout time.Duration
}

// slot holds one session of a user at a time.
type slot struct {
	name          string
	*modelSession // nil before the first session
	client        *client
	endReported   bool    // a call was rejected since the session ended
	stream        *stream // nil if no stream is open
	cursors       []knownCursor
}

// knownCursor is a cursor that a session has received, and the positions that it means.
type knownCursor struct {
	id string
	at map[*generation]int
}

var (
	modelUsers   = []room.UserID{"a", "b", "c"}
	slotNames    = []string{"a1", "a2", "b1", "b2", "c1", "c2"} // the letter is the user
	modelRoomIDs = []room.RoomID{"red", "green", "blue"}
)

// move is a random action. It does not depend on the state of the service.
type move struct {
	what     string
	who      int // index of the slot
	room, to room.RoomID
	nth      int // selects one of several candidates
	config   room.Config
	setting  string // the one that is changed
	create   bool
	cursor   string
	after    time.Duration
	sweep    bool
	users    []room.UserID // who are kicked, or whom a message is for
	ban      room.Seconds
	data     string // user data
}

// GoString formats a move for rapid. Its outcome is logged separately.
func (v move) GoString() string {
	return fmt.Sprintf("%s %s %s %d", slotNames[v.who], v.what, v.room, v.nth)
}

// drawMove draws a move. rapid prefers the first values as the simplest, so moves that fill rooms
// come first, and moves that end something come last.
func drawMove(t *rapid.T) move {
	v := move{
		what: one(t, "what",
			"enter", "listen", "send", "switch", "wait", "enter", "listen", "write", "send", "hang up", "wait",
			"enter", "listen", "send", "switch", "wait", "hang up", "join", "create", "kick", "update", "open", "describe", "update", "leave all",
			"end", "destroy", "log out", "leave"),
		who:  rapid.IntRange(0, len(slotNames)-1).Draw(t, "who"),
		room: one(t, "room", modelRoomIDs...),
		nth:  rapid.IntRange(0, 7).Draw(t, "nth"),
		data: one(t, "data", "", "seat 1", "seat 2"),
	}
	switch v.what {
	case "enter", "create", "switch", "open", "update":
		v.config = room.Config{
			DestroyDelay: one[room.Seconds](t, "destroyDelay", 0, 5), UnusedTimeout: one[room.Seconds](t, "unusedTimeout", 1, 7),
			MemberTimeout: one[room.Seconds](t, "memberTimeout", 5, 30), MaxMembers: one(t, "maxMembers", 3, 2, 1),
			SameUser:       one(t, "sameUser", room.SameUserAllow, room.SameUserReplace, room.SameUserReject),
			HistoryVisible: one(t, "historyVisible", room.HistoryAll, room.HistorySinceJoined),
			Lifetime:       one(t, "lifetime", room.LifetimeUntilEmpty, room.LifetimeUntilEmpty, room.LifetimeKept),
			History:        one(t, "history", room.HistoryStored, room.HistoryNone), RetentionDays: one(t, "retentionDays", 0, 1), RetentionCount: one(t, "retentionCount", 0, 1),
			Presence:     one(t, "presence", room.PresenceFull, room.PresenceFull, room.PresenceBatched, room.PresenceCounts, room.PresenceNone),
			NamesUpTo:    one(t, "namesUpTo", room.MaxMaxMembers, room.MaxMaxMembers, 2, 1),
			MemberStates: one(t, "memberStates", true, false),
		}
		v.setting = one(t, "setting", "memberTimeout", "maxMembers", "destroyDelay", "unusedTimeout", "sameUser", "lifetime", "presence", "namesUpTo", "memberStates", "all", "none")
		v.to, v.create = one(t, "to", modelRoomIDs...), one(t, "create", true, false)
	case "listen":
		v.cursor = one(t, "cursor", "newest", "none", "newest", "newest", "older", "garbage")
	case "wait":
		v.after, v.sweep = one(t, "after", 0, -time.Millisecond, time.Millisecond), one(t, "sweep", true, true, true, false)
	case "send":
		v.users = rapid.SliceOfNDistinct(rapid.SampledFrom(modelUsers), 0, 2, rapid.ID).Draw(t, "users")
	case "kick":
		v.users = rapid.SliceOfNDistinct(rapid.SampledFrom(modelUsers), 1, 2, rapid.ID).Draw(t, "users")
		v.ban = one[room.Seconds](t, "ban", 0, 3, 10)
	}
	return v
}

func one[T any](t *rapid.T, what string, from ...T) T { return rapid.SampledFrom(from).Draw(t, what) }

func newModel(t *testing.T, r *rapid.T) *model {
	c := &clock{now: time.Now().UTC().Truncate(time.Millisecond)}
	m := &model{
		t: r, clock: c, reference: newReferenceModel(c.Now()), generations: make(map[room.LogID]bool),
		slots: make(map[string]*slot), waitTimeout: waitTimeout,
		service: newService(&rapidTB{r, restOfTB{t}}, func(s *setup) {
			s.store.Now = c.Now
			s.api.RoomsPerUser = modelRooms
		}),
	}
	m.adminClient, m.observer = m.admin(), m.newObserver()
	for _, name := range slotNames {
		m.slots[name] = &slot{name: name}
	}
	return m
}

// login creates a session in a slot.
func (m *model) login(s *slot) {
	user := room.UserID(s.name[:1])
	m.t.Logf("%s creates a session", s.name)
	*s = slot{name: s.name, modelSession: m.reference.login(user), client: m.loginWith(m.token(user, 1000*time.Hour))}
	session, err := m.store.SessionByID(context.Background(), s.client.SessionID)
	if err != nil {
		m.t.Fatal(err)
	}
	m.reference.inboxes[user].Generation = session.Inbox
	m.generations[session.Inbox] = true
	m.watch(user)
}

// pick returns the slot that makes the move. If its session has ended, one more call is made, which
// must be rejected, before the next session starts.
func (m *model) pick(v move) *slot {
	s := m.slots[slotNames[v.who]]
	switch {
	case s.modelSession == nil || s.endReported:
		m.login(s)
	case s.ended:
		s.endReported = true
	}
	return s
}

// pickWhere returns a slot for which a condition holds, or nil.
func (m *model) pickWhere(v move, such func(*slot) bool) *slot {
	for i := range slotNames {
		if s := m.slots[slotNames[(v.who+i)%len(slotNames)]]; s.modelSession != nil && such(s) {
			return s
		}
	}
	return m.pick(v)
}

func isInside(s *slot) bool { return len(s.from) > 0 }

func isListening(s *slot) bool { return s.stream != nil }

// of returns a room, usually one that the session is in.
func (v move) of(s *slot) room.RoomID {
	if in := sortedGenerations(s.from); v.nth < len(in) {
		return in[v.nth].ID
	}
	return v.room
}

// do makes a move.
func (m *model) do(v move) {
	switch v.what {
	case "enter":
		s := m.pick(v)
		got := s.client.call("POST", roomPath(v.room, "/enter"), object{"config": v.config, "userData": v.data})
		m.compare(fmt.Sprint(s.name, " enters ", v.room), m.reference.enter(s.modelSession, v.room, v.config, v.data), got)
	case "join":
		s := m.pick(v)
		got := s.client.call("POST", roomPath(v.room, "/join"), object{"userData": v.data})
		m.compare(fmt.Sprint(s.name, " joins ", v.room), m.reference.join(s.modelSession, v.room, v.data), got)
	case "create":
		s := m.pick(v)
		got := s.client.call("POST", "/v1/rooms", object{"roomID": v.room, "config": v.config, "userData": v.data})
		m.compare(fmt.Sprint(s.name, " creates ", v.room), m.reference.create(s.modelSession, v.room, v.config, v.data), got)
	case "switch":
		s := m.pickWhere(v, isInside)
		from := v.of(s)
		got := s.client.call("POST", roomPath(from, "/switch"), object{
			"toRoom": object{"roomID": v.to}, "createIfNotExists": v.create, "config": v.config, "userData": v.data,
		})
		call := fmt.Sprintf("%s switches from %s to %s, create %t", s.name, from, v.to, v.create)
		m.compare(call, m.reference.switchRoom(s.modelSession, from, v.to, v.create, v.config, v.data), got)
	case "describe":
		s := m.pickWhere(v, isInside)
		id := v.of(s)
		got := s.client.call("PATCH", roomPath(id, "/member-attributes"), object{"userIDs": []room.UserID{s.user}, "userData": v.data})
		m.compare(fmt.Sprintf("%s is %q in %s", s.name, v.data, id), m.reference.describeMember(s.modelSession, id, v.data), got)
	case "leave":
		s := m.pickWhere(v, isInside)
		id := v.of(s)
		got := s.client.call("POST", roomPath(id, "/leave"), nil)
		m.compare(fmt.Sprint(s.name, " leaves ", id), m.reference.leave(s.modelSession, id), got)
	case "leave all":
		s := m.pickWhere(v, isInside)
		got := s.client.call("DELETE", "/v1/sessions/current/rooms", nil)
		m.compare(s.name+" leaves all rooms", m.reference.leaveAll(s.modelSession), got)
	case "send":
		s := m.pickWhere(v, isInside)
		id := v.of(s)
		m.sent++
		text := fmt.Sprint("message ", m.sent)
		body := object{"kind": "text", "text": text}
		if len(v.users) > 0 {
			body["to"] = v.users
		}
		got := s.client.call("POST", roomPath(id, "/messages"), body)
		m.compare(fmt.Sprintf("%s sends to %v in %s: %s", s.name, v.users, id, text), m.reference.send(s.modelSession, id, text, v.users), got)
	case "write":
		s, to := m.pick(v), modelUsers[v.nth%len(modelUsers)]
		m.sent++
		text := fmt.Sprint("message ", m.sent)
		got := s.client.call("POST", peerPath(to), object{"kind": "text", "text": text})
		m.compare(fmt.Sprintf("%s writes to %s: %s", s.name, to, text), m.reference.sendPeerMessage(s.modelSession, to, text), got)
	case "log out":
		m.logOut(m.pick(v))
	case "listen":
		m.listen(m.pick(v), v)
	case "hang up":
		if s := m.pickWhere(v, isListening); isListening(s) {
			m.disconnect(s)
		}
	case "wait":
		m.wait(v)
	default:
		m.doAdmin(v)
	}
}

// doAdmin makes a move of the admin.
func (m *model) doAdmin(v move) {
	switch v.what {
	case "open":
		got := m.adminClient.call("POST", "/v1/admin/rooms", object{"roomID": v.room, "config": v.config})
		m.compare(fmt.Sprint("the operator creates ", v.room), m.reference.createEmptyRoom(v.room, v.config), got)
	case "update":
		body, patch := v.update()
		got := m.adminClient.call("PATCH", adminPath(v.room, ""), body)
		m.compare(fmt.Sprintf("the operator changes %s of %s: %v", v.setting, v.room, body), m.reference.update(v.room, patch), got)
	case "kick":
		got := m.adminClient.call("POST", adminPath(v.room, "/kick"), object{"userIDs": v.users, "reason": "out", "banSeconds": v.ban})
		call := fmt.Sprintf("the operator kicks %v out of %s for %d s", v.users, v.room, v.ban)
		m.compare(call, m.reference.kick(v.room, v.users, m.reference.now+v.ban.Duration()), got)
	case "destroy":
		got := m.adminClient.call("DELETE", adminPath(v.room, "?reason=over"), nil)
		m.compare(fmt.Sprint("the operator destroys ", v.room), m.reference.destroy(v.room), got)
	case "end":
		s := m.pick(v)
		got := m.adminClient.call("DELETE", fmt.Sprintf("/v1/admin/users/%s/sessions/%s?reason=enough", s.user, s.client.SessionID), nil)
		want := refused(http.StatusNotFound, "session_not_found")
		if !s.ended {
			want = m.reference.end(s.modelSession, "kicked", "kickedOut", "enough")
		}
		m.compare("the operator ends "+s.name, want, got)
	default:
		m.t.Fatalf("unknown move %q", v.what)
	}
}

// update returns the body of a move that changes settings of a room, and the change that it means.
func (v move) update() (body object, patch func(*room.Config)) {
	fields := map[string]any{
		"memberTimeout": v.config.MemberTimeout, "maxMembers": v.config.MaxMembers, "destroyDelay": v.config.DestroyDelay,
		"unusedTimeout": v.config.UnusedTimeout, "sameUser": v.config.SameUser, "lifetime": v.config.Lifetime,
		"presence": v.config.Presence, "namesUpTo": v.config.NamesUpTo, "memberStates": v.config.MemberStates,
	}
	switch v.setting {
	case "none":
		return object{"roomName": ""}, func(*room.Config) {}
	case "all":
		return object{"config": v.config}, func(c *room.Config) { *c = v.config }
	}
	return object{"config": object{v.setting: fields[v.setting]}}, func(c *room.Config) {
		switch v.setting {
		case "memberTimeout":
			c.MemberTimeout = v.config.MemberTimeout
		case "maxMembers":
			c.MaxMembers = v.config.MaxMembers
		case "destroyDelay":
			c.DestroyDelay = v.config.DestroyDelay
		case "unusedTimeout":
			c.UnusedTimeout = v.config.UnusedTimeout
		case "sameUser":
			c.SameUser = v.config.SameUser
		case "lifetime":
			c.Lifetime = v.config.Lifetime
		case "presence":
			c.Presence = v.config.Presence
		case "namesUpTo":
			c.NamesUpTo = v.config.NamesUpTo
		case "memberStates":
			c.MemberStates = v.config.MemberStates
		}
	}
}

func (m *model) logOut(s *slot) {
	got := s.client.call("DELETE", "/v1/sessions/current", nil)
	m.compare(s.name+" logs out", m.reference.end(s.modelSession, "loggedOut", "loggedOut", ""), got)
}

// listen opens a stream, with one of the cursors that the session has received or without one. It
// supersedes an open stream.
func (m *model) listen(s *slot, v move) {
	if s.ended {
		m.compare(s.name+" listens", refused(http.StatusUnauthorized, "session_ended"), s.client.call("GET", "/v1/events", nil))
		return
	}
	var (
		cursor knownCursor
		change []func(*http.Request)
	)
	switch {
	case v.cursor == "garbage":
		change = append(change, resume("garbage"))
	case v.cursor == "newest" && len(s.cursors) > 0:
		cursor = s.cursors[len(s.cursors)-1]
		change = append(change, resume(cursor.id))
	case v.cursor == "older" && len(s.cursors) > 0:
		cursor = s.cursors[v.nth%len(s.cursors)]
		change = append(change, resume(cursor.id))
	}
	m.t.Logf("%s opens a stream, cursor %s (%s)", s.name, v.cursor, cursor.id)
	old := s.stream
	s.stream = s.client.open("/v1/events", change...)
	m.reference.openStream(s.modelSession, cursor.at, v.cursor == "garbage")
	if old != nil {
		superseded := &slot{name: s.name + "'s older stream", stream: old, modelSession: &modelSession{ends: true}}
		superseded.pending = []sessionEvent{{text: "connection disconnected superseded"}}
		m.checkStream(superseded)
	}
}

func (m *model) disconnect(s *slot) {
	m.t.Logf("%s disconnects", s.name)
	s.stream.disconnect()
	s.stream = nil
	eventually(m, s.name+" is detached", func() bool { return s.client.state() == "detached" })
	m.reference.closeStream(s.modelSession)
}

// wait advances the clock to about the next deadline, and usually runs a sweep.
func (m *model) wait(v move) {
	to := m.reference.now + time.Second
	if due := m.reference.deadlines(); len(due) > 0 {
		to = due[v.nth%len(due)]
	}
	to += v.after
	m.t.Logf("the time is %v, sweep %t", to, v.sweep)
	m.clock.advance(to - m.reference.now)
	m.reference.now = to
	if v.sweep {
		m.sweep()
		m.reference.sweepDue()
		m.compareStatuses(true)
	}
}
