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

// TestModel lets a few users with two sessions each, and an operator, do anything
// in any order to the same few rooms, and holds every reply and every event that
// a stream brings against the world, which is the simplest account of them.
//
// A check takes half a second and more, so there are a quarter as many as rapid is
// asked for. A failure is worth a longer search for the shortest way to it than
// rapid's half a minute: -rapid.shrinktime=3m.
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
			m.patience = time.Second // what fails is known, and waiting for it would take the time to shrink it
		}
		for _, next := range moves {
			m.do(next)
			m.settle()
		}
		m.finish()
		passed = true
	})
}

// model drives the service and the world side by side.
type model struct {
	*service
	t        *rapid.T
	clock    *clock
	operator *client
	world    *world
	seats    map[string]*seat
	// known is the generations that there were.
	known    map[room.LogID]bool
	sent     int
	patience time.Duration
}

// seat is a place for one session of a user after the other.
type seat struct {
	name     string
	*visitor // nil before the first
	client   *client
	refused  bool    // since it is over
	stream   *stream // nil while none is open
	marks    []mark
}

// mark is a cursor that a session was given, and what it stands for.
type mark struct {
	id string
	at map[*life]int
}

var (
	modelUsers   = []room.UserID{"a", "b", "c"}
	seatNames    = []string{"a1", "a2", "b1", "b2", "c1", "c2"} // after the user
	modelRoomIDs = []room.RoomID{"red", "green", "blue"}
)

// move is something that happens, as far as that can be said without knowing how
// things stand.
type move struct {
	what     string
	who      int // the seat
	room, to room.RoomID
	nth      int // of what there are several
	config   room.Config
	create   bool
	cursor   string
	after    time.Duration
	sweep    bool
	users    []room.UserID
	ban      room.Seconds
}

// GoString is how rapid shows a move. What becomes of it is logged.
func (v move) GoString() string {
	return fmt.Sprintf("%s %s %s %d", seatNames[v.who], v.what, v.room, v.nth)
}

// drawMove draws a move. rapid prefers what comes first, and takes it for the
// simplest: that is what makes rooms lively, and what ends them comes last.
func drawMove(t *rapid.T) move {
	v := move{
		what: one(t, "what",
			"enter", "listen", "send", "switch", "wait", "enter", "listen", "write", "send", "hang up", "wait",
			"enter", "listen", "send", "switch", "wait", "hang up", "join", "create", "kick", "open", "leave all",
			"end", "destroy", "log out", "leave"),
		who:  rapid.IntRange(0, len(seatNames)-1).Draw(t, "who"),
		room: one(t, "room", modelRoomIDs...),
		nth:  rapid.IntRange(0, 7).Draw(t, "nth"),
	}
	switch v.what {
	case "enter", "create", "switch", "open":
		v.config = room.Config{
			DestroyDelay: one[room.Seconds](t, "destroyDelay", 0, 5), UnusedTimeout: one[room.Seconds](t, "unusedTimeout", 1, 7),
			MemberTimeout: one[room.Seconds](t, "memberTimeout", 5, 30), MaxMembers: one(t, "maxMembers", 3, 2, 1),
			SameUser:       one(t, "sameUser", room.SameUserAllow, room.SameUserReplace, room.SameUserReject),
			HistoryVisible: one(t, "historyVisible", room.HistoryAll, room.HistorySinceJoined),
		}
		v.to, v.create = one(t, "to", modelRoomIDs...), one(t, "create", true, false)
	case "listen":
		v.cursor = one(t, "cursor", "newest", "none", "newest", "newest", "older", "garbage")
	case "wait":
		v.after, v.sweep = one(t, "after", 0, -time.Millisecond, time.Millisecond), one(t, "sweep", true, true, true, false)
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
		t: r, clock: c, world: newWorld(c.Now()), known: make(map[room.LogID]bool),
		seats: make(map[string]*seat), patience: waitTimeout,
		service: newService(&rapidTB{r, restOfTB{t}}, func(s *setup) {
			s.store.Now = c.Now
			s.api.RoomsPerUser = modelRooms
		}),
	}
	m.operator = m.admin()
	for _, name := range seatNames {
		m.seats[name] = &seat{name: name}
	}
	return m
}

// login begins a session in a seat.
func (m *model) login(s *seat) {
	user := room.UserID(s.name[:1])
	m.t.Logf("%s logs in", s.name)
	*s = seat{name: s.name, visitor: m.world.login(user), client: m.loginWith(m.token(user, 1000*time.Hour))}
	session, err := m.store.SessionByID(context.Background(), s.client.SessionID)
	if err != nil {
		m.t.Fatal(err)
	}
	m.world.inboxes[user].Generation = session.Inbox
	m.known[session.Inbox] = true
}

// who is the session that moves. One that is over is good for one call, which is
// refused, before the next one begins.
func (m *model) who(v move) *seat {
	s := m.seats[seatNames[v.who]]
	switch {
	case s.visitor == nil || s.refused:
		m.login(s)
	case s.over:
		s.refused = true
	}
	return s
}

// whoIs is a session of which something is true, if there is one.
func (m *model) whoIs(v move, such func(*seat) bool) *seat {
	for i := range seatNames {
		if s := m.seats[seatNames[(v.who+i)%len(seatNames)]]; s.visitor != nil && such(s) {
			return s
		}
	}
	return m.who(v)
}

func isInside(s *seat) bool { return len(s.from) > 0 }

func isListening(s *seat) bool { return s.stream != nil }

// of is mostly a room that the session is in.
func (v move) of(s *seat) room.RoomID {
	if in := lives(s.from); v.nth < len(in) {
		return in[v.nth].ID
	}
	return v.room
}

// do makes a move.
func (m *model) do(v move) {
	switch v.what {
	case "enter":
		s := m.who(v)
		got := s.client.call("POST", roomPath(v.room, "/enter"), object{"config": v.config})
		m.compare(fmt.Sprint(s.name, " enters ", v.room), m.world.enter(s.visitor, v.room, v.config), got)
	case "join":
		s := m.who(v)
		got := s.client.call("POST", roomPath(v.room, "/join"), nil)
		m.compare(fmt.Sprint(s.name, " joins ", v.room), m.world.join(s.visitor, v.room), got)
	case "create":
		s := m.who(v)
		got := s.client.call("POST", "/v1/rooms", object{"roomID": v.room, "config": v.config})
		m.compare(fmt.Sprint(s.name, " creates ", v.room), m.world.create(s.visitor, v.room, v.config), got)
	case "switch":
		s := m.whoIs(v, isInside)
		from := v.of(s)
		got := s.client.call("POST", roomPath(from, "/switch"), object{
			"toRoom": object{"roomID": v.to}, "createIfNotExists": v.create, "config": v.config,
		})
		call := fmt.Sprintf("%s switches from %s to %s, create %t", s.name, from, v.to, v.create)
		m.compare(call, m.world.switchRoom(s.visitor, from, v.to, v.create, v.config), got)
	case "leave":
		s := m.whoIs(v, isInside)
		id := v.of(s)
		got := s.client.call("POST", roomPath(id, "/leave"), nil)
		m.compare(fmt.Sprint(s.name, " leaves ", id), m.world.leave(s.visitor, id), got)
	case "leave all":
		s := m.whoIs(v, isInside)
		got := s.client.call("DELETE", "/v1/sessions/current/rooms", nil)
		m.compare(s.name+" leaves all rooms", m.world.leaveAll(s.visitor), got)
	case "send":
		s := m.whoIs(v, isInside)
		id := v.of(s)
		m.sent++
		text := fmt.Sprint("message ", m.sent)
		got := s.client.call("POST", roomPath(id, "/messages"), object{"kind": "text", "text": text})
		m.compare(fmt.Sprintf("%s sends to %s: %s", s.name, id, text), m.world.send(s.visitor, id, text), got)
	case "write":
		s, to := m.who(v), modelUsers[v.nth%len(modelUsers)]
		m.sent++
		text := fmt.Sprint("message ", m.sent)
		got := s.client.call("POST", peerPath(to), object{"kind": "text", "text": text})
		m.compare(fmt.Sprintf("%s writes to %s: %s", s.name, to, text), m.world.write(s.visitor, to, text), got)
	case "log out":
		m.logOut(m.who(v))
	case "listen":
		m.listen(m.who(v), v)
	case "hang up":
		if s := m.whoIs(v, isListening); isListening(s) {
			m.hangUp(s)
		}
	case "wait":
		m.wait(v)
	default:
		m.operate(v)
	}
}

// operate makes a move of the operator's.
func (m *model) operate(v move) {
	switch v.what {
	case "open":
		got := m.operator.call("POST", "/v1/admin/rooms", object{"roomID": v.room, "config": v.config})
		m.compare(fmt.Sprint("the operator creates ", v.room), m.world.open(v.room, v.config), got)
	case "kick":
		got := m.operator.call("POST", adminPath(v.room, "/kick"), object{"userIDs": v.users, "reason": "out", "banSeconds": v.ban})
		call := fmt.Sprintf("the operator kicks %v out of %s for %d s", v.users, v.room, v.ban)
		m.compare(call, m.world.kick(v.room, v.users, m.world.now+v.ban.Duration()), got)
	case "destroy":
		got := m.operator.call("DELETE", adminPath(v.room, "?reason=over"), nil)
		m.compare(fmt.Sprint("the operator destroys ", v.room), m.world.destroy(v.room), got)
	case "end":
		s := m.who(v)
		got := m.operator.call("DELETE", fmt.Sprintf("/v1/admin/users/%s/sessions/%s?reason=enough", s.user, s.client.SessionID), nil)
		want := refused(http.StatusNotFound, "session_not_found")
		if !s.over {
			want = m.world.end(s.visitor, "kicked", "kickedOut", "enough")
		}
		m.compare("the operator ends "+s.name, want, got)
	default:
		m.t.Fatalf("there is no move %q", v.what)
	}
}

func (m *model) logOut(s *seat) {
	got := s.client.call("DELETE", "/v1/sessions/current", nil)
	m.compare(s.name+" logs out", m.world.end(s.visitor, "loggedOut", "loggedOut", ""), got)
}

// listen opens a stream: at one of the cursors that the session was given, or at
// none. A stream that was open is superseded.
func (m *model) listen(s *seat, v move) {
	if s.over {
		m.compare(s.name+" listens", refused(http.StatusUnauthorized, "session_ended"), s.client.call("GET", "/v1/events", nil))
		return
	}
	var (
		cursor mark
		change []func(*http.Request)
	)
	switch {
	case v.cursor == "garbage":
		change = append(change, resume("garbage"))
	case v.cursor == "newest" && len(s.marks) > 0:
		cursor = s.marks[len(s.marks)-1]
		change = append(change, resume(cursor.id))
	case v.cursor == "older" && len(s.marks) > 0:
		cursor = s.marks[v.nth%len(s.marks)]
		change = append(change, resume(cursor.id))
	}
	m.t.Logf("%s listens, cursor %s (%s)", s.name, v.cursor, cursor.id)
	old := s.stream
	s.stream = s.client.open("/v1/events", change...)
	m.world.attach(s.visitor, cursor.at, v.cursor == "garbage")
	if old != nil {
		superseded := &seat{name: s.name + "'s older stream", stream: old, visitor: &visitor{ends: true}}
		superseded.told = []told{{text: "connection disconnected superseded"}}
		m.bring(superseded)
	}
}

func (m *model) hangUp(s *seat) {
	m.t.Logf("%s hangs up", s.name)
	s.stream.disconnect()
	s.stream = nil
	eventually(m, s.name+" is detached", func() bool { return s.client.state() == "detached" })
	m.world.detach(s.visitor)
}

// wait lets time pass until about when something is due, and then mostly does
// what is due.
func (m *model) wait(v move) {
	to := m.world.now + time.Second
	if due := m.world.deadlines(); len(due) > 0 {
		to = due[v.nth%len(due)]
	}
	to += v.after
	m.t.Logf("it becomes %v, sweep %t", to, v.sweep)
	m.clock.advance(to - m.world.now)
	m.world.now = to
	if v.sweep {
		m.sweep()
		m.world.sweepUp()
	}
}
