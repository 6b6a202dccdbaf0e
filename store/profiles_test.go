package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"parlor/room"
	"parlor/store"
)

// rename changes the name of a user.
func rename(t *testing.T, f fixture, by room.Actor, user room.UserID, name string) {
	t.Helper()
	if _, err := f.UpdateProfile(t.Context(), by, user, room.ProfileUpdate{Name: &name}); err != nil {
		t.Fatal(err)
	}
}

// TestProfileChange checks the change that a new profile makes: one event in each room that
// publishes names, one in the inbox, and all sessions of the user.
func TestProfileChange(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, tab, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	ended := newSession(t, f.Store, "alice")
	if err := f.EndSession(t.Context(), as(ended)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []room.Session{alice, tab, bob} {
		enter(t, f, s, "a")
	}
	counted := room.RoomOptions{Settings: room.Settings{Presence: new(room.PresenceCounts)}}
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "counted", counted); err != nil {
		t.Fatal(err)
	}
	f.published.take()
	want := room.Profile{User: room.User{ID: "alice", Name: "Alice"}, AvatarURL: "https://x/y"}
	if got, err := f.UpdateProfile(t.Context(), as(tab), "alice", room.ProfileUpdate{Name: new("Alice"), AvatarURL: new("https://x/y")}); err != nil || got != want {
		t.Fatalf("the new profile is %+v, %v", got, err)
	}
	c := f.published.take()
	var rooms []room.RoomID
	for _, e := range c.Events {
		rooms = append(rooms, e.Room)
	}
	slices.Sort(c.Renamed)
	all := []room.SessionID{alice.ID, tab.ID}
	slices.Sort(all)
	if !slices.Equal(rooms, []room.RoomID{"a", ""}) || !slices.Equal(c.Renamed, all) || c.By != as(tab) {
		t.Errorf("events of %q, renamed %v, by %+v", rooms, c.Renamed, c.By)
	}
	// Nothing that others see changes.
	rename(t, f, as(tab), "alice", "Alice")
	if c := f.published.take(); len(c.Events)+len(c.Renamed) > 0 {
		t.Errorf("the same name again: %+v", c)
	}
	if _, err := f.UpdateProfile(t.Context(), as(tab), "alice", room.ProfileUpdate{AvatarURL: new("")}); err != nil {
		t.Fatal(err)
	}
	if c := f.published.take(); len(c.Events) != 2 || len(c.Renamed) > 0 {
		t.Errorf("a new avatar: %+v", c)
	}
	if _, err := f.UpdateProfile(t.Context(), as(ended), "alice", room.ProfileUpdate{Name: new("x")}); !errors.Is(err, room.ErrSessionEnded) {
		t.Errorf("by an ended session: %v", err)
	}
	checkInvariants(t, f)
}

// TestPendingJoinHasNewProfile: a member whose join is waiting for a batch joins with the profile
// that it has when the batch is published.
func TestPendingJoinHasNewProfile(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.Presence = room.PresenceBatched })})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	f.published.take()
	rename(t, f, as(alice), "alice", "Alice")
	if events := f.published.take().Events; len(events) != 1 || events[0].Room != "" {
		t.Errorf("before the batch: %+v", events)
	}
	sweep(t, f)
	events := f.published.take().Events
	if len(events) != 1 || events[0].Body.(room.MembersJoined).MemberList[0].Name != "Alice" {
		t.Errorf("the batch is %+v", events)
	}
	checkInvariants(t, f)
}

// TestProfileChangeWaitsForJoin: a join that has read the profile, and has not written the member
// yet, is not missed.
func TestProfileChangeWaitsForJoin(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, tab := newSession(t, f.Store, "alice"), newSession(t, f.Store, "alice")
	enter(t, f, newSession(t, f.Store, "bob"), "lobby")
	release := hold(t, f, "LOCK TABLE members IN SHARE MODE")
	done := make(chan error, 2)
	var changed atomic.Bool
	go func() {
		_, err := f.JoinRoom(t.Context(), as(alice), "lobby", "")
		done <- err
	}()
	waitForLocks(t, f, 1)
	go func() {
		_, err := f.UpdateProfile(t.Context(), as(tab), "alice", room.ProfileUpdate{Name: new("Alice")})
		changed.Store(true)
		done <- err
	}()
	waitUntil(t, "the change waits, or does not", func() bool {
		return changed.Load() || query[int](t, f, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 2
	})
	release()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, f)
}

// TestProfilesOfEarlierUsers: users of a release without profiles have the names of their sessions,
// until they change them or log in.
func TestProfilesOfEarlierUsers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	before := map[room.UserID]room.Session{}
	for _, user := range []room.UserID{"same", "other", "renamed", "nameless", "gone"} {
		before[user] = newSession(t, f.Store, string(user))
		enter(t, f, before[user], room.RoomID(user))
	}
	if err := f.EndSession(t.Context(), as(before["gone"])); err != nil {
		t.Fatal(err)
	}
	query[int](t, f, "WITH gone AS (DELETE FROM profiles RETURNING 1) SELECT count(*) FROM gone")
	name := func(user room.UserID) string {
		t.Helper()
		found, err := f.Profiles(t.Context(), []room.UserID{user, "nobody"})
		if err != nil || len(found) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
		return found[0].Name
	}
	login := func(user room.UserID, n room.Naming) {
		t.Helper()
		s := unsavedSession(string(user))
		if _, err := f.CreateSession(t.Context(), as(s), s, n, randomKey(t), randomKey(t)); err != nil {
			t.Fatal(err)
		}
	}
	if name("same") != "User same" || name("gone") != "gone" {
		t.Errorf("before anything, the names are %q and %q", name("same"), name("gone"))
	}
	login("same", room.Naming{Asked: "User same"})
	login("other", room.Naming{Token: "Other"})
	login("nameless", room.Naming{})
	login("gone", room.Naming{Asked: "Back"})
	rename(t, f, admin, "renamed", "New")
	for user, want := range map[room.UserID]string{"same": "User same", "other": "Other", "nameless": "User nameless", "gone": "Back", "renamed": "New"} {
		if got := name(user); got != want {
			t.Errorf("%s is %q, want %q", user, got, want)
		}
		if s, err := f.SessionByID(t.Context(), before[user].ID); err != nil || s.User.Name != want {
			t.Errorf("the earlier session of %s is of %q, %v", user, s.User.Name, err)
		}
	}
	checkInvariants(t, f)
}

// TestProfilesUnderConcurrency changes names by calls and by logins, while the users join and leave
// rooms. In the end, all agree on the names.
func TestProfilesUnderConcurrency(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{SessionsPerUser: 100, Defaults: defaults(func(c *room.Config) { c.Presence = room.PresenceBatched })})
	enter(t, f, newSession(t, f.Store, "host"), "room0")
	const workers, steps = 8, 40
	var (
		working  sync.WaitGroup
		sweeping sync.Mutex // a process sweeps from one goroutine
	)
	for i := range workers {
		user := room.UserID(fmt.Sprint("user", i/4))
		session := newSession(t, f.Store, string(user))
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 2))
			for n := range steps {
				id, name := roomOf(random.IntN(2)), fmt.Sprint("name ", random.IntN(4))
				var err error
				switch random.IntN(6) {
				case 0:
					_, err = f.UpdateProfile(t.Context(), as(session), user, room.ProfileUpdate{Name: &name})
				case 1:
					_, err = f.UpdateProfile(t.Context(), admin, user, room.ProfileUpdate{AvatarURL: &name, ExtendedData: new(fmt.Sprint(n))})
				case 2:
					s := unsavedSession(string(user))
					_, err = f.CreateSession(t.Context(), as(s), s, room.Naming{Asked: name}, randomKey(t), randomKey(t))
				case 3:
					err = f.LeaveRoom(t.Context(), as(session), id)
				case 4:
					sweeping.Lock()
					err = f.Sweep(t.Context())
					sweeping.Unlock()
				default:
					_, _, err = f.EnterRoom(t.Context(), as(session), id, room.RoomOptions{})
				}
				var rule *room.Error
				if err != nil && (!errors.As(err, &rule) || rule.Kind == room.Unavailable) {
					t.Errorf("worker %d, step %d: %v", i, n, err)
				}
			}
		})
	}
	working.Wait()
	checkInvariants(t, f)
}
