package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

type memberPage struct {
	Generation room.LogID
	Seq        room.Seq
	MemberList []room.Member
	NextCursor string
}

func (p memberPage) ids() string {
	var ids []string
	for _, m := range p.MemberList {
		ids = append(ids, string(m.ID))
	}
	return strings.Join(ids, " ")
}

func TestMembers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var users []*client
	for _, id := range []room.UserID{"dora", "alice", "carol", "bob", "a&b=c"} {
		u := s.login(id)
		u.enter("lobby")
		users = append(users, u)
	}
	last := users[len(users)-1]
	list := func(query string) memberPage {
		t.Helper()
		return as[memberPage](last.call("GET", roomPath("lobby", "/members"+query), nil).is(http.StatusOK))
	}
	const all = "dora alice carol bob a&b=c" // in the order in which they entered
	if got := list(""); got.ids() != all || got.NextCursor != "" {
		t.Errorf("the members are %s, next %q", got.ids(), got.NextCursor)
	}
	if got := list("?limit=5"); got.ids() != all || got.NextCursor != "" {
		t.Errorf("the page with all members is %s, next %q", got.ids(), got.NextCursor)
	}
	for limit := 1; limit <= 4; limit++ {
		var pages []room.Member
		cursor := ""
		for n := 0; n == 0 || cursor != ""; n++ {
			query := fmt.Sprintf("?limit=%d", limit)
			if cursor != "" {
				query += "&cursor=" + url.QueryEscape(cursor)
			}
			page := list(query)
			if len(page.MemberList) > limit || n > 5 {
				t.Fatalf("page %d with limit %d has %d members", n, limit, len(page.MemberList))
			}
			pages = append(pages, page.MemberList...)
			cursor = page.NextCursor
		}
		if diff := cmp.Diff(list("").MemberList, pages); diff != "" {
			t.Errorf("in pages of %d:\n%s", limit, diff)
		}
	}

	for query, want := range map[string]string{
		"?userID=bob":                          "bob",
		"?userID=bob&userID=dora":              "dora bob",
		"?userID=bob&userID=bob&userID=nobody": "bob",
		"?userID=a%26b%3Dc":                    "a&b=c",
		"?userID=nobody":                       "",
	} {
		if got := list(query); got.ids() != want || got.NextCursor != "" {
			t.Errorf("%s finds %q, next %q", query, got.ids(), got.NextCursor)
		}
	}

	count := func() int {
		t.Helper()
		return as[struct{ Count int }](last.call("GET", roomPath("lobby", "/members/count"), nil).is(http.StatusOK)).Count
	}
	if count() != 5 {
		t.Errorf("the count is %d", count())
	}
	// Paging continues after a member who has left in the meantime, and each page says at which seq
	// it is true.
	first := list("?limit=2")
	users[1].leave("lobby")
	second := list("?limit=2&cursor=" + url.QueryEscape(first.NextCursor))
	if second.ids() != "carol bob" {
		t.Errorf("members after alice, who has left, are %s", second.ids())
	}
	now := as[struct{ Room room.Room }](last.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)).Room
	if first.Generation != now.Generation || first.Seq != now.LastSeq-1 || second.Generation != now.Generation || second.Seq != now.LastSeq {
		t.Errorf("pages as of %d/%d and %d/%d, but the room is at %d/%d", first.Generation, first.Seq, second.Generation, second.Seq, now.Generation, now.LastSeq)
	}
	path := "/v1/admin" + strings.TrimPrefix(roomPath("lobby", "/members?userID=alice"), "/v1")
	for _, got := range []memberPage{
		list("?userID=nobody"), as[memberPage](s.admin().call("GET", path, nil).is(http.StatusOK)),
		as[memberPage](last.call("GET", roomPath("lobby", "/member-attributes"), nil).is(http.StatusOK)),
	} {
		if got.Generation != now.Generation || got.Seq != now.LastSeq || len(got.MemberList) > 0 {
			t.Errorf("an empty list is %+v, but the room is at %d/%d", got, now.Generation, now.LastSeq)
		}
	}
	if count() != 4 {
		t.Errorf("after alice left, the count is %d", count())
	}
}

func TestMemberLookupLimit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	ids := make([]string, 100)
	for i := range ids {
		ids[i] = fmt.Sprintf("userID=user%d", i)
	}
	ids[99] = "userID=alice"
	path := roomPath("lobby", "/members?"+strings.Join(ids, "&"))
	if got := as[memberPage](alice.call("GET", path, nil).is(http.StatusOK)); got.ids() != "alice" {
		t.Errorf("a hundred users looked up are %q", got.ids())
	}
	alice.call("GET", path+"&userID=one-more", nil).invalid("query/userID", "max")
	if !slices.Equal(as[memberPage](alice.call("GET", path, nil)).MemberList, as[memberPage](alice.call("GET", path, nil)).MemberList) {
		t.Error("the same lookup got two different replies")
	}
}

// TestUserData: the user data with which a user becomes a member is in the event, the list and the
// feed, and only the user can change it.
func TestUserData(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, phone := s.login("alice"), s.login("bob"), s.login("bob")
	feed, _ := s.admin().follow("")
	longest := strings.Repeat("é", room.MaxUserDataBytes/2)
	alice.call("POST", "/v1/rooms", object{"roomID": "a", "userData": longest}).is(http.StatusCreated)
	alice.call("POST", roomPath("b", "/enter"), object{"userData": "of b"}).is(http.StatusCreated)
	a, _ := alice.listen()
	dataOf := func(id room.RoomID, user room.UserID) string {
		t.Helper()
		page := as[memberPage](alice.call("GET", roomPath(id, "/members?userID="+url.QueryEscape(string(user))), nil).is(http.StatusOK))
		if len(page.MemberList) != 1 {
			t.Fatalf("%d members %s of %s", len(page.MemberList), user, id)
		}
		return page.MemberList[0].UserData
	}
	if got := dataOf("a", "alice"); got != longest {
		t.Errorf("alice, who created the room: %.20q", got)
	}
	if got := dataOf("b", "alice"); got != "of b" {
		t.Errorf("alice, who entered: %q", got)
	}
	joined := func(want string) {
		t.Helper()
		if e := expect[room.MembersJoined](a); len(e.MemberList) != 1 || e.MemberList[0].UserData != want {
			t.Errorf("joined: %+v, want user data %q", e, want)
		}
	}
	const hostile = "{\"n\":\"</script>\u2028\\\"}" // a client gets exactly what another sent
	bob.call("POST", roomPath("a", "/join"), object{"userData": hostile}).is(http.StatusOK)
	joined(hostile)
	bob.call("POST", roomPath("a", "/join"), object{"userData": "again"}).is(http.StatusOK)
	phone.call("POST", roomPath("a", "/join"), object{"userData": "a second session"}).is(http.StatusOK)
	if got := dataOf("a", "bob"); got != hostile {
		t.Errorf("bob, who joined again: %q", got)
	}
	bob.call("POST", roomPath("a", "/switch"), object{"toRoom": object{"roomID": "b"}, "userData": "switched"}).is(http.StatusOK)
	joined("switched")

	// The user changes it in one room, with any session, alone or together with attributes.
	change := func(by *client, body object) reply {
		body["userIDs"] = []room.UserID{"bob"}
		return by.call("PATCH", roomPath("a", "/member-attributes"), body)
	}
	for _, want := range []struct {
		body object
		data string
		all  map[string]string
	}{
		{object{"userData": "seat 2"}, "seat 2", map[string]string{}},
		{object{"userData": "seat 3", "set": pairs{"k": "v"}}, "seat 3", map[string]string{"k": "v"}},
		{object{"userData": ""}, "", map[string]string{"k": "v"}},
	} {
		info := as[room.MemberAttributesUpdated](change(phone, want.body).is(http.StatusOK)).Infos[0]
		event := expect[room.MemberAttributesUpdated](a).Infos[0]
		for what, got := range map[string]room.MemberAttributesInfo{"reply": info, "event": event} {
			if got.UserID != "bob" || got.UserData == nil || *got.UserData != want.data || !cmp.Equal(got.Attributes.Pairs(), want.all) {
				t.Errorf("%s for %v: %+v", what, want.body, got)
			}
		}
		if got := dataOf("a", "bob"); got != want.data {
			t.Errorf("the list after %v has %q", want.body, got)
		}
	}
	change(phone, object{"userData": ""}).is(http.StatusOK) // changes nothing
	change(alice, object{"userData": "x"}).invalid("/userData", "own")
	alice.call("PATCH", roomPath("a", "/member-attributes"), object{"userIDs": []string{"alice", "bob"}, "userData": "x"}).invalid("/userData", "own")
	change(phone, object{"userData": longest + "x"}).invalid("/userData", "maxBytes")
	change(phone, object{"userData": "x", "set": pairs{"k": "v"}, "delete": []string{"k"}}).invalid("/delete/0", "different")
	change(bob, object{"userData": "x"}).refused(http.StatusConflict, "not_in_room")
	bob.call("POST", roomPath("a", "/join"), object{"userData": longest + "x"}).invalid("/userData", "maxBytes")
	alice.patchMembers("a", object{"userIDs": []string{"bob"}, "set": pairs{"k": "w"}})
	if info := expect[room.MemberAttributesUpdated](a).Infos[0]; info.UserData != nil {
		t.Errorf("attributes only: %+v, want no user data", info)
	}
	if got := dataOf("b", "bob"); got != "switched" {
		t.Errorf("bob in the other room: %q", got)
	}
	phone.leave("a")
	expect[room.MembersLeft](a)
	phone.enter("a")
	joined("")
	var inFeed []string
	for len(inFeed) < 5 {
		if e := feed.next(); e.Type == string(room.TypeMembersJoined) {
			inFeed = append(inFeed, decoded[room.MembersJoined](feed).MemberList[0].UserData)
		}
	}
	if want := []string{longest, "of b", hostile, "switched", ""}; !cmp.Equal(want, inFeed) {
		t.Errorf("joins in the feed: %.60q", inFeed)
	}
}

// TestPresenceModes follows rooms of each mode with a member's stream and the feed while users join,
// are kicked and leave.
func TestPresenceModes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	feed, _ := s.admin().follow("")
	told := func(on *stream) string { // the next event of a log, in short form
		t.Helper()
		switch e := on.next(); room.EventType(e.Type) {
		case room.TypeMembersJoined:
			b := decoded[room.MembersJoined](on)
			return fmt.Sprintf("+%s %d", b.MemberList[0].ID, *b.MemberCount)
		case room.TypeMembersLeft:
			b := decoded[room.MembersLeft](on)
			return fmt.Sprintf("-%s %d", b.MemberList[0].ID, *b.MemberCount)
		case room.TypeMembersCounted:
			b := decoded[room.MembersCounted](on)
			return fmt.Sprintf("%d %s", b.MemberCount, b.MemberEvents)
		default:
			return e.Type
		}
	}
	for _, c := range []struct {
		config object
		first  room.MemberEvents
		own    string   // the event of alice's own join, which she receives only if it is published later
		want   []string // what alice receives then
		last   []string // what only the feed has, of alice's own leave
	}{
		{object{"presence": "full"}, "names", "+alice 1", []string{"+bob 2", "+carol 3", "-bob 2", "+dora 3", "-carol 2", "-dora 1", "roomMessageReceived"}, []string{"-alice 0"}},
		{object{"presence": "batched"}, "names", "+alice 1", []string{"+bob 2", "+carol 3", "-bob 2", "+dora 3", "-carol 2", "-dora 1", "roomMessageReceived"}, []string{"-alice 0"}},
		{object{"presence": "counts"}, "counts", "1 counts", []string{"2 counts", "3 counts", "2 counts", "3 counts", "2 counts", "1 counts", "roomMessageReceived"}, []string{"0 counts"}},
		{object{"presence": "none"}, "none", "", []string{"roomMessageReceived"}, nil},
		// bob's and carol's joins have names: the room changes when it has published them.
		{object{"namesUpTo": 2}, "names", "+alice 1", []string{"+bob 2", "+carol 3", "3 counts", "2 counts", "3 counts", "2 counts", "1 names", "roomMessageReceived"}, []string{"-alice 0"}},
	} {
		id := room.RoomID(fmt.Sprint(c.config))
		users := map[room.UserID]*client{}
		for _, user := range []room.UserID{"alice", "bob", "carol", "dora"} {
			users[user] = s.login(user)
		}
		alice, bob := users["alice"], users["bob"]
		created := as[struct{ Room room.Room }](alice.call("POST", roomPath(id, "/enter"), object{"config": c.config}).is(http.StatusCreated)).Room
		if created.MemberEvents != c.first || created.MemberCount != 1 {
			t.Errorf("%s is created with %s and %d members", id, created.MemberEvents, created.MemberCount)
		}
		s.sweep()
		a, _ := alice.listen()
		b, _ := bob.listen()
		count := func(want int, ids string) {
			t.Helper()
			s.sweep()
			page := as[memberPage](alice.call("GET", roomPath(id, "/members"), nil).is(http.StatusOK))
			n := as[struct{ Count int }](alice.call("GET", roomPath(id, "/members/count"), nil).is(http.StatusOK)).Count
			if page.ids() != ids || n != want {
				t.Errorf("%s has %d members, %s, want %s", id, n, page.ids(), ids)
			}
		}
		bob.enter(id)
		count(2, "alice bob")
		users["carol"].enter(id)
		count(3, "alice bob carol")
		s.admin().call("POST", adminPath(id, "/kick"), object{"userIDs": []string{"bob"}, "reason": "out"}).is(http.StatusOK)
		count(2, "alice carol")
		users["dora"].enter(id)
		count(3, "alice carol dora")
		users["carol"].leave(id)
		count(2, "alice dora")
		users["dora"].leave(id)
		count(1, "alice")
		alice.send(id, "over")
		logged := c.want
		if c.own != "" {
			logged = append([]string{c.own}, c.want...)
		}
		received := logged
		if created.LastSeq == 1 {
			received = c.want
		}
		for i, want := range received {
			if got := told(a); got != want {
				t.Errorf("%s: event %d is %q, want %q", id, i+1, got, want)
			}
		}
		// The session itself is always notified.
		for _, want := range []room.RoomEvent{room.RoomEnter, room.RoomSuccess, room.RoomKickedOut} {
			e := b.next()
			for e.Type != string(room.TypeRoomStateChanged) {
				e = b.next()
			}
			if got := decoded[room.RoomStateChanged](b); got.Event != want {
				t.Errorf("%s: bob is notified of %+v, want %s", id, got, want)
			}
		}
		alice.leave(id)
		inFeed := slices.Concat([]string{string(room.TypeRoomCreated)}, logged, c.last, []string{string(room.TypeRoomDestroyed)})
		for i, want := range inFeed {
			if got := told(feed); got != want {
				t.Errorf("%s: event %d in the feed is %q, want %q", id, i, got, want)
			}
		}
		for _, u := range users {
			u.logout()
		}
	}
}

// TestPresenceModeChanges changes the mode of a living room.
func TestPresenceModeChanges(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	a, _ := alice.listen()
	for _, step := range []struct {
		presence room.PresenceMode
		events   []room.MemberEvents // after the next sweep
	}{
		{"batched", nil},
		{"none", []room.MemberEvents{"none"}},
		{"none", nil},
		{"counts", []room.MemberEvents{"counts"}},
		{"full", []room.MemberEvents{"names"}},
		{"full", nil},
	} {
		s.admin().call("PATCH", adminPath("lobby", ""), object{"config": object{"presence": step.presence}}).is(http.StatusOK)
		s.sweep()
		alice.send("lobby", "next")
		var got []room.MemberEvents
		for e := a.next(); e.Type != string(room.TypeMessagesReceived); e = a.next() {
			if e.Type == string(room.TypeMembersCounted) {
				got = append(got, decoded[room.MembersCounted](a).MemberEvents)
			}
		}
		if !slices.Equal(got, step.events) {
			t.Errorf("%s: the log now has %q, want %q", step.presence, got, step.events)
		}
	}
	bob.enter("lobby")
	if e := expect[room.MembersJoined](a); *e.MemberCount != 2 {
		t.Errorf("bob joined: %+v", e)
	}
}
