// Command backend-go is what the backend of an application does for Parlor: it signs the tokens of
// its users, and follows the feed of all rooms.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	parlor "parlor/clients/go"
)

// passwords are those of the users. Your backend has a login of its own.
var passwords = map[string]string{"alice": "alice-demo", "bob": "bob-demo", "bot": "bot-demo"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if os.Getenv("PARLOR_SECRET") == "" {
		slog.Error("PARLOR_SECRET is not set")
		os.Exit(1)
	}
	http.HandleFunc("POST /token", replyToken)
	go func() {
		slog.Error("listen", "error", http.ListenAndServe("127.0.0.1:"+setting("LISTEN_PORT", "3000"), nil))
		stop()
	}()
	if err := follow(ctx, setting("CURSOR_FILE", "feed-cursor")); err != nil && ctx.Err() == nil {
		slog.Error("the feed has ended", "error", err)
		os.Exit(1)
	}
}

// replyToken replies with a token for the user who has logged in.
func replyToken(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if want, known := passwords[user]; !known || !hmac.Equal([]byte(password), []byte(want)) {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "Log in first.", http.StatusUnauthorized)
		return
	}
	token := sign(os.Getenv("PARLOR_SECRET"), map[string]any{
		"sub": user, "exp": time.Now().Add(time.Hour).Unix(),
		"rooms": []any{map[string]any{"roomID": "class-*", "create": true, "join": true, "send": true}},
	})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token}) // a client that is gone needs no token
}

// sign returns a JWT. The claims are described in docs/tokens.md.
func sign(secret string, claims map[string]any) string {
	encoded, err := json.Marshal(claims)
	if err != nil {
		panic(err) // strings, numbers, lists and maps always have a JSON form
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(encoded)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// asAdmin authenticates a request with a token of its own, so that none is too old.
func asAdmin(_ context.Context, r *http.Request) error {
	secret := setting("PARLOR_ADMIN_SECRET", os.Getenv("PARLOR_SECRET"))
	token := sign(secret, map[string]any{"sub": "backend-go", "scope": "admin", "exp": time.Now().Add(10 * time.Minute).Unix()})
	return parlor.Bearer(token)(context.Background(), r)
}

// follow handles the events of all rooms. It continues after the event whose ID is in the file.
func follow(ctx context.Context, cursorFile string) error {
	client, err := parlor.NewClientWithResponses(setting("PARLOR_URL", "http://127.0.0.1:8080"))
	if err != nil {
		return err
	}
	cursor, err := os.ReadFile(cursorFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	options := parlor.FollowOptions{LastEventID: string(cursor), OnLost: func(reason error, retryIn time.Duration) {
		slog.Warn("the feed is lost", "reason", reason, "retryIn", retryIn)
	}}
	for event, err := range client.FollowAdminEvents(ctx, options, nil, asAdmin) {
		if err != nil {
			return err
		}
		if err := handle(event); err != nil {
			return err
		}
		if event.Id == nil {
			continue
		}
		// After a crash before the next line, the event arrives again. A handler that writes to a
		// database stores the ID in the same transaction, and so handles each event once.
		if err := os.WriteFile(cursorFile+".new", []byte(*event.Id), 0o600); err != nil {
			return err
		}
		if err := os.Rename(cursorFile+".new", cursorFile); err != nil { // the file is never half written
			return err
		}
	}
	return nil
}

// handle prints who joins, leaves and writes.
func handle(event parlor.FeedEvent) error {
	switch event.Event {
	case "feedReady":
		ready, err := event.AsFeedReadyFrame()
		if err != nil {
			return err
		}
		if reason := ready.Data.Reason; reason != nil {
			fmt.Println("events are missing:", *reason) // read the rooms again, with adminListRooms
		}
	case "roomMemberJoined":
		joined, err := event.AsRoomMemberJoinedFrame()
		if err != nil {
			return err
		}
		for _, member := range joined.Data.MemberList {
			fmt.Printf("%s: %s joined\n", joined.Data.RoomID, member.UserID)
		}
	case "roomMemberLeft":
		left, err := event.AsRoomMemberLeftFrame()
		if err != nil {
			return err
		}
		for _, member := range left.Data.MemberList {
			fmt.Printf("%s: %s left: %s\n", left.Data.RoomID, member.UserID, member.Reason)
		}
	case "roomMessageReceived":
		received, err := event.AsRoomMessageReceivedFrame()
		if err != nil {
			return err
		}
		for _, message := range received.Data.MessageList {
			if message.Kind != "text" {
				continue
			}
			content, err := message.AsTextContent()
			if err != nil {
				return err
			}
			if content.Text != nil { // a message that was recalled has none
				fmt.Printf("%s: %s: %s\n", received.Data.RoomID, message.Sender.UserID, *content.Text)
			}
		}
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
