package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestIdleSessionsEnd: sessions whose clients are gone end, and no others.
func TestIdleSessionsEnd(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{SessionIdle: time.Hour, Defaults: defaults(func(c *room.Config) { c.MemberTimeout = 300 })})
	year := f.clock.Now().Add(365 * 24 * time.Hour)
	gone, online, inRoom := newSessionUntil(t, f.Store, "gone", year), newSessionUntil(t, f.Store, "online", year), newSessionUntil(t, f.Store, "in", year)
	openStream(t, f, online)
	f.clock.advance(time.Hour - time.Minute)
	enter(t, f, inRoom, "lobby")
	f.clock.advance(time.Minute - time.Millisecond)
	sweep(t, f)
	ended := func(s room.Session) bool {
		t.Helper()
		now, err := f.SessionByID(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		return errors.Is(now.Usable(f.clock.Now()), room.ErrSessionEnded)
	}
	if ended(gone) {
		t.Error("a session ended before its time")
	}
	query[string](t, f, "UPDATE sessions SET detached_at = $2 WHERE session_id = $1 RETURNING user_id", inRoom.ID, f.clock.Now())
	f.clock.advance(time.Millisecond)
	sweep(t, f)
	if !ended(gone) || ended(online) || ended(inRoom) {
		t.Errorf("ended: the idle one %t, the one online %t, the one in a room %t", ended(gone), ended(online), ended(inRoom))
	}
	checkInvariants(t, f)
}

// TestAbsentUsersAreDeleted: users without a session and without messages are deleted, as their
// rows would accumulate.
func TestAbsentUsersAreDeleted(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	f := setup(t, store.Options{UserRetention: 10 * day, PeerRetention: 3 * day, SessionIdle: 300 * day})
	year := f.clock.Now().Add(365 * day)
	alice := newSessionUntil(t, f.Store, "alice", year)
	openStream(t, f, alice)
	for _, user := range []string{"gone", "later", "written to"} {
		if err := f.EndSession(t.Context(), as(newSessionUntil(t, f.Store, user, year))); err != nil {
			t.Fatal(err)
		}
	}
	long := newSessionUntil(t, f.Store, "long", year)
	sweepAll := func() {
		for range 3 { // enough to check all inboxes
			sweep(t, f)
		}
	}
	f.clock.advance(8 * day)
	later := newSessionUntil(t, f.Store, "later", year)
	if err := f.EndSession(t.Context(), as(later)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PostPeerMessage(t.Context(), alice, "written to", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2*day + time.Hour)
	sweepAll()
	exists := func(user string) bool {
		if query[bool](t, f, "SELECT EXISTS (SELECT FROM profiles WHERE user_id = $1)", user) != query[bool](t, f, "SELECT EXISTS (SELECT FROM inboxes WHERE user_id = $1)", user) {
			t.Errorf("%q has an inbox without a profile, or a profile without an inbox", user)
		}
		return query[bool](t, f, "SELECT EXISTS (SELECT FROM inboxes WHERE user_id = $1)", user)
	}
	for user, want := range map[string]bool{"alice": true, "gone": false, "later": true, "written to": true, "long": true} {
		if exists(user) != want {
			t.Errorf("after 10 days %q exists: %t", user, !want)
		}
	}
	if _, err := f.PostPeerMessage(t.Context(), alice, "gone", textDraft("hello")); !errors.Is(err, room.ErrUserNotFound) {
		t.Errorf("a message to a deleted user: %v", err)
	}
	newSessionUntil(t, f.Store, "gone", year) // the user returns
	if _, err := f.PostPeerMessage(t.Context(), alice, "gone", textDraft("hello")); err != nil {
		t.Errorf("a message to a user who has returned: %v", err)
	}
	if err := f.EndSession(t.Context(), as(long)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(3 * day)
	sweepAll() // the messages are deleted
	sweepAll()
	for user, want := range map[string]bool{"written to": false, "long": true} {
		if exists(user) != want {
			t.Errorf("after 13 days %q exists: %t", user, !want)
		}
	}
	checkInvariants(t, f)
}

// TestLoginWhileUserIsDeleted: whichever comes first, the session has an inbox.
func TestLoginWhileUserIsDeleted(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, loginFirst := range []bool{true, false} {
		f := setup(t, store.Options{UserRetention: day, SessionIdle: 300 * day})
		year := f.clock.Now().Add(365 * day)
		if err := f.EndSession(t.Context(), as(newSessionUntil(t, f.Store, "alice", year))); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(2 * day)
		session := unsavedSession("alice")
		session.TokenExpiresAt = year
		both := []func() error{
			func() error {
				_, err := f.CreateSession(t.Context(), as(session), session, named(session), room.KeyHash{1}, room.KeyHash{2})
				return err
			},
			func() error { return f.Sweep(t.Context()) },
		}
		if !loginFirst {
			slices.Reverse(both)
		}
		release := hold(t, f, "SELECT FROM inboxes WHERE user_id = 'alice' FOR UPDATE")
		done := make(chan error, len(both))
		for i, do := range both {
			go func() { done <- do() }()
			waitForLocks(t, f, i+1)
		}
		release()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		in := openStream(t, f, session).Inbox.Log
		if log := query[room.LogID](t, f, "SELECT coalesce(max(log), 0) FROM inboxes WHERE user_id = 'alice'"); log != in || log == 0 {
			t.Errorf("the login is first: %t; the session's inbox is %d, the user's %d", loginFirst, in, log)
		}
	}
}

// TestAbsentUsersAreDeletedInBatches: each sweep deletes a part of them.
func TestAbsentUsersAreDeletedInBatches(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	newSession(t, f.Store, "alice")
	query[int](t, f, `WITH made AS (INSERT INTO inboxes (user_id, seen_at)
		SELECT 'user' || n, now() - interval '1 year' FROM generate_series(1, 250) n RETURNING 1) SELECT count(*) FROM made`)
	for _, left := range []int{151, 51, 1, 1, 1} {
		sweep(t, f)
		if n := query[int](t, f, "SELECT count(*) FROM inboxes"); n != left {
			t.Fatalf("%d inboxes are left, want %d", n, left)
		}
	}
	query[int](t, f, "WITH old AS (UPDATE inboxes SET seen_at = now() - interval '1 year' RETURNING 1) SELECT count(*) FROM old")
	if err := f.EndSession(t.Context(), as(newSession(t, f.Store, "bob"))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sweep(t, f)
	}
	if n := query[int](t, f, "SELECT count(*) FROM inboxes"); n != 2 {
		t.Errorf("%d inboxes are left: of alice, who has a session, and of bob, who just had one", n)
	}
}
