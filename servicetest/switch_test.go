package servicetest

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestSwitchEventOrder(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	bob.enter("old")
	alice.enter("old")
	aliceStream, _ := alice.listen()
	bobStream, _ := bob.listen()
	expect[room.MembersJoined](bobStream)

	switched := as[struct {
		Room    room.Room
		Created bool
	}](alice.call("POST", roomPath("old", "/switch"), object{
		"toRoom": object{"roomID": "new", "roomName": "New"}, "createIfNotExists": true, "config": object{"destroyDelay": 5},
	}).is(http.StatusOK))
	if !switched.Created || switched.Room.Name != "New" || switched.Room.Config.DestroyDelay != 5 {
		t.Errorf("switched to %+v", switched)
	}
	want := []room.RoomStateChanged{
		{RoomID: "new", State: room.RoomConnecting, Event: room.RoomSwitch},
		{RoomID: "new", Generation: switched.Room.Generation, State: room.RoomConnected, Event: room.RoomCreated},
		{RoomID: "old", State: room.RoomDisconnected, Event: room.RoomSuccess},
	}
	for _, w := range want {
		got := expect[room.RoomStateChanged](aliceStream)
		if w.RoomID == "old" {
			got.Generation = 0
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("events of alice (-want +got):\n%s", diff)
		}
	}
	left := expect[room.MembersLeft](bobStream)
	if len(left.MemberList) != 1 || left.MemberList[0].ID != "alice" || left.MemberList[0].Reason != room.ReasonSwitched {
		t.Errorf("event of bob: %+v", left)
	}

	// A rejected switch leaves alice in her room, and an event says so.
	alice.call("POST", roomPath("new", "/switch"), object{"toRoom": object{"roomID": "nowhere"}}).refused(http.StatusNotFound, "room_not_found")
	for _, state := range []room.RoomState{room.RoomConnecting, room.RoomDisconnected} {
		got := expect[room.RoomStateChanged](aliceStream)
		if got.RoomID != "nowhere" || got.State != state {
			t.Errorf("alice's event after a rejected switch: %+v", got)
		}
	}
	alice.call("POST", roomPath("new", "/switch"), object{"toRoom": object{"roomID": "new"}}).invalid("/toRoom/roomID", "different")
	alice.call("POST", roomPath("old", "/switch"), object{"toRoom": object{"roomID": "new"}}).refused(http.StatusConflict, "not_in_room")
	alice.send("new", "still here")
}

func TestRoomsOfASession(t *testing.T) {
	t.Parallel()
	s := newService(t)
	tab, phone := s.login("alice"), s.login("alice")
	for _, id := range []room.RoomID{"a", "b", "c"} {
		tab.enter(id)
	}
	phone.enter("b")
	type list struct{ Rooms []room.Room }
	rooms := func(c *client) (ids []room.RoomID) {
		for _, r := range as[list](c.call("GET", "/v1/sessions/current/rooms", nil).is(http.StatusOK)).Rooms {
			ids = append(ids, r.ID)
		}
		return ids
	}
	if diff := cmp.Diff([]room.RoomID{"a", "b", "c"}, rooms(tab)); diff != "" {
		t.Errorf("rooms of the first session (-want +got):\n%s", diff)
	}
	left := as[struct{ RoomIDs []room.RoomID }](tab.call("DELETE", "/v1/sessions/current/rooms", nil).is(http.StatusOK))
	if diff := cmp.Diff([]room.RoomID{"a", "b", "c"}, left.RoomIDs); diff != "" {
		t.Errorf("left rooms (-want +got):\n%s", diff)
	}
	if got := rooms(tab); len(got) != 0 {
		t.Errorf("after leaving, the first session is in %v", got)
	}
	if diff := cmp.Diff([]room.RoomID{"b"}, rooms(phone)); diff != "" {
		t.Errorf("rooms of the other session (-want +got):\n%s", diff)
	}
}

func TestSameUserIsReplacedOrRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	tab, phone := s.login("alice"), s.login("alice")
	stream, _ := tab.listen()
	tab.call("POST", "/v1/rooms", object{"roomID": "one", "config": object{"sameUser": "replace"}}).is(http.StatusCreated)
	tab.call("POST", "/v1/rooms", object{"roomID": "first", "config": object{"sameUser": "reject"}}).is(http.StatusCreated)
	phone.enter("one")
	phone.call("POST", roomPath("first", "/join"), nil).refused(http.StatusConflict, "user_in_room")
	for {
		got := expect[room.RoomStateChanged](stream)
		if got.Event == room.RoomReplaced {
			if got.RoomID != "one" || got.State != room.RoomDisconnected {
				t.Errorf("the replaced session received %+v", got)
			}
			break
		}
	}
	tab.call("GET", roomPath("one", ""), nil).refused(http.StatusConflict, "not_in_room")
}
