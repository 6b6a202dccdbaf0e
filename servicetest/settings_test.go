package servicetest

import (
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// patchRoom changes a room, and checks that the reply has the version of its settings as its ETag.
func (c *client) patchRoom(path string, body object, change ...func(*http.Request)) room.Room {
	c.Helper()
	r := c.call("PATCH", path, body, change...).is(http.StatusOK)
	changed := as[struct{ Room room.Room }](r).Room
	if tag := r.Header.Get("ETag"); tag != tagOf(changed.SettingsVersion) {
		c.Errorf("the ETag is %s, the version %d", tag, changed.SettingsVersion)
	}
	return changed
}

// mayChange grants everything in a room that members need, and its settings.
func mayChange(id room.RoomID) func(jwt.MapClaims) {
	return grants(object{"roomID": id, "create": true, "join": true, "send": true, "settings": true})
}

// TestUpdateRoom changes a room as a member and as an admin, and compares the events that members
// and the feed receive, live and from a cursor.
func TestUpdateRoom(t *testing.T) {
	t.Parallel()
	s := newService(t)
	teacher, bob := s.loginWith(s.signed(mayChange("class#1"))), s.login("bob")
	before := teacher.enter("class#1")
	bob.enter("class#1")
	bobStream, ready := bob.listen()
	feed, _ := s.admin().follow("")
	cursor := bobStream.id

	byTeacher := teacher.patchRoom(roomPath("class#1", ""), object{"roomName": " Second\u202e class ", "config": object{"maxMembers": 1, "sameUser": "reject"}})
	want := before
	want.Name, want.Config.MaxMembers, want.Config.SameUser = "Second class", 1, room.SameUserReject
	want.MemberCount, want.LastSeq, want.SettingsVersion = 2, 3, 3
	if diff := cmp.Diff(want, byTeacher); diff != "" {
		t.Errorf("the reply to the member (-want +got):\n%s", diff)
	}
	if again := teacher.patchRoom(roomPath("class#1", ""), object{"config": object{"maxMembers": 1}}); again.SettingsVersion != 3 || again.LastSeq != 3 {
		t.Errorf("a change to the same value: version %d, seq %d", again.SettingsVersion, again.LastSeq)
	}
	byAdmin := s.admin().patchRoom(adminPath("class#1", ""), object{"roomName": "", "config": object{"maxMembers": 3}})
	want.Name, want.Config.MaxMembers, want.LastSeq, want.SettingsVersion = "", 3, 4, 4
	if diff := cmp.Diff(want, byAdmin); diff != "" {
		t.Errorf("the reply to the admin (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		caller *client
		path   string
	}{{bob, roomPath("class#1", "")}, {s.admin(), adminPath("class#1", "")}} {
		r := c.caller.call("GET", c.path, nil).is(http.StatusOK)
		if got := as[struct{ Room room.Room }](r).Room; !cmp.Equal(got, want) || r.Header.Get("ETag") != tagOf(4) {
			t.Errorf("GET %s: ETag %s, (-want +got):\n%s", c.path, r.Header.Get("ETag"), cmp.Diff(want, got))
		}
	}
	events := []room.RoomUpdated{
		{Name: "Second class", Config: byTeacher.Config, OperatedInfo: &room.OperatedInfo{UserID: teacher.UserID}},
		{Name: "", Config: byAdmin.Config},
	}
	replayed, _ := bob.listen(resume(cursor))
	expect[room.ConnectionStateChanged](skipped(bobStream, 2, events))
	skipped(replayed, 2, events)
	skipped(feed, 2, events)
	if len(ready.Rooms) != 1 || ready.Rooms[0].SettingsVersion != 0 {
		t.Errorf("the stream began with %+v", ready.Rooms)
	}
}

// skipped reads n events of changed rooms, and compares them. It skips other events: a feed may
// begin with some that were committed just before it was opened.
func skipped(s *stream, n int, want []room.RoomUpdated) *stream {
	s.t.Helper()
	for i := range n {
		if diff := cmp.Diff(want[i], skipTo[room.RoomUpdated](s)); diff != "" {
			s.t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
	return s
}

// TestUpdateRoomRefused tries each reason for which a change is refused.
func TestUpdateRoomRefused(t *testing.T) {
	t.Parallel()
	members := 50
	s := newService(t, func(c *setup) { c.api.Ceilings = room.Ceilings{MaxMembers: &members} })
	alice, teacher := s.login("alice"), s.loginWith(s.signed(mayChange("class#1")))
	alice.enter("class#1")
	alice.enter("class#2")
	body := object{"config": object{"maxMembers": 5}}
	alice.call("PATCH", roomPath("class#1", ""), body).refused(http.StatusForbidden, "not_granted")
	teacher.call("PATCH", roomPath("class#2", ""), body).refused(http.StatusForbidden, "not_granted")
	teacher.call("PATCH", roomPath("class#1", ""), body).refused(http.StatusConflict, "not_in_room")
	s.admin().call("PATCH", adminPath("class#3", ""), body).refused(http.StatusNotFound, "room_not_found")
	teacher.enter("class#1")
	for _, empty := range []object{{}, {"config": object{}}} {
		teacher.call("PATCH", roomPath("class#1", ""), empty).invalid("", "empty")
	}
	teacher.call("PATCH", roomPath("class#1", ""), object{"config": object{"maxMembers": 51}}).invalid("/config/maxMembers", "ceiling")
	teacher.call("PATCH", roomPath("class#1", ""), object{"roomAttributes": object{"a": "b"}}).invalid("/roomAttributes", "unknown")
	teacher.call("PATCH", roomPath("class#1", ""), body, header("If-Match", "0")).invalid("header/If-Match", "etag")

	version := s.admin().patchRoom(adminPath("class#1", ""), object{"config": object{"maxMembers": 51}}, header("If-Match", `"0"`)).SettingsVersion
	for path, c := range map[string]*client{roomPath("class#1", ""): teacher, adminPath("class#1", ""): s.admin()} {
		c.call("PATCH", path, body, header("If-Match", `"0"`)).refused(http.StatusPreconditionFailed, "version_mismatch")
		c.call("PATCH", path, body, header("If-Match", "W/"+tagOf(version))).refused(http.StatusPreconditionFailed, "version_mismatch")
	}
	// Neither a message nor an attribute changes the version.
	alice.send("class#1", "hello")
	alice.patchAttributes("class#1", object{"set": pairs{"a": "b"}})
	teacher.patchRoom(roomPath("class#1", ""), body, header("If-Match", `"0", `+tagOf(version)))
}

// TestChangedSettingsApplyAtOnce changes each setting while something that depends on it has
// already begun. The change is made through another server.
func TestChangedSettingsApplyAtOnce(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	other := newService(t, func(c *setup) { c.database, c.store.Now = s.database, clock.Now })
	admin := other.admin()
	change := func(config object) { admin.patchRoom(adminPath("lobby", ""), object{"config": config}) }
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	alice.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": object{"destroyDelay": 100}}).is(http.StatusCreated)
	alice.send("lobby", "before bob")
	bob.enter("lobby")

	change(object{"maxMembers": 1})
	carol.call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusConflict, "room_full")
	if n := alice.enter("lobby").MemberCount; n != 2 {
		t.Errorf("%d members stayed, want 2", n)
	}
	change(object{"maxMembers": 3})
	carol.enter("lobby")

	change(object{"sameUser": "reject"})
	s.login("carol").call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusConflict, "user_in_room")

	change(object{"historyVisible": "sinceJoined"})
	if got := listMessages(bob, "lobby", "").texts(); got != "" {
		t.Errorf("bob reads %q, sent before he joined", got)
	}

	// None of the three has a stream. They have been away for 10 s.
	clock.advance(10 * time.Second)
	s.sweep()
	if n := alice.enter("lobby").MemberCount; n != 3 {
		t.Errorf("%d members, want 3", n)
	}
	change(object{"memberTimeout": 10})
	s.sweep()
	empty := as[struct{ Room room.Room }](admin.call("GET", adminPath("lobby", ""), nil).is(http.StatusOK)).Room
	if empty.MemberCount != 0 || empty.DestroyAt != room.InstantOf(clock.Now().Add(100*time.Second)) {
		t.Errorf("after memberTimeout, the room is %+v", empty)
	}
	clock.advance(10 * time.Second)
	change(object{"destroyDelay": 11})
	s.sweep()
	admin.call("GET", adminPath("lobby", ""), nil).is(http.StatusOK)
	change(object{"destroyDelay": 10})
	s.sweep()
	admin.call("GET", adminPath("lobby", ""), nil).refused(http.StatusNotFound, "room_not_found")

	admin.call("POST", "/v1/admin/rooms", object{"roomID": "lobby", "config": object{"unusedTimeout": 5}}).is(http.StatusCreated)
	change(object{"unusedTimeout": 10})
	clock.advance(6 * time.Second)
	s.sweep()
	admin.call("GET", adminPath("lobby", ""), nil).is(http.StatusOK)
	change(object{"unusedTimeout": 6})
	s.sweep()
	admin.call("GET", adminPath("lobby", ""), nil).refused(http.StatusNotFound, "room_not_found")
}
