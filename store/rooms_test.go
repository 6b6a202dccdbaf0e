package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"parlor/room"
	"parlor/store"
)

var (
	ignoreTimes       = cmpopts.IgnoreTypes(time.Time{}, room.Instant(0))
	ignorePresenceIDs = cmpopts.IgnoreTypes(room.PresenceID(0))
)

func enter(t testing.TB, f fixture, session room.Session, id room.RoomID) room.Room {
	t.Helper()
	r, _, err := f.EnterRoom(t.Context(), as(session), id, room.RoomOptions{})
	if err != nil {
		t.Fatalf("%s joins %s: %v", session.User.ID, id, err)
	}
	return r
}

func leave(t testing.TB, f fixture, session room.Session, id room.RoomID) {
	t.Helper()
	if err := f.LeaveRoom(t.Context(), as(session), id); err != nil {
		t.Fatalf("%s leaves %s: %v", session.User.ID, id, err)
	}
}

func sweep(t testing.TB, f fixture) {
	t.Helper()
	if err := f.Sweep(t.Context()); err != nil {
		t.Fatalf("sweep: %v", err)
	}
}

func TestRoomIsDestroyedWithItsLastMember(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")

	if _, err := f.JoinRoom(t.Context(), as(alice), "lobby", ""); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("joining a missing room: %v", err)
	}
	first, err := f.CreateRoom(t.Context(), as(alice), "lobby", room.RoomOptions{Name: "The lobby", Settings: room.Settings{MaxMembers: new(7)}})
	if err != nil {
		t.Fatal(err)
	}
	want := room.Room{
		ID: "lobby", Generation: first.Generation, Name: "The lobby",
		Config:      defaults(func(c *room.Config) { c.MaxMembers = 7 }),
		MemberCount: 1, LastSeq: 1, MemberEvents: room.MemberEventsNames, OldestSeq: 1, CreatedAt: first.CreatedAt, LastAt: first.LastAt,
		Attributes: room.Attributes{},
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if _, err := f.CreateRoom(t.Context(), as(bob), "lobby", room.RoomOptions{}); !errors.Is(err, room.ErrRoomExists) {
		t.Errorf("creating it again: %v", err)
	}
	entered, created, err := f.EnterRoom(t.Context(), as(bob), "lobby", room.RoomOptions{Name: "Another name"})
	if err != nil || created || entered.Name != "The lobby" || entered.MemberCount != 2 {
		t.Errorf("joining it: %+v, created %v, %v", entered, created, err)
	}
	leave(t, f, alice, "lobby")
	leave(t, f, bob, "lobby")
	if err := f.LeaveRoom(t.Context(), as(bob), "lobby"); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("leaving a destroyed room: %v", err)
	}
	second := enter(t, f, bob, "lobby")
	if second.Generation <= first.Generation || second.LastSeq != 1 || second.Name != "" {
		t.Errorf("next generation of the room: got %+v after %+v", second, first)
	}
}

func TestSessionsOfAUserAreOneMember(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	tab, phone, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, bob, "lobby")
	f.published.take()

	steps := []struct {
		do     func()
		events []room.EventType
		count  int
	}{
		{func() { enter(t, f, tab, "lobby") }, []room.EventType{room.TypeMembersJoined}, 2},
		{func() { enter(t, f, phone, "lobby") }, nil, 2},
		{func() { enter(t, f, phone, "lobby") }, nil, 2},
		{func() { leave(t, f, tab, "lobby") }, nil, 2},
		{func() { enter(t, f, tab, "lobby") }, nil, 2},
		{func() { leave(t, f, phone, "lobby") }, nil, 2},
		{func() { leave(t, f, tab, "lobby") }, []room.EventType{room.TypeMembersLeft}, 1},
	}
	for i, step := range steps {
		step.do()
		var got []room.EventType
		for _, e := range f.published.take().Events {
			got = append(got, e.Body.Type())
		}
		if diff := cmp.Diff(step.events, got); diff != "" {
			t.Errorf("step %d: events (-want +got):\n%s", i, diff)
		}
		r, err := f.SessionRoom(t.Context(), bob.ID, "lobby")
		if err != nil || r.MemberCount != step.count {
			t.Errorf("step %d: %d members, %v; want %d", i, r.MemberCount, err, step.count)
		}
	}
}

func TestRoomAndUserLimits(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 2})
	alice, phone, bob, carol := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice"),
		newSession(t, f.Store, "bob"), newSession(t, f.Store, "carol")
	if _, err := f.CreateRoom(t.Context(), as(alice), "small", room.RoomOptions{Settings: room.Settings{MaxMembers: new(2)}}); err != nil {
		t.Fatal(err)
	}
	enter(t, f, bob, "small")
	if _, err := f.JoinRoom(t.Context(), as(carol), "small", ""); !errors.Is(err, room.ErrRoomFull) {
		t.Errorf("the third in a room for two: %v", err)
	}
	enter(t, f, phone, "small") // another session of a member takes no additional space
	enter(t, f, alice, "second")
	if _, err := f.CreateRoom(t.Context(), as(phone), "third", room.RoomOptions{}); !errors.Is(err, room.ErrTooManyRooms) {
		t.Errorf("a third room of a user who may be in two: %v", err)
	}
	if n := query[int](t, f, "SELECT count(*) FROM rooms WHERE room_id = 'third'"); n != 0 {
		t.Error("the rejected room exists")
	}
	leave(t, f, alice, "second")
	enter(t, f, phone, "third")
}

func TestMemberTimesOutAfterItsStreamEnds(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberTimeout = 10 })})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	r := enter(t, f, alice, "lobby")
	enter(t, f, bob, "lobby")
	openStream(t, f, bob)
	opened := openStream(t, f, alice)
	f.published.take()

	// While the stream is open, there is no timeout.
	f.clock.advance(time.Hour / 2)
	sweep(t, f)
	// The stream ends, and the client is back in time: nobody is notified.
	f.Detach(alice.ID, opened.StreamNo, f.clock.Now())
	waitUntil(t, "alice is detached", func() bool { return detached(t, f, alice) })
	f.clock.advance(9 * time.Second)
	sweep(t, f)
	opened = openStream(t, f, alice)
	f.clock.advance(time.Minute)
	sweep(t, f)
	if c := f.published.take(); len(c.Events)+len(c.Left) != 0 {
		t.Fatalf("published %+v, want nothing", c)
	}
	// A late report about the end of the old stream does not affect the new one.
	f.Detach(alice.ID, opened.StreamNo-1, f.clock.Now())
	// The stream ends, and the client does not return in time.
	f.Detach(alice.ID, opened.StreamNo, f.clock.Now())
	waitUntil(t, "alice is detached", func() bool { return detached(t, f, alice) })
	f.clock.advance(10 * time.Second)
	sweep(t, f)
	sweep(t, f)
	want := room.Change{
		By: room.Server(),
		Events: []room.Event{{
			Room: "lobby", Log: r.Generation, Seq: 3,
			Body: room.MembersLeft{MemberList: []room.LeftMember{{User: alice.User, Reason: room.ReasonTimedOut}}, MemberCount: new(1)},
		}},
		Left: []room.Left{{Session: alice.ID, Room: "lobby", Generation: r.Generation, Reason: room.ReasonTimedOut}},
	}
	if diff := cmp.Diff(want, f.published.take(), ignoreTimes, ignorePresenceIDs); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	// The client returns too late, and gets the reason.
	back, err := f.OpenStream(t.Context(), alice.ID, "", []room.Position{{Log: r.Generation}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Left, back.Left, ignorePresenceIDs); diff != "" || len(back.Presences) != 0 {
		t.Errorf("left (-want +got):\n%s\npresences: %v", diff, back.Presences)
	}
	// It may join again, which deletes the reason.
	enter(t, f, alice, "lobby")
	back = openStream(t, f, alice)
	if len(back.Presences) != 1 || back.Presences[0].From != 4 {
		t.Errorf("presences: %+v, want lobby from 4", back.Presences)
	}
}

func TestMemberWithoutAnyStreamTimesOut(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	f.clock.advance(room.DefaultMemberTimeout - time.Second)
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM members"); n != 1 {
		t.Errorf("%d members before the time, want 1", n)
	}
	f.clock.advance(2 * time.Second)
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM members"); n != 0 {
		t.Errorf("%d members after it, want 0", n)
	}
}

func TestDestroyedRoomsArePurged(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	openStream(t, f, alice)
	for i := range 3 {
		id := roomOf(i)
		enter(t, f, alice, id)
		if _, err := f.PostMessage(t.Context(), alice, id, textDraft("hello")); err != nil {
			t.Fatal(err)
		}
	}
	leave(t, f, alice, roomOf(0))
	leave(t, f, alice, roomOf(1))
	f.clock.advance(time.Minute)
	sweep(t, f)
	for table, want := range map[string]int{"rooms": 1, "events": 2, "members": 1, "attendances": 1, "departures": 2} {
		if n := query[int](t, f, "SELECT count(*) FROM "+table); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
	f.clock.advance(25 * time.Hour)
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM departures WHERE room_id <> 'room2'"); n != 0 {
		t.Errorf("%d old departures", n)
	}
}

func TestMembersArePagedInOrderOfJoining(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	var want []room.UserID
	var r room.Room
	for i := range 7 {
		s := newSession(t, f.Store, fmt.Sprintf("user%d", 9-i))
		r = enter(t, f, s, "lobby")
		want = append(want, s.User.ID)
	}
	for limit := 1; limit <= 8; limit++ {
		var got []room.UserID
		var after room.MemberCursor
		for more := true; more; more = after != (room.MemberCursor{}) {
			page, err := f.Members(t.Context(), r.Generation, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.List {
				got = append(got, m.ID)
			}
			if page.Seq != r.LastSeq {
				t.Errorf("a page is as of seq %d, but the log ends with %d", page.Seq, r.LastSeq)
			}
			after = page.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	found, err := f.MembersByID(t.Context(), r.Generation, []room.UserID{"user3", "nobody", "user9"})
	if err != nil || len(found.List) != 2 || found.List[0].ID != "user9" || found.List[1].ID != "user3" || found.Seq != r.LastSeq {
		t.Errorf("looked up %v, %v", found, err)
	}
	if found, err = f.MembersByID(t.Context(), r.Generation, []room.UserID{"nobody"}); err != nil || found.List == nil || found.Seq != r.LastSeq {
		t.Errorf("looked up nobody: %v, %v", found, err)
	}
	if _, err := f.Members(t.Context(), r.Generation+1, room.MemberCursor{}, 1); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("members of no room: %v", err)
	}
}

func TestPresenceIDsAscend(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, bob, "lobby")
	last := room.PresenceID(0)
	for range 3 {
		f.published.take()
		enter(t, f, alice, "lobby")
		arrived := f.published.take().Joined[0].Presence
		attached := openStream(t, f, alice).Presences[0].ID
		leave(t, f, alice, "lobby")
		departed := f.published.take().Left[0].Presence
		if arrived <= last || attached != arrived || departed != arrived {
			t.Errorf("joined as %d, opened as %d, left as %d, after %d", arrived, attached, departed, last)
		}
		last = arrived
	}
}

func TestStraysAreDetached(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	openStream(t, f, alice)
	openStream(t, f, bob)
	carol := newSession(t, f.Store, "carol") // its node no longer exists
	openStream(t, f, carol)
	query[int](t, f, "WITH moved AS (UPDATE sessions SET node_id = gen_random_uuid() WHERE session_id = $1 RETURNING 1) SELECT count(*) FROM moved", carol.ID)
	other := f
	other.Store = openOn(t, f.address, store.Options{Now: f.clock.Now})
	nobody := func(room.SessionID) bool { return false }
	if err := other.DetachStrays(t.Context(), nobody); err != nil {
		t.Fatal(err)
	}
	if !detached(t, f, carol) || detached(t, f, alice) || detached(t, f, bob) {
		t.Error("sessions of another node are detached, or sessions without a node are not")
	}
	if err := f.DetachStrays(t.Context(), func(id room.SessionID) bool { return id == bob.ID }); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "alice is detached", func() bool { return detached(t, f, alice) })
	if detached(t, f, bob) {
		t.Error("bob, whose stream is open, is detached")
	}
}
