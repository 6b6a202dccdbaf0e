package servicetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

type conversationPage struct {
	Seq              room.Seq                  `json:"seq"`
	TotalUnreadCount int                       `json:"totalUnreadCount"`
	ConversationList []room.ListedConversation `json:"conversationList"`
	NextCursor       room.Seq                  `json:"nextCursor"`
}

func conversationPath(user room.UserID, rest string) string {
	return "/v1/conversations/" + url.PathEscape(string(user)) + rest
}

func (c *client) conversations(query string) conversationPage {
	c.Helper()
	return as[conversationPage](c.call("GET", "/v1/conversations"+query, nil).is(http.StatusOK))
}

func (c *client) read(peer room.UserID, seq room.Seq) reply {
	c.Helper()
	return c.call("POST", conversationPath(peer, "/read"), object{"seq": seq})
}

// talk is a conversation as a client keeps it: with what the recipe of listConversations needs.
type talk struct {
	unread int
	read   room.Seq
	last   room.MessageID
	seq    room.Seq
}

// talks is the conversations of a client that follows the recipe of listConversations.
type talks struct {
	user  room.UserID
	seq   room.Seq
	total int
	by    map[room.UserID]talk
}

func (c *client) talks() *talks {
	c.Helper()
	page := c.conversations("?limit=1")
	list := &talks{c.UserID, page.Seq, page.TotalUnreadCount, map[room.UserID]talk{}}
	for {
		for _, found := range page.ConversationList {
			if _, ok := list.by[found.Peer]; !ok {
				list.by[found.Peer] = talk{found.UnreadCount, found.ReadSeq, found.LastMessage.ID, found.LastMessage.Seq}
			}
		}
		if page.NextCursor == 0 {
			return list
		}
		page = c.conversations(fmt.Sprintf("?limit=1&before=%d", page.NextCursor))
	}
}

// apply follows step 3 of the recipe for an event of a stream.
func (l *talks) apply(t *testing.T, stream *stream) {
	t.Helper()
	var e struct {
		Seq                              room.Seq
		UserID                           room.UserID
		MessageList                      []room.Message
		RecalledSeq, ReadSeq, DeletedSeq room.Seq
		UnreadCount, TotalUnreadCount    int
		OperatedInfo                     struct{ UserID room.UserID }
	}
	if err := json.Unmarshal(stream.last.Data, &e); err != nil {
		t.Fatal(err)
	}
	if e.Seq <= l.seq {
		return
	}
	l.seq = e.Seq
	switch room.EventType(stream.last.Type) {
	case room.TypePeerMessagesReceived:
		m := e.MessageList[0]
		c := l.by[m.Peer]
		c.last, c.seq = m.ID, m.Seq
		if m.Sender.ID != l.user {
			c.unread++
			l.total++
		}
		l.by[m.Peer] = c
	case room.TypePeerMessageRecalled:
		if c := l.by[e.UserID]; e.OperatedInfo.UserID == e.UserID && e.RecalledSeq > c.read {
			c.unread--
			l.total--
			l.by[e.UserID] = c
		}
	case room.TypeConversationChanged:
		c := l.by[e.UserID]
		c.unread, c.read, l.total = e.UnreadCount, e.ReadSeq, e.TotalUnreadCount
		l.by[e.UserID] = c
		if c.seq <= e.DeletedSeq {
			delete(l.by, e.UserID)
		}
	case room.TypeConversationsRead:
		for _, peer := range slices.Collect(maps.Keys(l.by)) {
			c := l.by[peer]
			c.unread, c.read = 0, e.ReadSeq
			l.by[peer] = c
		}
		l.total = 0
	default: // other events are not about conversations
	}
}

// text formats what both a list and a client's own account of it say.
func (l *talks) text() string {
	var texts []string
	for peer, c := range l.by {
		texts = append(texts, fmt.Sprintf("%s:%d/%s", peer, c.unread, c.last))
	}
	slices.Sort(texts)
	return fmt.Sprintf("%d in %s", l.total, strings.Join(texts, " "))
}

// TestConversations follows the recipe of listConversations through all calls, and compares its
// result with a new list each time.
func TestConversations(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, phone, bob, carol := s.login("alice"), s.loginWith(s.signed(everyGrant)), s.login("bob"), s.login("c/ ?")
	if page := alice.conversations(""); page.Seq != 0 || page.TotalUnreadCount != 0 || page.ConversationList == nil || len(page.ConversationList) > 0 {
		t.Errorf("conversations of a new user: %+v", page)
	}
	bob.sendTo("alice", "before")
	stream, _ := alice.listen()
	list := phone.talks()
	bobStream, _ := bob.listen()
	var deleted, recalled room.Message
	steps := []struct {
		what   string
		do     func()
		events int
		want   string // "total peer:unread ..." by peer
	}{
		{"messages", func() {
			bob.sendTo("alice", "one")
			carol.sendTo("alice", "two")
			deleted = bob.sendTo("alice", "three")
			alice.sendTo("c/ ?", "four")
		}, 5, "4 bob:3 c/ ?:1"},
		{"read a part", func() { phone.read("bob", 2).is(http.StatusNoContent) }, 1, "2 bob:1 c/ ?:1"},
		{"read the same again", func() { alice.read("bob", 1).is(http.StatusNoContent) }, 0, "2 bob:1 c/ ?:1"},
		{"recall an unread message", func() {
			bob.call("DELETE", peerPath("alice")+"/"+string(deleted.ID), nil).is(http.StatusNoContent)
		}, 1, "1 bob:0 c/ ?:1"},
		{"recall it again", func() { bob.call("DELETE", peerPath("alice")+"/"+string(deleted.ID), nil).is(http.StatusNoContent) }, 0, "1 bob:0 c/ ?:1"},
		{"read all", func() { phone.call("POST", "/v1/inbox/read", nil).is(http.StatusNoContent) }, 1, "0 bob:0 c/ ?:0"},
		{"read all again", func() { alice.call("POST", "/v1/inbox/read", nil).is(http.StatusNoContent) }, 0, "0 bob:0 c/ ?:0"},
		{"another message", func() { recalled = bob.sendTo("alice", "five") }, 1, "1 bob:1 c/ ?:0"},
		{"read and then recall it", func() {
			alice.read("bob", 9).is(http.StatusNoContent)
			bob.call("DELETE", peerPath("alice")+"/"+string(recalled.ID), nil).is(http.StatusNoContent)
		}, 2, "0 bob:0 c/ ?:0"},
		{"delete", func() {
			bob.sendTo("alice", "six")
			phone.call("DELETE", conversationPath("bob", ""), nil).is(http.StatusNoContent)
		}, 2, "0 c/ ?:0"},
		{"begin again", func() { bob.sendTo("alice", "seven") }, 1, "1 bob:1 c/ ?:0"},
	}
	for _, step := range steps {
		step.do()
		for range step.events {
			stream.next()
			list.apply(t, stream)
		}
		exact := alice.talks()
		if got, want := list.text(), exact.text(); got != want || list.seq != exact.seq {
			t.Errorf("%s: a client that applies events has %s at %d, want %s at %d", step.what, got, list.seq, want, exact.seq)
		}
		texts := []string{}
		for peer, c := range exact.by {
			texts = append(texts, fmt.Sprintf("%s:%d", peer, c.unread))
		}
		slices.Sort(texts)
		if got := strings.Join(append([]string{fmt.Sprint(exact.total)}, texts...), " "); got != step.want {
			t.Errorf("%s: the list has %s, want %s", step.what, got, step.want)
		}
	}
	stream.expectNoMore(alice)
	for _, c := range []struct {
		c    *client
		peer room.UserID
		want string
	}{{alice, "bob", "seven"}, {bob, "alice", "before, one, , , six, seven"}} {
		var texts []string
		for _, m := range as[messagePage](c.c.call("GET", peerPath(c.peer), nil).is(http.StatusOK)).MessageList {
			texts = append(texts, m.Text)
		}
		if got := strings.Join(texts, ", "); got != c.want {
			t.Errorf("messages of %s with %s: %s", c.c.UserID, c.peer, got)
		}
	}
	for range 6 { // four messages and two from alice's view: nothing of what alice read or deleted
		bobStream.next()
		if typ := bobStream.last.Type; !strings.HasPrefix(typ, "peerMessage") {
			t.Errorf("bob received %s", typ)
		}
	}

	page := alice.conversations("?limit=1")
	one := as[struct {
		Seq              room.Seq
		TotalUnreadCount int
		Conversation     room.ListedConversation
	}](phone.call("GET", conversationPath("bob", ""), nil).is(http.StatusOK))
	if diff := cmp.Diff(page.ConversationList[0], one.Conversation); diff != "" || one.Seq != page.Seq || one.TotalUnreadCount != 1 || page.NextCursor != one.Conversation.LastMessage.Seq {
		t.Errorf("one conversation (-list +get):\n%s", diff)
	}
	for _, peer := range []room.UserID{"nobody", "alice"} {
		alice.call("GET", conversationPath(peer, ""), nil).refused(http.StatusNotFound, "conversation_not_found")
		alice.call("DELETE", conversationPath(peer, ""), nil).refused(http.StatusNotFound, "conversation_not_found")
		alice.read(peer, 1).refused(http.StatusNotFound, "conversation_not_found")
	}
	alice.read("bob", page.Seq+1).refused(http.StatusConflict, "seq_ahead")
	alice.call("POST", conversationPath("bob", "/read"), object{}).invalid("/seq", "required")
	alice.read("bob", 0).invalid("/seq", "min")
	alice.read("bob", 1<<53).invalid("/seq", "max")
	for query, pointer := range map[string]string{"?limit=0": "query/limit", "?limit=101": "query/limit", "?before=0": "query/before", "?after=1": "query/after"} {
		if p := alice.call("GET", "/v1/conversations"+query, nil).refused(http.StatusBadRequest, "invalid_request"); p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
}

// TestDeletedConversationsReplay checks that a session that resumes hears of what another session
// read and deleted, after the messages that it concerns.
func TestDeletedConversationsReplay(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, phone, bob := s.login("alice"), s.login("alice"), s.login("bob")
	stream, _ := alice.listen()
	bob.sendTo("alice", "one")
	stream.peerMessage()
	at := stream.id
	stream.disconnect()
	bob.sendTo("alice", "two")
	phone.read("bob", 1).is(http.StatusNoContent)
	phone.call("DELETE", conversationPath("bob", ""), nil).is(http.StatusNoContent)
	stream, ready := alice.listen(resume(at))
	if m := stream.peerMessage(); !ready.Resumed || m.Text != "two" {
		t.Errorf("resumed: %t, with %+v", ready.Resumed, m)
	}
	for _, want := range []room.ConversationChanged{
		{Peer: "bob", UnreadCount: 1, ReadSeq: 1, TotalUnreadCount: 1},
		{Peer: "bob", ReadSeq: 3, DeletedSeq: 3},
	} {
		if diff := cmp.Diff(want, expect[room.ConversationChanged](stream)); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
}

// TestDeletedConversationsAndFiles checks that a user who deletes a conversation can no longer read
// the files that were received in it, and that the sender, the other user and other conversations
// keep them.
func TestDeletedConversationsAndFiles(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	send := func(from *client, to room.UserID) string {
		id := from.upload("a.txt", []byte("four")).Media.ID
		from.call("POST", peerPath(to), object{"kind": "file", "mediaID": id}).is(http.StatusCreated)
		return "/v1/media/" + string(id)
	}
	fromBob, fromAlice, fromCarol := send(bob, "alice"), send(alice, "bob"), send(carol, "alice")
	alice.call("DELETE", conversationPath("bob", ""), nil).is(http.StatusNoContent)
	alice.call("GET", fromBob, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", fromCarol, nil).is(http.StatusOK)
	alice.call("GET", fromAlice, nil).is(http.StatusOK) // as its owner
	bob.call("GET", fromBob, nil).is(http.StatusOK)
	bob.call("GET", fromAlice, nil).is(http.StatusOK)
	bob.call("DELETE", conversationPath("alice", ""), nil).is(http.StatusNoContent)
	bob.call("GET", fromAlice, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", fromAlice, nil).refused(http.StatusNotFound, "media_not_found") // no message has it any more
}

// TestConversationsOfDeletedUsers checks that a conversation outlives the other user, and ends with
// its messages.
func TestConversationsOfDeletedUsers(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) {
		c.store.Now, c.store.PeerRetention, c.store.SessionIdle = clock.Now, time.Hour, 1000*time.Hour
	})
	alice := s.loginWith(s.token("alice", 24*time.Hour))
	bob := s.login("bob")
	bob.sendTo("alice", "hello")
	bob.logout()
	s.exec("DELETE FROM events WHERE generation = (SELECT log FROM inboxes WHERE user_id = 'bob')")
	s.exec("DELETE FROM inboxes WHERE user_id = 'bob'")
	alice.read("bob", 1).is(http.StatusNoContent)
	if got := alice.talks().text(); !strings.HasPrefix(got, "0 in bob:0/") {
		t.Errorf("conversations with a deleted user: %s", got)
	}
	clock.advance(time.Hour + time.Second)
	s.sweep()
	if page := alice.conversations(""); len(page.ConversationList) != 0 || page.TotalUnreadCount != 0 || page.Seq != 2 {
		t.Errorf("after the messages expired: %+v", page)
	}
	alice.call("DELETE", conversationPath("bob", ""), nil).refused(http.StatusNotFound, "conversation_not_found")
}
