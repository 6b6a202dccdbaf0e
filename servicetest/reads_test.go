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

// TestMessageLookup reads messages by their seqs and IDs, among those that cannot be read.
func TestMessageLookup(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.call("POST", "/v1/rooms", object{"roomID": "lobby", "config": object{"historyVisible": "sinceJoined"}}).is(http.StatusCreated)
	hidden := alice.send("lobby", "hidden")
	bob.enter("lobby")
	alice.enter("other")
	elsewhere := alice.send("other", "elsewhere")
	var sent []room.Message
	for i := range 4 {
		sent = append(sent, alice.send("lobby", fmt.Sprint(i)))
	}
	alice.call("DELETE", roomPath("lobby", "/messages/"+string(sent[3].ID)), nil).is(http.StatusNoContent)
	whisper := message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "whisper", "to": []string{"alice"}}).is(http.StatusCreated))
	seq := func(of ...room.Message) (query string) {
		for _, m := range of {
			query += fmt.Sprintf("&seq=%d", m.Seq)
		}
		return "?" + strings.TrimPrefix(query, "&")
	}
	ids := func(of ...room.Message) (query string) {
		for _, m := range of {
			query += "&messageID=" + url.QueryEscape(string(m.ID))
		}
		return "?" + strings.TrimPrefix(query, "&")
	}
	for query, want := range map[string]string{
		seq(sent[2], sent[0], sent[2]):                         "0 2",
		ids(sent[2], sent[0], sent[2]):                         "0 2",
		seq(hidden, sent[1]):                                   "1", // and the join of bob
		ids(hidden, sent[1], elsewhere):                        "1",
		seq(whisper, sent[1]):                                  "1",
		ids(whisper, sent[1]):                                  "1",
		ids(elsewhere):                                         "",
		"?seq=1&seq=3&seq=1000&seq=9007199254740991":           "",
		"?messageID=3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61":      "", // not one of a message
		"?seq=4" + strings.Repeat("&seq=4", 98) + "&seq=5":     "0 1",
		seq(sent...) + strings.Repeat("&seq=1", 100-len(sent)): "0 1 2 ",
	} {
		if page := listMessages(bob, "lobby", query); page.texts() != want || page.NextCursor != 0 {
			t.Errorf("%s: %q, want %q; next cursor %d", query, page.texts(), want, page.NextCursor)
		}
	}
	if got := listMessages(alice, "lobby", seq(hidden)).MessageList; !cmp.Equal(got, []room.Message{hidden}) {
		t.Errorf("by seq, alice reads %+v", got)
	}
	if got := listMessages(alice, "lobby", ids(hidden)).MessageList; !cmp.Equal(got, []room.Message{hidden}) {
		t.Errorf("by ID, alice reads %+v", got)
	}
	for query, fault := range map[string][2]string{
		"?seq=0": {"query/seq", "range"}, "?seq=x": {"query/seq", "range"}, "?seq=": {"query/seq", "range"}, "?seq=9007199254740992": {"query/seq", "range"},
		"?seq=1" + strings.Repeat("&seq=1", 100): {"query/seq", "max"},
		"?messageID=x":                           {"query/messageID", "uuid"},
		ids(sent[0]) + strings.Repeat("&messageID=3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", 100): {"query/messageID", "max"},
		seq(sent[0]) + "&limit=1":                    {"query/limit", "exclusive"},
		seq(sent[0]) + "&" + ids(sent[0])[1:]:        {"query/messageID", "exclusive"},
		ids(sent[0]) + "&after=1":                    {"query/after", "exclusive"},
		ids(sent[0]) + "&until=2026-11-21T15:00:00Z": {"query/until", "exclusive"},
	} {
		bob.call("GET", roomPath("lobby", "/messages")+query, nil).invalid(fault[0], fault[1])
	}
	s.login("carol").call("GET", roomPath("lobby", "/messages")+seq(sent[0]), nil).refused(http.StatusConflict, "not_in_room")
	s.admin().patchRoom(adminPath("lobby", ""), object{"config": object{"history": "none"}})
	alice.call("GET", roomPath("lobby", "/messages")+seq(hidden), nil).refused(http.StatusConflict, "no_history")
	alice.call("GET", roomPath("lobby", "/messages")+ids(hidden), nil).refused(http.StatusConflict, "no_history")
}

// TestRoomWithMembers enters and reads a room together with its first members.
func TestRoomWithMembers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob, carol := s.login("alice"), s.login("bob"), s.login("carol")
	type page struct {
		Room    room.Room
		Members *struct {
			memberPage
			Infos []room.MemberAttributesInfo
		}
	}
	check := func(what string, r reply, ids string, more bool) {
		t.Helper()
		got := as[page](r)
		if got.Members == nil {
			t.Errorf("%s: no members", what)
			return
		}
		m := got.Members
		if m.ids() != ids || m.Seq != got.Room.LastSeq || (m.NextCursor != "") != more {
			t.Errorf("%s: the room at %d has the members %s at %d, next %q", what, got.Room.LastSeq, m.ids(), m.Seq, m.NextCursor)
		}
		if len(m.Infos) != 1 || m.Infos[0].UserID != "alice" || m.Infos[0].Attributes["hand"].Value != "up" {
			t.Errorf("%s: the attributes are %+v", what, m.Infos)
		}
		if more {
			next := as[memberPage](alice.call("GET", roomPath("lobby", "/members?cursor="+url.QueryEscape(m.NextCursor)), nil).is(http.StatusOK))
			if next.ids() != "carol" {
				t.Errorf("%s: the next page is %s", what, next.ids())
			}
		}
	}
	alice.enter("lobby")
	alice.call("PATCH", roomPath("lobby", "/member-attributes"), object{"userIDs": []string{"alice"}, "set": object{"hand": "up"}}).is(http.StatusOK)
	check("join", bob.call("POST", roomPath("lobby", "/join"), object{"memberLimit": 500}).is(http.StatusOK), "alice bob", false)
	carol.enter("other")
	check("switch", carol.call("POST", roomPath("other", "/switch"), object{"toRoom": object{"roomID": "lobby"}, "memberLimit": 2}).is(http.StatusOK), "alice bob", true)
	check("enter", carol.call("POST", roomPath("lobby", "/enter"), object{"memberLimit": 3}).is(http.StatusOK), "alice bob carol", false)
	check("get", carol.call("GET", roomPath("lobby", "?memberLimit=2"), nil).is(http.StatusOK), "alice bob", true)
	if got := as[page](carol.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)); got.Members != nil {
		t.Errorf("members that nobody asked for: %+v", got.Members)
	}
	for _, limit := range []int{0, 501} {
		carol.call("GET", roomPath("lobby", fmt.Sprintf("?memberLimit=%d", limit)), nil).invalid("query/memberLimit", "range")
	}
}
