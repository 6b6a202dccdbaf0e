package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// joinUsers lets users join a room, and returns their sessions.
func joinUsers(t testing.TB, f fixture, id room.RoomID, from, to int) []room.Session {
	t.Helper()
	sessions := make([]room.Session, 0, to-from)
	for i := from; i < to; i++ {
		session := newSession(t, f.Store, fmt.Sprintf("u%03d", i))
		enter(t, f, session, id)
		sessions = append(sessions, session)
	}
	return sessions
}

// presenceEvents returns the users in the events of a change, as one list for each event, with a
// minus for users who left.
func presenceEvents(c room.Change) (lists [][]string) {
	for _, e := range c.Events {
		var list []string
		switch b := e.Body.(type) {
		case room.MembersJoined:
			for _, m := range b.MemberList {
				list = append(list, string(m.ID))
			}
		case room.MembersLeft:
			for _, m := range b.MemberList {
				list = append(list, "-"+string(m.ID)+" "+string(m.Reason))
			}
			slices.Sort(list)
		}
		lists = append(lists, list)
	}
	return lists
}

func TestLargeRoomBatchesPresence(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	early := joinUsers(t, f, "hall", 0, room.PresenceBatchThreshold)
	if lists := presenceEvents(f.published.take()); len(lists) != room.PresenceBatchThreshold {
		t.Fatalf("%d events for the first %d members", len(lists), room.PresenceBatchThreshold)
	}
	late := joinUsers(t, f, "hall", 100, 104)
	tab := newSession(t, f.Store, "u101") // a second session of a user whose join is pending
	enter(t, f, tab, "hall")
	c := f.published.take()
	if len(c.Events) != 0 || len(c.Joined) != 5 || c.Joined[4].From != room.PresenceBatchThreshold {
		t.Errorf("at once: %+v", c)
	}
	// Pending members are members all the same.
	r, err := f.SessionRoom(t.Context(), late[0].ID, "hall")
	if err != nil || r.MemberCount != 104 {
		t.Errorf("the room is %+v, %v", r, err)
	}
	members, err := f.Members(t.Context(), r.Generation, room.MemberCursor{}, 500)
	if err != nil || len(members.List) != 104 || members.Next != (room.MemberCursor{}) || members.List[103].ID != "u103" {
		t.Errorf("%d members, next %v, %v", len(members.List), members.Next, err)
	}
	if _, err := f.PostMessage(t.Context(), late[0], "hall", textDraft("hello")); err != nil {
		t.Errorf("a message of a member whose join is pending: %v", err)
	}
	// Members that change their mind publish what is pending: one leaves before its join was
	// published, and an early one leaves and joins again.
	f.published.take()
	leave(t, f, early[5], "hall")
	leave(t, f, late[1], "hall") // with one of two sessions
	if lists := presenceEvents(f.published.take()); len(lists) > 0 {
		t.Errorf("published at once: %v", lists)
	}
	leave(t, f, late[3], "hall")
	want := [][]string{{"u100", "u101", "u102", "u103"}, {"-u005 left"}}
	if got := presenceEvents(f.published.take()); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("published %v before a member left, want %v", got, want)
	}
	leave(t, f, early[6], "hall")
	enter(t, f, early[6], "hall")
	want = [][]string{{"-u006 left", "-u103 left"}}
	if got := presenceEvents(f.published.take()); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("published %v before a member joined again, want %v", got, want)
	}
	// Another process continues, as after a crash.
	g := f
	g.Store = openOn(t, f.address, store.Options{Now: f.clock.Now, Commit: f.published.commit})
	sweep(t, g)
	want = [][]string{{"u006"}}
	if got := presenceEvents(f.published.take()); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("published %v, want %v", got, want)
	}
	sweep(t, f)
	if c := f.published.take(); len(c.Events) != 0 {
		t.Errorf("published again: %+v", c.Events)
	}
	if r, err = f.SessionRoom(t.Context(), late[0].ID, "hall"); err != nil || r.MemberCount != 102 || r.LastSeq != room.PresenceBatchThreshold+5 {
		t.Errorf("the room is %+v, %v", r, err)
	}
	checkInvariants(t, f)
}

// TestPresenceIsFlushedBeforeARoomEnds: a room that becomes empty or is destroyed before the next
// sweep has published all joins and leaves.
func TestPresenceIsFlushedBeforeARoomEnds(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	users := make([]room.UserID, 0, room.PresenceBatchThreshold+2)
	for _, s := range joinUsers(t, f, "kicked", 0, room.PresenceBatchThreshold+2) {
		users = append(users, s.User.ID)
	}
	for i := 0; i < len(users); i += room.MaxKicked {
		if _, err := f.KickMembers(t.Context(), admin, "kicked", users[i:min(i+room.MaxKicked, len(users))], "", 0); err != nil {
			t.Fatal(err)
		}
	}
	checkPairs(t, f, "kicked", room.PresenceBatchThreshold+2)

	for _, s := range joinUsers(t, f, "left", 0, room.PresenceBatchThreshold+2) {
		leave(t, f, s, "left")
	}
	checkPairs(t, f, "left", room.PresenceBatchThreshold+2)

	joinUsers(t, f, "destroyed", 0, room.PresenceBatchThreshold+2)
	if err := f.DestroyRoom(t.Context(), admin, "destroyed", ""); err != nil {
		t.Fatal(err)
	}
	checkPairs(t, f, "destroyed", room.PresenceBatchThreshold)

	// Sessions time out together.
	for _, s := range joinUsers(t, f, "lost", 0, room.PresenceBatchThreshold+2) {
		openStream(t, f, s)
	}
	sweep(t, f)
	f.published.take()
	f.clock.advance(time.Hour / 2) // the lease of the node is not renewed meanwhile
	sweep(t, f)
	waitUntil(t, "the room is empty", func() bool {
		f.clock.advance(room.DefaultMemberTimeout)
		sweep(t, f)
		return query[int](t, f, "SELECT count(*) FROM rooms WHERE room_id = 'lost' AND destroyed_at IS NULL") == 0
	})
}

// checkPairs requires that the log of a room contains this number of joined users, and that all of
// them have left.
func checkPairs(t *testing.T, f fixture, id room.RoomID, want int) {
	t.Helper()
	for _, eventType := range []room.EventType{room.TypeMembersJoined, room.TypeMembersLeft} {
		n := query[int](t, f, `SELECT count(DISTINCT m ->> 'userID') FROM events JOIN rooms USING (generation),
			jsonb_array_elements(body::jsonb -> 'memberList') m WHERE room_id = $1 AND type = $2`, id, eventType)
		if n != want {
			t.Errorf("%s: %d users in %s, want %d", id, n, eventType, want)
		}
	}
	checkInvariants(t, f)
}
