package servicetest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// The scenarios below bring a session into each of its possible states, with calls, opened and lost
// streams, and elapsed time.

// relation is a session's relation to a room, as far as calls can tell.
type relation string

const (
	in           relation = "in the room"
	out          relation = "out of the room"
	banned       relation = "out of the room and banned"
	noRoom       relation = "no such room"
	sessionEnded relation = "the session has ended"
	tokenExpired relation = "the token has expired"
)

// scenario brings a session into a relation to a room. It starts with a session without a stream
// and a room that does not exist.
type scenario struct {
	name string
	to   relation
	run  func(*walker)
	// inOtherRoom means that the session is in another room, too.
	inOtherRoom bool
	// slow means that the scenario takes long, so it runs only once.
	slow bool
}

var scenarios = []scenario{
	{name: "created it", to: in, run: func(w *walker) { w.create(nil) }},
	{name: "entered it as the first", to: in, run: func(w *walker) {
		w.openStream()
		w.enter(w.id)
		w.expectMove(room.RoomEnter, room.RoomConnecting)
		w.expectMove(room.RoomCreated, room.RoomConnected)
	}},
	{name: "entered it", to: in, run: func(w *walker) { w.enterHostRoom() }},
	{name: "entered it and never had a stream", to: in, run: func(w *walker) { w.enter(w.id) }},
	{name: "switched to it", to: in, run: func(w *walker) {
		w.scene.host.enter(w.id)
		w.openStream()
		w.enter(w.id + "-other")
		w.call("POST", roomPath(w.id+"-other", "/switch"), switchTo(w.id)).is(http.StatusOK)
		w.expectMove(room.RoomSwitch, room.RoomConnecting)
		w.expectMove(room.RoomSuccess, room.RoomConnected)
	}},
	{name: "lost its stream", to: in, run: func(w *walker) { w.enterHostRoom().loseStream() }},
	{name: "lost its stream and reconnected", to: in, run: func(w *walker) {
		w.enterHostRoom().loseStream().reconnect()
		w.noteMove(room.RoomSuccess, room.RoomConnected)
	}},
	{name: "opened a newer stream", to: in, run: func(w *walker) {
		w.enterHostRoom()
		older := w.stream
		w.stream, _ = w.listen(resume(older.id))
		if got := expect[room.ConnectionStateChanged](older).Event; got != room.ConnectionSuperseded {
			w.Errorf("the older stream ended with %s", got)
		}
		w.noteSessionMove("superseded", room.SessionOnline)
	}},
	{name: "read too slowly", to: in, slow: true, run: func(w *walker) { w.enterHostRoom().loseStream().readTooSlowly() }},
	{name: "lost its node", to: in, slow: true, run: func(w *walker) { w.enterHostRoom().loseStream().loseNode() }},

	{name: "never entered it", to: out, run: func(w *walker) { w.scene.host.enter(w.id) }},
	{name: "was refused to create it", to: out, run: func(w *walker) {
		w.scene.host.enter(w.id)
		w.openStream()
		w.call("POST", "/v1/rooms", object{"roomID": w.id}).refused(http.StatusConflict, "room_exists")
		w.expectMove(room.RoomCreate, room.RoomConnecting)
		w.expectMove(room.RoomCreateFailed, room.RoomDisconnected)
	}},
	{name: "was refused to enter it", to: out, run: func(w *walker) {
		guest := w.fillRoom()
		w.openStream()
		w.call("POST", roomPath(w.id, "/join"), nil).refused(http.StatusConflict, "room_full")
		w.expectMove(room.RoomEnter, room.RoomConnecting)
		w.expectMove(room.RoomEnterFailed, room.RoomDisconnected)
		guest.logout()
	}},
	{name: "was refused to switch to it", to: out, inOtherRoom: true, run: func(w *walker) {
		guest := w.fillRoom()
		w.openStream()
		w.enter(w.id + "-other")
		w.call("POST", roomPath(w.id+"-other", "/switch"), switchTo(w.id)).refused(http.StatusConflict, "room_full")
		w.expectMove(room.RoomSwitch, room.RoomConnecting)
		w.expectMove(room.RoomSwitchFailed, room.RoomDisconnected)
		guest.logout()
	}},
	{name: "left it", to: out, run: func(w *walker) {
		w.enterHostRoom().leave(w.id)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "left all rooms", to: out, run: func(w *walker) {
		w.enterHostRoom().call("DELETE", "/v1/sessions/current/rooms", nil).is(http.StatusOK)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "left it while away", to: out, run: func(w *walker) {
		w.enterHostRoom().loseStream().leave(w.id)
		w.reconnect()
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "switched away", to: out, inOtherRoom: true, run: func(w *walker) {
		w.enterHostRoom().call("POST", roomPath(w.id, "/switch"), switchTo(w.id+"-other")).is(http.StatusOK)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "was replaced", to: out, run: func(w *walker) {
		w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"sameUser": "replace"}}).is(http.StatusCreated)
		w.enterHostRoom().loginAgain().enter(w.id)
		w.expectMove(room.RoomReplaced, room.RoomDisconnected)
	}},
	{name: "was replaced while away", to: out, run: func(w *walker) {
		w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"sameUser": "replace"}}).is(http.StatusCreated)
		w.enterHostRoom().loseStream().loginAgain().enter(w.id)
		w.reconnect()
		w.expectMove(room.RoomReplaced, room.RoomDisconnected)
	}},
	{name: "timed out", to: out, run: func(w *walker) {
		w.enterHostRoom().loseStream().timeOut()
		w.noteMove(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},
	{name: "timed out and reconnected", to: out, run: func(w *walker) {
		w.enterHostRoom().loseStream().timeOut()
		w.reconnect()
		w.expectMove(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},
	{name: "was kicked", to: out, run: func(w *walker) {
		w.enterHostRoom().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)), nil).is(http.StatusNoContent)
		w.expectMove(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{name: "was kicked while away", to: out, run: func(w *walker) {
		w.enterHostRoom().loseStream().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)), nil).is(http.StatusNoContent)
		w.reconnect()
		w.expectMove(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{name: "was kicked and banned", to: banned, run: func(w *walker) {
		w.enterHostRoom().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)+"?banSeconds=36000"), nil).is(http.StatusNoContent)
		w.expectMove(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{name: "renewed with a token that does not grant it, and then with one that does", to: out, run: func(w *walker) {
		w.enterHostRoom().renewWithoutGrant()
		w.expectMove(room.RoomNotGranted, room.RoomDisconnected)
	}},
	{name: "renewed so while away", to: out, run: func(w *walker) {
		w.enterHostRoom().loseStream().renewWithoutGrant()
		w.reconnect()
		w.expectMove(room.RoomNotGranted, room.RoomDisconnected)
	}},
	{name: "left it as the last, within its destroyDelay", to: out, run: func(w *walker) {
		w.create(object{"destroyDelay": 3600}).leave(w.id)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "was in an earlier generation of it", to: out, run: func(w *walker) {
		w.create(nil).leave(w.id)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
		w.scene.host.enter(w.id)
	}},

	{name: "it never existed", to: noRoom, run: func(*walker) {}},
	{name: "left it as the last", to: noRoom, run: func(w *walker) {
		w.create(nil).leave(w.id)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
	}},
	{name: "left it as the last, and its destroyDelay has passed", to: noRoom, run: func(w *walker) {
		w.create(object{"destroyDelay": 60}).leave(w.id)
		w.expectMove(room.RoomSuccess, room.RoomDisconnected)
		w.scene.advanceUntil(61*time.Second, "the room is destroyed", func() bool {
			return w.call("GET", roomPath(w.id, ""), nil).StatusCode == http.StatusNotFound
		})
	}},
	{name: "timed out as the last", to: noRoom, run: func(w *walker) {
		w.create(nil).sendAndRead("so that the cursor knows the room").loseStream().timeOut()
		w.reconnect()
		w.expectMove(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},

	{name: "saw it destroyed", to: noRoom, run: func(w *walker) {
		w.enterHostRoom().admin().call("DELETE", adminPath(w.id, ""), nil).is(http.StatusNoContent)
		w.expectMove(room.RoomNotExist, room.RoomDisconnected)
	}},
	{name: "found it destroyed when it reconnected", to: noRoom, run: func(w *walker) {
		w.enterHostRoom().loseStream().admin().call("DELETE", adminPath(w.id, ""), nil).is(http.StatusNoContent)
		w.reconnect()
		w.expectMove(room.RoomNotExist, room.RoomDisconnected)
	}},

	{name: "was ended by an admin", to: sessionEnded, run: func(w *walker) {
		w.enterHostRoom().admin().call("DELETE", fmt.Sprintf("/v1/admin/users/%s/sessions/%s", w.UserID, w.SessionID), nil).is(http.StatusNoContent)
		w.expectMove(room.RoomKickedOut, room.RoomDisconnected)
		w.expectEnd(room.ConnectionKickedOut)
	}},
	{name: "logged out", to: sessionEnded, run: func(w *walker) {
		w.enterHostRoom().logout()
		w.expectMove(room.RoomLoggedOut, room.RoomDisconnected)
		w.expectEnd(room.ConnectionLoggedOut)
	}},
	{name: "logged out while away", to: sessionEnded, run: func(w *walker) {
		w.enterHostRoom().loseStream().logout()
		w.noteMove(room.RoomLoggedOut, room.RoomDisconnected)
		w.noteSessionMove("loggedOut", room.SessionEnded)
	}},
	{name: "was kicked out for newer sessions", to: sessionEnded, run: func(w *walker) {
		w.enterHostRoom()
		w.loginAgain()
		w.loginAgain()
		w.expectMove(room.RoomKickedOut, room.RoomDisconnected)
		w.expectEnd(room.ConnectionKickedOut)
	}},
	{name: "was kicked out while away", to: sessionEnded, run: func(w *walker) {
		w.enterHostRoom().loseStream()
		w.loginAgain()
		w.loginAgain()
		w.noteMove(room.RoomKickedOut, room.RoomDisconnected)
		w.noteSessionMove("kickedOut", room.SessionEnded)
	}},
	{name: "its token expired", to: tokenExpired, run: func(w *walker) {
		w.enterHostRoom().expireToken()
		w.expectMove(room.RoomTokenExpired, room.RoomDisconnected)
		w.expectEnd(room.ConnectionTokenExpired)
	}},
	{name: "its token expired while away", to: tokenExpired, run: func(w *walker) {
		w.enterHostRoom().loseStream().expireToken()
		w.noteMove(room.RoomTokenExpired, room.RoomDisconnected)
		w.noteSessionMove("tokenExpired", room.SessionEnded)
	}},
}

// clockedService is a service whose clock can be advanced, with a host that always has a stream.
type clockedService struct {
	*service
	database    string
	clockOffset atomic.Int64 // how far the store's clock is ahead
	host        *client
	hostStream  *stream   // the host's stream
	rows        *pgx.Conn // reads the tables
	allRows     string    // the statement that reads all tables, built on first use
	walkers     int
}

func newClockedService(t *testing.T) *clockedService {
	t.Helper()
	s := &clockedService{}
	s.service = newService(t, func(c *setup) {
		c.store.Now, c.store.SessionsPerUser, c.api.RoomsPerUser = s.now, 2, 64
		s.database = c.database
	})
	var err error
	if s.rows, err = pgx.Connect(context.Background(), s.database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.rows.Close(context.Background()) })
	s.host = s.loginWith(s.token("host", 1000*time.Hour))
	s.hostStream, _ = s.host.listen()
	return s
}

func (s *clockedService) now() time.Time { return time.Now().Add(time.Duration(s.clockOffset.Load())) }

// advanceUntil advances the store's clock and runs sweeps until a condition holds.
func (s *clockedService) advanceUntil(d time.Duration, what string, until func() bool) {
	s.Helper()
	s.clockOffset.Add(int64(d))
	eventually(s, what, func() bool {
		if err := s.store.Sweep(context.Background()); err != nil {
			s.Error(err)
		}
		return until()
	})
}

// walker is a session that goes through the state machines of room/state.go.
type walker struct {
	*client
	scene *clockedService
	id    room.RoomID // the room of the test
	// stream is nil if there is none. cursor is where the last stream ended.
	stream *stream
	cursor string

	state       room.SessionState
	inRoom      room.RoomState
	sessionPath []room.SessionTransition
	roomPath    []room.RoomTransition
}

func (s *clockedService) newWalker() *walker {
	s.Helper()
	s.walkers++
	w := &walker{scene: s, id: room.RoomID(fmt.Sprintf("lobby%d", s.walkers)), state: room.SessionDetached, inRoom: room.RoomDisconnected}
	w.client = s.loginWith(w.scene.freshToken(room.UserID(fmt.Sprintf("walker%d", s.walkers))))
	return w
}

// freshToken returns a token that is valid for an hour of the store's time.
func (s *clockedService) freshToken(user room.UserID) string {
	return s.token(user, time.Duration(s.clockOffset.Load())+time.Hour)
}

// noteMove records a transition that causes no event.
func (w *walker) noteMove(event room.RoomEvent, to room.RoomState) {
	w.roomPath = append(w.roomPath, room.RoomTransition{From: w.inRoom, Event: event, To: to})
	w.inRoom = to
}

// expectMove waits for the event of a transition in the room, and records it.
func (w *walker) expectMove(event room.RoomEvent, to room.RoomState) {
	w.Helper()
	for {
		e := w.stream.next()
		if changed, ok := w.change(e); ok {
			if changed.Event != event || changed.State != to {
				w.Fatalf("got state event %s %s, want %s %s", changed.State, changed.Event, to, event)
			}
			w.noteMove(event, to)
			return
		}
	}
}

// change returns the roomStateChanged event for the walker's room, if the event is one.
func (w *walker) change(e event) (room.RoomStateChanged, bool) {
	w.Helper()
	var changed room.RoomStateChanged
	if e.Type != string(room.TypeRoomStateChanged) {
		return changed, false
	}
	decode(w, e, room.TypeRoomStateChanged, &changed)
	return changed, changed.RoomID == w.id
}

// noteSessionMove records a transition of the session.
func (w *walker) noteSessionMove(event room.SessionEvent, to room.SessionState) {
	w.sessionPath = append(w.sessionPath, room.SessionTransition{From: w.state, Event: event, To: to})
	w.state = to
}

func (w *walker) openStream() {
	w.Helper()
	w.stream, _ = w.listen()
	w.noteSessionMove("streamOpened", room.SessionOnline)
}

// expectEnd requires that the stream and the session end for this reason.
func (w *walker) expectEnd(why room.ConnectionEvent) {
	w.Helper()
	if got := expect[room.ConnectionStateChanged](w.stream).Event; got != why {
		w.Errorf("the stream ended with %s, want %s", got, why)
	}
	w.stream.end()
	w.stream = nil
	w.noteSessionMove(room.SessionEvent(why), room.SessionEnded)
}

// create creates the room.
func (w *walker) create(config object) *walker {
	w.Helper()
	w.openStream()
	body := object{"roomID": w.id}
	if config != nil {
		body["config"] = config
	}
	w.call("POST", "/v1/rooms", body).is(http.StatusCreated)
	w.expectMove(room.RoomCreate, room.RoomConnecting)
	w.expectMove(room.RoomCreated, room.RoomConnected)
	return w
}

// enterHostRoom enters a room of the host and receives a message there.
func (w *walker) enterHostRoom() *walker {
	w.Helper()
	w.scene.host.enter(w.id)
	w.openStream()
	w.enter(w.id)
	w.expectMove(room.RoomEnter, room.RoomConnecting)
	w.expectMove(room.RoomSuccess, room.RoomConnected)
	return w.sendAndRead("welcome")
}

// sendAndRead sends a message and receives it.
func (w *walker) sendAndRead(text string) *walker {
	w.Helper()
	w.send(w.id, text)
	if got := w.stream.text(); got != text {
		w.Errorf("sent %q, received %q", text, got)
	}
	return w
}

// fillRoom makes the room full, with a guest.
func (w *walker) fillRoom() (guest *client) {
	w.Helper()
	w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"maxMembers": 2}}).is(http.StatusCreated)
	guest = w.loginWith(w.scene.freshToken("guest"))
	guest.enter(w.id)
	return guest
}

// loginAgain creates another session of the same user.
func (w *walker) loginAgain() *client {
	w.Helper()
	return w.loginWith(w.scene.freshToken(w.UserID))
}

// loseStream disconnects the stream.
func (w *walker) loseStream() *walker {
	w.Helper()
	w.cursor = w.stream.id
	w.stream.disconnect()
	w.stream = nil
	w.noteInterruption("streamLost")
	return w
}

func (w *walker) noteInterruption(why room.SessionEvent) {
	w.Helper()
	eventually(w, "the session is detached", func() bool { return w.client.state() == "detached" })
	w.noteSessionMove(why, room.SessionDetached)
	w.noteMove(room.RoomNetworkInterrupted, room.RoomReconnecting)
}

// reconnect opens the stream again.
func (w *walker) reconnect() {
	w.Helper()
	w.stream, _ = w.listen(resume(w.cursor))
	w.noteSessionMove("streamOpened", room.SessionOnline)
}

// renewWithoutGrant renews the session with a token that grants no room, and then with one that
// grants all.
func (w *walker) renewWithoutGrant() {
	w.Helper()
	nothing := w.signed(func(c jwt.MapClaims) { c["sub"], c["exp"], c["rooms"] = w.UserID, 4_000_000_000, []object{} })
	for _, token := range []string{nothing, w.scene.freshToken(w.UserID)} {
		w.call("PUT", "/v1/sessions/current/token", object{"token": token}).is(http.StatusOK)
	}
}

// timeOut advances the clock by the room's memberTimeout.
func (w *walker) timeOut() {
	w.Helper()
	w.scene.advanceUntil(31*time.Second, "it timed out", func() bool {
		return len(as[struct{ Rooms []room.Room }](w.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms) == 0
	})
}

// expireToken advances the clock until the token has expired.
func (w *walker) expireToken() {
	w.Helper()
	w.scene.advanceUntil(2*time.Hour, "the token ran out", func() bool {
		return w.call("GET", "/v1/sessions/current", nil).StatusCode == http.StatusUnauthorized
	})
}

// readTooSlowly opens a stream that nobody reads, and sends messages until the server closes it.
func (w *walker) readTooSlowly() {
	w.Helper()
	w.stall()
	eventually(w, "the session is online", func() bool { return w.client.state() == "online" })
	w.noteSessionMove("streamOpened", room.SessionOnline)
	w.noteMove(room.RoomSuccess, room.RoomConnected)
	loud := *w.scene.host
	loud.http = w.server.Client() // too many messages to check each against the contract
	for sent := 0; w.hub.Stats().SlowConsumers == 0; sent++ {
		if sent == 1000 {
			w.Fatal("the stream of a client that does not read was still open after 32 MB")
		}
		loud.send(w.id, strings.Repeat("x", 32<<10))
	}
	w.noteInterruption("slowConsumer")
}

// loseNode opens a stream on another node, which then does not renew its lease.
func (w *walker) loseNode() {
	w.Helper()
	other := newService(w.TB, func(c *setup) { c.database, c.store.Now = w.scene.database, w.scene.now })
	there := &client{service: other, http: other.http, session: w.session}
	other.log.secret(w.SessionKey)
	there.listen(resume(w.cursor))
	w.noteSessionMove("streamOpened", room.SessionOnline)
	w.noteMove(room.RoomSuccess, room.RoomConnected)
	for range 9 { // the first node stays alive and declares the other one dead
		w.scene.clockOffset.Add(int64(room.LeaseInterval))
		if err := w.scene.store.RenewLease(context.Background()); err != nil {
			w.Error(err)
		}
	}
	w.scene.advanceUntil(0, "the node's lease ran out", func() bool { return w.client.state() == "detached" })
	w.noteInterruption("nodeLost")
}

// tables returns all rows of sessions and rooms in the database, one a line.
func (s *clockedService) tables() []string {
	s.Helper()
	ctx := context.Background()
	query := func(sql string) []string {
		rows, err := s.rows.Query(ctx, sql)
		if err != nil {
			s.Fatal(err)
		}
		values, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			s.Fatal(err)
		}
		return values
	}
	if s.allRows == "" {
		var tables []string
		for _, table := range query(`SELECT table_name::text FROM information_schema.tables
			WHERE table_schema = 'public' AND table_name NOT IN ('nodes', 'goose_db_version')`) {
			row := "t::text"
			if table == "events" { // bodies of events never change, and some scenarios create many
				row = "concat_ws(' ', generation, seq, type)"
			}
			tables = append(tables, fmt.Sprintf("SELECT '%[1]s: ' || %[2]s FROM %[1]s t", table, row))
		}
		s.allRows = strings.Join(tables, " UNION ALL ") + " ORDER BY 1"
	}
	return query(s.allRows)
}
