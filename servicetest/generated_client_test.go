package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	parlor "parlor/clients/go"
	"parlor/handlers"
	"parlor/room"
)

// TestContractClient calls the server with the client that is generated from openapi.yaml.
func TestContractClient(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ctx := context.Background()
	key := ""
	client, err := parlor.NewClientWithResponses(s.url, parlor.WithHTTPClient(s.http),
		parlor.WithRequestEditorFn(func(ctx context.Context, r *http.Request) error {
			if key == "" {
				return nil
			}
			return parlor.Bearer(key)(ctx, r)
		}))
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.CreateDevelopmentTokenWithResponse(ctx, parlor.DevelopmentTokenRequest{UserID: "alice"})
	mustReply(t, err, token.JSON201)
	name := "Alice"
	created, err := client.CreateSessionWithResponse(ctx, parlor.CreateSessionRequest{Token: token.JSON201.Token, UserName: &name})
	login := mustReply(t, err, created.JSON201)
	key = s.log.secret(login.SessionKey)

	const id = "a#b?c%d&e" // has characters that must be encoded in a path
	missing, err := client.JoinRoomWithResponse(ctx, id, parlor.JoinRoomRequest{})
	if p := mustReply(t, err, missing.ApplicationproblemJSON404); p.Code != parlor.ProblemCode("room_not_found") || !p.Code.Valid() {
		t.Errorf("problem for an unknown room is %+v", p)
	}
	most := 2
	entered, err := client.EnterRoomWithResponse(ctx, id, parlor.EnterRoomRequest{Config: &parlor.RoomConfigRequest{MaxMembers: &most}})
	if r := mustReply(t, err, entered.JSON201); !r.Created || r.Room.RoomID != id || r.Room.Config.MaxMembers != most {
		t.Errorf("entered room is %+v", r)
	}
	if entered.Headers201.Location == nil || *entered.Headers201.Location != roomPath(id, "") {
		t.Errorf("Location of the room is %v", entered.Headers201.Location)
	}

	opened, err := client.StreamEvents(ctx, &parlor.StreamEventsParams{}) //nolint:bodyclose // the reader closes it
	if err != nil {
		t.Fatal(err)
	}
	stream := read(s, opened)
	var ready parlor.SessionReadyEvent
	decode(t, stream.next(), room.TypeSessionReady, &ready)
	if ready.SessionID != login.SessionID || len(ready.Rooms) != 1 || ready.Rooms[0].RoomID != id {
		t.Errorf("the stream begins with %+v", ready)
	}

	sent, err := client.SendRoomMessageWithResponse(ctx, id, textMessage(t, "Good morning"))
	message := mustReply(t, err, sent.JSON201).Message
	var received parlor.RoomMessageReceivedEvent
	decode(t, stream.next(), room.TypeMessagesReceived, &received)
	if len(received.MessageList) != 1 || received.MessageList[0].MessageID != message.MessageID || *received.Seq != *message.Seq {
		t.Errorf("sent %+v, received %+v", message, received)
	}
	if content, err := received.MessageList[0].AsTextContent(); err != nil || content.Text == nil || *content.Text != "Good morning" {
		t.Errorf("received the content %+v, error %v", content, err)
	}
	limit, after := 10, int64(0)
	history, err := client.ListRoomMessagesWithResponse(ctx, id, &parlor.ListRoomMessagesParams{Limit: &limit, After: &after})
	if list := mustReply(t, err, history.JSON200).MessageList; len(list) != 1 || list[0].MessageID != message.MessageID {
		t.Errorf("the history is %+v", list)
	}
	members, err := client.ListMembersWithResponse(ctx, id, &parlor.ListMembersParams{UserID: &[]parlor.UserID{"alice", "a&b"}})
	if list := mustReply(t, err, members.JSON200).MemberList; len(list) != 1 || list[0].UserName != "Alice" {
		t.Errorf("the members are %+v", list)
	}
	topic, tag := map[string]string{"topic": "tea"}, `"0"`
	set, err := client.UpdateRoomAttributesWithResponse(ctx, id, &parlor.UpdateRoomAttributesParams{IfMatch: &tag},
		parlor.UpdateRoomAttributesRequest{Set: &topic})
	version := mustReply(t, err, set.JSON200).Version
	var updated parlor.RoomAttributesUpdatedEvent
	decode(t, stream.next(), room.TypeAttributesUpdated, &updated)
	if updated.Seq != version || len(updated.Infos) != 1 || updated.Infos[0].RoomAttributes["topic"] != "tea" || set.Headers200.ETag == nil {
		t.Errorf("changed to version %d, received %+v", version, updated)
	}
	late, err := client.UpdateRoomAttributesWithResponse(ctx, id, &parlor.UpdateRoomAttributesParams{IfMatch: &tag},
		parlor.UpdateRoomAttributesRequest{Set: &topic})
	if p := mustReply(t, err, late.ApplicationproblemJSON412); p.Code != "version_mismatch" {
		t.Errorf("problem for an outdated version is %+v", p)
	}
	roomName := "Second class"
	refused, err := client.UpdateRoomWithResponse(ctx, id, &parlor.UpdateRoomParams{IfMatch: &tag}, parlor.UpdateRoomRequest{RoomName: &roomName})
	if p := mustReply(t, err, refused.ApplicationproblemJSON403); p.Code != "not_granted" {
		t.Errorf("problem without a grant is %+v", p)
	}
	const peer = "b?b%" // has characters that must be encoded in a path
	s.login(peer)
	written, err := client.SendPeerMessageWithResponse(ctx, peer, textMessage(t, "Psst"))
	private := mustReply(t, err, written.JSON201).Message
	var whispered parlor.PeerMessageReceivedEvent
	decode(t, stream.next(), room.TypePeerMessagesReceived, &whispered)
	if len(whispered.MessageList) != 1 || whispered.MessageList[0].MessageID != private.MessageID || *whispered.Seq != *private.Seq || *private.UserID != peer || private.RoomID != nil {
		t.Errorf("sent %+v, received %+v", private, whispered)
	}
	conversation, err := client.ListPeerMessagesWithResponse(ctx, peer, &parlor.ListPeerMessagesParams{Limit: &limit})
	if list := mustReply(t, err, conversation.JSON200).MessageList; len(list) != 1 || list[0].MessageID != private.MessageID {
		t.Errorf("the conversation is %+v", list)
	}
	left, err := client.LeaveRoomWithResponse(ctx, id)
	if r := mustReply(t, err, left.JSON200); r.RoomID != id {
		t.Errorf("left rooms are %+v", r)
	}
	ended, err := client.EndSessionWithResponse(ctx)
	if err != nil || ended.StatusCode() != http.StatusNoContent {
		t.Errorf("ending the session: got status %v, error %v", ended.Status(), err)
	}
	over, err := client.GetSessionWithResponse(ctx)
	if p := mustReply(t, err, over.ApplicationproblemJSON401); p.Code != "session_ended" {
		t.Errorf("problem for an ended session is %+v", p)
	}
}

// TestContractClientMessages sends a message of each kind with the generated client, and uploads and
// downloads a file.
func TestContractClientMessages(t *testing.T) {
	t.Parallel()
	const rated = 5 // the kinds below but barrage
	s := newService(t, func(c *setup) { c.api.Rates.Messages = handlers.Rate{Count: rated, Window: time.Hour} })
	ctx := t.Context()
	const id = "gen#x?%"
	alice := s.login("alice")
	client, err := parlor.NewClientWithResponses(s.url, parlor.WithHTTPClient(s.http), parlor.WithRequestEditorFn(parlor.Bearer(alice.SessionKey)))
	if err != nil {
		t.Fatal(err)
	}
	created, err := client.CreateRoomWithResponse(ctx, parlor.CreateRoomRequest{RoomID: id})
	mustReply(t, err, created.JSON201)
	again, err := client.CreateRoomWithResponse(ctx, parlor.CreateRoomRequest{RoomID: id})
	if p := mustReply(t, err, again.ApplicationproblemJSON409); p.Code != "room_exists" {
		t.Errorf("problem for a room that exists is %+v", p)
	}

	file := []byte("words \x00\xff")
	name := "a b.bin"
	uploaded, err := client.UploadMediaWithBodyWithResponse(ctx, &parlor.UploadMediaParams{FileName: &name}, "application/octet-stream", bytes.NewReader(file))
	media := mustReply(t, err, uploaded.JSON201).Media
	if media.FileName != name || int(media.Size) != len(file) {
		t.Errorf("uploaded %+v", media)
	}
	var quoted parlor.QuotedMessageRequest
	quote := parlor.QuotedTextRequest{Text: "Hi", Sender: parlor.SenderRequest{UserID: "bob"}, SentAt: time.Now()}
	if err := quoted.FromQuotedTextRequest(quote); err != nil {
		t.Fatal(err)
	}
	for _, draft := range []struct {
		kind parlor.MessageKind
		set  func(*parlor.SendMessageRequest) error
	}{
		{"text", func(r *parlor.SendMessageRequest) error {
			return r.FromTextMessageRequest(parlor.TextMessageRequest{Text: "Good morning"})
		}},
		{"command", func(r *parlor.SendMessageRequest) error {
			return r.FromCommandMessageRequest(parlor.CommandMessageRequest{Data: []byte{0, 1, 255}})
		}},
		{"barrage", func(r *parlor.SendMessageRequest) error {
			return r.FromBarrageMessageRequest(parlor.BarrageMessageRequest{Text: "+1"})
		}},
		{"custom", func(r *parlor.SendMessageRequest) error {
			return r.FromCustomMessageRequest(parlor.CustomMessageRequest{SubType: 7, Text: "{}"})
		}},
		{"combine", func(r *parlor.SendMessageRequest) error {
			return r.FromCombineMessageRequest(parlor.CombineMessageRequest{Title: "Earlier", MessageList: []parlor.QuotedMessageRequest{quoted}})
		}},
		{"file", func(r *parlor.SendMessageRequest) error {
			return r.FromFileMessageRequest(parlor.FileMessageRequest{MediaID: media.MediaID})
		}},
	} {
		var message parlor.SendMessageRequest
		if err := draft.set(&message); err != nil {
			t.Fatal(err)
		}
		sent, err := client.SendRoomMessageWithResponse(ctx, id, message)
		reply := sent.JSON201
		if draft.kind == "command" || draft.kind == "barrage" { // not stored
			reply = sent.JSON202
		}
		if m := mustReply(t, err, reply).Message; m.Kind != draft.kind || (m.Seq != nil) != (reply == sent.JSON201) {
			t.Errorf("sent a message of kind %s: %+v", draft.kind, m)
		}
	}
	downloaded, err := client.DownloadMediaWithResponse(ctx, media.MediaID, name, nil)
	if err != nil || !bytes.Equal(downloaded.Body, file) {
		t.Errorf("downloaded %q, error %v", downloaded.Body, err)
	}

	refused, err := client.SendRoomMessageWithResponse(ctx, id, textMessage(t, "one too many"))
	if p := mustReply(t, err, refused.ApplicationproblemJSON429); p.Code != "too_many_messages" || *refused.Headers429.RetryAfter < 1 {
		t.Errorf("problem for one message too many is %+v", p)
	}
}

func textMessage(t *testing.T, text string) parlor.SendMessageRequest {
	t.Helper()
	var message parlor.SendMessageRequest
	if err := message.FromTextMessageRequest(parlor.TextMessageRequest{Text: text}); err != nil {
		t.Fatal(err)
	}
	return message
}

// mustReply returns the reply for the expected status, and stops the test if there is none.
func mustReply[T any](t *testing.T, err error, reply *T) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if reply == nil {
		t.Fatal("the reply has another status")
	}
	return *reply
}

func decode(t testing.TB, e event, want room.EventType, body any) {
	t.Helper()
	if e.Type != string(want) {
		t.Fatalf("got event %s, want %s", e.Type, want)
	}
	if err := json.Unmarshal(e.Data, body); err != nil {
		t.Fatal(err)
	}
}
