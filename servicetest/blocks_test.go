package servicetest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

type blockPage struct {
	BlockList  []room.Block `json:"blockList"`
	NextCursor string       `json:"nextCursor"`
}

func (p blockPage) users() string {
	var users []string
	for _, b := range p.BlockList {
		users = append(users, string(b.User))
	}
	return strings.Join(users, " ")
}

func blockPath(user room.UserID) string { return "/v1/blocks/" + url.PathEscape(string(user)) }

// TestBlocks checks the block list, what its user's sessions receive, and that the blocked user
// notices nothing but the code.
func TestBlocks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, phone, bob := s.login("alice"), s.loginWith(s.signed(everyGrant)), s.login("bob")
	s.login("b/c ?%")
	tablet := s.login("alice")
	bobStream, _ := bob.listen()
	aliceStream, _ := tablet.listen()
	alice.call("PUT", blockPath("bob"), nil).is(http.StatusNoContent)
	alice.call("PUT", blockPath("bob"), nil).is(http.StatusNoContent)
	phone.call("PUT", blockPath("b/c ?%"), nil).is(http.StatusNoContent)
	for _, want := range []room.BlockListChanged{{User: "bob", Blocked: true}, {User: "b/c ?%", Blocked: true}} {
		if diff := cmp.Diff(want, expect[room.BlockListChanged](aliceStream)); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
	bob.call("POST", peerPath("alice"), object{"kind": "text", "text": "x"}).refused(http.StatusForbidden, "blocked")
	bob.call("POST", peerPath("alice"), object{"kind": "command", "data": "AA=="}).refused(http.StatusForbidden, "blocked")
	sent := alice.sendTo("bob", "the other way works")
	if got := bobStream.peerMessage(); got.ID != sent.ID {
		t.Errorf("the blocked user received %+v", got)
	}
	bobStream.expectNoMore(bob)
	if m := aliceStream.peerMessage(); m.ID != sent.ID || m.Seq != 3 {
		t.Errorf("the user who blocked received %+v", m)
	}
	list := func(c *client, query string) blockPage {
		return as[blockPage](c.call("GET", "/v1/blocks"+query, nil).is(http.StatusOK))
	}
	first := list(alice, "?limit=1")
	if first.users() != "b/c ?%" || first.NextCursor == "" || first.BlockList[0].BlockedAt == 0 {
		t.Errorf("first page: %+v", first)
	}
	if second := list(phone, "?limit=1&cursor="+first.NextCursor); second.users() != "bob" || second.NextCursor != "" {
		t.Errorf("second page: %+v", second)
	}
	if named := list(alice, "?userID=bob&userID=carol&userID=bob"); named.users() != "bob" || named.NextCursor != "" {
		t.Errorf("named users: %+v", named)
	}
	if none := list(bob, ""); none.BlockList == nil || len(none.BlockList) != 0 {
		t.Errorf("the list of the blocked user: %+v", none)
	}
	alice.call("DELETE", blockPath("bob"), nil).is(http.StatusNoContent)
	if diff := cmp.Diff(room.BlockListChanged{User: "bob"}, expect[room.BlockListChanged](aliceStream)); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	bob.sendTo("alice", "again")

	alice.call("DELETE", blockPath("bob"), nil).refused(http.StatusNotFound, "block_not_found")
	alice.call("PUT", blockPath("nobody"), nil).refused(http.StatusNotFound, "user_not_found")
	alice.call("PUT", blockPath("alice"), nil).refused(http.StatusBadRequest, "block_self")
	alice.call("PUT", blockPath("a "), nil).invalid("path/userID", "userID")
	for query, pointer := range map[string]string{
		"?limit=0": "query/limit", "?limit=501": "query/limit", "?cursor=x": "query/cursor", "?cursor=": "query/cursor",
		"?userID=bob&limit=1": "query/limit", "?userID=": "query/userID", "?before=1": "query/before",
	} {
		if p := alice.call("GET", "/v1/blocks"+query, nil).refused(http.StatusBadRequest, "invalid_request"); p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	s.exec("INSERT INTO blocks SELECT log, 'user' || n, now() FROM inboxes, generate_series(1, $1) n WHERE user_id = 'alice'", room.MaxBlocks-1)
	alice.call("PUT", blockPath("bob"), nil).refused(http.StatusConflict, "too_many_blocks")
	alice.call("PUT", blockPath("user1"), nil).is(http.StatusNoContent)
	if page := list(alice, fmt.Sprintf("?limit=%d", 500)); len(page.BlockList) != 500 || page.NextCursor == "" {
		t.Errorf("a full page has %d users", len(page.BlockList))
	}
}
