package room_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"parlor/room"
)

// message draws any message, including those that no rule accepts.
func message() *rapid.Generator[room.Message] {
	text := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[ -~]{1,20}`), rapid.String())
	return rapid.Custom(func(t *rapid.T) room.Message {
		m := room.Message{
			ID: room.MessageID(text.Draw(t, "messageID")), Room: room.RoomID(text.Draw(t, "roomID")), Peer: room.UserID(text.Draw(t, "userID")),
			Seq:    room.Seq(rapid.Int64().Draw(t, "seq")),
			Sender: room.User{ID: room.UserID(text.Draw(t, "sender")), Name: text.Draw(t, "userName")}, Priority: room.Priority(text.Draw(t, "priority")),
			ExtendedData: text.Draw(t, "extendedData"), ClientMessageID: text.Draw(t, "clientMessageID"),
			SentAt: room.Instant(rapid.Int64Range(0, 1e14).Draw(t, "sentAt")), Recalled: rapid.Bool().Draw(t, "recalled"),
			Content: room.Content{
				Kind: room.MessageKind(text.Draw(t, "kind")), Text: text.Draw(t, "text"),
				Title: text.Draw(t, "title"), Summary: text.Draw(t, "summary"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			},
		}
		for range rapid.IntRange(0, 3).Draw(t, "to") {
			m.To = append(m.To, room.UserID(text.Draw(t, "user")))
		}
		if rapid.Bool().Draw(t, "has a subType") {
			subType := rapid.Int().Draw(t, "subType")
			m.SubType = &subType
		}
		if rapid.Bool().Draw(t, "quotes") {
			m.MessageList = []room.Quoted{{Content: room.Content{Kind: room.KindText, Text: text.Draw(t, "quoted")}, Sender: m.Sender, SentAt: m.SentAt}}
		}
		if rapid.Bool().Draw(t, "has media") {
			m.Media = &room.Media{ID: room.MediaID(text.Draw(t, "mediaID")), FileName: text.Draw(t, "fileName"), Size: rapid.Int64().Draw(t, "size")}
		}
		return m
	})
}

// tagged has no methods, so that encoding/json uses its tags.
type tagged room.Message

// TestMessageJSONMatchesTags compares AppendJSON with encoding/json, byte by byte.
func TestMessageJSONMatchesTags(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := message().Draw(t, "message")
		want, err := json.Marshal(tagged(m))
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.AppendJSON([]byte("before"))
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("got %s, want %s: %v", got, want, err)
		}
	})
}

// TestEventJSON checks that an event's position and its body are in one JSON object.
func TestEventJSON(t *testing.T) {
	t.Parallel()
	m := room.Message{
		ID: "m1", Content: room.Content{Kind: room.KindText, Text: "hello"}, Sender: room.User{ID: "u"},
		Priority: room.PriorityLow, SentAt: 0,
	}
	const message = `{"messageID":"m1","kind":"text","text":"hello","sender":{"userID":"u","userName":""},"priority":"low","sentAt":"1970-01-01T00:00:00.000Z"}`
	for _, c := range []struct {
		event room.Event
		want  string
	}{
		{
			room.Event{Room: "a&b", Log: 7, Seq: 3, Body: room.MessagesReceived{MessageList: []room.Message{m, m}}},
			`{"roomID":"a\u0026b","generation":7,"seq":3,"messageList":[` + message + `,` + message + `]}`,
		},
		{
			room.Event{Room: "lobby", Log: 7, Body: room.MessagesReceived{MessageList: []room.Message{m}}},
			`{"roomID":"lobby","generation":7,"messageList":[` + message + `]}`,
		},
		{room.Event{Log: 7, Seq: 3, Body: room.PeerMessagesReceived{MessageList: []room.Message{m}}}, `{"seq":3,"messageList":[` + message + `]}`},
		{room.Event{Room: "lobby", Log: 7, Seq: 3, Body: room.RoomSeqAdvanced{}}, `{"roomID":"lobby","generation":7,"seq":3}`},
		{room.Event{Body: room.RoomSeqAdvanced{}}, `{}`},
		{room.Event{Body: room.TokenWillExpire{SecondsLeft: 30}}, `{"secondsLeft":30}`},
	} {
		if got, err := json.Marshal(c.event); err != nil || string(got) != c.want {
			t.Errorf("got %s, want %s: %v", got, c.want, err)
		}
	}
}

// BenchmarkMessageJSON compares the encoding of a message, which happens up to three times for each
// message, with encoding/json.
func BenchmarkMessageJSON(b *testing.B) {
	m := room.Message{
		ID: "01980000-0000-7000-8000-000000000000", Room: "lobby", Seq: 12, Content: room.Content{Kind: room.KindText, Text: "good morning, everybody"},
		Sender: room.User{ID: "user1", Name: "user1"}, Priority: room.PriorityMedium, SentAt: 1767225600123,
	}
	b.Run("appended", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = m.AppendJSON(buf[:0]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tagged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(tagged(m)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
