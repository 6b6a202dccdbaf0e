package servicetest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// TestTwoUsers checks the typical use of a room from beginning to end.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	aliceStream, _ := alice.listen()
	bobStream, _ := bob.listen()

	r := alice.call("POST", "/v1/rooms", object{"roomID": "lobby", "roomName": "The lobby"}).is(http.StatusCreated)
	created := as[struct{ Room room.Room }](r).Room
	if created.ID != "lobby" || created.Name != "The lobby" || created.MemberCount != 1 || created.LastSeq != 1 {
		t.Errorf("the room is created as %+v", created)
	}
	for _, want := range []string{"connecting create", "connected created"} {
		if got := aliceStream.state(); got != want {
			t.Errorf("alice's state event is %s, want %s", got, want)
		}
	}

	joined := as[struct{ Room room.Room }](bob.call("POST", roomPath("lobby", "/join"), nil).is(http.StatusOK)).Room
	if joined.Generation != created.Generation || joined.MemberCount != 2 || joined.LastSeq != 2 {
		t.Errorf("the room that bob joined is %+v", joined)
	}
	for _, want := range []string{"connecting enter", "connected success"} {
		if got := bobStream.state(); got != want {
			t.Errorf("bob's state event is %s, want %s", got, want)
		}
	}
	if seen := expect[room.MembersJoined](aliceStream).MemberList; len(seen) != 1 || seen[0].ID != "bob" {
		t.Errorf("alice's membersJoined lists %+v", seen)
	}

	sent := bob.send("lobby", "Good morning")
	for name, stream := range map[string]*stream{"alice": aliceStream, "bob": bobStream} {
		got := expect[room.MessagesReceived](stream).MessageList
		if diff := cmp.Diff([]room.Message{sent}, got); diff != "" {
			t.Errorf("%s received another message than was sent:\n%s", name, diff)
		}
		if stream.seq() != 3 {
			t.Errorf("%s received it with seq %d", name, stream.seq())
		}
	}

	bob.leave("lobby")
	if got := bobStream.state(); got != "disconnected success" {
		t.Errorf("bob's state event is %s", got)
	}
	if seen := expect[room.MembersLeft](aliceStream).MemberList; len(seen) != 1 || seen[0].ID != "bob" || seen[0].Reason != room.ReasonLeft {
		t.Errorf("alice's membersLeft lists %+v", seen)
	}
	found := as[struct{ Room room.Room }](alice.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)).Room
	if found.MemberCount != 1 || found.LastSeq != 4 {
		t.Errorf("after bob left, the room is %+v", found)
	}

	alice.leave("lobby")
	alice.call("GET", roomPath("lobby", ""), nil).refused(http.StatusNotFound, "room_not_found")
	if again := alice.enter("lobby"); again.Generation <= created.Generation || again.LastSeq != 1 {
		t.Errorf("the room created again is %+v", again)
	}
}

func TestCreateRoomSettings(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for _, c := range []struct {
		config object
		want   room.Config
	}{
		{nil, room.Config{UnusedTimeout: 30, MemberTimeout: 30, MaxMembers: 500, SameUser: "allow", HistoryVisible: "all", Lifetime: "untilEmpty", History: "stored", Presence: "full", NamesUpTo: 1_000_000}},
		{object{}, room.Config{UnusedTimeout: 30, MemberTimeout: 30, MaxMembers: 500, SameUser: "allow", HistoryVisible: "all", Lifetime: "untilEmpty", History: "stored", Presence: "full", NamesUpTo: 1_000_000}},
		{object{"maxMembers": 2}, room.Config{UnusedTimeout: 30, MemberTimeout: 30, MaxMembers: 2, SameUser: "allow", HistoryVisible: "all", Lifetime: "untilEmpty", History: "stored", Presence: "full", NamesUpTo: 1_000_000}},
		{object{"memberTimeout": 90}, room.Config{UnusedTimeout: 30, MemberTimeout: 90, MaxMembers: 500, SameUser: "allow", HistoryVisible: "all", Lifetime: "untilEmpty", History: "stored", Presence: "full", NamesUpTo: 1_000_000}},
		{
			object{
				"destroyDelay": 0, "unusedTimeout": 1, "memberTimeout": 5, "maxMembers": 1_000_000, "sameUser": "reject", "historyVisible": "sinceJoined",
				"lifetime": "untilEmpty", "history": "none", "retentionDays": 3650, "retentionCount": 1_000_000, "presence": "none", "namesUpTo": 1, "memberStates": true,
			},
			room.Config{
				UnusedTimeout: 1, MemberTimeout: 5, MaxMembers: 1_000_000, SameUser: "reject", HistoryVisible: "sinceJoined",
				Lifetime: "untilEmpty", History: "none", RetentionDays: 3650, RetentionCount: 1_000_000, Presence: "none", NamesUpTo: 1, MemberStates: true,
			},
		},
	} {
		create, enter := object{"roomID": "created"}, object{}
		if c.config != nil {
			create["config"], enter["config"] = c.config, c.config
		}
		created := as[struct{ Room room.Room }](alice.call("POST", "/v1/rooms", create).is(http.StatusCreated)).Room
		entered := as[struct{ Room room.Room }](alice.call("POST", roomPath("entered", "/enter"), enter).is(http.StatusCreated)).Room
		if created.Config != c.want || entered.Config != c.want {
			t.Errorf("with config %v, rooms are created as %+v and %+v", c.config, created.Config, entered.Config)
		}
		alice.leave("created")
		alice.leave("entered")
	}
}

func TestEnterRoomCreatesOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	bobStream, _ := bob.listen()
	type entered struct {
		Room    room.Room
		Created bool
	}
	first := alice.call("POST", roomPath("a#b", "/enter"), object{"roomName": "First"}).is(http.StatusCreated)
	if e := as[entered](first); !e.Created || e.Room.Name != "First" {
		t.Errorf("the room that alice created is %+v", e)
	}
	if got := first.Header.Get("Location"); got != "/v1/rooms/a%23b" {
		t.Errorf("Location of the new room is %q", got)
	}
	second := bob.call("POST", roomPath("a#b", "/enter"), object{"roomName": "Second"}).is(http.StatusOK)
	if e := as[entered](second); e.Created || e.Room.Name != "First" {
		t.Errorf("the room that bob entered is %+v", e)
	}
	if got := second.Header.Get("Location"); got != "" {
		t.Errorf("an existing room was reported as new, with Location %q", got)
	}
	if first, second := bobStream.state(), bobStream.state(); first != "connecting enter" || second != "connected success" {
		t.Errorf("bob's state events are %s, then %s", first, second)
	}
	// Entering again changes nothing and causes no event.
	alice.call("POST", roomPath("a#b", "/join"), nil).is(http.StatusOK)
	if r := alice.enter("a#b"); r.LastSeq != 2 || r.MemberCount != 2 {
		t.Errorf("after entering again, the room is %+v", r)
	}
	alice.send("a#b", "next")
	if got := bobStream.text(); got != "next" {
		t.Errorf("bob received %q", got)
	}
}

// TestSecondSessionOfAUser checks that other members see users, not sessions.
func TestSecondSessionOfAUser(t *testing.T) {
	t.Parallel()
	s := newService(t)
	bob := s.login("bob")
	bob.enter("lobby")
	bobStream, _ := bob.listen()
	tab, phone := s.login("alice"), s.login("alice")
	tab.enter("lobby")
	phone.enter("lobby")
	onPhone, _ := phone.listen()
	expect[room.MembersJoined](bobStream)
	if n := bob.enter("lobby").MemberCount; n != 2 {
		t.Errorf("the room has %d members", n)
	}
	tab.leave("lobby")
	tab.call("GET", roomPath("lobby", ""), nil).refused(http.StatusConflict, "not_in_room")
	phone.send("lobby", "still here")
	if mine, other := onPhone.text(), bobStream.text(); mine != "still here" || other != "still here" {
		t.Errorf("the phone received %q, bob received %q", mine, other)
	}
	phone.leave("lobby")
	if left := expect[room.MembersLeft](bobStream).MemberList; len(left) != 1 {
		t.Errorf("bob's membersLeft lists %+v", left)
	}
}

// TestRefusedEntry checks that the reply and the stream report the same reason for a rejected call.
func TestRefusedEntry(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.RoomsPerUser = 2 })
	host := s.login("host")
	host.call("POST", "/v1/rooms", object{"roomID": "full", "config": object{"maxMembers": 1}}).is(http.StatusCreated)
	host.call("POST", "/v1/rooms", object{"roomID": "open"}).is(http.StatusCreated)
	alice := s.login("alice")
	alice.enter("one")
	alice.enter("two")
	fenced := s.loginWith(s.signed(grants(object{"roomID": "open", "join": true}, object{"roomID": "new", "join": true})))

	for _, c := range []struct {
		who          *client
		method, path string
		body         any
		status       int
		code         string
		id           room.RoomID
		states       []string
	}{
		{alice, "POST", "/v1/rooms", object{"roomID": "full"}, 409, "room_exists", "full", []string{"connecting create", "disconnected createFailed"}},
		{alice, "POST", "/v1/rooms", object{"roomID": "three"}, 409, "too_many_rooms", "three", []string{"connecting create", "disconnected createFailed"}},
		{alice, "POST", roomPath("open", "/enter"), nil, 409, "too_many_rooms", "open", []string{"connecting enter", "disconnected enterFailed"}},
		{alice, "POST", roomPath("open", "/join"), nil, 409, "too_many_rooms", "open", []string{"connecting enter", "disconnected enterFailed"}},
		{fenced, "POST", roomPath("full", "/join"), nil, 403, "not_granted", "full", []string{"connecting enter", "disconnected enterFailed"}},
		{fenced, "POST", roomPath("full", "/enter"), nil, 403, "not_granted", "full", []string{"connecting enter", "disconnected enterFailed"}},
		{fenced, "POST", "/v1/rooms", object{"roomID": "open"}, 403, "not_granted", "open", []string{"connecting create", "disconnected createFailed"}},
		// May join rooms, but not create them.
		{fenced, "POST", roomPath("new", "/enter"), nil, 403, "not_granted", "new", []string{"connecting enter", "disconnected enterFailed"}},
		{fenced, "POST", roomPath("new", "/join"), nil, 404, "room_not_found", "new", []string{"connecting enter", "disconnected enterFailed"}},
		{fenced, "POST", roomPath("open", "/switch"), switchTo("full"), 403, "not_granted", "full", []string{"connecting switch", "disconnected switchFailed"}},
		{alice, "POST", roomPath("one", "/switch"), switchTo("full"), 409, "room_full", "full", []string{"connecting switch", "disconnected switchFailed"}},
		{s.login("bob"), "POST", roomPath("full", "/join"), nil, 409, "room_full", "full", []string{"connecting enter", "disconnected enterFailed"}},
		{s.login("bob"), "POST", roomPath("full", "/enter"), nil, 409, "room_full", "full", []string{"connecting enter", "disconnected enterFailed"}},
	} {
		stream, _ := c.who.listen()
		p := c.who.call(c.method, c.path, c.body).refused(c.status, c.code)
		for i, want := range c.states {
			changed := expect[room.RoomStateChanged](stream)
			if got := string(changed.State) + " " + string(changed.Event); got != want || changed.RoomID != c.id {
				t.Errorf("%s %s: the stream reported %s of room %s, want %s", c.method, c.path, got, changed.RoomID, want)
			}
			if last := i == len(c.states)-1; last != (changed.Error != nil) {
				t.Errorf("%s %s: event %s has the error %v", c.method, c.path, want, changed.Error)
			} else if last && (changed.Error.Code != p.Code || changed.Error.Detail != p.Detail) {
				t.Errorf("%s %s: the stream has the error %+v, the reply has %s: %s", c.method, c.path, *changed.Error, p.Code, p.Detail)
			}
		}
		stream.disconnect()
	}
}

func switchTo(id room.RoomID) object {
	return object{"toRoom": object{"roomID": id}, "createIfNotExists": true}
}

// grants sets the grants of a token.
func grants(all ...object) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c["rooms"] = append([]object{}, all...) }
}

// everyGrant grants all that a token can grant, from now on.
func everyGrant(c jwt.MapClaims) {
	c["iat"] = time.Now().Unix()
	grants(object{"roomID": "*", "create": true, "join": true, "send": true, "kick": true, "attributes": true, "settings": true})(c)
	c["peers"], c["media"], c["updateProfile"] = []string{"*"}, true, true
}

// TestGrants tries each action in each room.
func TestGrants(t *testing.T) {
	t.Parallel()
	s := newService(t)
	host := s.login("host")
	rooms := []room.RoomID{"class#1", "class#2", "lobby"}
	for _, id := range rooms {
		host.enter(id)
	}
	for _, c := range []struct {
		what       string
		claims     func(jwt.MapClaims)
		join, send string // the rooms in which each action is allowed
		create     string
	}{
		{"no grants", func(jwt.MapClaims) {}, "class#1 class#2 lobby", "class#1 class#2 lobby", "class#3 attic"},
		{"an empty list", grants(), "", "", ""},
		{"one room", grants(object{"roomID": "class#1", "join": true, "send": true}), "class#1", "class#1", ""},
		{"a prefix", grants(object{"roomID": "class#*", "join": true, "create": true}), "class#1 class#2", "", "class#3"},
		{"everywhere", grants(object{"roomID": "*", "join": true, "send": true, "create": true}), "class#1 class#2 lobby", "class#1 class#2 lobby", "class#3 attic"},
		{"two grants", grants(object{"roomID": "*", "join": true}, object{"roomID": "lobby", "send": true}), "class#1 class#2 lobby", "lobby", ""},
		{"send alone", grants(object{"roomID": "*", "send": true}), "", "", ""},
		{"read alone", grants(object{"roomID": "*", "join": true}), "class#1 class#2 lobby", "", ""},
	} {
		user := s.loginWith(s.signed(c.claims))
		may := func(rooms string, id room.RoomID) bool { return strings.Contains(" "+rooms+" ", " "+string(id)+" ") }
		for _, id := range rooms {
			join := user.call("POST", roomPath(id, "/join"), nil)
			if !may(c.join, id) {
				join.refused(http.StatusForbidden, "not_granted")
				continue
			}
			join.is(http.StatusOK)
			send := user.call("POST", roomPath(id, "/messages"), object{"kind": "text", "text": "hello"})
			if may(c.send, id) {
				send.is(http.StatusCreated)
			} else {
				send.refused(http.StatusForbidden, "not_granted")
			}
			user.leave(id)
		}
		for _, id := range []room.RoomID{"class#3", "attic"} {
			create := user.call("POST", "/v1/rooms", object{"roomID": id})
			if may(c.create, id) {
				create.is(http.StatusCreated)
				user.leave(id)
			} else {
				create.refused(http.StatusForbidden, "not_granted")
			}
			if t.Failed() {
				t.Fatalf("with %s", c.what)
			}
		}
		user.logout()
	}
}

// TestRenewedTokenReplacesGrants checks that the grants of the older token end immediately.
func TestRenewedTokenReplacesGrants(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	alice.send("lobby", "before")
	fenced := s.signed(grants(object{"roomID": "lobby", "join": true}))
	alice.call("PUT", "/v1/sessions/current/token", object{"token": fenced}).is(http.StatusOK)
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "after"}).
		refused(http.StatusForbidden, "not_granted")
	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.token("alice", time.Hour)}).is(http.StatusOK)
	alice.send("lobby", "again")
}

// TestRevokedGrantRemovesMember checks that renewing a token removes the session from rooms that
// the new token does not grant, with a reason for the session and for the other members.
func TestRevokedGrantRemovesMember(t *testing.T) {
	t.Parallel()
	s := newService(t)
	host := s.login("host")
	host.enter("closed")
	host.enter("open")
	hears, _ := host.listen()
	alice := s.login("alice")
	alice.enter("closed")
	alice.enter("open")
	alice.call("POST", "/v1/rooms", object{"roomID": "own"}).is(http.StatusCreated)
	stream, _ := alice.listen()
	other := s.login("alice") // alice's other session, which keeps its token
	other.enter("open")

	fenced := s.signed(grants(object{"roomID": "open", "join": true}, object{"roomID": "own", "create": true}))
	alice.call("PUT", "/v1/sessions/current/token", object{"token": fenced}).is(http.StatusOK)
	if got := skipTo[room.RoomStateChanged](stream); got.RoomID != "closed" || got.State != room.RoomDisconnected || got.Event != room.RoomNotGranted {
		t.Errorf("the session received %+v", got)
	}
	left := skipTo[room.MembersLeft](hears)
	if len(left.MemberList) != 1 || left.MemberList[0].ID != "alice" || left.MemberList[0].Reason != room.ReasonNotGranted {
		t.Errorf("the other members received %+v", left)
	}
	alice.call("GET", roomPath("closed", ""), nil).refused(http.StatusConflict, "not_in_room")
	alice.call("POST", roomPath("closed", "/join"), nil).refused(http.StatusForbidden, "not_granted")
	alice.call("GET", roomPath("open", ""), nil).is(http.StatusOK)
	alice.call("GET", roomPath("own", ""), nil).is(http.StatusOK)

	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.signed(grants())}).is(http.StatusOK)
	alice.call("GET", roomPath("open", ""), nil).refused(http.StatusConflict, "not_in_room")
	other.call("GET", roomPath("open", ""), nil).is(http.StatusOK)
	if members := host.call("GET", roomPath("open", "/members"), nil).is(http.StatusOK); !strings.Contains(string(members.body), `"alice"`) {
		t.Errorf("alice is not a member, although the other session is in the room: %s", members.body)
	}
}

// TestConfigCeilings checks that clients cannot exceed the configured maximums with any call that
// creates a room, and that admins can.
func TestConfigCeilings(t *testing.T) {
	t.Parallel()
	members, delay, days := 50, room.Seconds(60), 7
	s := newService(t, func(c *setup) {
		c.api.Ceilings = room.Ceilings{MaxMembers: &members, DestroyDelay: &delay, RetentionDays: &days}
	})
	alice := s.login("alice")
	alice.enter("here")
	for field, least := range map[string]int{"maxMembers": 50, "destroyDelay": 60, "retentionDays": 7} {
		for _, call := range []func(config object) reply{
			func(config object) reply {
				return alice.call("POST", "/v1/rooms", object{"roomID": "new", "config": config})
			},
			func(config object) reply {
				return alice.call("POST", roomPath("new", "/enter"), object{"config": config})
			},
			func(config object) reply {
				return alice.call("POST", roomPath("here", "/switch"), object{"toRoom": object{"roomID": "new"}, "createIfNotExists": true, "config": config})
			},
		} {
			call(object{field: least + 1}).invalid("/config/"+field, "ceiling")
			if r := call(object{field: least}); r.StatusCode >= 300 {
				t.Errorf("%s: %s of %d: got status %d: %s", r.call, field, least, r.StatusCode, r.body)
			}
			alice.call("DELETE", "/v1/sessions/current/rooms", nil).is(http.StatusOK)
			s.admin().call("DELETE", "/v1/admin/rooms/new", nil)
			s.admin().call("DELETE", "/v1/admin/rooms/here", nil)
			alice.enter("here")
		}
	}
	s.admin().call("POST", "/v1/admin/rooms", object{"roomID": "large", "config": object{"maxMembers": 51, "destroyDelay": 61}}).is(http.StatusCreated)
}

// TestRoomIDsInPaths checks that every valid room ID works in a path, in each encoding.
func TestRoomIDsInPaths(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	ids := []string{"a#b?c%d&e", "%25", "%", "%2F", "a+b", "100%", "~", "...", "a=b;c:d", `[x]{y}|^z`, "<b>", "-", strings.Repeat("x", 128)}
	for c := byte(' '); c < 0x7f; c++ {
		if id := string([]byte{c}); id != "." && room.RoomID(id).Valid() {
			ids = append(ids, id)
		}
	}
	allEncoded := func(id string) string {
		var b strings.Builder
		for i := range len(id) {
			const hex = "0123456789abcdef"
			b.WriteString("%" + string([]byte{hex[id[i]>>4], hex[id[i]&15]}))
		}
		return b.String()
	}
	for _, id := range ids {
		for _, encoded := range []string{url.PathEscape(id), strings.ReplaceAll(url.QueryEscape(id), "+", "%20"), allEncoded(id)} {
			r := alice.call("POST", "/v1/rooms/"+encoded+"/enter", nil)
			if got := as[struct{ Room room.Room }](r).Room.ID; string(got) != id {
				t.Errorf("%s is entered as %q", encoded, got)
			}
			got := as[struct{ RoomID room.RoomID }](alice.call("POST", "/v1/rooms/"+encoded+"/leave", nil).is(http.StatusOK)).RoomID
			if string(got) != id {
				t.Errorf("%s is left as %q", encoded, got)
			}
		}
	}
}
