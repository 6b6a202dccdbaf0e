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

type memberInfo struct {
	UserID     room.UserID
	Attributes pairs
}

type memberAttributesPage struct {
	Infos         []memberInfo
	NextCursor    string
	ErrorUserList []room.UserID
}

// patchMembers changes attributes of members.
func (c *client) patchMembers(id room.RoomID, body object) memberAttributesPage {
	c.Helper()
	return as[memberAttributesPage](c.call("PATCH", roomPath(id, "/member-attributes"), body).is(http.StatusOK))
}

// readMembers returns a page of members' attributes.
func (c *client) readMembers(id room.RoomID, query string) memberAttributesPage {
	c.Helper()
	return as[memberAttributesPage](c.call("GET", roomPath(id, "/member-attributes"+query), nil).is(http.StatusOK))
}

func TestMemberAttributes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, phone := s.login("alice"), s.login("bob"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	phone.enter("lobby")
	bobStream, _ := bob.listen()

	got := alice.patchMembers("lobby", object{"userIDs": []string{"carol", "bob", "alice"}, "set": pairs{"hand": "up", "é": ""}})
	both := []memberInfo{{"alice", pairs{"hand": "up", "é": ""}}, {"bob", pairs{"hand": "up", "é": ""}}}
	if diff := cmp.Diff(memberAttributesPage{Infos: both, ErrorUserList: []room.UserID{"carol"}}, got); diff != "" {
		t.Errorf("reply to the change (-want +got):\n%s", diff)
	}
	event := expect[room.MemberAttributesUpdated](bobStream)
	if len(event.Infos) != 2 || !cmp.Equal(pairs(event.Infos[1].Attributes.Pairs()), both[1].Attributes) || event.OperatedInfo == nil || event.OperatedInfo.UserID != "alice" {
		t.Errorf("got event %+v", event)
	}
	// The event contains all attributes of a member, and only members that changed.
	alice.patchMembers("lobby", object{"userIDs": []string{"bob"}, "delete": []string{"é"}})
	expect[room.MemberAttributesUpdated](bobStream)
	got = bob.patchMembers("lobby", object{"userIDs": []string{"bob", "alice"}, "delete": []string{"é", "none"}})
	if len(got.Infos) != 2 || len(got.ErrorUserList) > 0 || got.ErrorUserList == nil {
		t.Errorf("reply to the change is %+v", got)
	}
	if event := expect[room.MemberAttributesUpdated](bobStream); len(event.Infos) != 1 || event.Infos[0].UserID != "alice" || !cmp.Equal(event.Infos[0].Attributes.Pairs(), map[string]string{"hand": "up"}) {
		t.Errorf("got event %+v", event)
	}
	bob.patchMembers("lobby", object{"userIDs": []string{"bob", "alice"}, "set": pairs{"hand": "up"}}) // changes nothing
	bob.patchMembers("lobby", object{"userIDs": []string{"nobody"}, "set": pairs{"hand": "up"}})
	bob.patchMembers("lobby", object{"userIDs": []string{"bob"}, "set": pairs{"seat": "7"}, "deleteAfterOwnerLeft": false})
	if event := expect[room.MemberAttributesUpdated](bobStream); len(event.Infos) != 1 || !cmp.Equal(event.Infos[0].Attributes.Pairs(), map[string]string{"hand": "up", "seat": "7"}) {
		t.Errorf("got event %+v", event)
	}

	bob.leave("lobby")
	if got := alice.readMembers("lobby", "?userID=bob"); len(got.Infos) != 1 || len(got.Infos[0].Attributes) != 2 {
		t.Errorf("attributes after one of two sessions left: %+v", got)
	}
	phone.leave("lobby")
	if got := alice.readMembers("lobby", "?userID=bob"); len(got.Infos) > 0 {
		t.Errorf("attributes after the user left: %+v", got)
	}
	bob.enter("lobby")
	if diff := cmp.Diff([]memberInfo{{"bob", pairs{"seat": "7"}}}, alice.readMembers("lobby", "?userID=bob").Infos); diff != "" {
		t.Errorf("attributes after the user entered again (-want +got):\n%s", diff)
	}
}

func TestMemberAttributesLists(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	var noted []string
	for i := range 6 {
		user := fmt.Sprint("user", 9-i)
		s.login(room.UserID(user)).enter("lobby")
		if i != 2 {
			noted = append(noted, user)
		}
	}
	if got := alice.readMembers("lobby", ""); got.Infos == nil || len(got.Infos) > 0 || got.NextCursor != "" {
		t.Errorf("attributes of members without any: %+v", got)
	}
	alice.patchMembers("lobby", object{"userIDs": noted, "set": pairs{"k": "v"}})
	for limit := 1; limit <= 6; limit++ {
		var got []string
		for cursor, first := "", true; first || cursor != ""; first = false {
			query := fmt.Sprint("?limit=", limit)
			if !first {
				query += "&cursor=" + url.QueryEscape(cursor)
			}
			page := alice.readMembers("lobby", query)
			if len(page.Infos) > limit || len(page.Infos) == 0 || len(got) >= len(noted) {
				t.Fatalf("a page of up to %d has %d after %q", limit, len(page.Infos), got)
			}
			for _, m := range page.Infos {
				got = append(got, string(m.UserID))
			}
			cursor = page.NextCursor
		}
		if !slices.Equal(got, noted) {
			t.Errorf("in pages of %d: got %q, want %q", limit, got, noted)
		}
	}
	found := alice.readMembers("lobby", "?userID=user7&userID=nobody&userID=user9&userID=alice")
	if diff := cmp.Diff([]memberInfo{{"alice", pairs{}}, {"user9", pairs{"k": "v"}}, {"user7", pairs{}}}, found.Infos); diff != "" {
		t.Errorf("lookup (-want +got):\n%s", diff)
	}
	path := roomPath("lobby", "/member-attributes")
	alice.call("GET", path+"?limit=101", nil).invalid("query/limit", "range")
	alice.call("GET", path+"?limit=0", nil).invalid("query/limit", "range")
	alice.call("GET", path+"?cursor=x", nil).invalid("query/cursor", "cursor")
	alice.call("GET", path+"?userID=a+", nil).invalid("query/userID", "userID")
	alice.call("GET", path+"?"+strings.Repeat("userID=a&", 100)+"userID=b", nil).invalid("query/userID", "max")
}

func TestMemberAttributesLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	path := roomPath("lobby", "/member-attributes")
	both := []string{"alice", "bob"}
	for what, c := range map[string]struct{ most, more pairs }{
		"pairs": {manyAttributes(30), pairs{"one more": ""}},
		"total": {pairs{"a": strings.Repeat("x", 64), "b": strings.Repeat("é", 32), "c": strings.Repeat("x", 13)}, pairs{"z": ""}},
	} {
		bob.enter("lobby")
		alice.patchMembers("lobby", object{"userIDs": []string{"bob"}, "set": c.most})
		alice.call("PATCH", path, object{"userIDs": both, "set": c.more}).refused(http.StatusConflict, "attributes_full")
		if diff := cmp.Diff([]memberInfo{{"bob", c.most}}, alice.readMembers("lobby", "").Infos); diff != "" {
			t.Errorf("%s: a rejected change was stored (-want +got):\n%s", what, diff)
		}
		bob.leave("lobby")
	}
	alice.patchMembers("lobby", object{"userIDs": []string{"alice"}, "set": pairs{strings.Repeat("é", 4): strings.Repeat("é", 32)}})
	alice.patchMembers("lobby", object{"userIDs": []string{"alice"}, "delete": []string{strings.Repeat("é", 4)}})
	hundred := make([]string, 100)
	for i := range hundred {
		hundred[i] = fmt.Sprint("user", i)
	}
	if got := alice.patchMembers("lobby", object{"userIDs": hundred, "set": pairs{"k": "v"}}); len(got.ErrorUserList) != 100 || got.Infos == nil {
		t.Errorf("lookup of a hundred users who are not members: %+v", got)
	}
	for _, c := range []struct {
		change        object
		pointer, rule string
	}{
		{object{"set": pairs{strings.Repeat("é", 4) + "x": ""}}, "/set/" + strings.Repeat("é", 4) + "x", "keyBytes"},
		{object{"set": pairs{"k": strings.Repeat("é", 32) + "x"}}, "/set/k", "maxBytes"},
		{object{"delete": []string{strings.Repeat("é", 4) + "x"}}, "/delete/0", "maxBytes"},
		{object{"set": pairs{"k": ""}, "delete": []string{"k"}}, "/delete/0", "different"},
		{object{}, "", "empty"},
		{object{"set": pairs{"k": ""}, "userIDs": append(hundred, "alice")}, "/userIDs", "max"},
		{object{"set": pairs{"k": ""}, "userIDs": []string{"alice", "alice"}}, "/userIDs", "unique"},
		{object{"set": pairs{"k": ""}, "userIDs": []string{"alice", "a "}}, "/userIDs/1", "userID"},
		{object{"set": pairs{"k": ""}, "userIDs": []string{}}, "/userIDs", "min"},
	} {
		body := object{"userIDs": []string{"alice"}}
		for name, value := range c.change {
			body[name] = value
		}
		alice.call("PATCH", path, body).invalid(c.pointer, c.rule)
	}
}

// TestAttributesNeedAGrant checks that changing another member's attributes needs a grant.
func TestAttributesNeedAGrant(t *testing.T) {
	t.Parallel()
	s := newService(t)
	fenced := s.loginWith(s.signed(grants(object{"roomID": "*", "join": true, "create": true, "send": true}, object{"roomID": "open", "attributes": true})))
	own, other := object{"userIDs": []room.UserID{fenced.UserID}, "set": pairs{"k": "v"}}, object{"userIDs": []room.UserID{fenced.UserID, "x"}, "set": pairs{"k": "v"}}
	for _, id := range []room.RoomID{"open", "closed"} {
		fenced.enter(id)
		fenced.patchMembers(id, own)
		ofRoom := fenced.call("PATCH", roomPath(id, "/attributes"), object{"set": pairs{"k": "v"}})
		ofOthers := fenced.call("PATCH", roomPath(id, "/member-attributes"), other)
		for _, r := range []reply{ofRoom, ofOthers} {
			if id == "open" {
				r.is(http.StatusOK)
			} else {
				r.refused(http.StatusForbidden, "not_granted")
			}
		}
		fenced.readAttributes(id)
		fenced.readMembers(id, "")
	}
}
