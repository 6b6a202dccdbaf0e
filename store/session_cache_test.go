package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// TestSessionCacheEvictsOnCommit checks that the cached rooms of a session are not used after this
// node has committed a change to them.
func TestSessionCacheEvictsOnCommit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(f fixture, s room.Session) error
		want error // for a barrage afterwards
	}{
		{"left", func(f fixture, s room.Session) error { return f.LeaveRoom(t.Context(), as(s), "lobby") }, room.ErrNotInRoom},
		{"kicked", func(f fixture, _ room.Session) error {
			_, err := f.KickMembers(t.Context(), admin, "lobby", []room.UserID{"alice"}, "", 0)
			return err
		}, room.ErrNotInRoom},
		{"destroyed", func(f fixture, _ room.Session) error { return f.DestroyRoom(t.Context(), admin, "lobby", "") }, room.ErrRoomNotFound},
		{"switched", func(f fixture, s room.Session) error {
			_, _, err := f.SwitchRoom(t.Context(), as(s), "lobby", "other", true, room.RoomOptions{})
			return err
		}, room.ErrNotInRoom},
	} {
		for name, sent := range map[string]int{"": 0, " after messages": 2} { // joining caches, and so do messages
			t.Run(test.name+name, func(t *testing.T) {
				t.Parallel()
				f := setup(t, store.Options{})
				alice, bob := newCachedSession(t, f, "alice", 1), newSession(t, f.Store, "bob")
				for _, s := range []room.Session{alice, bob} {
					if _, _, err := f.EnterRoom(t.Context(), as(s), "lobby", room.RoomOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				for range sent {
					if err := barrage(t, f, alice); err != nil {
						t.Fatal(err)
					}
				}
				if err := test.do(f, alice); err != nil {
					t.Fatal(err)
				}
				if err := barrage(t, f, alice); !errors.Is(err, test.want) {
					t.Errorf("barrage afterwards: got error %v, want %v", err, test.want)
				}
			})
		}
	}
}

// barrage sends a barrage message to the lobby.
func barrage(t *testing.T, f fixture, from room.Session) error {
	t.Helper()
	_, err := f.PostMessage(t.Context(), from, "lobby", room.Draft{Content: room.Content{Kind: room.KindBarrage, Text: "x"}})
	return err
}

// TestSessionCacheOfJoined checks that the first message of a session that has joined a room is not
// looked up.
func TestSessionCacheOfJoined(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newCachedSession(t, f, "alice", 1)
	if _, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	query[string](t, f, "DELETE FROM attendances WHERE session_id = $1 RETURNING session_id::text", alice.ID)
	if err := barrage(t, f, alice); err != nil {
		t.Errorf("the database was asked: %v", err)
	}
	f.clock.advance(time.Minute)
	if err := barrage(t, f, alice); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("a minute later: got error %v, want %v", err, room.ErrNotInRoom)
	}
}

// TestSessionCacheOfLogin checks that a session is not looked up after its login, by neither key, and
// that its end is noticed at once.
func TestSessionCacheOfLogin(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	session, key, streamKey := unsavedSession("alice"), randomKey(t), randomKey(t)
	if _, err := f.CreateSession(t.Context(), as(session), session, named(session), key, streamKey); err != nil {
		t.Fatal(err)
	}
	query[string](t, f, "UPDATE profiles SET user_name = 'from the database' WHERE user_id = 'alice' RETURNING user_name")
	find := func() (found [2]room.Session) {
		t.Helper()
		var err, streamErr error
		found[0], err = f.SessionByKey(t.Context(), key)
		found[1], streamErr = f.SessionByStreamKey(t.Context(), streamKey)
		if err != nil || streamErr != nil {
			t.Fatalf("by key: %v; by stream key: %v", err, streamErr)
		}
		return found
	}
	for _, found := range find() {
		if found.User != session.User {
			t.Errorf("the user is %v, not %v", found.User, session.User)
		}
	}
	if _, err := f.KickUser(t.Context(), admin, "alice", ""); err != nil {
		t.Fatal(err)
	}
	for _, found := range find() {
		if err := found.Usable(f.clock.Now()); !errors.Is(err, room.ErrSessionEnded) {
			t.Errorf("after its end, the session's error is %v, want %v", err, room.ErrSessionEnded)
		}
	}
}

// TestSessionCacheForgetsSilentSessions checks that sessions do not stay in memory when nothing is
// looked up any more.
func TestSessionCacheForgetsSilentSessions(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	for _, user := range []string{"alice", "bob", "carol"} {
		newSession(t, f.Store, user)
	}
	if got := f.CachedSessions(); got != 3 {
		t.Errorf("%d sessions are cached after their login", got)
	}
	for range 62 {
		f.clock.advance(time.Second)
		renew(t, f.Store)
	}
	if got := f.CachedSessions(); got != 0 {
		t.Errorf("a minute later, %d sessions are cached", got)
	}
}

// TestSessionCacheExpires checks that a change made by another node is noticed within
// sessionCacheTime.
func TestSessionCacheExpires(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	other := storetest.Open(t, f.address, store.Options{Now: f.clock.Now})
	alice := newCachedSession(t, f, "alice", 1)
	if err := other.EndSession(t.Context(), as(alice)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(5 * time.Second)
	s, err := f.SessionByKey(t.Context(), room.KeyHash{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Usable(f.clock.Now()); !errors.Is(err, room.ErrSessionEnded) {
		t.Errorf("5 s after its end: the session's error is %v, want %v", err, room.ErrSessionEnded)
	}
}

// TestSessionCacheOfSingleNode checks that a node without others reads a session once a minute, also
// if it opens streams.
func TestSessionCacheOfSingleNode(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newCachedSession(t, f, "alice", 1)
	query[string](t, f, "UPDATE profiles SET user_name = 'Alice Liddell' WHERE user_id = $1 RETURNING user_name", alice.User.ID)
	for second := range 70 {
		s, err := f.SessionByKey(t.Context(), room.KeyHash{1})
		if err != nil {
			t.Fatal(err)
		}
		if read := s.User.Name != alice.User.Name; read != (second >= 60) {
			t.Fatalf("after %d s: the name is %q", second, s.User.Name)
		}
		if second%10 == 5 {
			f.Detach(alice.ID, openStream(t, f, alice).StreamNo, f.clock.Now())
		}
		f.clock.advance(time.Second)
		renew(t, f.Store)
	}
}

// TestSessionCacheOfTrustedNodes checks that a node reads a session once a minute while it hears all
// others, and soon after it has missed something.
func TestSessionCacheOfTrustedNodes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	storetest.Open(t, f.address, store.Options{Now: f.clock.Now})
	alice := newCachedSession(t, f, "alice", 1)
	renamed := func(name string) {
		t.Helper()
		query[string](t, f, "UPDATE profiles SET user_name = $2 WHERE user_id = $1 RETURNING user_name", alice.User.ID, name)
	}
	name := func() string {
		t.Helper()
		s, err := f.SessionByKey(t.Context(), room.KeyHash{1})
		if err != nil {
			t.Fatal(err)
		}
		return s.User.Name
	}
	f.HeardAll()
	name() // it is read while the others are heard
	renamed("Alice Liddell")
	for second := range 30 {
		if got := name(); got == "Alice Liddell" {
			t.Fatalf("after %d s: the name is %q", second, got)
		}
		f.clock.advance(time.Second)
		f.HeardAll()
	}
	f.Missed()
	if got := name(); got != "Alice Liddell" {
		t.Errorf("after something was missed: the name is %q", got)
	}
	renamed("Alice Pleasance")
	f.clock.advance(5 * time.Second)
	if got := name(); got != "Alice Pleasance" {
		t.Errorf("5 s after something was missed: the name is %q", got)
	}
	f.HeardAll()
	name()
	for i, change := range []room.Change{{Left: []room.Left{{Session: alice.ID}}}, {Renamed: []room.SessionID{alice.ID}}} {
		f.Heard(change)
		renamed(fmt.Sprint("Alice ", i))
		if got := name(); got != fmt.Sprint("Alice ", i) {
			t.Errorf("after %+v of another node: the name is %q", change, got)
		}
	}
}

// newCachedSession returns a session that was looked up by its key.
func newCachedSession(t *testing.T, f fixture, user room.UserID, key byte) room.Session {
	t.Helper()
	s := newSession(t, f.Store, string(user))
	s.ID = room.SessionID(uuid.NewString())
	if _, err := f.CreateSession(t.Context(), as(s), s, named(s), room.KeyHash{key}, room.KeyHash{key, 1}); err != nil {
		t.Fatal(err)
	}
	cached, err := f.SessionByKey(t.Context(), room.KeyHash{key})
	if err != nil {
		t.Fatal(err)
	}
	return cached
}
