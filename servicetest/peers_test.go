package servicetest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/handlers"
	"parlor/room"
)

func peerPath(user room.UserID) string {
	return "/v1/users/" + url.PathEscape(string(user)) + "/messages"
}

// sendTo sends a text to a user.
func (c *client) sendTo(to room.UserID, text string) room.Message {
	c.Helper()
	return message(c.call("POST", peerPath(to), object{"kind": "text", "text": text}).is(http.StatusCreated))
}

// peerMessage expects an event with one message between users, and returns the message.
func (s *stream) peerMessage() room.Message {
	s.t.Helper()
	received := expect[room.PeerMessagesReceived](s)
	if len(received.MessageList) != 1 || received.MessageList[0].Seq != s.seq() {
		s.t.Fatalf("got %s, want one message", s.last.Data)
	}
	return received.MessageList[0]
}

// expectNoMore requires that the session has no more events in flight.
func (s *stream) expectNoMore(c *client) {
	s.t.Helper()
	c.fence()
	expect[room.RoomStateChanged](s)
	if begins := s.last; !fenceBegins(begins) {
		s.t.Errorf("unexpected event %s", begins.Data)
	}
	expect[room.RoomStateChanged](s)
}

// TestPeerMessagesReachAllSessions checks that messages of each kind, at its limits, reach all
// sessions of the sender and the receiver, and no other users.
func TestPeerMessagesReachAllSessions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, phone, bob, tablet, carol := s.login("alice"), s.login("alice"), s.login("bob"), s.login("bob"), s.login("carol")
	carol.sendTo("bob", "so that the numbers differ")
	streams := map[room.UserID][]*stream{}
	for _, c := range []*client{alice, phone, bob, tablet, carol} {
		stream, ready := c.listen()
		if ready.Resumed || len(ready.Rooms) != 0 {
			t.Errorf("the stream of %s begins with %+v", c.UserID, ready)
		}
		streams[c.UserID] = append(streams[c.UserID], stream)
	}
	for _, stream := range slices.Concat(streams["bob"], streams["carol"]) {
		if m := stream.peerMessage(); m.Seq != 1 {
			t.Errorf("first message is %+v", m)
		}
	}
	for i, fields := range []object{
		{"kind": "text", "text": "x", "priority": "high", "extendedData": "ext", "clientMessageID": "1"},
		{"kind": "text", "text": strings.Repeat("é", 16384)},
		{"kind": "command", "data": base64.StdEncoding.EncodeToString(slices.Repeat([]byte{0, 255}, 2560))},
		{"kind": "custom", "text": strings.Repeat("é", 16384), "subType": 200},
		{"kind": "combine", "title": strings.Repeat("é", 128), "summary": "s", "messageList": quotes(100)},
		{"kind": "command", "data": "AA==", "priority": "low"},
		{"kind": "text", "text": "last"},
	} {
		status, seq := http.StatusCreated, room.Seq(0)
		if fields["kind"] == "command" {
			status = http.StatusAccepted
		}
		sent := message(alice.call("POST", peerPath("bob"), fields).is(status))
		if sent.Peer != "bob" || sent.Room != "" || sent.Sender != (room.User{ID: "alice", Name: "alice"}) || (sent.Seq == 0) == sent.Kind.Stored() {
			t.Errorf("message %d is sent as %+v", i, sent)
		}
		for _, stream := range streams["alice"] {
			if diff := cmp.Diff(sent, stream.peerMessage()); diff != "" {
				t.Errorf("message %d on the sender's stream (-want +got):\n%s", i, diff)
			}
		}
		if sent.Seq > 0 {
			seq = sent.Seq + 1
		}
		for _, stream := range streams["bob"] {
			if diff := cmp.Diff(sent.With("alice", seq), stream.peerMessage()); diff != "" {
				t.Errorf("message %d on the receiver's stream (-want +got):\n%s", i, diff)
			}
			if strings.Contains(string(stream.last.Data), "roomID") || strings.Contains(string(stream.last.Data), "generation") {
				t.Errorf("the event of message %d contains a room: %s", i, stream.last.Data)
			}
		}
	}
	streams["carol"][0].expectNoMore(carol)
}

func TestPeerMessagesRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	s.login("bob")
	send := func(to room.UserID, body object) reply {
		t.Helper()
		return alice.call("POST", peerPath(to), body)
	}
	for want, body := range map[string]object{
		"/kind forbidden":        {"kind": "barrage", "text": "x"},
		"/kind oneof":            {"kind": "other", "text": "x"},
		"/text missing":          {"kind": "text"},
		"/text maxBytes":         {"kind": "text", "text": strings.Repeat("x", 32769)},
		"/data maxBytes":         {"kind": "command", "data": base64.StdEncoding.EncodeToString(make([]byte, 5121))},
		"/subType missing":       {"kind": "custom", "text": "x"},
		"/messageList max":       {"kind": "combine", "title": "t", "messageList": quotes(101)},
		"/extendedData maxBytes": {"kind": "text", "text": "x", "extendedData": strings.Repeat("x", 1025)},
		"/clientMessageID min":   {"kind": "text", "text": "x", "clientMessageID": ""},
	} {
		pointer, rule, _ := strings.Cut(want, " ")
		send("bob", body).invalid(pointer, rule)
	}
	for _, body := range []object{{"kind": "text", "text": "x"}, {"kind": "command", "data": "AA=="}} {
		send("alice", body).refused(http.StatusBadRequest, "message_to_self")
		send("nobody", body).refused(http.StatusNotFound, "user_not_found")
		send(room.UserID(strings.Repeat("x", room.MaxUserIDBytes+1)), body).invalid("path/userID", "userID")
	}
	alice.call("GET", peerPath("nobody"), nil).refused(http.StatusNotFound, "user_not_found")
	alice.call("GET", peerPath("a "), nil).invalid("path/userID", "userID")
	for query, want := range map[string]string{
		"?before=0": "query/before min", "?after=x": "query/after integer", "?limit=101": "query/limit max", "?before=1&after=1": "query/after exclusive",
		"?page=1": "query/page unknown",
	} {
		r := alice.call("GET", peerPath("bob")+query, nil)
		pointer, _, _ := strings.Cut(want, " ")
		if p := r.refused(http.StatusBadRequest, "invalid_request"); len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	if page := as[messagePage](alice.call("GET", peerPath("bob"), nil).is(http.StatusOK)); page.MessageList == nil || len(page.MessageList) > 0 {
		t.Errorf("rejected messages are in the history: %+v", page)
	}
	if page := as[messagePage](alice.call("GET", peerPath("alice"), nil).is(http.StatusOK)); len(page.MessageList) > 0 {
		t.Errorf("messages from alice to alice: %+v", page)
	}
}

// TestPeerMessagesWaitInInbox checks that a new session receives the messages that no session of
// the user has acknowledged, and that a cursor receives the messages after it, once.
func TestPeerMessagesWaitInInbox(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	s.login("bob").logout()
	var said []string
	say := func(n int) {
		t.Helper()
		for range n {
			text := fmt.Sprint(len(said) + 1)
			alice.sendTo("bob", text)
			said = append(said, text)
		}
	}
	// delivers expects the messages from a number on, and nothing else.
	delivers := func(c *client, stream *stream, from int) {
		t.Helper()
		for _, text := range said[from-1:] {
			if got := stream.peerMessage(); got.Text != text || got.Peer != "alice" {
				t.Errorf("got message %s, want %s", got.Text, text)
			}
		}
		stream.expectNoMore(c)
	}
	say(3)
	bob := s.login("bob")
	stream, _ := bob.listen()
	delivers(bob, stream, 1)
	say(1)
	delivers(bob, stream, 4)
	stream.disconnect()
	say(2)
	stream, ready := bob.listen(resume(stream.id))
	if !ready.Resumed {
		t.Error("the stream did not resume")
	}
	delivers(bob, stream, 5)
	tablet := s.login("bob")
	bobStream, _ := tablet.listen() // bob's sessions have acknowledged 4, but not 5 and 6
	delivers(tablet, bobStream, 5)
	bob.listen(resume(stream.id))
	phone := s.login("bob")
	bobStream, _ = phone.listen()
	delivers(phone, bobStream, 7)
	// A session that reconnects gets what follows its own cursor.
	bobStream, _ = tablet.listen(resume(stream.id[:len(stream.id)-1] + "2"))
	delivers(tablet, bobStream, 3)
}

// TestInboxReset checks that a client whose cursor cannot be served gets a reset, and receives the
// messages that are stored.
func TestInboxReset(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now, c.store.PeerRetention = clock.Now, time.Minute })
	alice, bob := s.login("alice"), s.login("bob")
	stream, _ := bob.listen()
	alice.sendTo("bob", "1")
	alice.sendTo("bob", "2")
	stream.peerMessage()
	old := stream.id
	stream.peerMessage()
	clock.advance(time.Minute + time.Second)
	s.sweep()
	alice.sendTo("bob", "3")
	for what, c := range map[string]struct {
		change []func(*http.Request)
		reason room.ResetReason
	}{
		"a cursor before what is kept": {[]func(*http.Request){resume(old)}, room.ResetLogTrimmed},
		"a cursor of the future":       {[]func(*http.Request){resume(strings.TrimSuffix(old, "1") + "zz")}, room.ResetCursorAhead},
		"no cursor at all":             {[]func(*http.Request){resume("hello")}, room.ResetCursorInvalid},
	} {
		stream, ready := bob.listen(c.change...)
		if reset := expect[room.InboxReset](stream); reset.Reason != c.reason || reset.OldestSeq != 3 || ready.Resumed {
			t.Errorf("%s: got reset %+v, resumed: %t", what, reset, ready.Resumed)
		}
		if got := stream.peerMessage(); got.Text != "3" {
			t.Errorf("%s: next message is %s", what, got.Text)
		}
		stream.expectNoMore(bob)
	}
	// A new session of a user who missed messages gets the reset as well.
	stream, _ = s.login("bob").listen()
	if reset := expect[room.InboxReset](stream); reset.Reason != room.ResetLogTrimmed {
		t.Errorf("a new session got reset %+v", reset)
	}
	if page := as[messagePage](bob.call("GET", peerPath("alice"), nil).is(http.StatusOK)); page.texts() != "3" {
		t.Errorf("the history is %s", page.texts())
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("b#o?b%"), s.login("carol")
	var all []string
	for i := range 12 {
		text := fmt.Sprint(i)
		if i%3 == 0 {
			carol.sendTo("alice", "other")
		}
		if i%2 == 0 {
			alice.sendTo(bob.UserID, text)
		} else {
			bob.sendTo("alice", text)
		}
		all = append(all, text)
	}
	read := func(c *client, peer room.UserID, query string) messagePage {
		t.Helper()
		page := as[messagePage](c.call("GET", peerPath(peer)+query, nil).is(http.StatusOK))
		for _, m := range page.MessageList {
			if m.Peer != peer || m.Room != "" || m.Seq == 0 {
				t.Errorf("with %s: %+v", peer, m)
			}
		}
		return page
	}
	for c, peer := range map[*client]room.UserID{alice: bob.UserID, bob: "alice"} {
		if whole := read(c, peer, ""); whole.texts() != strings.Join(all, " ") || whole.NextCursor != 0 {
			t.Errorf("the history of %s is %s, next cursor %d", c.UserID, whole.texts(), whole.NextCursor)
		}
		for _, limit := range []int{1, 5, 12} {
			var back, forth []string
			for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d", limit); cursor != 0; {
				page := read(c, peer, query)
				back = append(strings.Fields(page.texts()), back...)
				cursor = page.NextCursor
				query = fmt.Sprintf("?limit=%d&before=%d", limit, cursor)
			}
			for cursor, query := room.Seq(1), fmt.Sprintf("?limit=%d&after=0", limit); cursor != 0; {
				page := read(c, peer, query)
				forth = append(forth, strings.Fields(page.texts())...)
				cursor = page.NextCursor
				query = fmt.Sprintf("?limit=%d&after=%d", limit, cursor)
			}
			if !slices.Equal(back, all) || !slices.Equal(forth, all) {
				t.Errorf("%s in pages of %d: %v and %v", c.UserID, limit, back, forth)
			}
		}
	}
}

// TestPeerRetry checks that each retry gets the same reply, even when the rate limit is reached.
func TestPeerRetry(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Rates.Messages = handlers.Rate{Count: 2, Window: time.Second} })
	alice := s.login("alice")
	s.login("bob")
	s.login("carol")
	first := object{"kind": "text", "text": "once", "clientMessageID": "1"}
	sent := message(alice.call("POST", peerPath("bob"), first).is(http.StatusCreated))
	// The same ID to another user is another message.
	if to := message(alice.call("POST", peerPath("carol"), first).is(http.StatusCreated)); to.ID == sent.ID || to.Peer != "carol" {
		t.Errorf("message to another user is %+v", to)
	}
	eventually(t, "the limit is reached", func() bool {
		return alice.call("POST", peerPath("bob"), object{"kind": "command", "data": "AA=="}).StatusCode == http.StatusTooManyRequests
	})
	for range 20 {
		if diff := cmp.Diff(sent, message(alice.call("POST", peerPath("bob"), first).is(http.StatusCreated))); diff != "" {
			t.Errorf("reply to the retry (-want +got):\n%s", diff)
		}
		alice.call("POST", peerPath("bob"), object{"kind": "text", "text": "other", "clientMessageID": "1"}).
			refused(http.StatusConflict, "client_message_id_reused")
	}
	next := 2 // a repeated message would be a retry, which is not limited
	eventually(t, "a new message is rejected by the rate limit", func() bool {
		next++
		body := object{"kind": "text", "text": "new", "clientMessageID": fmt.Sprint(next)}
		return alice.call("POST", peerPath("bob"), body).StatusCode == http.StatusTooManyRequests
	})
}

// TestPeerMessagesAndGrants checks that a token with grants allows messages only to the users that
// it names, and reading messages from everybody.
func TestPeerMessagesAndGrants(t *testing.T) {
	t.Parallel()
	s := newService(t)
	bob, support := s.login("bob"), s.login("support-7")
	for _, c := range []struct {
		what         string
		claims       func(jwt.MapClaims)
		bob, support bool
	}{
		{"rooms alone", grants(object{"roomID": "*", "join": true, "send": true}), false, false},
		{"no rooms", grants(), false, false},
		{"a user", set("peers", []string{"bob"}), true, false},
		{"a prefix", set("peers", []string{"support-*"}), false, true},
		{"everybody", set("peers", []string{"*"}), true, true},
		{"uploads alone", set("media", true), false, false},
		{"nothing at all", func(jwt.MapClaims) {}, true, true},
	} {
		alice := s.loginWith(s.signed(c.claims))
		for to, granted := range map[room.UserID]bool{"bob": c.bob, "support-7": c.support} {
			for _, kind := range []string{"text", "command"} {
				body := object{"kind": "text", "text": "hello"}
				if kind == "command" {
					body = object{"kind": "command", "data": "aGk="}
				}
				r := alice.call("POST", peerPath(to), body)
				if granted != (r.StatusCode < 300) || !granted && as[problem](r).Code != "not_granted" {
					t.Errorf("with %s, a %s to %s: got status %d: %s", c.what, kind, to, r.StatusCode, r.body)
				}
			}
		}
		alice.logout()
	}
	support.sendTo("alice", "may I help?")
	alice := s.loginWith(s.signed(grants()))
	if got := alice.call("GET", peerPath("support-7"), nil).is(http.StatusOK); !strings.Contains(string(got.body), "may I help?") {
		t.Errorf("received messages cannot be read: %s", got.body)
	}
	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.signed(set("peers", []string{"bob"}))}).is(http.StatusOK)
	alice.sendTo("bob", "now I may")
	_ = bob
}

// TestUploadsAndGrants checks that a token with grants allows uploads only if it names them,
// including the later parts of an upload.
func TestUploadsAndGrants(t *testing.T) {
	t.Parallel()
	s := newService(t)
	tus := func(r *http.Request) { r.Header.Set("Tus-Resumable", "1.0.0") }
	create := func(c *client) reply {
		return c.call("POST", "/v1/media/uploads", nil, tus, header("Upload-Length", "2"))
	}
	upload := func(c *client) reply {
		return c.call("POST", "/v1/media", raw("hi"), header("Content-Type", "text/plain"))
	}
	for _, claims := range []func(jwt.MapClaims){grants(object{"roomID": "*", "join": true, "send": true}), set("peers", []string{"*"}), set("media", false)} {
		fenced := s.loginWith(s.signed(claims))
		upload(fenced).refused(http.StatusForbidden, "not_granted")
		create(fenced).refused(http.StatusForbidden, "not_granted")
		fenced.logout()
	}
	alice := s.loginWith(s.signed(set("media", true)))
	upload(alice).is(http.StatusCreated)
	path := create(alice).is(http.StatusCreated).Header.Get("Location")
	if _, after, ok := strings.Cut(path, s.url); ok {
		path = after
	}
	alice.call("PUT", "/v1/sessions/current/token", object{"token": s.signed(set("media", false))}).is(http.StatusOK)
	alice.call("PATCH", path, raw("hi"), tus, header("Upload-Offset", "0"), header("Content-Type", "application/offset+octet-stream")).
		refused(http.StatusForbidden, "not_granted")
	alice.call("DELETE", path, nil, tus).is(http.StatusNoContent)
}

// TestPeerMessagesAreNotInTheFeed checks that the feed delivers only room events, also after many
// messages between users.
func TestPeerMessagesAreNotInTheFeed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	s.login("bob")
	feed, _ := s.admin().follow("")
	for range 300 { // more than a page of the feed
		alice.sendTo("bob", "private")
	}
	alice.enter("lobby")
	expect[room.Created](feed)
	expect[room.MembersJoined](feed)
	alice.sendTo("bob", "private")
	alice.send("lobby", "public")
	if got := feed.text(); got != "public" {
		t.Errorf("the feed delivered %q", got)
	}
}
