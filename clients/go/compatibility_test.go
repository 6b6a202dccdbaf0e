package parlor

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestLaterServer checks that this client reads the replies and events of a later server, which has
// fields, values and error codes that this client does not know.
func TestLaterServer(t *testing.T) {
	const message = `{"messageID":"0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4","roomID":"r","seq":7,"kind":"hologram","priority":"urgent",
		"sender":{"userID":"bob","userName":"Bob","badge":{"level":3}},"sentAt":"2026-11-21T15:00:00.120Z","mood":["x",null]}`
	later := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		reply := `{"messageList":[` + message + `],"nextCursor":7,"total":{"count":1}}`
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			reply = `{"type":"/docs/errors#room_asleep","title":"Conflict","status":409,"code":"room_asleep","detail":"x","wakesAt":"2026-11-21T15:00:00.000Z"}`
		}
		_, _ = io.WriteString(w, reply) // a client that is gone fails the test anyway
	}))
	defer later.Close()
	client, err := NewClientWithResponses(later.URL)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := client.ListRoomMessagesWithResponse(t.Context(), "r", nil)
	if err != nil || listed.JSON200 == nil {
		t.Fatalf("%+v: %v", listed, err)
	}
	if m := listed.JSON200.MessageList[0]; m.Kind != "hologram" || m.Kind.Valid() || m.Priority != "urgent" || *m.Seq != 7 || m.SentAt.UnixMilli()%1000 != 120 {
		t.Errorf("the message is %+v", m)
	}
	refused, err := client.JoinRoomWithResponse(t.Context(), "r", JoinRoomRequest{})
	if err != nil || refused.ApplicationproblemJSON409 == nil || refused.ApplicationproblemJSON409.Code != "room_asleep" {
		t.Errorf("%+v: %v", refused, err)
	}
	var received RoomMessageReceivedEvent
	if err := json.Unmarshal([]byte(`{"roomID":"r","generation":1,"seq":7,"shard":2,"messageList":[`+message+`]}`), &received); err != nil || received.MessageList[0].Kind != "hologram" {
		t.Errorf("the event is %+v: %v", received, err)
	}
}
