//go:build ignore

// This program drives the client that ogen generates, as scenario.ts does with others. It is copied
// next to the client, and the constraint above removed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"client"

	ht "github.com/ogen-go/ogen/http"
	"github.com/ogen-go/ogen/ogenerrors"
)

const (
	roomID = "gen#x?%"
	userID = "gen/ogen 100%"
)

// keys authenticates calls with the key of the session.
type keys struct{ session string }

func (k *keys) SessionKey(context.Context, client.OperationName) (client.SessionKey, error) {
	return client.SessionKey{Token: k.session}, nil
}

func (*keys) AdminToken(context.Context, client.OperationName) (client.AdminToken, error) {
	return client.AdminToken{}, ogenerrors.ErrSkipClientSecurity
}

func (*keys) StreamKey(context.Context, client.OperationName) (client.StreamKey, error) {
	return client.StreamKey{}, ogenerrors.ErrSkipClientSecurity
}

func (*keys) StreamTicket(context.Context, client.OperationName) (client.StreamTicket, error) {
	return client.StreamTicket{}, ogenerrors.ErrSkipClientSecurity
}

func main() {
	if err := drive(context.Background()); err != nil {
		slog.Error("the scenario failed", "error", err)
		os.Exit(1)
	}
}

// as returns a reply of one of the types that an operation can reply with.
func as[T any](reply any, err error) (T, error) {
	got, ok := reply.(T)
	if err == nil && !ok {
		err = fmt.Errorf("the reply is a %T: %+v", reply, reply)
	}
	return got, err
}

func drive(ctx context.Context) error {
	token, err := developmentToken()
	if err != nil {
		return err
	}
	k := &keys{}
	c, err := client.NewClient(os.Getenv("PARLOR_URL"), k)
	if err != nil {
		return err
	}
	session, err := as[*client.CreateSessionReply](c.CreateSession(ctx, &client.CreateSessionRequest{Token: client.Token(token)}))
	if err != nil {
		return err
	}
	k.session = session.SessionKey
	entered, err := as[*client.EnterRoomReplyHeaders](c.EnterRoom(ctx, client.OptEnterRoomRequest{}, client.EnterRoomParams{RoomID: roomID}))
	if err != nil {
		return err
	}
	if entered.Response.Room.RoomID != roomID {
		return fmt.Errorf("entered %+v", entered.Response.Room)
	}

	send := func(draft client.SendMessageRequest) (client.SendRoomMessageRes, error) {
		return c.SendRoomMessage(ctx, draft, client.SendRoomMessageParams{RoomID: roomID})
	}
	text := func(text string) client.SendMessageRequest {
		return client.NewTextMessageRequestSendMessageRequest(client.TextMessageRequest{Kind: "text", Text: client.MessageText(text)})
	}
	quoted := client.NewQuotedTextRequestQuotedMessageRequest(client.QuotedTextRequest{
		Kind: "text", Text: "Hi", Sender: client.SenderRequest{UserID: "bob", UserName: client.NewOptUserName("Bob")},
		SentAt: client.TimestampRequest(time.Now()),
	})
	for _, draft := range []client.SendMessageRequest{
		text("Good morning"),
		client.NewCustomMessageRequestSendMessageRequest(client.CustomMessageRequest{Kind: "custom", SubType: 7, Text: "{}"}),
		client.NewCombineMessageRequestSendMessageRequest(client.CombineMessageRequest{Kind: "combine", Title: "Earlier", MessageList: []client.QuotedMessageRequest{quoted}}),
	} {
		sent, err := as[*client.SendRoomMessageCreated](send(draft))
		if err != nil {
			return err
		}
		if string(sent.Message.Kind) != string(draft.Type) {
			return fmt.Errorf("sent %+v", sent.Message)
		}
	}
	for _, draft := range []client.SendMessageRequest{
		client.NewCommandMessageRequestSendMessageRequest(client.CommandMessageRequest{Kind: "command", Data: []byte{0, 1, 255}}),
		client.NewBarrageMessageRequestSendMessageRequest(client.BarrageMessageRequest{Kind: "barrage", Text: "+1"}),
	} {
		if _, err := as[*client.SendRoomMessageAccepted](send(draft)); err != nil {
			return err
		}
	}

	file := make([]byte, 1000)
	for i := range file {
		file[i] = byte(i)
	}
	uploaded, err := as[*client.MediaReply](c.UploadMedia(ctx,
		&client.UploadMediaReqMultipartFormData{File: ht.MultipartFile{Name: "a b.bin", File: bytes.NewReader(file)}}, client.UploadMediaParams{}))
	if err != nil {
		return err
	}
	media := uploaded.Media
	if media.Size != int64(len(file)) || media.FileName != "a b.bin" {
		return fmt.Errorf("uploaded %+v", media)
	}
	if _, err := as[*client.SendRoomMessageCreated](send(client.NewFileMessageRequestSendMessageRequest(
		client.FileMessageRequest{Kind: "file", MediaID: client.MediaIDRequest(media.MediaID)}))); err != nil {
		return err
	}
	downloaded, err := as[*client.DownloadMediaOKHeaders](c.DownloadMedia(ctx, client.DownloadMediaParams{MediaID: media.MediaID, FileName: media.FileName}))
	if err != nil {
		return err
	}
	if got, err := io.ReadAll(downloaded.Response); err != nil || !bytes.Equal(got, file) {
		return fmt.Errorf("downloaded %d bytes: %w", len(got), err)
	}

	var stored []string
	params := client.ListRoomMessagesParams{RoomID: roomID, Limit: client.NewOptInt(2)}
	for more := true; more; {
		page, err := as[*client.MessageListReply](c.ListRoomMessages(ctx, params))
		if err != nil {
			return err
		}
		for _, message := range page.MessageList {
			stored = append(stored, string(message.Kind))
		}
		more = page.NextCursor.Set
		params.Before = client.NewOptInt64(int64(page.NextCursor.Value))
	}
	slices.Sort(stored)
	if got := strings.Join(stored, " "); got != "combine custom file text" {
		return fmt.Errorf("the history has %s", got)
	}
	for _, params := range []client.ListMembersParams{
		{RoomID: roomID, Limit: client.NewOptInt(5)},
		{RoomID: roomID, UserID: []client.UserID{userID, "nobody & 100%"}},
	} {
		members, err := as[*client.MemberListReply](c.ListMembers(ctx, params))
		if err != nil {
			return err
		}
		if list := members.MemberList; len(list) != 1 || list[0].UserID != userID {
			return fmt.Errorf("the members are %+v", list)
		}
	}

	i := -1
	for poll := (client.StreamEventsParams{Wait: client.NewOptInt(5)}); i < 0; {
		polled, err := as[*client.PollReplyHeaders](c.StreamEvents(ctx, poll))
		if err != nil {
			return err
		}
		events := polled.Response.Events
		if len(events) == 0 {
			return fmt.Errorf("no events arrive")
		}
		i = slices.IndexFunc(events, func(e client.StreamEvent) bool { return e.Event == "roomMessageReceived" })
		if i >= 0 && events[i].OneOf.RoomMessageReceivedFrame.Data.MessageList[0].OneOf.TextContent.Text.Value != "Good morning" {
			return fmt.Errorf("the events are %+v", events)
		}
		poll.LastEventID = polled.Response.Cursor
	}

	conflict, err := as[*client.CreateRoomConflict](c.CreateRoom(ctx, &client.CreateRoomRequest{RoomID: roomID}))
	if err != nil {
		return err
	}
	if conflict.Code != "room_exists" {
		return fmt.Errorf("creating the room again: %+v", conflict)
	}
	for range 40 {
		reply, err := send(text("again"))
		if err != nil {
			return err
		}
		if refused, ok := reply.(*client.TooManyMessagesHeaders); ok {
			if refused.Response.Code != "too_many_messages" || refused.RetryAfter.Value < 1 {
				return fmt.Errorf("refused with %+v", refused)
			}
			return nil
		}
	}
	return fmt.Errorf("no message was refused")
}

func developmentToken() (string, error) {
	body, err := json.Marshal(map[string]string{"userID": userID})
	if err != nil {
		return "", err
	}
	response, err := http.Post(os.Getenv("PARLOR_URL")+"/dev/token", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var reply struct {
		Token string `json:"token"`
	}
	err = json.NewDecoder(response.Body).Decode(&reply)
	return reply.Token, err
}
