package room_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

func TestSessionStates(t *testing.T) {
	t.Parallel()
	online := room.Session{User: room.User{ID: "alice"}, TokenExpiresAt: noon}
	detached, ended := online, online
	detached.DetachedAt = noon.Add(-time.Hour)
	ended.EndedAt, ended.EndReason = noon.Add(-time.Hour), room.EndLoggedOut
	before := noon.Add(-time.Nanosecond)
	for name, c := range map[string]struct {
		session room.Session
		at      time.Time
		state   room.SessionState
		usable  error
	}{
		"online":            {online, before, room.SessionOnline, nil},
		"online, expired":   {online, noon, room.SessionEnded, room.ErrTokenExpired},
		"detached":          {detached, before, room.SessionDetached, nil},
		"detached, expired": {detached, noon, room.SessionEnded, room.ErrTokenExpired},
		"ended":             {ended, before, room.SessionEnded, room.ErrSessionEnded},
	} {
		if got := c.session.State(c.at); got != c.state {
			t.Errorf("%s: state %s, want %s", name, got, c.state)
		}
		if got := c.session.Usable(c.at); !errors.Is(got, c.usable) {
			t.Errorf("%s: usable %v, want %v", name, got, c.usable)
		}
	}
}

func TestGrantsCheck(t *testing.T) {
	t.Parallel()
	grants := &room.Grants{Rooms: []room.Grant{
		{RoomID: "class-*", Join: true, Send: true},
		{RoomID: "class-1", Create: true},
		{RoomID: "lobby", Join: true},
	}}
	for _, c := range []struct {
		grants *room.Grants
		action room.Action
		room   room.RoomID
		want   bool
	}{
		{nil, room.ActionCreate, "anything", true},
		{&room.Grants{}, room.ActionJoin, "anything", false},
		{grants, room.ActionJoin, "class-7", true},
		{grants, room.ActionSend, "class-", true},
		{grants, room.ActionCreate, "class-7", false},
		{grants, room.ActionCreate, "class-1", true},
		{grants, room.ActionSend, "class-1", true},
		{grants, room.ActionJoin, "lobby", true},
		{grants, room.ActionJoin, "lobby2", false},
		{grants, room.ActionSend, "lobby", false},
		{nil, room.ActionKick, "lobby", false},
		{&room.Grants{Peers: []room.UserID{"*"}, Media: true}, room.ActionJoin, "lobby", false},
	} {
		if got := c.grants.Check(c.action, c.room) == nil; got != c.want {
			t.Errorf("%v: action %d in %s allowed: %v, want %v", c.grants, c.action, c.room, got, c.want)
		}
	}
}

// TestGrantPatterns checks that a grant can name each ID alone, whatever it ends in.
func TestGrantPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern        room.RoomID
		covered, other []room.RoomID
	}{
		{"*", []room.RoomID{"*", "a", `\*`}, nil},
		{"vip*", []room.RoomID{"vip", "vip*", "vip1", `vip\`}, []room.RoomID{"vi", "VIP"}},
		{"vip**", []room.RoomID{"vip*", "vip*1"}, []room.RoomID{"vip", "vip1"}},
		{`vip\*`, []room.RoomID{"vip*"}, []room.RoomID{"vip", "vip1", `vip\`, `vip\*`, `vip\1`, "vip*1"}},
		{`vip\\*`, []room.RoomID{`vip\*`}, []room.RoomID{"vip*", `vip\\*`, `vip\1`}},
		{`\*`, []room.RoomID{"*"}, []room.RoomID{"a", `\`, `\*`}},
		{"v*p", []room.RoomID{"v*p"}, []room.RoomID{"vip", "v*"}},
		{`v\*p`, []room.RoomID{`v\*p`}, []room.RoomID{"v*p"}},
	} {
		if !room.ValidPattern(c.pattern) {
			t.Errorf("%s is not valid", c.pattern)
		}
		grants := &room.Grants{Rooms: []room.Grant{{RoomID: c.pattern, Join: true}}}
		for _, id := range c.covered {
			if grants.Check(room.ActionJoin, id) != nil {
				t.Errorf("%s does not cover %s", c.pattern, id)
			}
		}
		for _, id := range c.other {
			if grants.Check(room.ActionJoin, id) == nil {
				t.Errorf("%s covers %s", c.pattern, id)
			}
		}
	}
}

func TestPatternsThatCoverNothing(t *testing.T) {
	t.Parallel()
	for _, pattern := range []room.RoomID{"", "..", "é", " *", "a ", "a/../*", `../\*`, room.RoomID(strings.Repeat("x", room.MaxRoomIDBytes)) + `\*`} {
		if room.ValidPattern(pattern) {
			t.Errorf("%q is valid", pattern)
		}
	}
	if !room.ValidPattern(room.RoomID("First *")) {
		t.Error("a prefix that ends in a space is not valid")
	}
}

func TestGrantsCheckPeerAndMedia(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		grants     *room.Grants
		bob, media bool
	}{
		"no grants":        {nil, true, true},
		"rooms alone":      {&room.Grants{Rooms: []room.Grant{{RoomID: "*", Join: true, Send: true}}}, false, false},
		"the user":         {&room.Grants{Peers: []room.UserID{"alice", "bob"}}, true, false},
		"another user":     {&room.Grants{Peers: []room.UserID{"bobby"}}, false, false},
		"a prefix":         {&room.Grants{Peers: []room.UserID{"bo*"}}, true, false},
		"all, and uploads": {&room.Grants{Peers: []room.UserID{"*"}, Media: true}, true, true},
		"uploads alone":    {&room.Grants{Peers: []room.UserID{}, Media: true}, false, true},
	} {
		if got := c.grants.CheckPeer("bob") == nil; got != c.bob {
			t.Errorf("%s: messages to bob allowed: %t", what, got)
		}
		if got := c.grants.CheckMedia() == nil; got != c.media {
			t.Errorf("%s: uploads allowed: %t", what, got)
		}
	}
}

func TestMayStay(t *testing.T) {
	t.Parallel()
	var free *room.Grants
	grants := &room.Grants{Rooms: []room.Grant{{RoomID: "joined", Join: true}, {RoomID: "made", Create: true}, {RoomID: "*", Send: true}}}
	if !free.MayStay("anywhere") || !grants.MayStay("joined") || !grants.MayStay("made") || grants.MayStay("elsewhere") {
		t.Error("a session may stay in the rooms that it may join or create, and in no others")
	}
}
