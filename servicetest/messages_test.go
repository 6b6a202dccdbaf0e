package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestMessageArrivesUnchanged(t *testing.T) {
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
		history := listMessages(alice, "lobby", "?limit=1")
		if !cmp.Equal(history.MessageList, []room.Message{sent}) {
			t.Errorf("%.20q is in the history as %+v", text, history.MessageList)
		}
	}
	if m := alice.send("lobby", "x"); m.Priority != room.PriorityMedium || m.Kind != room.KindText {
		t.Errorf("without a priority it is %+v", m)
	}
}

func TestSendRetry(t *testing.T) {
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
			t.Errorf("reply to the retry is %+v", again)
		}
	}
	for _, other := range []object{{"text": "other"}, {"priority": "low"}, {"extendedData": "x"}} {
		send(alice, other).refused(http.StatusConflict, "client_message_id_reused")
	}
	if bobMessage := message(send(bob, nil).is(http.StatusCreated)); bobMessage.ID == first.ID {
		t.Error("another sender's message with the same ID was taken for a retry")
	}
	bob.send("lobby", "end")
	if got := []string{stream.text(), stream.text(), stream.text()}; !slices.Equal(got, []string{"once", "once", "end"}) {
		t.Errorf("received messages are %q", got)
	}
	// A sender who has left the room does not get the reply of the stored message.
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

func listMessages(c *client, id room.RoomID, query string) messagePage {
	c.Helper()
	return as[messagePage](c.call("GET", roomPath(id, "/messages"+query), nil).is(http.StatusOK))
}

// TestHistory reads a log that has other events between the messages.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	if p := listMessages(alice, "lobby", ""); p.MessageList == nil || len(p.MessageList) != 0 || p.NextCursor != 0 {
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
	whole := listMessages(alice, "lobby", "")
	if whole.texts() != strings.Join(all, " ") || whole.NextCursor != 0 {
		t.Errorf("the history is %s, next %d", whole.texts(), whole.NextCursor)
	}
	for limit := 1; limit <= 13; limit++ {
		var back, forth []room.Message
		for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d", limit); cursor != 0; {
			page := listMessages(alice, "lobby", query)
			back = append(page.MessageList, back...)
			cursor = page.NextCursor
			query = fmt.Sprintf("?limit=%d&before=%d", limit, cursor)
		}
		for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d&after=0", limit); cursor != 0; {
			page := listMessages(alice, "lobby", query)
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
		if got := listMessages(alice, "lobby", query).texts(); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

// TestHistoryByTime checks that pages contain only messages within the given times, and that paging
// works as without them.
func TestHistoryByTime(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	alice := s.loginWith(s.token("alice", 24*time.Hour))
	alice.enter("lobby")
	var sent []room.Message
	for i := range 9 {
		sent = append(sent, alice.send("lobby", fmt.Sprint(i)))
		clock.advance(time.Hour)
	}
	at := func(i int) string { return url.QueryEscape(sent[i].SentAt.String()) }
	elsewhere := url.QueryEscape(sent[3].SentAt.Time().In(time.FixedZone("", 5*60*60)).Format(time.RFC3339Nano))
	third, second, fifth := at(3), at(2), at(5)
	for _, c := range [][2]string{
		{"?from=" + third, "3 4 5 6 7 8"},
		{"?from=" + elsewhere + "&limit=2", "7 8"},
		{"?from=" + elsewhere + "&after=0", "3 4 5 6 7 8"},
		{"?until=" + third, "0 1 2"},
		{"?from=" + second + "&until=" + fifth, "2 3 4"},
		{"?until=9999-12-31T23:59:59Z&limit=1", "8"},
		{"?from=9999-12-31T23:59:59Z", ""},
		{"?until=1000-01-01T00:00:00Z", ""},
		{fmt.Sprintf("?from=%s&until=%s&before=%d", second, at(7), sent[5].Seq), "2 3 4"},
		{fmt.Sprintf("?from=%s&until=%s&after=%d", second, at(7), sent[5].Seq), "6"},
	} {
		query, want := c[0], c[1]
		if got := listMessages(alice, "lobby", query).texts(); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	span := "?limit=2&from=" + at(1) + "&until=" + at(8)
	var back, forth []string
	for cursor, query := room.Seq(1), span; cursor != 0; query = fmt.Sprintf("%s&before=%d", span, cursor) {
		page := listMessages(alice, "lobby", query)
		back = append([]string{page.texts()}, back...)
		cursor = page.NextCursor
	}
	for cursor, query := room.Seq(1), span+"&after=0"; cursor != 0; query = fmt.Sprintf("%s&after=%d", span, cursor) {
		page := listMessages(alice, "lobby", query)
		forth = append(forth, page.texts())
		cursor = page.NextCursor
	}
	if !slices.Equal(back, []string{"1", "2 3", "4 5", "6 7"}) || !slices.Equal(forth, []string{"1 2", "3 4", "5 6", "7"}) {
		t.Errorf("backwards %q, forwards %q", back, forth)
	}
}

// TestHistoryStartsAtJoin checks that in a room with historyVisible "sinceJoined" no query returns
// messages from before the member entered, and that the member's second session does not change
// this.
func TestHistoryStartsAtJoin(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": object{"historyVisible": "sinceJoined"}}).is(http.StatusCreated)
	before := alice.send("lobby", "before")
	stream, _ := bob.listen()
	bob.enter("lobby")
	if p := listMessages(bob, "lobby", ""); len(p.MessageList) != 0 || p.NextCursor != 0 {
		t.Errorf("bob's first page is %+v", p)
	}
	skipTo[room.RoomStateChanged](stream)
	alice.send("lobby", "one")
	bob.send("lobby", "two")
	phone := s.login("bob")
	phone.enter("lobby")
	since := url.QueryEscape(before.SentAt.Time().Add(-time.Hour).Format(time.RFC3339))
	for _, c := range []*client{bob, phone} {
		for _, query := range []string{"", "?after=0", "?before=9007199254740991", "?from=" + since, "?after=0&from=" + since, fmt.Sprintf("?after=%d", before.Seq-1), "?limit=2", "?limit=2&after=0"} {
			if p := listMessages(c, "lobby", query); p.texts() != "one two" || p.NextCursor != 0 {
				t.Errorf("%s: bob reads %q, next cursor %d", query, p.texts(), p.NextCursor)
			}
		}
		if p := listMessages(c, "lobby", fmt.Sprintf("?before=%d", before.Seq+1)); len(p.MessageList) != 0 {
			t.Errorf("bob reads %q", p.texts())
		}
	}
	if got := listMessages(alice, "lobby", "").texts(); got != "before one two" {
		t.Errorf("alice reads %q", got)
	}
	// A cursor that the server did not issue does not reveal more.
	stream.disconnect()
	generation := bob.enter("lobby").Generation
	again, _ := bob.listen(resume(strconv.FormatInt(int64(generation), 36) + ":0"))
	if got := skipTo[room.MessagesReceived](again).MessageList[0].Text; got != "one" {
		t.Errorf("bob's stream begins with %q", got)
	}
	// A user who enters again is a new member.
	bob.leave("lobby")
	phone.leave("lobby")
	bob.enter("lobby")
	alice.send("lobby", "three")
	if got := listMessages(bob, "lobby", "").texts(); got != "three" {
		t.Errorf("after entering again, bob reads %q", got)
	}
}

// TestAdminHistory checks that admins read everything that is stored, by page, seq and ID.
func TestAdminHistory(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, admin := s.login("alice"), s.login("bob"), s.admin()
	admin.call("POST", "/v1/admin/rooms", object{"roomID": "lobby", "config": object{"history": "none", "historyVisible": "sinceJoined"}}).is(http.StatusCreated)
	alice.enter("lobby")
	first := alice.send("lobby", "1")
	bob.enter("lobby")
	private := message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "2", "to": []string{"alice"}}).is(http.StatusCreated))
	bob.send("lobby", "3")
	list := func(query string) messagePage {
		t.Helper()
		return as[messagePage](admin.call("GET", "/v1/admin/rooms/lobby/messages"+query, nil).is(http.StatusOK))
	}
	for query, want := range map[string]string{
		"":                                 "1 2 3",
		"?limit=2":                         "2 3",
		"?after=0&limit=2":                 "1 2",
		fmt.Sprint("?after=", private.Seq): "3",
		fmt.Sprintf("?seq=%d&seq=%d", private.Seq, first.Seq):             "1 2",
		fmt.Sprintf("?messageID=%s&messageID=%s", private.ID, private.ID): "2",
		"?from=2999-01-01T00:00:00Z":                                      "",
	} {
		if got := list(query).texts(); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	if page := list("?limit=2"); page.NextCursor != private.Seq {
		t.Errorf("the next page begins at %d", page.NextCursor)
	}
	admin.call("GET", "/v1/admin/rooms/none/messages", nil).refused(http.StatusNotFound, "room_not_found")
	admin.call("GET", "/v1/admin/rooms/lobby/messages?limit=101", nil).invalid("query/limit", "range")
	alice.call("GET", "/v1/admin/rooms/lobby/messages", nil).is(http.StatusUnauthorized)
}
