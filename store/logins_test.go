package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"parlor/room"
	"parlor/store"
)

// TestLoginsTogether logs many users in at once: new ones and known ones, one of them often, one
// with a void token, one who has as many sessions as allowed, and one whose list of sessions another
// transaction has locked.
func TestLoginsTogether(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{SessionsPerUser: 3})
	const users = 40
	const often, void, full, locked = 1, 2, 3, 4
	name := func(i int) room.UserID { return room.UserID(fmt.Sprintf("user%d", i)) }
	for i := range users / 2 { // the others are new
		newSession(t, f.Store, string(name(i)))
	}
	var oldest []room.Session
	for range 2 {
		f.clock.advance(time.Second)
		oldest = append(oldest, newSession(t, f.Store, string(name(full))))
	}
	if _, err := f.VoidTokens(t.Context(), admin, name(void), f.clock.Now().Add(time.Minute), ""); err != nil {
		t.Fatal(err)
	}
	release := hold(t, f, "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", name(locked))

	type result struct {
		user    int
		profile room.Profile
		err     error
	}
	logIn := func(i int) result {
		session := room.Session{
			ID: room.SessionID(uuid.Must(uuid.NewV7()).String()), User: room.User{ID: name(i), Name: "User"},
			TokenExpiresAt: f.clock.Now().Add(time.Hour), TokenIssuedAt: f.clock.Now(),
		}
		p, err := f.CreateSession(t.Context(), as(session), session, named(session), randomKey(t), randomKey(t))
		return result{i, p, err}
	}
	f.clock.advance(time.Second)
	const more = 9
	results := make(chan result, users+more)
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() { results <- logIn(i) })
	}
	for range more {
		group.Go(func() { results <- logIn(often) })
	}
	waitUntil(t, "all but the locked user are logged in", func() bool { return len(results) == users+more-1 })
	if left, err := f.UserSessions(t.Context(), name(locked)); err != nil || len(left) != 1 {
		t.Errorf("the locked user has %d sessions, %v", len(left), err)
	}
	release()
	group.Wait()
	close(results)

	for r := range results {
		if code := room.Public(r.err).Code; r.user == void && code != room.ErrTokenVoid.Code || r.user != void && r.err != nil {
			t.Errorf("user %d: %v", r.user, r.err)
		}
		if r.user != void && (r.profile.ID != name(r.user) || r.profile.Name == "") {
			t.Errorf("user %d has the profile %+v", r.user, r.profile)
		}
	}
	for i := range users {
		want := 1
		switch {
		case i == often || i == full:
			want = 3
		case i == void:
			want = 0
		case i < users/2:
			want = 2
		}
		left, err := f.UserSessions(t.Context(), name(i))
		if err != nil || len(left) != want {
			t.Errorf("user %d has %d sessions, want %d, %v", i, len(left), want, err)
		}
		for _, session := range left {
			if i == full && session.ID != oldest[0].ID && session.ID != oldest[1].ID && session.CreatedAt.Before(oldest[1].CreatedAt) {
				t.Errorf("the oldest session of user %d is left", i)
			}
		}
	}
	if inboxes := query[int](t, f, "SELECT count(*) FROM inboxes"); inboxes != users {
		t.Errorf("there are %d inboxes, want %d", inboxes, users)
	}
	checkInvariants(t, f)
}
