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
	"parlor/store"
)

// The ways by which a session gets into each state that it can have, all of
// them calls, streams that are opened and lost, and time that passes.

// standing is where a session stands with a room, as far as calls can tell.
type standing string

const (
	in         standing = "in the room"
	out        standing = "out of the room"
	banned     standing = "out of the room, and may not enter"
	gone       standing = "no such room"
	overByEnd  standing = "the session has ended"
	overByTime standing = "the token has run out"
)

// way leads to a standing. Each begins with a session without a stream and a
// room that does not exist.
type way struct {
	what string
	to   standing
	lead func(*walker)
	// elsewhere says that the session is in another room too.
	elsewhere bool
	// dear says that the way takes long: it is gone once.
	dear bool
}

var ways = []way{
	{what: "created it", to: in, lead: func(w *walker) { w.create(nil) }},
	{what: "entered it as the first", to: in, lead: func(w *walker) {
		w.listens()
		w.enter(w.id)
		w.told(room.RoomEnter, room.RoomConnecting)
		w.told(room.RoomCreated, room.RoomConnected)
	}},
	{what: "entered it", to: in, lead: func(w *walker) { w.comeIn() }},
	{what: "entered it and never had a stream", to: in, lead: func(w *walker) { w.enter(w.id) }},
	{what: "switched to it", to: in, lead: func(w *walker) {
		w.scene.host.enter(w.id)
		w.listens()
		w.enter(w.id + "-other")
		w.call("POST", roomPath(w.id+"-other", "/switch"), switchTo(w.id)).is(http.StatusOK)
		w.told(room.RoomSwitch, room.RoomConnecting)
		w.told(room.RoomSuccess, room.RoomConnected)
	}},
	{what: "lost its stream", to: in, lead: func(w *walker) { w.comeIn().vanish() }},
	{what: "lost its stream and is back", to: in, lead: func(w *walker) {
		w.comeIn().vanish().comeBack()
		w.moved(room.RoomSuccess, room.RoomConnected)
	}},
	{what: "opened a newer stream", to: in, lead: func(w *walker) {
		w.comeIn()
		older := w.stream
		w.stream, _ = w.listen(resume(older.id))
		if got := expect[room.ConnectionStateChanged](older).Event; got != room.ConnectionSuperseded {
			w.Errorf("the older stream ends with %s", got)
		}
		w.became("superseded", room.SessionOnline)
	}},
	{what: "read too slowly", to: in, dear: true, lead: func(w *walker) { w.comeIn().vanish().readNothing() }},
	{what: "lost its node", to: in, dear: true, lead: func(w *walker) { w.comeIn().vanish().loseNode() }},

	{what: "never entered it", to: out, lead: func(w *walker) { w.scene.host.enter(w.id) }},
	{what: "was refused to create it", to: out, lead: func(w *walker) {
		w.scene.host.enter(w.id)
		w.listens()
		w.call("POST", "/v1/rooms", object{"roomID": w.id}).refused(http.StatusConflict, "room_exists")
		w.told(room.RoomCreate, room.RoomConnecting)
		w.told(room.RoomCreateFailed, room.RoomDisconnected)
	}},
	{what: "was refused to enter it", to: out, lead: func(w *walker) {
		guest := w.fill()
		w.listens()
		w.call("POST", roomPath(w.id, "/join"), nil).refused(http.StatusConflict, "room_full")
		w.told(room.RoomEnter, room.RoomConnecting)
		w.told(room.RoomEnterFailed, room.RoomDisconnected)
		guest.logout()
	}},
	{what: "was refused to switch to it", to: out, elsewhere: true, lead: func(w *walker) {
		guest := w.fill()
		w.listens()
		w.enter(w.id + "-other")
		w.call("POST", roomPath(w.id+"-other", "/switch"), switchTo(w.id)).refused(http.StatusConflict, "room_full")
		w.told(room.RoomSwitch, room.RoomConnecting)
		w.told(room.RoomSwitchFailed, room.RoomDisconnected)
		guest.logout()
	}},
	{what: "left it", to: out, lead: func(w *walker) {
		w.comeIn().leave(w.id)
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "left all rooms", to: out, lead: func(w *walker) {
		w.comeIn().call("DELETE", "/v1/sessions/current/rooms", nil).is(http.StatusOK)
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "left it while away", to: out, lead: func(w *walker) {
		w.comeIn().vanish().leave(w.id)
		w.comeBack()
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "switched away", to: out, elsewhere: true, lead: func(w *walker) {
		w.comeIn().call("POST", roomPath(w.id, "/switch"), switchTo(w.id+"-other")).is(http.StatusOK)
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "was replaced", to: out, lead: func(w *walker) {
		w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"sameUser": "replace"}}).is(http.StatusCreated)
		w.comeIn().again().enter(w.id)
		w.told(room.RoomReplaced, room.RoomDisconnected)
	}},
	{what: "was replaced while away", to: out, lead: func(w *walker) {
		w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"sameUser": "replace"}}).is(http.StatusCreated)
		w.comeIn().vanish().again().enter(w.id)
		w.comeBack()
		w.told(room.RoomReplaced, room.RoomDisconnected)
	}},
	{what: "timed out", to: out, lead: func(w *walker) {
		w.comeIn().vanish().timeOut()
		w.moved(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},
	{what: "timed out and is back", to: out, lead: func(w *walker) {
		w.comeIn().vanish().timeOut()
		w.comeBack()
		w.told(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},
	{what: "was taken out", to: out, lead: func(w *walker) {
		w.comeIn().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)), nil).is(http.StatusNoContent)
		w.told(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{what: "was taken out while away", to: out, lead: func(w *walker) {
		w.comeIn().vanish().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)), nil).is(http.StatusNoContent)
		w.comeBack()
		w.told(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{what: "was taken out for a while", to: banned, lead: func(w *walker) {
		w.comeIn().admin().call("DELETE", adminPath(w.id, "/members/"+string(w.UserID)+"?banSeconds=36000"), nil).is(http.StatusNoContent)
		w.told(room.RoomKickedOut, room.RoomDisconnected)
	}},
	{what: "renewed with a token that does not grant it, and then with one that does", to: out, lead: func(w *walker) {
		w.comeIn().renewWithout()
		w.told(room.RoomNotGranted, room.RoomDisconnected)
	}},
	{what: "renewed so while away", to: out, lead: func(w *walker) {
		w.comeIn().vanish().renewWithout()
		w.comeBack()
		w.told(room.RoomNotGranted, room.RoomDisconnected)
	}},
	{what: "left it as the last, within its delay", to: out, lead: func(w *walker) {
		w.create(object{"destroyDelay": 3600}).leave(w.id)
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "was in an earlier life of it", to: out, lead: func(w *walker) {
		w.create(nil).leave(w.id)
		w.told(room.RoomSuccess, room.RoomDisconnected)
		w.scene.host.enter(w.id)
	}},

	{what: "there never was one", to: gone, lead: func(*walker) {}},
	{what: "left it as the last", to: gone, lead: func(w *walker) {
		w.create(nil).leave(w.id)
		w.told(room.RoomSuccess, room.RoomDisconnected)
	}},
	{what: "left it as the last, and its delay is over", to: gone, lead: func(w *walker) {
		w.create(object{"destroyDelay": 60}).leave(w.id)
		w.told(room.RoomSuccess, room.RoomDisconnected)
		w.scene.passes(61*time.Second, "the room is gone", func() bool {
			return w.call("GET", roomPath(w.id, ""), nil).StatusCode == http.StatusNotFound
		})
	}},
	{what: "timed out as the last", to: gone, lead: func(w *walker) {
		w.create(nil).say("so that the cursor knows the room").vanish().timeOut()
		w.comeBack()
		w.told(room.RoomNetworkTimeout, room.RoomDisconnected)
	}},

	{what: "saw it destroyed", to: gone, lead: func(w *walker) {
		w.comeIn().admin().call("DELETE", adminPath(w.id, ""), nil).is(http.StatusNoContent)
		w.told(room.RoomNotExist, room.RoomDisconnected)
	}},
	{what: "found it destroyed on coming back", to: gone, lead: func(w *walker) {
		w.comeIn().vanish().admin().call("DELETE", adminPath(w.id, ""), nil).is(http.StatusNoContent)
		w.comeBack()
		w.told(room.RoomNotExist, room.RoomDisconnected)
	}},

	{what: "was ended by the operator", to: overByEnd, lead: func(w *walker) {
		w.comeIn().admin().call("DELETE", fmt.Sprintf("/v1/admin/users/%s/sessions/%s", w.UserID, w.SessionID), nil).is(http.StatusNoContent)
		w.told(room.RoomKickedOut, room.RoomDisconnected)
		w.endsWith(room.ConnectionKickedOut)
	}},
	{what: "logged out", to: overByEnd, lead: func(w *walker) {
		w.comeIn().logout()
		w.told(room.RoomLoggedOut, room.RoomDisconnected)
		w.endsWith(room.ConnectionLoggedOut)
	}},
	{what: "logged out while away", to: overByEnd, lead: func(w *walker) {
		w.comeIn().vanish().logout()
		w.moved(room.RoomLoggedOut, room.RoomDisconnected)
		w.became("loggedOut", room.SessionEnded)
	}},
	{what: "was kicked out for newer sessions", to: overByEnd, lead: func(w *walker) {
		w.comeIn()
		w.again()
		w.again()
		w.told(room.RoomKickedOut, room.RoomDisconnected)
		w.endsWith(room.ConnectionKickedOut)
	}},
	{what: "was kicked out while away", to: overByEnd, lead: func(w *walker) {
		w.comeIn().vanish()
		w.again()
		w.again()
		w.moved(room.RoomKickedOut, room.RoomDisconnected)
		w.became("kickedOut", room.SessionEnded)
	}},
	{what: "its token ran out", to: overByTime, lead: func(w *walker) {
		w.comeIn().runOut()
		w.told(room.RoomTokenExpired, room.RoomDisconnected)
		w.endsWith(room.ConnectionTokenExpired)
	}},
	{what: "its token ran out while away", to: overByTime, lead: func(w *walker) {
		w.comeIn().vanish().runOut()
		w.moved(room.RoomTokenExpired, room.RoomDisconnected)
		w.became("tokenExpired", room.SessionEnded)
	}},
}

// scene is a service whose time can pass, with a host who is always there.
type scene struct {
	*service
	database string
	late     atomic.Int64 // how far the store's clock is ahead
	host     *client
	his      *stream   // the host's
	rows     *pgx.Conn // to look at the tables
	allRows  string    // the statement that reads all tables, once it was made
	walkers  int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{}
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
	s.his, _ = s.host.listen()
	return s
}

func (s *scene) now() time.Time { return time.Now().Add(time.Duration(s.late.Load())) }

// passes lets time pass for the store, and lets it do what is due until
// something is so.
func (s *scene) passes(d time.Duration, what string, until func() bool) {
	s.Helper()
	s.late.Add(int64(d))
	eventually(s, what, func() bool {
		if err := s.store.Sweep(context.Background()); err != nil {
			s.Error(err)
		}
		return until()
	})
}

// walker is a session that walks through the machines of room/state.go.
type walker struct {
	*client
	scene *scene
	id    room.RoomID // the room that all is about
	// stream is nil while there is none; cursor is where the last one ended.
	stream *stream
	cursor string

	state       room.SessionState
	inRoom      room.RoomState
	sessionPath []room.SessionTransition
	roomPath    []room.RoomTransition
}

func (s *scene) walker() *walker {
	s.Helper()
	s.walkers++
	w := &walker{scene: s, id: room.RoomID(fmt.Sprintf("lobby%d", s.walkers)), state: room.SessionDetached, inRoom: room.RoomDisconnected}
	w.client = s.loginWith(w.scene.fresh(room.UserID(fmt.Sprintf("walker%d", s.walkers))))
	return w
}

// fresh is a token that lasts for another hour of the store's time.
func (s *scene) fresh(user room.UserID) string {
	return s.token(user, time.Duration(s.late.Load())+time.Hour)
}

// moved notes a move that is not told.
func (w *walker) moved(event room.RoomEvent, to room.RoomState) {
	w.roomPath = append(w.roomPath, room.RoomTransition{From: w.inRoom, Event: event, To: to})
	w.inRoom = to
}

// told expects to be told of a move in the room.
func (w *walker) told(event room.RoomEvent, to room.RoomState) {
	w.Helper()
	for {
		e := w.stream.next()
		if changed, ok := w.change(e); ok {
			if changed.Event != event || changed.State != to {
				w.Fatalf("told %s %s, and not %s %s", changed.State, changed.Event, to, event)
			}
			w.moved(event, to)
			return
		}
	}
}

// change is what an event says of the session's relation to the room.
func (w *walker) change(e event) (room.RoomStateChanged, bool) {
	w.Helper()
	var changed room.RoomStateChanged
	if e.Type != string(room.TypeRoomStateChanged) {
		return changed, false
	}
	decode(w, e, room.TypeRoomStateChanged, &changed)
	return changed, changed.RoomID == w.id
}

// became notes a move of the session.
func (w *walker) became(event room.SessionEvent, to room.SessionState) {
	w.sessionPath = append(w.sessionPath, room.SessionTransition{From: w.state, Event: event, To: to})
	w.state = to
}

func (w *walker) listens() {
	w.Helper()
	w.stream, _ = w.listen()
	w.became("streamOpened", room.SessionOnline)
}

// endsWith expects the end of the stream and of the session.
func (w *walker) endsWith(why room.ConnectionEvent) {
	w.Helper()
	if got := expect[room.ConnectionStateChanged](w.stream).Event; got != why {
		w.Errorf("the stream ends with %s, and not %s", got, why)
	}
	w.stream.end()
	w.stream = nil
	w.became(room.SessionEvent(why), room.SessionEnded)
}

// create brings the room to life.
func (w *walker) create(config object) *walker {
	w.Helper()
	w.listens()
	body := object{"roomID": w.id}
	if config != nil {
		body["config"] = config
	}
	w.call("POST", "/v1/rooms", body).is(http.StatusCreated)
	w.told(room.RoomCreate, room.RoomConnecting)
	w.told(room.RoomCreated, room.RoomConnected)
	return w
}

// comeIn enters the host's room, and hears something there.
func (w *walker) comeIn() *walker {
	w.Helper()
	w.scene.host.enter(w.id)
	w.listens()
	w.enter(w.id)
	w.told(room.RoomEnter, room.RoomConnecting)
	w.told(room.RoomSuccess, room.RoomConnected)
	return w.say("welcome")
}

// say sends a message and reads it.
func (w *walker) say(text string) *walker {
	w.Helper()
	w.send(w.id, text)
	if got := w.stream.text(); got != text {
		w.Errorf("%q comes back as %q", text, got)
	}
	return w
}

// fill makes the room so full that a guest has to leave it first.
func (w *walker) fill() (guest *client) {
	w.Helper()
	w.scene.host.call("POST", "/v1/rooms", object{"roomID": w.id, "config": object{"maxMembers": 2}}).is(http.StatusCreated)
	guest = w.loginWith(w.scene.fresh("guest"))
	guest.enter(w.id)
	return guest
}

// again starts another session of the same user.
func (w *walker) again() *client {
	w.Helper()
	return w.loginWith(w.scene.fresh(w.UserID))
}

// vanish breaks the stream.
func (w *walker) vanish() *walker {
	w.Helper()
	w.cursor = w.stream.id
	w.stream.hangUp()
	w.stream = nil
	w.interrupted("streamLost")
	return w
}

func (w *walker) interrupted(why room.SessionEvent) {
	w.Helper()
	eventually(w, "the session is detached", func() bool { return w.client.state() == "detached" })
	w.became(why, room.SessionDetached)
	w.moved(room.RoomNetworkInterrupted, room.RoomReconnecting)
}

// comeBack opens the stream again.
func (w *walker) comeBack() {
	w.Helper()
	w.stream, _ = w.listen(resume(w.cursor))
	w.became("streamOpened", room.SessionOnline)
}

// renewWithout renews the session with a token that grants no room, and then with one
// that grants all.
func (w *walker) renewWithout() {
	w.Helper()
	nothing := w.signed(func(c jwt.MapClaims) { c["sub"], c["exp"], c["rooms"] = w.UserID, 4_000_000_000, []object{} })
	for _, token := range []string{nothing, w.scene.fresh(w.UserID)} {
		w.call("PUT", "/v1/sessions/current/token", object{"token": token}).is(http.StatusOK)
	}
}

// timeOut lets the room's memberTimeout pass.
func (w *walker) timeOut() {
	w.Helper()
	w.scene.passes(31*time.Second, "it timed out", func() bool {
		return len(as[struct{ Rooms []room.Room }](w.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms) == 0
	})
}

// runOut lets the token run out.
func (w *walker) runOut() {
	w.Helper()
	w.scene.passes(2*time.Hour, "the token ran out", func() bool {
		return w.call("GET", "/v1/sessions/current", nil).StatusCode == http.StatusUnauthorized
	})
}

// readNothing opens a stream that nobody reads, and has so much said in the room
// that the server gives it up.
func (w *walker) readNothing() {
	w.Helper()
	w.stall()
	eventually(w, "the session is online", func() bool { return w.client.state() == "online" })
	w.became("streamOpened", room.SessionOnline)
	w.moved(room.RoomSuccess, room.RoomConnected)
	loud := *w.scene.host
	loud.http = w.server.Client() // so many words need no checking
	for sent := 0; w.hub.Stats().SlowConsumers == 0; sent++ {
		if sent == 1000 {
			w.Fatal("32 MB are still not too much for a reader that takes nothing")
		}
		loud.send(w.id, strings.Repeat("x", 32<<10))
	}
	w.interrupted("slowConsumer")
}

// loseNode opens a stream on another node, which then does not renew its lease.
func (w *walker) loseNode() {
	w.Helper()
	other := newService(w.TB, func(c *setup) { c.database, c.store.Now = w.scene.database, w.scene.now })
	there := &client{service: other, http: other.http, session: w.session}
	other.log.secret(w.SessionKey)
	there.listen(resume(w.cursor))
	w.became("streamOpened", room.SessionOnline)
	w.moved(room.RoomSuccess, room.RoomConnected)
	for range 9 { // the scene's own node lives, long enough to declare another one dead
		w.scene.late.Add(int64(store.LeaseInterval))
		if err := w.scene.store.RenewLease(context.Background()); err != nil {
			w.Error(err)
		}
	}
	w.scene.passes(0, "the node's lease ran out", func() bool { return w.client.state() == "detached" })
	w.interrupted("nodeLost")
}

// tables returns all rows that the database holds of sessions and rooms, a line a row.
func (s *scene) tables() []string {
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
			if table == "events" { // their bodies never change, and some ways make many
				row = "concat_ws(' ', generation, seq, type)"
			}
			tables = append(tables, fmt.Sprintf("SELECT '%[1]s: ' || %[2]s FROM %[1]s t", table, row))
		}
		s.allRows = strings.Join(tables, " UNION ALL ") + " ORDER BY 1"
	}
	return query(s.allRows)
}
