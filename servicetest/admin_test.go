package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func adminPath(id room.RoomID, rest string) string {
	return "/v1/admin" + strings.TrimPrefix(roomPath(id, rest), "/v1")
}

func TestCreateEmptyRoom(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	admin, alice := s.admin(), s.login("alice")
	create := object{"roomID": "class#1", "roomName": "First", "config": object{"unusedTimeout": 600, "destroyDelay": 5}}
	r := admin.call("POST", "/v1/admin/rooms", create).is(http.StatusCreated)
	opened := as[struct{ Room room.Room }](r).Room
	if r.Header.Get("Location") != adminPath("class#1", "") || opened.MemberCount != 0 || opened.LastSeq != 0 {
		t.Errorf("created room has Location %s: %+v", r.Header.Get("Location"), opened)
	}
	if due := opened.DestroyAt.Time().Sub(opened.CreatedAt.Time()); due != 10*time.Minute {
		t.Errorf("the unused room is destroyed after %v, want 10 minutes", due)
	}
	admin.call("POST", "/v1/admin/rooms", create).refused(http.StatusConflict, "room_exists")
	if got := as[struct{ Room room.Room }](admin.call("GET", adminPath("class#1", ""), nil).is(http.StatusOK)).Room; got.Generation != opened.Generation {
		t.Errorf("got room %+v", got)
	}
	// Entering the room ends its unusedTimeout. When it is empty again, destroyDelay applies.
	if entered := alice.enter("class#1"); entered.Generation != opened.Generation || entered.DestroyAt != 0 {
		t.Errorf("entered room is %+v", entered)
	}
	alice.leave("class#1")
	left := as[struct{ Room room.Room }](admin.call("GET", adminPath("class#1", ""), nil).is(http.StatusOK)).Room
	if due := left.DestroyAt.Time().Sub(clock.Now()); due.Round(time.Second) != 5*time.Second {
		t.Errorf("the empty room is destroyed after %v, want 5 seconds", due)
	}
	for id, unused := range map[room.RoomID]time.Duration{"short": time.Second, "long": 2 * time.Second} {
		admin.call("POST", "/v1/admin/rooms", object{"roomID": id, "config": object{"unusedTimeout": unused.Seconds()}}).is(http.StatusCreated)
	}
	clock.advance(2*time.Second - time.Millisecond)
	s.sweep()
	admin.call("GET", adminPath("short", ""), nil).refused(http.StatusNotFound, "room_not_found")
	admin.call("GET", adminPath("long", ""), nil).is(http.StatusOK)
	clock.advance(time.Millisecond)
	s.sweep()
	admin.call("GET", adminPath("long", ""), nil).refused(http.StatusNotFound, "room_not_found")
}

func TestListRoomsByPrefix(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	ids := []string{"a", "class", "class#1", "class#2", "class~", "clasS", "d"}
	for _, id := range ids {
		alice.call("POST", "/v1/rooms", object{"roomID": id}).is(http.StatusCreated)
	}
	type page struct {
		Rooms      []room.Room
		NextCursor string
	}
	names := func(p page) (names []string) {
		for _, r := range p.Rooms {
			names = append(names, string(r.ID))
		}
		return names
	}
	slices.Sort(ids) // by bytes
	var all []string
	cursor := ""
	for range ids {
		p := as[page](admin.call("GET", "/v1/admin/rooms?limit=2"+cursor, nil).is(http.StatusOK))
		all = append(all, names(p)...)
		if p.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + p.NextCursor
	}
	if diff := cmp.Diff(ids, all); diff != "" {
		t.Errorf("all pages (-want +got):\n%s", diff)
	}
	for prefix, want := range map[string][]string{
		"class": {"class", "class#1", "class#2", "class~"}, "class#": {"class#1", "class#2"}, "clasS": {"clasS"}, "e": nil, ".": nil, "..": nil,
		strings.Repeat("x", 128): nil,
	} {
		p := as[page](admin.call("GET", "/v1/admin/rooms?prefix="+url.QueryEscape(prefix), nil).is(http.StatusOK))
		if diff := cmp.Diff(want, names(p)); diff != "" || p.NextCursor != "" {
			t.Errorf("prefix %s (-want +got), next cursor %q:\n%s", prefix, p.NextCursor, diff)
		}
	}
	for query, want := range map[string]string{
		"prefix=": "prefix roomID", "prefix=%20b": "prefix roomID", "prefix=%25%00": "prefix roomID", "prefix=" + strings.Repeat("x", 129): "prefix roomID",
		"prefix=a&prefix=b": "prefix duplicate", "limit=0": "limit range", "limit=501": "limit range", "cursor=": "cursor cursor",
		"cursor=!": "cursor cursor", "cursor=Lg": "cursor cursor", "cursor=YQ%3D%3D": "cursor cursor", "before=a": "before unknown",
	} {
		name, rule, _ := strings.Cut(want, " ")
		admin.call("GET", "/v1/admin/rooms?"+query, nil).invalid("query/"+name, rule)
	}
}

// TestKick checks that kicked sessions are notified immediately with the reason, that the other
// members get one event, and that a banned user cannot enter until the ban expires or is lifted.
func TestKick(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) { c.store.Now = clock.Now })
	admin := s.admin()
	alice, bob, phone, carol := s.login("alice"), s.login("bob"), s.login("bob"), s.login("carol")
	for _, c := range []*client{alice, bob, phone, carol} {
		c.enter("lobby")
	}
	aliceStream, _ := alice.listen()
	tab, _ := bob.listen()
	other, _ := phone.listen()

	kick := object{"userIDs": []string{"bob", "carol", "nobody"}, "reason": "zu laut", "banSeconds": 60}
	got := as[struct{ KickedList, ErrorUserList []room.UserID }](admin.call("POST", adminPath("lobby", "/kick"), kick).is(http.StatusOK))
	if !slices.Equal(got.KickedList, []room.UserID{"bob", "carol"}) || !slices.Equal(got.ErrorUserList, []room.UserID{"nobody"}) {
		t.Errorf("kick replied %+v", got)
	}
	for _, stream := range []*stream{tab, other} {
		if event := skipTo[room.RoomStateChanged](stream); event.State != room.RoomDisconnected || event.Event != room.RoomKickedOut || event.Reason != "zu laut" {
			t.Errorf("the kicked session received %+v", event)
		}
	}
	left := skipTo[room.MembersLeft](aliceStream)
	want := []room.LeftMember{{User: room.User{ID: "bob", Name: "bob"}, Reason: room.ReasonKicked}, {User: room.User{ID: "carol", Name: "carol"}, Reason: room.ReasonKicked}}
	if diff := cmp.Diff(want, left.MemberList); diff != "" {
		t.Errorf("memberList of membersLeft (-want +got):\n%s", diff)
	}
	bob.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "x"}).refused(http.StatusConflict, "not_in_room")

	bans := func() (users []room.UserID) {
		for _, b := range as[struct{ Bans []room.Ban }](admin.call("GET", adminPath("lobby", "/bans"), nil).is(http.StatusOK)).Bans {
			if b.Reason != "zu laut" || b.Until.Time().Sub(clock.Now()).Round(time.Second) != time.Minute {
				t.Errorf("unexpected ban %+v", b)
			}
			users = append(users, b.UserID)
		}
		return users
	}
	if users := bans(); !slices.Equal(users, []room.UserID{"bob", "carol", "nobody"}) {
		t.Errorf("banned users are %v", users)
	}
	bob.call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusForbidden, "banned")
	bob.call("POST", roomPath("lobby", "/enter"), nil).refused(http.StatusForbidden, "banned")
	bob.enter("attic")
	bob.call("POST", roomPath("attic", "/switch"), object{"toRoom": object{"roomID": "lobby"}}).refused(http.StatusForbidden, "banned")
	s.login("nobody").call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusForbidden, "banned")
	// A ban applies to the room's ID, so the users cannot enter a new room with that ID either.
	alice.leave("lobby")
	carol.call("POST", "/v1/rooms", object{"roomID": "lobby"}).refused(http.StatusForbidden, "banned")
	alice.enter("lobby")

	admin.call("DELETE", adminPath("lobby", "/bans/carol"), nil).is(http.StatusNoContent)
	admin.call("DELETE", adminPath("lobby", "/bans/carol"), nil).refused(http.StatusNotFound, "ban_not_found")
	carol.enter("lobby")
	clock.advance(time.Minute - time.Millisecond)
	bob.call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusForbidden, "banned")
	clock.advance(time.Millisecond)
	bob.enter("lobby")
	s.sweep()
	if users := bans(); len(users) != 0 {
		t.Errorf("after the ban expired, banned users are %v", users)
	}
	// Kick one member, whose ID is in the path.
	admin.call("DELETE", adminPath("lobby", "/members/bob?reason=again"), nil).is(http.StatusNoContent)
	bob.enter("lobby") // not banned
	bob.leave("lobby")
	admin.call("DELETE", adminPath("lobby", "/members/bob"), nil).refused(http.StatusNotFound, "member_not_found")
	admin.call("DELETE", adminPath("lobby", "/members/bob?banSeconds=1"), nil).is(http.StatusNoContent)
	bob.call("POST", roomPath("lobby", "/join"), nil).refused(http.StatusForbidden, "banned")
}

// TestKickNeedsGrant checks that members can kick only in rooms for which their token grants it.
func TestKickNeedsGrant(t *testing.T) {
	t.Parallel()
	s := newService(t)
	teacher := s.loginWith(s.signed(set("rooms", []object{{"roomID": "class*", "create": true, "join": true, "kick": true}, {"roomID": "lobby", "create": true, "join": true}})))
	pupil, free := s.login("pupil"), s.login("free")
	for _, id := range []room.RoomID{"class", "lobby"} {
		teacher.enter(id)
		pupil.enter(id)
		free.enter(id)
	}
	kick := object{"userIDs": []string{"pupil"}, "reason": "later"}
	free.call("POST", roomPath("class", "/kick"), kick).refused(http.StatusForbidden, "not_granted") // its token has no grants
	teacher.call("POST", roomPath("lobby", "/kick"), kick).refused(http.StatusForbidden, "not_granted")
	teacher.call("POST", roomPath("class", "/kick"), kick).is(http.StatusOK)
	teacher.leave("class")
	teacher.call("POST", roomPath("class", "/kick"), object{"userIDs": []string{"free"}}).refused(http.StatusConflict, "not_in_room")
	pupil.call("GET", roomPath("class", ""), nil).refused(http.StatusConflict, "not_in_room")
	pupil.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)
}

// TestDestroy checks that all members are notified immediately, with an event that differs from a
// kick.
func TestDestroy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice, bob, away := s.admin(), s.login("alice"), s.login("bob"), s.login("away")
	first := alice.enter("lobby")
	bob.enter("lobby")
	away.enter("lobby")
	away.enter("attic")
	aliceStream, _ := alice.listen()
	gone, ready := away.listen()
	cursor := gone.id
	gone.disconnect()
	if len(ready.Rooms) != 2 {
		t.Fatalf("the session without a stream is in rooms %v, want two", ready.Rooms)
	}
	admin.call("DELETE", adminPath("lobby", "?reason=closing%20time"), nil).is(http.StatusNoContent)
	event := skipTo[room.RoomStateChanged](aliceStream)
	want := room.RoomStateChanged{RoomID: "lobby", Generation: first.Generation, State: room.RoomDisconnected, Event: room.RoomNotExist, Reason: "closing time"}
	if diff := cmp.Diff(want, event); diff != "" {
		t.Errorf("event of a connected member (-want +got):\n%s", diff)
	}
	// A member without a stream is notified when it reconnects.
	back, ready := away.listen(resume(cursor))
	if len(ready.Rooms) != 1 {
		t.Errorf("after the room was destroyed, the session is in %v", ready.Rooms)
	}
	if diff := cmp.Diff(want, skipTo[room.RoomStateChanged](back)); diff != "" {
		t.Errorf("event of a reconnected member (-want +got):\n%s", diff)
	}
	alice.call("GET", roomPath("lobby", ""), nil).refused(http.StatusNotFound, "room_not_found")
	admin.call("DELETE", adminPath("lobby", ""), nil).refused(http.StatusNotFound, "room_not_found")
	if again := bob.enter("lobby"); again.Generation == first.Generation || again.MemberCount != 1 || again.LastSeq != 1 {
		t.Errorf("the room created again is %+v", again)
	}
}

func TestAdminMessage(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	alice.enter("lobby")
	aliceStream, _ := alice.listen()
	body := object{
		"sender":  object{"userID": "system", "userName": "The school"},
		"message": object{"kind": "text", "text": "The lesson begins.", "clientMessageID": "1", "priority": "high"},
	}
	sent := message(admin.call("POST", adminPath("lobby", "/messages"), body).is(http.StatusCreated))
	if sent.Sender != (room.User{ID: "system", Name: "The school"}) || sent.Seq != 2 {
		t.Errorf("sent message is %+v", sent)
	}
	if diff := cmp.Diff(sent, expect[room.MessagesReceived](aliceStream).MessageList[0]); diff != "" {
		t.Errorf("received message (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sent, message(admin.call("POST", adminPath("lobby", "/messages"), body).is(http.StatusCreated))); diff != "" {
		t.Errorf("reply to the retry (-want +got):\n%s", diff)
	}
	body["message"] = object{"kind": "text", "text": "It ends.", "clientMessageID": "1", "priority": "high"}
	admin.call("POST", adminPath("lobby", "/messages"), body).refused(http.StatusConflict, "client_message_id_reused")
	nameless := object{"sender": object{"userID": "system"}, "message": object{"kind": "text", "text": "x"}}
	if m := message(admin.call("POST", adminPath("lobby", "/messages"), nameless).is(http.StatusCreated)); m.Sender.Name != "system" {
		t.Errorf("without a userName, the sender's name is %q", m.Sender.Name)
	}
}

func TestAdminListsAndEndsSessions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, tab, phone, bob := s.admin(), s.login("alice"), s.login("alice"), s.login("bob")
	tab.enter("a")
	phone.enter("b")
	phone.enter("a")
	bob.enter("a")
	rooms := as[struct{ Rooms []room.Room }](admin.call("GET", "/v1/admin/users/alice/rooms", nil).is(http.StatusOK)).Rooms
	if len(rooms) != 2 || rooms[0].ID != "a" || rooms[1].ID != "b" {
		t.Errorf("alice is in %v", rooms)
	}
	sessions := func() (ids []room.SessionID) {
		for _, session := range as[struct{ Sessions []session }](admin.call("GET", "/v1/admin/users/alice/sessions", nil).is(http.StatusOK)).Sessions {
			ids = append(ids, session.SessionID)
		}
		return ids
	}
	if got := sessions(); !slices.Equal(got, []room.SessionID{tab.SessionID, phone.SessionID}) {
		t.Errorf("alice has the sessions %v", got)
	}
	bobStream, _ := bob.listen()
	ending, _ := phone.listen()
	admin.call("DELETE", fmt.Sprintf("/v1/admin/users/alice/sessions/%s?reason=lost%%20phone", phone.SessionID), nil).is(http.StatusNoContent)
	if event := skipTo[room.ConnectionStateChanged](ending); event.Event != room.ConnectionKickedOut || event.Reason != "lost phone" {
		t.Errorf("the ended session received %+v", event)
	}
	phone.call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "session_ended")
	for _, other := range []string{string(phone.SessionID), string(bob.SessionID), "0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10"} {
		admin.call("DELETE", "/v1/admin/users/alice/sessions/"+other, nil).refused(http.StatusNotFound, "session_not_found")
	}
	for _, bad := range []string{"x", strings.ToUpper(string(bob.SessionID)), "urn:uuid:" + string(bob.SessionID), "%7B" + string(bob.SessionID) + "%7D"} {
		admin.call("DELETE", "/v1/admin/users/alice/sessions/"+bad, nil).invalid("path/sessionID", "uuid")
	}
	third := s.login("alice")
	ended := as[struct{ SessionIDs []room.SessionID }](admin.call("DELETE", "/v1/admin/users/alice/sessions?reason=gone", nil).is(http.StatusOK)).SessionIDs
	slices.Sort(ended)
	if want := []room.SessionID{tab.SessionID, third.SessionID}; !slices.Equal(ended, want) {
		t.Errorf("ended sessions are %v, want %v", ended, want)
	}
	if left := skipTo[room.MembersLeft](bobStream).MemberList; len(left) != 1 || left[0].ID != "alice" || left[0].Reason != room.ReasonKicked {
		t.Errorf("membersLeft lists %+v", left)
	}
	if got := sessions(); len(got) != 0 {
		t.Errorf("alice still has the sessions %v", got)
	}
}

// TestAdminLimits checks each limit with the largest allowed value and one above it.
func TestAdminLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	admin, alice := s.admin(), s.login("alice")
	alice.enter("lobby")
	users := func(n int) (users []string) {
		for i := range n {
			users = append(users, fmt.Sprint("u", i))
		}
		return users
	}
	kick := func(body object) reply { return admin.call("POST", adminPath("lobby", "/kick"), body) }
	kick(object{"userIDs": users(50)}).is(http.StatusOK)
	kick(object{"userIDs": users(51)}).invalid("/userIDs", "max")
	reason := strings.Repeat("é", 128)
	kick(object{"userIDs": users(1), "reason": reason, "banSeconds": 31_536_000}).is(http.StatusOK)
	kick(object{"userIDs": users(1), "reason": reason + "x"}).invalid("/reason", "maxBytes")
	kick(object{"userIDs": users(1), "banSeconds": 31_536_001}).invalid("/banSeconds", "max")
	kick(object{"userIDs": users(1), "banSeconds": -1}).invalid("/banSeconds", "min")
	for path, want := range map[string]string{
		adminPath("lobby", "/members/u0?banSeconds=31536001"):                 "query/banSeconds range",
		adminPath("lobby", "/members/u0?banSeconds=x"):                        "query/banSeconds range",
		adminPath("lobby", "/members/u0?ban=1"):                               "query/ban unknown",
		adminPath("lobby", "/members/u0?reason="+url.QueryEscape(reason)+"x"): "query/reason maxBytes",
		adminPath("lobby", "/members/%20b"):                                   "path/userID userID",
		adminPath("lobby", "/bans/%20b"):                                      "path/userID userID",
		adminPath("lobby", "?reason="+url.QueryEscape(reason)+"x"):            "query/reason maxBytes",
		adminPath("lobby", "?reason=%00"):                                     "query/reason text",
		adminPath("lobby", "?reason=%ff"):                                     "query/reason text",
		adminPath("lobby", "?reason=a&reason=b"):                              "query/reason duplicate",
		"/v1/admin/users/%20b/sessions":                                       "path/userID userID",
		"/v1/admin/users/u0/sessions?reason=" + url.QueryEscape(reason) + "x": "query/reason maxBytes",
		"/v1/admin/users/u0/sessions/" + string(alice.SessionID) + "?why=x":   "query/why unknown",
	} {
		pointer, rule, _ := strings.Cut(want, " ")
		admin.call("DELETE", path, nil).invalid(pointer, rule)
	}
	admin.call("GET", "/v1/admin/users/../rooms", nil).invalid("path/userID", "userID")
	admin.call("GET", "/v1/admin/users/.%2e/rooms", nil).invalid("path/userID", "userID")
	admin.call("GET", "/v1/admin/users/%20b/sessions", nil).invalid("path/userID", "userID")
	if members := as[struct{ MemberList []room.Member }](admin.call("GET", adminPath("lobby", "/members?userID=alice&userID=bob"), nil).is(http.StatusOK)).MemberList; len(members) != 1 {
		t.Errorf("members %+v", members)
	}
	if members := as[struct{ MemberList []room.Member }](admin.call("GET", adminPath("lobby", "/members"), nil).is(http.StatusOK)).MemberList; len(members) != 1 {
		t.Errorf("members %+v", members)
	}
	admin.call("GET", adminPath("lobby", "/members?limit=0"), nil).invalid("query/limit", "range")
	admin.call("DELETE", adminPath("lobby", "?reason="+url.QueryEscape(reason)), nil).is(http.StatusNoContent)
}

// TestVoidTokens checks that voiding a user's tokens ends the sessions that were opened with older
// tokens, and that newer tokens and other users' tokens remain valid.
func TestVoidTokens(t *testing.T) {
	t.Parallel()
	s := newService(t)
	at := func(ago time.Duration) string { return s.signed(set("iat", time.Now().Add(-ago).Unix())) }
	old, fresh, undated := at(10*time.Minute), at(time.Minute), s.signed(func(jwt.MapClaims) {})
	stolen, renewed, kept, without := s.loginWith(old), s.loginWith(old), s.loginWith(fresh), s.loginWith(undated)
	renewed.call("PUT", "/v1/sessions/current/token", object{"token": fresh}).is(http.StatusOK)
	bob := s.login("bob")
	bob.enter("lobby")
	stolen.enter("lobby")
	stream, _ := stolen.listen()

	before := time.Now().Add(-5 * time.Minute).UTC().Truncate(time.Millisecond)
	admin := s.admin()
	path := "/v1/admin/users/alice/tokens-void-before"
	reply := as[struct {
		Before     time.Time
		SessionIDs []room.SessionID
	}](admin.call("PUT", path, object{"before": before, "reason": "a lost phone"}).is(http.StatusOK))
	want := []room.SessionID{stolen.SessionID, without.SessionID}
	slices.Sort(want)
	slices.Sort(reply.SessionIDs)
	if !slices.Equal(reply.SessionIDs, want) || !reply.Before.Equal(before) {
		t.Errorf("got %+v, want sessions %v", reply, want)
	}
	if got := skipTo[room.RoomStateChanged](stream); got.Event != room.RoomKickedOut || got.Reason != "a lost phone" {
		t.Errorf("the voided session received %+v", got)
	}
	if got := expect[room.ConnectionStateChanged](stream); got.Event != room.ConnectionKickedOut {
		t.Errorf("the voided session received %+v", got)
	}
	stolen.call("GET", "/v1/sessions/current", nil).refused(http.StatusUnauthorized, "session_ended")
	renewed.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
	kept.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
	bob.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
	for _, void := range []string{old, undated} {
		s.anonymous().call("POST", "/v1/sessions", object{"token": void}).refused(http.StatusUnauthorized, "token_void")
		kept.call("PUT", "/v1/sessions/current/token", object{"token": void}).refused(http.StatusUnauthorized, "token_void")
	}
	s.loginWith(fresh)

	// The default of "before" is the server's time.
	if all := as[struct{ SessionIDs []room.SessionID }](admin.call("PUT", path, object{}).is(http.StatusOK)); len(all.SessionIDs) != 3 {
		t.Errorf("%d sessions ended, want 3", len(all.SessionIDs))
	}
	s.anonymous().call("POST", "/v1/sessions", object{"token": fresh}).refused(http.StatusUnauthorized, "token_void")
	s.loginWith(s.signed(set("iat", time.Now().Add(2*time.Second).Unix())))
	admin.call("PUT", path, object{"before": time.Now().Add(time.Hour).UTC()}).invalid("/before", "past")
	admin.call("PUT", path, object{"before": time.Time{}}).is(http.StatusOK)
	s.loginWith(old)
}
