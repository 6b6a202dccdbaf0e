package servicetest

import (
	"net/http"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/room"
)

// TestSendErrorOrder checks which error a message gets that breaks several rules.
// Clients rely on it: a message that is not granted costs no token of the rate, and a retry of a
// stored message gets its answer over the rate.
func TestSendErrorOrder(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) {
		c.api.Rates = handlers.Rates{Messages: handlers.Rate{Count: 2, Window: time.Hour}}
	})
	host := s.login("host")
	host.enter("lobby")
	host.enter("closed")
	host.enter("other")
	member := s.loginWith(s.signed(grants(
		object{"roomID": "lobby", "join": true, "send": true}, object{"roomID": "other", "send": true}, object{"roomID": "nowhere", "send": true},
	)))
	member.call("POST", roomPath("lobby", "/join"), nil).is(http.StatusOK)
	var (
		text    = object{"kind": "text", "text": "x"}
		empty   = object{"kind": "text"}
		image   = object{"kind": "image", "mediaID": "00000000-0000-4000-8000-000000000000"}
		stored  = object{"kind": "text", "text": "x", "clientMessageID": "1"}
		reused  = object{"kind": "text", "text": "y", "clientMessageID": "1"}
		retried = object{"kind": "text", "text": "x", "clientMessageID": "2"}
	)
	post := func(id room.RoomID, body object) reply { return member.call("POST", roomPath(id, "/messages"), body) }

	post("nowhere", text).refused(http.StatusNotFound, "room_not_found")
	first := post("lobby", stored).is(http.StatusCreated)
	for _, c := range []struct { // the rate limit is reached
		id     room.RoomID
		body   object
		status int
		code   string
	}{
		{"closed", empty, http.StatusBadRequest, "invalid_request"},
		{"closed", image, http.StatusForbidden, "not_granted"},
		{"closed", stored, http.StatusForbidden, "not_granted"},
		{"nowhere", image, http.StatusNotFound, "media_not_found"},
		{"nowhere", text, http.StatusTooManyRequests, "too_many_messages"},
		{"other", text, http.StatusTooManyRequests, "too_many_messages"},
		{"lobby", text, http.StatusTooManyRequests, "too_many_messages"},
		{"lobby", retried, http.StatusTooManyRequests, "too_many_messages"},
		{"nowhere", stored, http.StatusNotFound, "room_not_found"},
		{"other", stored, http.StatusConflict, "not_in_room"},
		{"lobby", reused, http.StatusConflict, "client_message_id_reused"},
	} {
		post(c.id, c.body).refused(c.status, c.code)
	}
	if again := post("lobby", stored).is(http.StatusCreated); string(again.body) != string(first.body) {
		t.Errorf("the retry gets %s, want %s", again.body, first.body)
	}
}
