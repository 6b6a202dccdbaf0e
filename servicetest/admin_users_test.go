package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

type userPage struct {
	Users      []room.ListedUser
	NextCursor string
}

// TestAdminListsUsers reads the users in pages of each size, and checks what the list says of them.
func TestAdminListsUsers(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	admin := s.admin()
	page := func(query string) userPage {
		t.Helper()
		return as[userPage](admin.call("GET", "/v1/admin/users?"+query, nil).is(http.StatusOK))
	}
	if got := page(""); len(got.Users) != 0 || got.NextCursor != "" {
		t.Errorf("without users, the list is %+v", got)
	}
	began := clock.Now()
	alice, bob := s.login("alice"), s.login("bob")
	s.login("bob")
	s.login("carol").logout()
	stream, _ := alice.listen()
	defer stream.disconnect()
	clock.advance(30 * time.Minute)
	left, _ := bob.listen()
	left.disconnect()
	eventually(t, "bob is detached", func() bool { return bob.state() == "detached" })
	got := page("").Users
	for i := range got {
		if seen := got[i].LastSeenAt; !got[i].Online && (seen.Time().Before(began.Add(-time.Second)) || seen.Time().After(clock.Now())) {
			t.Errorf("%s was last seen at %v", got[i].ID, seen)
		}
	}
	if got[1].LastSeenAt.Time().Before(began.Add(29 * time.Minute)) {
		t.Errorf("bob was last seen at %v, before the last stream ended", got[1].LastSeenAt)
	}
	for i := range got {
		got[i].LastSeenAt = 0
	}
	want := []room.ListedUser{{ID: "alice", Online: true, SessionCount: 1}, {ID: "bob", SessionCount: 2}, {ID: "carol"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	for limit := 1; limit <= 3; limit++ {
		var ids []room.UserID
		for cursor := ""; ; {
			p := page(fmt.Sprintf("limit=%d%s", limit, cursor))
			for _, u := range p.Users {
				ids = append(ids, u.ID)
			}
			if p.NextCursor == "" {
				break
			}
			if len(p.Users) != limit {
				t.Errorf("a page of %d has %d users and is not the last", limit, len(p.Users))
			}
			cursor = "&cursor=" + p.NextCursor
		}
		if !slices.Equal(ids, []room.UserID{"alice", "bob", "carol"}) {
			t.Errorf("in pages of %d, the users are %v", limit, ids)
		}
	}
	for query, want := range map[string]string{
		"limit=0": "query/limit range", "limit=501": "query/limit range", "cursor=": "query/cursor cursor", "cursor=0": "query/cursor cursor",
		"cursor=-1": "query/cursor cursor", "cursor=01": "query/cursor cursor", "cursor=1A": "query/cursor cursor", "cursor=zzzzzzzzzzzzzzz": "query/cursor cursor",
		"prefix=a": "query/prefix unknown",
	} {
		pointer, rule, _ := strings.Cut(want, " ")
		admin.call("GET", "/v1/admin/users?"+query, nil).invalid(pointer, rule)
	}
}

// TestAdminListsMessagesOfUsers lists the messages of a user with others, and those that a user sent
// to a room, also if most events of the room are of others.
func TestAdminListsMessagesOfUsers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice, bob, carol := s.admin(), s.login("alice"), s.login("bob"), s.login("carol")
	alice.sendTo("bob", "1")
	bob.sendTo("alice", "2")
	carol.sendTo("alice", "3")
	alice.sendTo("carol", "4")
	list := func(user, query string) messagePage {
		t.Helper()
		return as[messagePage](admin.call("GET", "/v1/admin/users/"+user+"/messages?"+query, nil).is(http.StatusOK))
	}
	for _, c := range []struct{ user, query, want string }{
		{"alice", "", "1 2 3 4"},
		{"bob", "", "1 2"},
		{"carol", "", "3 4"},
		{"alice", "peerID=bob", "1 2"},
		{"alice", "peerID=nobody", ""},
		{"alice", "limit=3", "2 3 4"},
		{"alice", "before=2", "1"},
		{"alice", "after=2", "3 4"},
		{"alice", "after=0&limit=1", "1"},
		{"alice", "peerID=carol&after=3", "4"},
		{"alice", "from=2001-01-01T00:00:00Z", "1 2 3 4"},
		{"alice", "until=2001-01-01T00:00:00Z", ""},
		{"alice", "peerID=carol&from=2001-01-01T00:00:00Z&until=2101-01-01T00:00:00Z", "3 4"},
	} {
		if got := list(c.user, c.query).texts(); got != c.want {
			t.Errorf("messages of %s with %q: got %q, want %q", c.user, c.query, got, c.want)
		}
	}
	admin.call("GET", "/v1/admin/users/nobody/messages", nil).refused(http.StatusNotFound, "user_not_found")
	admin.call("GET", "/v1/admin/users/alice/messages?peerID=%20b", nil).invalid("query/peerID", "userID")
	admin.call("GET", "/v1/admin/users/alice/messages?before=1&after=1", nil).invalid("query/after", "exclusive")

	alice.enter("lobby")
	bob.enter("lobby")
	for i := range 3 {
		alice.send("lobby", fmt.Sprint("a", i))
		bob.send("lobby", fmt.Sprint("b", i))
	}
	const others = 2500
	s.exec(`WITH l AS (UPDATE logs SET last_seq = last_seq + $1 RETURNING generation, last_seq - $1 AS before, last_xact)
		INSERT INTO events (generation, seq, type, at, sender_id, body, xact)
		SELECT generation, before + n, 'roomMessageReceived', now(), 'carol', '{"messageList":[{"kind":"text","text":"x"}]}', last_xact
		FROM l, generate_series(1, $1) n`, others)
	alice.send("lobby", "a3")
	alice.send("lobby", "a4")
	search := func(query, param string, next room.Seq) (texts []string, pages int) {
		for ; ; pages++ {
			at := ""
			if next != 0 || pages == 0 && param == "after" {
				at = fmt.Sprintf("&%s=%d", param, next)
			}
			p := as[messagePage](admin.call("GET", adminPath("lobby", "/messages?"+query+at), nil).is(http.StatusOK))
			var found []string
			for _, m := range p.MessageList {
				found = append(found, m.Text)
			}
			if param == "before" {
				slices.Reverse(found)
			}
			texts = append(texts, found...)
			if next = p.NextCursor; next == 0 {
				return texts, pages + 1
			}
		}
	}
	forward, pages := search("userID=alice", "after", 0)
	if !slices.Equal(forward, []string{"a0", "a1", "a2", "a3", "a4"}) || pages != 3 {
		t.Errorf("forward in %d pages: %q", pages, forward)
	}
	backward, pages := search("userID=alice&limit=1", "before", 0)
	if !slices.Equal(backward, []string{"a4", "a3", "a2", "a1", "a0"}) || pages < 5 {
		t.Errorf("backward in %d pages: %q", pages, backward)
	}
	if none, _ := search("userID=nobody", "before", 0); len(none) > 0 {
		t.Errorf("messages of nobody: %q", none)
	}
	old := "&from=2001-01-01T00:00:00Z&until=2002-01-01T00:00:00Z"
	if none, _ := search("userID=alice"+old, "before", 0); len(none) > 0 {
		t.Errorf("messages of an earlier year: %q", none)
	}
	now := "&from=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339))
	if recent, _ := search("userID=alice"+now, "after", 0); len(recent) != 5 {
		t.Errorf("messages of the last hour: %q", recent)
	}
	for query, pointer := range map[string]string{"userID=%20b": "query/userID userID", "userID=a&seq=1": "query/userID exclusive", "userID=a&userID=b": "query/userID duplicate"} {
		pointer, rule, _ := strings.Cut(pointer, " ")
		admin.call("GET", adminPath("lobby", "/messages?"+query), nil).invalid(pointer, rule)
	}
	alice.call("GET", roomPath("lobby", "/messages?userID=alice"), nil).invalid("query/userID", "unknown")
}

// TestAdminSendsPeerMessages sends messages in the name of users who log in, and of one who never
// does.
func TestAdminSendsPeerMessages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice, bob := s.admin(), s.login("alice"), s.login("bob")
	aliceStream, _ := alice.listen()
	bobStream, _ := bob.listen()
	send := func(sender, to, text string) reply {
		t.Helper()
		return admin.call("POST", "/v1/admin/users/"+to+"/messages", object{
			"sender": object{"userID": sender, "userName": "The " + sender}, "message": object{"kind": "text", "text": text, "clientMessageID": "1"},
		})
	}
	sent := message(send("alice", "bob", "hello").is(http.StatusCreated))
	if sent.Sender != (room.User{ID: "alice", Name: "The alice"}) || sent.Peer != "bob" || sent.Seq != 1 {
		t.Errorf("sent %+v", sent)
	}
	if got := expect[room.PeerMessagesReceived](aliceStream).MessageList[0]; !cmp.Equal(got, sent) {
		t.Errorf("alice received %+v, want %+v", got, sent)
	}
	if got := expect[room.PeerMessagesReceived](bobStream).MessageList[0]; got.ID != sent.ID || got.Peer != "alice" {
		t.Errorf("bob received %+v", got)
	}
	if again := message(send("alice", "bob", "hello").is(http.StatusCreated)); !cmp.Equal(again, sent) {
		t.Errorf("the retry returned %+v, want %+v", again, sent)
	}
	send("alice", "bob", "other").refused(http.StatusConflict, "client_message_id_reused")

	first := message(send("school", "bob", "lesson").is(http.StatusCreated))
	if again := message(send("school", "bob", "lesson").is(http.StatusCreated)); !cmp.Equal(again, first) || first.Seq != 1 {
		t.Errorf("the retry returned %+v, want %+v", again, first)
	}
	if got := skipTo[room.PeerMessagesReceived](bobStream).MessageList[0]; got.ID != first.ID || got.Peer != "school" {
		t.Errorf("bob received %+v", got)
	}
	bob.call("PUT", "/v1/blocks/school", nil).is(http.StatusNoContent)
	for _, sender := range []string{"school", "office"} {
		command := object{"sender": object{"userID": sender}, "message": object{"kind": "command", "data": "AAH/"}}
		admin.call("POST", "/v1/admin/users/bob/messages", command).is(http.StatusAccepted)
		if got := skipTo[room.PeerMessagesReceived](bobStream).MessageList[0]; got.Kind != room.KindCommand || string(got.Peer) != sender {
			t.Errorf("bob received %+v", got)
		}
	}
	blocked := object{"sender": object{"userID": "school"}, "message": object{"kind": "text", "text": "still"}}
	if m := message(admin.call("POST", "/v1/admin/users/bob/messages", blocked).is(http.StatusCreated)); m.Seq != 2 {
		t.Errorf("a message from a user who is blocked is %+v", m)
	}
	send("bob", "bob", "x").refused(http.StatusBadRequest, "message_to_self")
	send("school", "nobody", "x").refused(http.StatusNotFound, "user_not_found")
	send("newcomer", "nobody", "x").refused(http.StatusNotFound, "user_not_found")
	for pointer, change := range map[string]object{
		"/message/to": {"kind": "text", "text": "x", "to": []string{"bob"}}, "/message/kind": {"kind": "barrage", "text": "x"},
	} {
		admin.call("POST", "/v1/admin/users/bob/messages", object{"sender": object{"userID": "school"}, "message": change}).invalid(pointer, "forbidden")
	}
	if users := as[userPage](admin.call("GET", "/v1/admin/users", nil).is(http.StatusOK)).Users; len(users) != 4 {
		t.Errorf("users are %+v, want alice, bob, school and office", users)
	}
}

// TestAdminChangesAttributes changes attributes of a room and of members from outside of the room.
func TestAdminChangesAttributes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	alice.enter("lobby")
	alice.call("PATCH", roomPath("lobby", "/attributes"), object{"set": object{"topic": "hers"}}).is(http.StatusOK)
	stream, _ := alice.listen()
	expect[room.AttributesUpdated](stream)
	type attributesReply struct {
		RoomAttributes map[string]string
		Version        room.Seq
		ErrorKeys      []string
	}
	attributes := adminPath("lobby", "/attributes")
	update := func(body object, change ...func(*http.Request)) reply {
		return admin.call("PATCH", attributes, body, change...)
	}
	if got := as[attributesReply](update(object{"set": object{"topic": "mine", "mood": "calm"}}).is(http.StatusOK)); !slices.Equal(got.ErrorKeys, []string{"topic"}) {
		t.Errorf("an attribute of a user was changed without force: %+v", got)
	}
	e := expect[room.AttributesUpdated](stream)
	if e.OperatedInfo != nil || len(e.Infos) != 1 || e.Infos[0].Attributes["mood"] != "calm" {
		t.Errorf("alice received %+v", e)
	}
	alice.call("PATCH", roomPath("lobby", "/attributes"), object{"delete": []string{"mood"}}).is(http.StatusOK)
	read := admin.call("GET", attributes, nil).is(http.StatusOK)
	if got := as[attributesReply](read); !cmp.Equal(got.RoomAttributes, map[string]string{"topic": "hers"}) {
		t.Errorf("attributes are %+v", got)
	}
	match := func(r *http.Request) { r.Header.Set("If-Match", read.Header.Get("ETag")) }
	update(object{"set": object{"topic": "mine"}, "force": true}, match).is(http.StatusOK)
	update(object{"set": object{"topic": "yours"}, "force": true}, match).refused(http.StatusPreconditionFailed, "version_mismatch")
	full := object{}
	for i := range 20 {
		full[fmt.Sprint(i)] = "x"
	}
	update(object{"set": full}).refused(http.StatusConflict, "attributes_full")
	admin.call("GET", adminPath("gone", "/attributes"), nil).refused(http.StatusNotFound, "room_not_found")

	members := adminPath("lobby", "/member-attributes")
	type memberReply struct {
		Infos         []room.MemberAttributesInfo
		ErrorUserList []room.UserID
	}
	got := as[memberReply](admin.call("PATCH", members, object{"userIDs": []string{"alice", "bob"}, "set": object{"hand": "up"}}).is(http.StatusOK))
	if len(got.Infos) != 1 || got.Infos[0].UserID != "alice" || !slices.Equal(got.ErrorUserList, []room.UserID{"bob"}) {
		t.Errorf("got %+v", got)
	}
	if e := skipTo[room.MemberAttributesUpdated](stream); e.OperatedInfo != nil || e.Infos[0].UserID != "alice" {
		t.Errorf("alice received %+v", e)
	}
	for _, query := range []string{"", "?userID=alice", "?limit=1"} {
		if got := as[memberReply](admin.call("GET", members+query, nil).is(http.StatusOK)).Infos; len(got) != 1 || got[0].UserID != "alice" {
			t.Errorf("with %q, attributes of members are %+v", query, got)
		}
	}
	for i := range 30 {
		full[fmt.Sprint(i)] = "x"
	}
	admin.call("PATCH", members, object{"userIDs": []string{"alice"}, "set": full}).refused(http.StatusConflict, "attributes_full")
	admin.call("PATCH", members, object{"userIDs": []string{"alice"}, "userData": "x"}).invalid("/userData", "unknown")
	admin.call("PATCH", members, object{"userIDs": []string{"alice"}}).invalid("", "empty")
}
