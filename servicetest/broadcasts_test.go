package servicetest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"parlor/room"
)

// broadcast decodes the broadcast of a reply.
func broadcast(r reply) room.Broadcast {
	r.Helper()
	return as[struct{ Broadcast room.Broadcast }](r).Broadcast
}

// TestBroadcast sends a message to rooms with a prefix, and sees it arrive.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice, bob := s.admin(), s.login("alice"), s.login("bob")
	alice.enter("class-1")
	bob.enter("lobby")
	aliceStream, _ := alice.listen()
	body := object{
		"prefix": "class-", "sender": object{"userID": "school", "userName": "The school"},
		"message": object{"kind": "text", "text": "Noon", "clientMessageID": "noon"},
	}
	created := admin.call("POST", "/v1/admin/broadcasts", body).is(http.StatusAccepted)
	b := broadcast(created)
	path := "/v1/admin/broadcasts/" + string(b.ID)
	if created.Header.Get("Location") != path || b.State != room.BroadcastRunning || b.Prefix != "class-" || b.Sender.Name != "The school" {
		t.Errorf("created %+v at %s", b, created.Header.Get("Location"))
	}
	if again := broadcast(admin.call("POST", "/v1/admin/broadcasts", body).is(http.StatusAccepted)); again != b {
		t.Errorf("the retry returned %+v, want %+v", again, b)
	}
	if err := s.store.SendBroadcasts(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := skipTo[room.MessagesReceived](aliceStream).MessageList[0]
	if got.Text != "Noon" || got.Sender.ID != "school" || got.ClientMessageID != "noon" {
		t.Errorf("alice received %+v", got)
	}
	done := broadcast(admin.call("GET", path, nil).is(http.StatusOK))
	if done.State != room.BroadcastDone || done.SentCount != 1 || *done.RoomCount != 1 {
		t.Errorf("the broadcast is %+v", done)
	}
	if page := as[messagePage](bob.call("GET", roomPath("lobby", "/messages"), nil).is(http.StatusOK)); len(page.MessageList) != 0 {
		t.Errorf("a room without the prefix has %q", page.texts())
	}
	body["prefix"] = "c"
	admin.call("POST", "/v1/admin/broadcasts", body).refused(http.StatusConflict, "client_message_id_reused")

	var ids []room.BroadcastID
	for range 10 {
		one := object{"sender": object{"userID": "school"}, "message": object{"kind": "text", "text": "x"}}
		ids = append(ids, broadcast(admin.call("POST", "/v1/admin/broadcasts", one).is(http.StatusAccepted)).ID)
	}
	delete(body, "prefix")
	body["message"] = object{"kind": "text", "text": "y"}
	admin.call("POST", "/v1/admin/broadcasts", body).refused(http.StatusConflict, "too_many_broadcasts")
	for range 2 {
		admin.call("DELETE", "/v1/admin/broadcasts/"+string(ids[9]), nil).is(http.StatusNoContent)
	}
	listed := as[struct{ Broadcasts []room.Broadcast }](admin.call("GET", "/v1/admin/broadcasts", nil).is(http.StatusOK)).Broadcasts
	slices.Reverse(ids)
	for i, want := range append(ids, b.ID) {
		if listed[i].ID != want {
			t.Errorf("broadcast %d of the list is %s, want %s", i, listed[i].ID, want)
		}
	}
	if listed[0].State != room.BroadcastStopped || listed[0].EndedAt == 0 {
		t.Errorf("the stopped broadcast is %+v", listed[0])
	}
	missing := "/v1/admin/broadcasts/0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4"
	admin.call("GET", missing, nil).refused(http.StatusNotFound, "broadcast_not_found")
	admin.call("DELETE", missing, nil).refused(http.StatusNotFound, "broadcast_not_found")
	admin.call("GET", "/v1/admin/broadcasts/x", nil).invalid("path/broadcastID", "uuid")
	for want, change := range map[string]object{
		"/prefix min":              {"prefix": ""},
		"/prefix roomID":           {"prefix": " x"},
		"/prefix max":              {"prefix": strings.Repeat("x", 129)},
		"/message/kind forbidden":  {"message": object{"kind": "command", "data": "AAH/"}},
		"/message/kind  forbidden": {"message": object{"kind": "barrage", "text": "x"}},
		"/message/to forbidden":    {"message": object{"kind": "text", "text": "x", "to": []string{"bob"}}},
		"/message/text missing":    {"message": object{"kind": "text"}},
		"/sender required":         {"sender": nil},
		"/message/text maxBytes":   {"message": object{"kind": "text", "text": strings.Repeat("x", 32<<10+1)}},
	} {
		bad := object{"sender": object{"userID": "school"}, "message": object{"kind": "text", "text": "x"}}
		for name, value := range change {
			if bad[name] = value; value == nil {
				delete(bad, name)
			}
		}
		fields := strings.Fields(want)
		admin.call("POST", "/v1/admin/broadcasts", bad).invalid(fields[0], fields[1])
	}
	file := object{"sender": object{"userID": "school"}, "message": object{"kind": "file", "mediaID": "3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61"}}
	admin.call("POST", "/v1/admin/broadcasts", file).refused(http.StatusNotFound, "media_not_found")
}
