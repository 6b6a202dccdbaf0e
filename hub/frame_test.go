package hub

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestFrameBytes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.May, 4, 3, 2, 1, 0, time.UTC)
	f, err := encodeEvent(room.Event{Room: "lobby", Log: 7, Seq: 40, At: at, Body: room.MembersJoined{
		MemberList: []room.Member{{User: room.User{ID: "alice", Name: "Alice"}, JoinedAt: room.InstantOf(at)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := "event: roomMemberJoined\n" +
		`data: {"roomID":"lobby","generation":7,"seq":40,"memberList":[{"userID":"alice","userName":"Alice","joinedAt":"2026-05-04T03:02:01.000Z"}]}` +
		"\n\n"
	if diff := cmp.Diff(want, string(f.data)); diff != "" {
		t.Errorf("an event of a log (-want +got):\n%s", diff)
	}
	if f.log != 7 || f.seq != 40 || !f.carriesID {
		t.Errorf("seq %d of log %d, carries an id: %t", f.seq, f.log, f.carriesID)
	}
	hidden, err := encodeEvent(room.Event{Room: "lobby", Log: 7, Seq: 41, At: at, Body: room.MessageRecalled{
		MessageID: "m", RecalledSeq: 40, Audience: []room.UserID{"alice", "bob"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[room.UserID]string{
		"alice": "event: messageRecalled\n" + `data: {"roomID":"lobby","generation":7,"seq":41,"messageID":"m","recalledSeq":40,"audience":["alice","bob"]}` + "\n\n",
		"al":    "event: roomSeqAdvanced\n" + `data: {"roomID":"lobby","generation":7,"seq":41}` + "\n\n",
	} {
		if diff := cmp.Diff(want, string(hidden.dataFor(user))); diff != "" {
			t.Errorf("%s's data (-want +got):\n%s", user, diff)
		}
	}
	want = "event: tokenWillExpire\ndata: {\"secondsLeft\":30}\n\n"
	if diff := cmp.Diff(want, string(encodeBody(room.TokenWillExpire{SecondsLeft: 30}).data)); diff != "" {
		t.Errorf("an event of a stream (-want +got):\n%s", diff)
	}
}

// TestFramesThatAreRefused checks that a frame for some users is parsed exactly or not at all.
func TestFramesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"7 3 0 0 1 1 4\nxya\nb\n", true},
		{"7 0 0 0 1 0 4\nxa\nb\n", true},
		{"7 3 0 0 1 0 4\nxa\nb\n", false},                    // nothing for others, who need the position
		{"7 0 0 0 1 1 4\nxya\nb\n", false},                   // something for others without a position
		{"7 3 0 0 1 1 0\nxy", false},                         // something for others, and no users
		{"7 3 0 0 1 1 4\nxyb\na\n", false},                   // not in order
		{"7 3 0 0 1 1 4\nxya\na\n", false},                   // twice
		{"7 3 0 0 1 1 3\nxya\nb\n", false},                   // half a line
		{"7 3 0 0 1 1 5\nxya\nb\n", false},                   // too short
		{"7 3 0 0 1 9223372036854775807 4\nxya\nb\n", false}, // far too short
		{"7 3 0 0 1\nx", false},                              // without an audience, as before it existed
		{"7 3 0 0 1 1 -4\nxya\nb\n", false},
		{"7 3 9 0 1 1 4\nxya\nb\n", false},
		{"7 3 0 0\n", false},
		{"", false},
	} {
		if f, _, err := ParseFrame([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%q is %+v, error %v", c.text, f, err)
		}
	}
}

// TestKeptFrames checks that a frame that is kept does not change with the packet that it was in.
func TestKeptFrames(t *testing.T) {
	t.Parallel()
	packet := []byte("7 3 0 0 4 6 4\ndataothersa\nb\n")
	f, _, err := ParseFrame(packet)
	if err != nil {
		t.Fatal(err)
	}
	kept := cloneFrames([]*Frame{f})[0]
	clear(packet)
	for user, want := range map[room.UserID]string{"a": "data", "b": "data", "c": "others"} {
		if got := string(kept.dataFor(user)); got != want {
			t.Errorf("%s receives %q, want %q", user, got, want)
		}
	}
}

// TestBodiesThatCarryAnID checks which events carry an id: those of a log, and those that set the
// cursor or change which logs it contains, because clients resume from the last id that they
// received.
func TestBodiesThatCarryAnID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body room.Body
		id   bool
	}{
		{room.SessionReady{}, true},
		{room.RoomReset{}, true},
		{room.ConnectionStateChanged{}, false},
		{room.RoomStateChanged{}, true},
		{room.TokenWillExpire{}, false},
		{room.Reconnect{}, false},
	} {
		if got := encodeBody(c.body).carriesID; got != c.id {
			t.Errorf("%s has an id: %t", c.body.Type(), got)
		}
	}
}

// FuzzFrame checks that no text of a user can escape from the data of its event.
func FuzzFrame(f *testing.F) {
	for _, text := range []string{
		"hello", "", "a\nb", "a\r\nb", "\r", "\n\n", "\u2028\u2029\u0085", "\v\f\x1c\x1d\x1e", "\x00", "\xff\xfe", "<script>&",
		"\n\nevent: roomMessageReceived\ndata: {}\n\n", "\nid: 1:1\n", "\nretry: 1\n", "\n:\n", "\ufeff",
	} {
		f.Add(text, "lobby")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		event := room.Event{Room: room.RoomID(name), Log: 3, Seq: 9, Body: room.MessagesReceived{
			MessageList: []room.Message{{
				ID: room.MessageID(name), Room: room.RoomID(name), Content: room.Content{Kind: room.KindText, Text: text},
				Sender: room.User{ID: room.UserID(name), Name: text}, ExtendedData: text, ClientMessageID: name,
			}},
		}}
		frame, err := encodeEvent(event)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		refused := room.RoomStateChanged{
			RoomID: room.RoomID(name), State: room.RoomDisconnected, Event: room.RoomEnterFailed,
			Error: &room.Problem{Code: name, Detail: text},
		}
		refusedData, err := json.Marshal(refused)
		if err != nil {
			t.Fatal(err)
		}
		want := []sseMessage{
			{ID: "3:9", Event: "roomMessageReceived", Data: string(OneLine(data))},
			{Event: "roomStateChanged", Data: string(OneLine(refusedData))},
		}

		var r sseReader
		r.write([]byte("id: 3:9\n"))
		r.write(frame.data)
		r.write(encodeBody(refused).data)
		if diff := cmp.Diff(want, r.messages); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if len(r.line) > 0 || len(r.invalid) > 0 || r.comments > 0 || r.retry != 0 || r.lastID != "3:9" {
			t.Fatalf("the stream has more than the events: %+v", r)
		}
		var got struct{ MessageList []room.Message }
		if err := json.Unmarshal([]byte(r.messages[0].Data), &got); err != nil {
			t.Fatal(err)
		}
		// JSON has no bytes that are not UTF-8: each becomes U+FFFD.
		if valid := string([]rune(text)); got.MessageList[0].Text != valid {
			t.Fatalf("%q was decoded as %q", valid, got.MessageList[0].Text)
		}
		// Some readers break lines at all of these.
		for _, m := range r.messages {
			if strings.ContainsAny(m.Data, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029") {
				t.Fatalf("the data is more than one line: %+q", m.Data)
			}
		}
	})
}
