package room_test

import (
	"errors"
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

func TestGrantsFence(t *testing.T) {
	t.Parallel()
	grants := room.Grants{
		{RoomID: "class-*", Join: true, Send: true},
		{RoomID: "class-1", Create: true},
		{RoomID: "lobby", Join: true},
	}
	for _, c := range []struct {
		grants room.Grants
		action room.Action
		room   room.RoomID
		want   bool
	}{
		{nil, room.ActionCreate, "anything", true},
		{room.Grants{}, room.ActionJoin, "anything", false},
		{grants, room.ActionJoin, "class-7", true},
		{grants, room.ActionSend, "class-", true},
		{grants, room.ActionCreate, "class-7", false},
		{grants, room.ActionCreate, "class-1", true},
		{grants, room.ActionSend, "class-1", true},
		{grants, room.ActionJoin, "lobby", true},
		{grants, room.ActionJoin, "lobby2", false},
		{grants, room.ActionSend, "lobby", false},
	} {
		if got := c.grants.Check(c.action, c.room) == nil; got != c.want {
			t.Errorf("%v: action %d in %s allowed: %v, want %v", c.grants, c.action, c.room, got, c.want)
		}
	}
}
