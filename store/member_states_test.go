package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// states returns the events of a change about the states of members, in short form.
func states(c room.Change) (list []string) {
	short := func(what string, users []room.User) {
		var ids []string
		for _, u := range users {
			ids = append(ids, string(u.ID))
		}
		list = append(list, what+" "+strings.Join(ids, " "))
	}
	for _, e := range c.Events {
		switch b := e.Body.(type) {
		case room.MembersReconnecting:
			short("away", b.MemberList)
		case room.MembersReconnected:
			short("back", b.MemberList)
		case room.MembersLeft:
			for _, m := range b.MemberList {
				list = append(list, fmt.Sprintf("left %s %s", m.ID, m.Reason))
			}
		}
	}
	return list
}

// TestMemberStates: a member is reconnecting if none of the user's sessions in the room has had a
// stream for a while, whichever nodes the streams are on and whichever node sweeps.
func TestMemberStates(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberStates = true })})
	other := f.otherNode(t)
	alice, tab, phone := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob"), newSession(t, f.Store, "bob")
	open, lose := streamsOf(t, f)
	var generation room.LogID
	for _, s := range []room.Session{alice, tab, phone} {
		open(f.Store, s)
		generation = enter(t, f, s, "lobby").Generation
	}
	other.published.take()
	f.published.take()
	expect := func(after time.Duration, state room.MemberState, want ...string) {
		t.Helper()
		elapse(t, f, after, f.Store, other.Store)
		sweep(t, other.fixture) // the first one publishes, and the second one finds nothing to do
		sweep(t, f)
		got := append(states(other.published.take()), states(f.published.take())...)
		if !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		page, err := f.MembersByID(t.Context(), generation, []room.UserID{"bob"})
		if err != nil || state == "" && len(page.List) > 0 || state != "" && page.List[0].State != state {
			t.Errorf("bob is listed as %+v, %v, want %q", page.List, err, state)
		}
	}
	const grace = room.ReconnectingAfter
	expect(time.Minute, room.MemberOnline)
	lose(f.Store, tab)
	expect(grace, room.MemberOnline)
	lose(f.Store, phone)
	expect(grace-time.Millisecond, room.MemberOnline)
	expect(time.Millisecond, room.MemberReconnecting, "away bob")
	expect(time.Second, room.MemberReconnecting)
	open(other.Store, phone)
	expect(0, room.MemberOnline, "back bob")
	// A short loss is not published.
	lose(other.Store, phone)
	expect(grace-time.Millisecond, room.MemberOnline)
	open(f.Store, phone)
	expect(time.Minute, room.MemberOnline) // the tab times out, and bob stays
	// The session with a stream leaves, and another has none.
	open(f.Store, tab)
	enter(t, f, tab, "lobby")
	lose(f.Store, tab)
	expect(grace, room.MemberOnline)
	leave(t, f, phone, "lobby")
	expect(0, room.MemberReconnecting, "away bob")
	enter(t, f, phone, "lobby")
	expect(0, room.MemberOnline, "back bob")
	// A member who does not come back leaves as ever.
	lose(f.Store, phone)
	expect(grace, room.MemberReconnecting, "away bob")
	expect(room.DefaultMemberTimeout, "", "left bob timedOut")
	checkInvariants(t, f)
}

// TestCrashPublishesStatesTogether: the members whose node has crashed are published in one event,
// and so are those who are back.
func TestCrashPublishesStatesTogether(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberStates, c.MemberTimeout = true, 120 })})
	other := f.otherNode(t)
	const members = 20
	sessions := joinUsers(t, f, "hall", 0, members)
	for _, s := range sessions {
		openStream(t, f, s)
	}
	elapse(t, f, 4*time.Second, f.Store, other.Store)
	f.published.take()
	events := func(what string, want ...int) {
		t.Helper()
		var got []int
		for _, line := range states(other.published.take()) {
			got = append(got, len(strings.Fields(line))-1)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: events of %v members, want %v", what, got, want)
		}
	}
	other.published.take()
	// The node of all streams crashes. Some clients are back before anybody notices.
	for _, s := range sessions[:5] {
		if _, err := other.OpenStream(t.Context(), s.ID, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	elapse(t, f, room.LeaseTime-4*time.Second, other.Store)
	sweep(t, other.fixture)
	events("before the lease has expired")
	for range 6 {
		elapse(t, f, 2*time.Second, other.Store)
		sweep(t, other.fixture)
	}
	events("after the crash", members-5)
	for _, s := range sessions {
		if _, err := other.OpenStream(t.Context(), s.ID, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	sweep(t, other.fixture)
	sweep(t, other.fixture)
	events("after the clients are back", members-5)
}
