package parlor_test

import (
	"context"
	"fmt"

	parlor "parlor/clients/go"
)

// A user logs in, enters a room and sends a message.
func Example() {
	ctx := context.Background()
	userToken := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl" // signed by your backend

	client, err := parlor.NewClientWithResponses("https://chat.example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	login, err := client.CreateSessionWithResponse(ctx, parlor.CreateSessionRequest{Token: userToken})
	if err != nil {
		fmt.Println(err)
		return
	}
	if login.JSON201 == nil {
		fmt.Println("log in:", login.Status())
		return
	}
	key := parlor.Bearer(login.JSON201.SessionKey)

	entered, err := client.EnterRoomWithResponse(ctx, "class#1", parlor.EnterRoomRequest{}, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	if full := entered.ApplicationproblemJSON409; full != nil {
		fmt.Println(full.Code, full.Detail)
		return
	}

	var message parlor.SendMessageRequest
	if err := message.FromTextMessageRequest(parlor.TextMessageRequest{Text: "Good morning"}); err != nil {
		fmt.Println(err)
		return
	}
	sent, err := client.SendRoomMessageWithResponse(ctx, "class#1", message, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	if sent.JSON201 != nil {
		fmt.Println("sent as", *sent.JSON201.Message.Seq)
	}
}
