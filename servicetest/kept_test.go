package servicetest

import (
	"net/http"
	"testing"
	"time"

	"parlor/room"
)

// TestRoomWithoutHistory checks that messages of a room without a history reach every member,
// exactly also after a reconnect, and that none can be listed. The history can be turned on and off.
func TestRoomWithoutHistory(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	alice, bob := s.loginWith(s.token("alice", 24*time.Hour)), s.loginWith(s.token("bob", 24*time.Hour))
	config := object{"history": "none", "lifetime": "kept", "memberTimeout": 300}
	alice.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": config}).is(http.StatusCreated)
	bob.enter("lobby")
	aliceStream, _ := alice.listen()
	bobStream, _ := bob.listen()
	alice.send("lobby", "one")
	if got := bobStream.text(); got != "one" {
		t.Errorf("bob received %q", got)
	}
	bobStream.disconnect()
	sent := alice.send("lobby", "two")
	alice.send("lobby", "three")
	clock.advance(4 * time.Minute)
	s.sweep()
	again, ready := bob.listen(resume(bobStream.id))
	for _, want := range []string{"two", "three"} {
		if got := again.text(); !ready.Resumed || got != want {
			t.Errorf("resumed: %t, bob received %q, want %q", ready.Resumed, got, want)
		}
	}
	for _, query := range []string{"", "?after=0", "?before=3&limit=1", "?from=2020-01-01T00:00:00Z"} {
		alice.call("GET", roomPath("lobby", "/messages")+query, nil).refused(http.StatusConflict, "no_history")
	}
	s.login("carol").call("GET", roomPath("lobby", "/messages"), nil).refused(http.StatusConflict, "not_in_room")
	// Messages of the last minutes can be recalled, and are listed if the history is turned on.
	clock.advance(-3 * time.Minute)
	alice.call("DELETE", roomPath("lobby", "/messages/"+string(sent.ID)), nil).is(http.StatusNoContent)
	clock.advance(3 * time.Minute)
	s.admin().patchRoom(adminPath("lobby", ""), object{"config": object{"history": "stored"}})
	if got := listMessages(alice, "lobby", "").texts(); got != "one  three" {
		t.Errorf("the history is %q", got)
	}
	s.admin().patchRoom(adminPath("lobby", ""), object{"config": object{"history": "none"}})
	clock.advance(room.ReplayWindow + time.Second)
	s.sweep()
	s.admin().patchRoom(adminPath("lobby", ""), object{"config": object{"history": "stored"}})
	if got := listMessages(alice, "lobby", "").texts(); got != "" {
		t.Errorf("after the messages were deleted, the history is %q", got)
	}
	late, ready := bob.listen(resume(bobStream.id))
	if reset := expect[room.RoomReset](late); ready.Resumed || reset.Reason != room.ResetLogTrimmed {
		t.Errorf("with a cursor from before: resumed %t, %+v", ready.Resumed, reset)
	}
	aliceStream.disconnect()
}

// TestRoomLimits checks the replies and the events of calls that would create one room too many.
func TestRoomLimits(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.store.MaxRooms, c.store.RoomsPerCreator = 3, 2 })
	alice, bob := s.login("alice"), s.login("bob")
	for _, id := range []room.RoomID{"one", "two"} {
		alice.call("POST", "/v1/rooms", object{"roomID": id, "config": object{"lifetime": "kept"}}).is(http.StatusCreated)
		alice.leave(id)
	}
	alice.enter("one")
	bob.enter("two")
	calls := func(c *client, code string, from room.RoomID) {
		t.Helper()
		stream, _ := c.listen()
		for _, call := range []struct {
			path string
			body object
		}{
			{"/v1/rooms", object{"roomID": "more"}}, {roomPath("more", "/enter"), object{}}, {roomPath(from, "/switch"), switchTo("more")},
		} {
			c.call("POST", call.path, call.body).refused(http.StatusConflict, code)
			skipTo[room.RoomStateChanged](stream) // connecting
			if failed := expect[room.RoomStateChanged](stream); failed.State != room.RoomDisconnected || failed.Error == nil || failed.Error.Code != code {
				t.Errorf("POST %s: the stream reports %+v", call.path, failed)
			}
		}
		stream.disconnect()
	}
	calls(alice, "creator_room_limit", "one")
	s.admin().call("POST", "/v1/admin/rooms", object{"roomID": "three"}).is(http.StatusCreated)
	calls(bob, "room_limit", "two")
	s.admin().call("POST", "/v1/admin/rooms", object{"roomID": "more"}).refused(http.StatusConflict, "room_limit")
	s.admin().call("DELETE", adminPath("three", ""), nil).is(http.StatusNoContent)
	bob.enter("more")
}
