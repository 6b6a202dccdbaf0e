package handlers_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestMessageArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	for _, text := range []string{
		"plain", " ", "line\nbreak\r\nand\ttab", "data: x\n\nevent: forged\n\n", `quotes " and \ and /`, "</script>&amp;",
		"ünïcödé 漢字 🎉", "\u2028\u2029\ufeff\u200b", "\x01\x1b\x7f", strings.Repeat("🎉", 32<<10/4),
	} {
		extended := string([]rune(text)[:1])
		sent := message(alice.call("POST", roomPath("lobby", "/messages"), object{
			"kind": "text", "text": text, "priority": "high", "extendedData": extended, "clientMessageID": fmt.Sprint(len(text)),
		}).is(http.StatusCreated))
		if sent.Text != text || sent.Priority != room.PriorityHigh || sent.ExtendedData != extended ||
			sent.ClientMessageID != fmt.Sprint(len(text)) || sent.Sender != (room.User{ID: "alice", Name: "alice"}) {
			t.Errorf("%.20q is stored as %+v", text, sent)
		}
		if got := expect[room.MessagesReceived](stream).MessageList[0]; !cmp.Equal(got, sent) {
			t.Errorf("%.20q arrives as %+v", text, got)
		}
		history := list(alice, "lobby", "?limit=1")
		if !cmp.Equal(history.MessageList, []room.Message{sent}) {
			t.Errorf("%.20q is in the history as %+v", text, history.MessageList)
		}
	}
	if m := alice.send("lobby", "x"); m.Priority != room.PriorityMedium || m.Kind != room.KindText {
		t.Errorf("without a priority it is %+v", m)
	}
}

func TestSendingAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	stream, _ := bob.listen()
	send := func(c *client, change object) reply {
		t.Helper()
		body := object{"kind": "text", "text": "once", "clientMessageID": "1"}
		for k, v := range change {
			body[k] = v
		}
		return c.call("POST", roomPath("lobby", "/messages"), body)
	}
	first := message(send(alice, nil).is(http.StatusCreated))
	for range 3 {
		if again := message(send(alice, nil).is(http.StatusCreated)); !cmp.Equal(first, again) {
			t.Errorf("sent again it is %+v", again)
		}
	}
	for _, other := range []object{{"text": "other"}, {"priority": "low"}, {"extendedData": "x"}} {
		send(alice, other).refused(http.StatusConflict, "client_message_id_reused")
	}
	if his := message(send(bob, nil).is(http.StatusCreated)); his.ID == first.ID {
		t.Error("another sender's ID is taken for a repetition")
	}
	bob.send("lobby", "end")
	if got := []string{stream.text(), stream.text(), stream.text()}; !slices.Equal(got, []string{"once", "once", "end"}) {
		t.Errorf("what arrives is %q", got)
	}
	// Whoever was out meanwhile is not answered from before.
	alice.leave("lobby")
	send(alice, nil).refused(http.StatusConflict, "not_in_room")
}

type messagePage struct {
	MessageList []room.Message
	NextCursor  room.Seq
}

func (p messagePage) texts() string {
	var texts []string
	for _, m := range p.MessageList {
		texts = append(texts, m.Text)
	}
	return strings.Join(texts, " ")
}

func list(c *client, id room.RoomID, query string) messagePage {
	c.Helper()
	return as[messagePage](c.call("GET", roomPath(id, "/messages"+query), nil).is(http.StatusOK))
}

// TestHistory goes through a log that has other events between the messages.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	if p := list(alice, "lobby", ""); p.MessageList == nil || len(p.MessageList) != 0 || p.NextCursor != 0 {
		t.Errorf("the empty history is %+v", p)
	}
	var all []string
	for i := 1; i <= 12; i++ {
		if i%4 == 0 {
			bob.enter("lobby")
			bob.leave("lobby")
		}
		alice.send("lobby", fmt.Sprint(i))
		all = append(all, fmt.Sprint(i))
	}
	whole := list(alice, "lobby", "")
	if whole.texts() != strings.Join(all, " ") || whole.NextCursor != 0 {
		t.Errorf("the history is %s, next %d", whole.texts(), whole.NextCursor)
	}
	for limit := 1; limit <= 13; limit++ {
		var back, forth []room.Message
		for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d", limit); cursor != 0; {
			page := list(alice, "lobby", query)
			back = append(page.MessageList, back...)
			cursor = page.NextCursor
			query = fmt.Sprintf("?limit=%d&before=%d", limit, cursor)
		}
		for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d&after=0", limit); cursor != 0; {
			page := list(alice, "lobby", query)
			forth = append(forth, page.MessageList...)
			cursor = page.NextCursor
			query = fmt.Sprintf("?limit=%d&after=%d", limit, cursor)
		}
		if diff := cmp.Diff(whole.MessageList, back); diff != "" {
			t.Errorf("backwards in pages of %d:\n%s", limit, diff)
		}
		if diff := cmp.Diff(whole.MessageList, forth); diff != "" {
			t.Errorf("forwards in pages of %d:\n%s", limit, diff)
		}
	}
	middle := whole.MessageList[5].Seq
	for query, want := range map[string]string{
		fmt.Sprintf("?before=%d&limit=2", middle):                    "4 5",
		fmt.Sprintf("?after=%d&limit=2", middle):                     "7 8",
		"?before=1":                                                  "",
		"?after=9007199254740991":                                    "",
		"?before=9007199254740991&limit=3":                           "10 11 12",
		fmt.Sprintf("?after=%d&limit=100", whole.MessageList[9].Seq): "11 12",
	} {
		if got := list(alice, "lobby", query).texts(); got != want {
			t.Errorf("%s: %q, and not %q", query, got, want)
		}
	}
}
