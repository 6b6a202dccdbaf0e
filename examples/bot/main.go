// Command bot is a user who answers the messages in a room.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"time"

	parlor "parlor/clients/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := parlor.NewClientWithResponses(setting("PARLOR_URL", "http://127.0.0.1:8080"))
	if err == nil {
		err = (&bot{client: client, room: setting("ROOM", "class-1")}).run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		slog.Error("the bot has ended", "error", err)
		os.Exit(1)
	}
}

type bot struct {
	client  *parlor.ClientWithResponses
	room    string
	session *parlor.CreateSessionReply
	key     parlor.RequestEditorFn
}

// run logs in and answers messages until the session ends, and logs in again if only its token has
// expired.
func (b *bot) run(ctx context.Context) error {
	for {
		err := call(ctx, "log in", func(ctx context.Context) (response, error) {
			token, err := userToken(ctx)
			if err != nil {
				return nil, err
			}
			login, err := b.client.CreateSessionWithResponse(ctx, parlor.CreateSessionRequest{Token: token})
			if err != nil {
				return nil, err
			}
			b.session = login.JSON201
			return login, nil
		})
		if err != nil {
			return err
		}
		b.key = parlor.Bearer(b.session.SessionKey)
		if again, err := b.follow(ctx); err != nil || !again {
			return err
		}
	}
}

// follow handles the events of the session until it ends, and reports whether to log in again.
func (b *bot) follow(ctx context.Context) (again bool, err error) {
	options := parlor.FollowOptions{OnLost: func(reason error, retryIn time.Duration) {
		slog.Warn("the stream is lost", "reason", reason, "retryIn", retryIn)
	}}
	for event, err := range b.client.FollowEvents(ctx, options, b.key) {
		var refused *parlor.RefusedError
		if errors.As(err, &refused) && refused.Problem.Code == "token_expired" { // while the stream was lost
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if event.Event == "connectionStateChanged" {
			ended, err := event.AsConnectionStateChangedFrame()
			fmt.Println("the session has ended:", ended.Data.Event)
			return ended.Data.Event == "tokenExpired", err
		}
		if err := b.handle(ctx, event); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (b *bot) handle(ctx context.Context, event parlor.StreamEvent) error {
	switch event.Event {
	case "sessionReady": // at first, and again after each loss of the stream
		ready, err := event.AsSessionReadyFrame()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ready.Data.Rooms, func(r parlor.Room) bool { return r.RoomID == b.room }) {
			return nil
		}
		return call(ctx, "enter the room", func(ctx context.Context) (response, error) {
			return b.client.EnterRoomWithResponse(ctx, b.room, parlor.EnterRoomRequest{}, b.key)
		})
	case "tokenWillExpire":
		return call(ctx, "renew the token", func(ctx context.Context) (response, error) {
			token, err := userToken(ctx)
			if err != nil {
				return nil, err
			}
			return b.client.RenewTokenWithResponse(ctx, parlor.RenewTokenRequest{Token: token}, b.key)
		})
	case "roomMessageReceived":
		received, err := event.AsRoomMessageReceivedFrame()
		if err != nil {
			return err
		}
		for _, message := range received.Data.MessageList {
			if message.Kind != "text" || message.Sender.UserID == b.session.UserID {
				continue
			}
			if err := b.answer(ctx, message); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bot) answer(ctx context.Context, message parlor.Message) error {
	content, err := message.AsTextContent()
	if err != nil || content.Text == nil { // a message that was recalled has no text
		return err
	}
	id := "answer-" + message.MessageID.String() // a call that is repeated with it stores no second message
	var request parlor.SendMessageRequest
	if err := request.FromTextMessageRequest(parlor.TextMessageRequest{Text: "You said: " + *content.Text, ClientMessageID: &id}); err != nil {
		return err
	}
	return call(ctx, "send a message", func(ctx context.Context) (response, error) {
		return b.client.SendRoomMessageWithResponse(ctx, b.room, request, b.key)
	})
}

// response is what the responses of all calls have in common.
type response interface {
	StatusCode() int
	GetBody() []byte
}

// call makes a call, and repeats it while there is no response or the server asks to wait: each call
// of the bot is safe to repeat.
func call(ctx context.Context, name string, do func(context.Context) (response, error)) error {
	attempt := func() (response, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return do(ctx)
	}
	for {
		r, err := attempt()
		switch {
		case err != nil:
			slog.Warn("a call failed", "call", name, "error", err)
		case r.StatusCode() < 300:
			return nil
		case r.StatusCode() != http.StatusTooManyRequests && r.StatusCode() < 500:
			return fmt.Errorf("%s: %d %s", name, r.StatusCode(), r.GetBody())
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// userToken asks the backend for a token. TOKEN_URL may contain a name and a password.
func userToken(ctx context.Context) (string, error) {
	body := []byte(`{"userID":"bot"}`) // a server in development mode asks; a backend knows its users
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, setting("TOKEN_URL", "http://127.0.0.1:8080/dev/token"), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("the backend gives no token: %s", response.Status)
	}
	var reply struct {
		Token string `json:"token"`
	}
	err = json.NewDecoder(response.Body).Decode(&reply)
	return reply.Token, err
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
