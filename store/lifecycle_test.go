package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

func TestDestroyDelay(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	openStream(t, f, alice)
	openStream(t, f, bob)
	first, err := f.CreateRoom(t.Context(), as(alice), "call", room.RoomOptions{Settings: room.Settings{DestroyDelay: new(room.Seconds(10))}})
	if err != nil {
		t.Fatal(err)
	}
	if first.DestroyAt != 0 {
		t.Errorf("a room with members is to be destroyed at %v", first.DestroyAt)
	}
	leave(t, f, alice, "call")
	if _, err := f.CreateRoom(t.Context(), as(bob), "call", room.RoomOptions{}); !errors.Is(err, room.ErrRoomExists) {
		t.Errorf("creating it during the delay: %v", err)
	}
	f.clock.advance(10*time.Second - time.Millisecond)
	sweep(t, f)
	again, err := f.JoinRoom(t.Context(), as(bob), "call", "") // stops the timer
	if err != nil || again.Generation != first.Generation || again.LastSeq != 3 || again.DestroyAt != 0 {
		t.Fatalf("joining during the delay: %+v, %v", again, err)
	}
	f.clock.advance(time.Hour / 2)
	sweep(t, f)
	left := f.clock.Now()
	leave(t, f, bob, "call")
	if due := query[time.Time](t, f, "SELECT destroy_at FROM rooms"); due.Sub(left).Round(time.Second) != 10*time.Second {
		t.Errorf("due %v after the last member left", due.Sub(left))
	}
	// A restart neither loses nor restarts the timer.
	g := f
	g.Store = openOn(t, f.address, store.Options{Now: f.clock.Now})
	f.clock.advance(10 * time.Second)
	sweep(t, g)
	sweep(t, f)
	if _, err := f.JoinRoom(t.Context(), as(bob), "call", ""); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("joining after the delay: %v", err)
	}
}

func TestSecondSessionOfAUser(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	tab, phone := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice")

	if _, err := f.CreateRoom(t.Context(), as(tab), "reject", room.RoomOptions{Settings: room.Settings{SameUser: new(room.SameUserReject)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.JoinRoom(t.Context(), as(phone), "reject", ""); !errors.Is(err, room.ErrUserInRoom) {
		t.Errorf("a second session with sameUser reject: %v", err)
	}
	if _, err := f.JoinRoom(t.Context(), as(tab), "reject", ""); err != nil {
		t.Errorf("the first session again: %v", err)
	}

	r, err := f.CreateRoom(t.Context(), as(tab), "replace", room.RoomOptions{Settings: room.Settings{SameUser: new(room.SameUserReplace)}})
	if err != nil {
		t.Fatal(err)
	}
	f.published.take()
	if _, err := f.JoinRoom(t.Context(), as(phone), "replace", ""); err != nil {
		t.Fatal(err)
	}
	want := room.Change{
		By:     as(phone),
		Joined: []room.Joined{{Session: phone.ID, Room: "replace", Generation: r.Generation, From: 1, Call: room.RoomEnter}},
		Left:   []room.Left{{Session: tab.ID, Room: "replace", Generation: r.Generation, Reason: room.ReasonReplaced}},
	}
	if diff := cmp.Diff(want, f.published.take(), ignorePresenceIDs); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	if _, err := f.PostMessage(t.Context(), tab, "replace", textDraft("still here?")); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("the replaced session posts: %v", err)
	}
	if err := f.LeaveRoom(t.Context(), as(tab), "replace"); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("the replaced session leaves: %v", err)
	}
	if got, err := f.SessionRoom(t.Context(), phone.ID, "replace"); err != nil || got.MemberCount != 1 {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestSwitchIsAtomic(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{RoomsPerUser: 1})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	old := enter(t, f, alice, "old")
	if _, err := f.CreateRoom(t.Context(), as(bob), "full", room.RoomOptions{Settings: room.Settings{MaxMembers: new(1)}}); err != nil {
		t.Fatal(err)
	}
	f.published.take()
	for name, c := range map[string]struct {
		from, to room.RoomID
		create   bool
		want     error
	}{
		"to a room that is full":          {"old", "full", false, room.ErrRoomFull},
		"to a missing room":               {"old", "new", false, room.ErrRoomNotFound},
		"from a room without the session": {"full", "new", true, room.ErrNotInRoom},
		"from no room":                    {"nowhere", "new", true, room.ErrRoomNotFound},
	} {
		if _, _, err := f.SwitchRoom(t.Context(), as(alice), c.from, c.to, c.create, room.RoomOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if c := f.published.take(); len(c.Events)+len(c.Joined)+len(c.Left) > 0 {
		t.Fatalf("failed switches changed %+v", c)
	}
	entered, created, err := f.SwitchRoom(t.Context(), as(alice), "old", "new", true, room.RoomOptions{Name: "New"})
	if err != nil || !created || entered.Name != "New" || entered.MemberCount != 1 {
		t.Fatalf("switched to %+v, created %v, %v", entered, created, err)
	}
	want := room.Change{
		By: as(alice),
		Events: []room.Event{
			{Room: "new", Log: entered.Generation, Seq: 1, Body: room.MembersJoined{MemberList: []room.Member{{User: alice.User}}, MemberCount: new(1)}},
			{Room: "old", Log: old.Generation, Seq: 2, Body: room.MembersLeft{MemberList: []room.LeftMember{{User: alice.User, Reason: room.ReasonSwitched}}, MemberCount: new(0)}},
		},
		Joined: []room.Joined{{Session: alice.ID, Room: "new", Generation: entered.Generation, From: 1, Call: room.RoomSwitch, Created: true}},
		Left:   []room.Left{{Session: alice.ID, Room: "old", Generation: old.Generation, Reason: room.ReasonSwitched}},
	}
	if diff := cmp.Diff(want, f.published.take(), ignoreTimes, ignorePresenceIDs); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	checkInvariants(t, f)
}

func TestLeaveAllRoomsAffectsOneSession(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	tab, phone := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice")
	for _, id := range []room.RoomID{"a", "b", "c"} {
		enter(t, f, tab, id)
	}
	enter(t, f, phone, "b")
	left, err := f.LeaveAllRooms(t.Context(), as(tab))
	if diff := cmp.Diff([]room.RoomID{"a", "b", "c"}, left); err != nil || diff != "" {
		t.Errorf("left %v, %v", left, err)
	}
	rooms, err := f.SessionRooms(t.Context(), phone.ID)
	if err != nil || len(rooms) != 1 || rooms[0].ID != "b" {
		t.Errorf("the other session is in %v, %v", rooms, err)
	}
	if left, err := f.LeaveAllRooms(t.Context(), as(tab)); err != nil || len(left) != 0 {
		t.Errorf("leaving again left %v, %v", left, err)
	}
}

func TestSessionLimitEndsTheOldest(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{SessionsPerUser: 2})
	first := newSession(t, f.Store, "alice")
	r := enter(t, f, first, "lobby")
	newSession(t, f.Store, "bob")
	second := newSession(t, f.Store, "alice")
	f.published.take()
	third := newSession(t, f.Store, "alice")
	c := f.published.take()
	if diff := cmp.Diff([]room.EndedSession{{Session: first.ID, Reason: room.EndKickedOut}}, c.Ended); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]room.Left{{Session: first.ID, Room: "lobby", Generation: r.Generation, Reason: room.ReasonKicked}}, c.Left, ignorePresenceIDs); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	for _, s := range []room.Session{second, third} {
		if got, err := f.SessionByID(t.Context(), s.ID); err != nil || !got.EndedAt.IsZero() {
			t.Errorf("session %s: %+v, %v", s.ID, got, err)
		}
	}
}

// TestOneSweepHandlesMany: one sweep removes all members of a large room whose network failed, and
// destroys as many rooms that are due.
func TestOneSweepHandlesMany(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const many = 450
	ids := make([]room.RoomID, 0, many)
	for i, s := range joinUsers(t, f, "hall", 0, many) {
		id := roomOf(i)
		delay := room.RoomOptions{Settings: room.Settings{DestroyDelay: new(room.Seconds(1))}}
		if _, err := f.CreateRoom(t.Context(), as(s), id, delay); err != nil {
			t.Fatal(err)
		}
		leave(t, f, s, id)
		ids = append(ids, id)
	}
	f.clock.advance(room.DefaultMemberTimeout)
	f.published.take()
	sweep(t, f)
	if c := f.published.take(); len(c.Left) != many {
		t.Errorf("%d of %d sessions timed out", len(c.Left), many)
	}
	if n := query[int](t, f, "SELECT count(*) FROM rooms WHERE destroyed_at IS NULL"); n != 0 {
		t.Errorf("%d of %d rooms are left", n, len(ids)+1)
	}
	checkInvariants(t, f)
	f.clock.advance(store.DefaultFeedRetention + time.Second)
	sweep(t, f)
	if n := query[int](t, f, "SELECT (SELECT count(*) FROM rooms) + (SELECT count(*) FROM events)"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
