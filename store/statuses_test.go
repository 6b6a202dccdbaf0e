package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// statusEvents returns the events of a change about statuses, in short form: the log of the
// receiver's inbox, and the users with their states.
func statusEvents(c room.Change) (list []string) {
	for _, e := range c.Events {
		if b, ok := e.Body.(room.StatusesUpdated); ok {
			line := fmt.Sprint(e.Log)
			for _, st := range b.StatusList {
				line += fmt.Sprintf(" %s=%s%s", st.User, st.State, st.CustomStatus)
			}
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

func statusOf(t testing.TB, f fixture, user room.UserID) room.UserStatus {
	t.Helper()
	all, err := f.Statuses(t.Context(), user, []room.UserID{user})
	if err != nil || len(all) != 1 {
		t.Fatalf("status of %s: %v, %v", user, all, err)
	}
	return all[0]
}

func subscribe(t testing.TB, f fixture, by room.UserID, users ...room.UserID) []room.UserStatus {
	t.Helper()
	_, statuses, err := f.SubscribeStatuses(t.Context(), by, users, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return statuses
}

// TestStatuses: the status of a user follows from all sessions, on all nodes, and subscribers are
// told of each change, once, whichever node sweeps.
func TestStatuses(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	other := f.otherNode(t)
	year := f.clock.Now().Add(365 * 24 * time.Hour)
	open, lose := streamsOf(t, f)
	login := func(user string) room.Session { return newSessionUntil(t, f.Store, user, year) }
	alice := login("alice")
	inbox := openStream(t, f, alice).Inbox.Log
	tab, phone := login("bob"), login("bob")
	if got := subscribe(t, f, "alice", "nobody", "bob"); got[0].State != room.StatusUnknown || got[1].State != room.StatusOnline {
		t.Errorf("subscribed to %+v", got)
	}
	// There are so many watched users that a sweep compares bob's status only if it knows why.
	query[int](t, f, `WITH watched AS (
			INSERT INTO watched_users (user_id, state, custom_status, updated_at) SELECT 'a' || i, 'unknown', '', now() FROM generate_series(1, 20000) i RETURNING user_id
		), subscribed AS (
			INSERT INTO status_subscriptions (subscriber_id, user_id, expires_at) SELECT 'crowd', user_id, now() + interval '1 day' FROM watched RETURNING 1
		) SELECT count(*) FROM subscribed`)
	seen, latest := f.clock.Now(), room.Instant(0)
	expect := func(after time.Duration, state room.StatusState, want ...string) {
		t.Helper()
		elapse(t, f, after, f.Store, other.Store)
		sweep(t, other.fixture)
		sweep(t, f)
		for i := range want {
			want[i] = fmt.Sprint(inbox, " ", want[i])
		}
		published := other.published.take().And(f.published.take())
		if got := statusEvents(published); !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		for _, e := range published.Events {
			if b, ok := e.Body.(room.StatusesUpdated); ok {
				if at := b.StatusList[0].UpdatedAt; at <= latest {
					t.Errorf("a status of %s was published after one of %s", at, latest)
				} else {
					latest = at
				}
			}
		}
		st := statusOf(t, f, "bob")
		if st.State != state {
			t.Errorf("bob is %s, want %s", st.State, state)
		}
		if at := room.InstantOf(seen); state != room.StatusOnline && st.LastSeenAt != at || state == room.StatusOnline && st.LastSeenAt != 0 {
			t.Errorf("bob is %s and was seen at %v, want %s", state, st.LastSeenAt, at)
		}
		page, err := f.StatusSubscriptions(t.Context(), "alice", "", 10)
		if err != nil || len(page) != 1 || page[0].State != state || page[0].LastSeenAt != st.LastSeenAt || page[0].CustomStatus != st.CustomStatus {
			t.Errorf("alice's subscriptions: %+v, %v", page, err)
		}
	}
	const grace = room.OfflineAfter
	// A client that opens no stream is online for a moment.
	expect(grace-time.Millisecond, room.StatusOnline)
	expect(time.Millisecond, room.StatusOffline, "bob=offline")
	open(other.Store, tab)
	expect(0, room.StatusOnline, "bob=online")
	open(f.Store, phone)
	lose(other.Store, tab)
	expect(time.Minute, room.StatusOnline) // with the phone
	lose(f.Store, phone)
	expect(grace-time.Millisecond, room.StatusOnline)
	open(other.Store, phone) // as a client does that polls
	lose(other.Store, phone)
	seen = f.clock.Now()
	expect(grace-time.Millisecond, room.StatusOnline)
	expect(time.Millisecond, room.StatusOffline, "bob=offline")
	expect(time.Minute, room.StatusOffline)
	open(f.Store, phone)
	expect(0, room.StatusOnline, "bob=online")
	lose(f.Store, phone)
	seen = f.clock.Now()
	expect(grace, room.StatusOffline, "bob=offline")
	expect(time.Minute, room.StatusOffline)
	end := func(on *store.Store, s room.Session) {
		t.Helper()
		if err := on.EndSession(t.Context(), as(s)); err != nil {
			t.Fatal(err)
		}
	}
	// A user who is offline does not log out.
	end(f.Store, tab)
	end(other.Store, phone)
	expect(0, room.StatusOffline)
	phone = login("bob")
	expect(0, room.StatusOnline, "bob=online")
	// The session that was online last decides.
	tab = login("bob")
	open(f.Store, phone)
	open(other.Store, tab)
	end(other.Store, tab)
	expect(time.Second, room.StatusOnline)
	lose(f.Store, phone)
	seen = f.clock.Now()
	expect(grace, room.StatusOffline, "bob=offline")
	open(f.Store, phone)
	expect(0, room.StatusOnline, "bob=online")
	if err := f.UpdateStatus(t.Context(), withInbox(t, f, phone), "!"); err != nil {
		t.Fatal(err)
	}
	expect(0, room.StatusOnline, "bob=online!")
	seen = f.clock.Now()
	end(f.Store, phone)
	expect(0, room.StatusLoggedOut, "bob=loggedOut!")
	login("bob")
	expect(0, room.StatusOnline, "bob=online!")
	if _, err := f.KickUser(t.Context(), admin, "bob", ""); err != nil {
		t.Fatal(err)
	}
	expect(0, room.StatusOffline, "bob=offline!")
	// The rows of ended sessions are deleted, and the statuses stay.
	query[int](t, f, "WITH old AS (UPDATE sessions SET ended_at = ended_at - interval '25 hours' WHERE user_id = 'bob' RETURNING 1) SELECT count(*) FROM old")
	expect(0, room.StatusOffline)
	if n := query[int](t, f, "SELECT count(*) FROM sessions WHERE user_id = 'bob'"); n != 0 {
		t.Errorf("%d sessions of bob are left", n)
	}
}

func withInbox(t testing.TB, f fixture, session room.Session) room.Session {
	t.Helper()
	s, err := f.SessionByID(t.Context(), session.ID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStatusVisibility: the setting decides what a user learns of another one, by any way.
func TestStatusVisibility(t *testing.T) {
	t.Parallel()
	for setting, visible := range map[room.StatusVisibility]string{
		room.StatusForEverybody:     "alice friend mate penpal stranger",
		room.StatusForAcquaintances: "alice friend mate",
		room.StatusForNobody:        "alice",
	} {
		f := setup(t, store.Options{StatusVisible: setting})
		users := []room.UserID{"alice", "friend", "mate", "nobody", "penpal", "stranger"}
		sessions := map[room.UserID]room.Session{}
		for _, user := range users {
			if user != "nobody" {
				sessions[user] = newSession(t, f.Store, string(user))
				openStream(t, f, sessions[user])
			}
		}
		enter(t, f, sessions["alice"], "lobby")
		enter(t, f, sessions["mate"], "lobby")
		enter(t, f, sessions["stranger"], "else")
		if _, err := f.PostPeerMessage(t.Context(), sessions["friend"], "alice", textDraft("hello")); err != nil {
			t.Fatal(err)
		}
		// That alice writes to somebody does not make them acquainted, whomever she quotes, nor does a block.
		quote := textDraft("")
		quote.Content = room.Content{Kind: room.KindCombine, Title: "t", MessageList: []room.Quoted{
			{Content: room.Content{Kind: room.KindText, Text: "hello"}, Sender: room.User{ID: "penpal", Name: "p"}},
		}}
		if _, err := f.PostPeerMessage(t.Context(), sessions["alice"], "penpal", quote); err != nil {
			t.Fatal(err)
		}
		check := func(way string, want string, got []room.UserStatus) {
			t.Helper()
			var seen []string
			for _, st := range got {
				if st.State != room.StatusUnknown {
					seen = append(seen, string(st.User))
				} else if !st.SameAs(room.HiddenStatus(st.User, f.clock.Now())) {
					t.Errorf("%s: a hidden status is %+v", way, st)
				}
			}
			if strings.Join(seen, " ") != want {
				t.Errorf("%s, visible to %s: %q, want %q", way, setting, seen, want)
			}
		}
		listed := func() (all []room.UserStatus) {
			t.Helper()
			list, err := f.StatusSubscriptionsTo(t.Context(), "alice", users)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				all = append(all, p.UserStatus)
			}
			return all
		}
		told := func() (all []room.UserStatus) {
			t.Helper()
			f.published.take()
			for user, session := range sessions {
				if err := f.UpdateStatus(t.Context(), withInbox(t, f, session), fmt.Sprint(user, f.clock.Now())); err != nil {
					t.Fatal(err)
				}
			}
			f.clock.advance(time.Second)
			sweep(t, f)
			for _, e := range f.published.take().Events {
				all = append(all, e.Body.(room.StatusesUpdated).StatusList...)
			}
			return all
		}
		queried, err := f.Statuses(t.Context(), "alice", users)
		if err != nil {
			t.Fatal(err)
		}
		check("queried", visible, queried)
		check("subscribed", visible, subscribe(t, f, "alice", users...))
		check("listed", visible, listed())
		check("told", visible, told())
		// Those who do not meet any more are not told, although they are subscribed.
		leave(t, f, sessions["mate"], "lobby")
		if setting == room.StatusForAcquaintances {
			visible = "alice friend"
		}
		check("listed afterwards", visible, listed())
		check("told afterwards", visible, told())
	}
}

// TestStatusSubscriptionLimit: the limit is exact, whatever happens at the same time, and a call that
// exceeds it changes nothing.
func TestStatusSubscriptionLimit(t *testing.T) {
	t.Parallel()
	const limit = 20
	f := setup(t, store.Options{StatusSubscriptions: limit})
	other := openOn(t, f.address, store.Options{StatusSubscriptions: limit, Now: f.clock.Now, LockTimeout: time.Minute})
	newSession(t, f.Store, "alice")
	var users []room.UserID
	for i := range limit + 4 {
		users = append(users, room.UserID(fmt.Sprintf("user%02d", i)))
		newSession(t, f.Store, string(users[i]))
	}
	count := func() int {
		return query[int](t, f, "SELECT count(*) FROM status_subscriptions WHERE subscriber_id = 'alice'")
	}
	subscribe(t, f, "alice", users[:limit-4]...)
	// Two calls through two nodes have come as far as they can when there is room for one of them. Each
	// also extends a subscription, whose row is locked.
	release := hold(t, f, "SELECT FROM status_subscriptions FOR UPDATE")
	done := make(chan error, 2)
	for i, on := range []*store.Store{f.Store, other} {
		go func() {
			_, _, err := on.SubscribeStatuses(t.Context(), "alice", append(users[limit-4+4*i:limit+4*i:limit+4*i], users[i]), time.Hour)
			done <- err
		}()
	}
	waitForLocks(t, f, 2)
	release()
	if errs := []error{<-done, <-done}; errors.Is(errs[0], room.ErrStatusLimit) == errors.Is(errs[1], room.ErrStatusLimit) || count() != limit {
		t.Errorf("two calls: %v; there are %d subscriptions", errs, count())
	}
	// A subscription that exists can be extended, and an expired one does not count.
	list, err := f.StatusSubscriptions(t.Context(), "alice", "", limit)
	if err != nil || len(list) != limit {
		t.Fatalf("%d subscriptions, %v", len(list), err)
	}
	var first []room.UserID
	for _, p := range list[:4] {
		first = append(first, p.User)
	}
	f.clock.advance(30 * time.Minute)
	subscribe(t, f, "alice", first...)
	f.clock.advance(30 * time.Minute)
	if list, err = f.StatusSubscriptions(t.Context(), "alice", "", limit); err != nil || len(list) != 4 {
		t.Errorf("%d subscriptions after an hour, %v", len(list), err)
	}
	subscribe(t, f, "alice", users[:4]...)
	sweep(t, f)
	if err := f.UnsubscribeStatuses(t.Context(), "alice", users); err != nil || count() != 0 {
		t.Errorf("%d subscriptions are left, %v", count(), err)
	}
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM watched_users"); n != 0 {
		t.Errorf("%d users are still watched", n)
	}
}

// TestStatusesOfManyUsers: users who flap are one event for a subscriber, about once a second, and
// those whom nobody subscribes to cost nothing.
func TestStatusesOfManyUsers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	inbox := openStream(t, f, newSession(t, f.Store, "alice")).Inbox.Log
	newSession(t, f.Store, "away") // a subscriber without a stream
	const n = room.MaxStatusesPerEvent + 50
	var users []room.UserID
	for i := range n {
		users = append(users, room.UserID(fmt.Sprintf("user%03d", i)))
	}
	query[int](t, f, `WITH made AS (INSERT INTO inboxes (user_id) SELECT unnest($1::text[]) RETURNING 1) SELECT count(*) FROM made`, users)
	for part := range slices.Chunk(users, 100) {
		subscribe(t, f, "alice", part...)
		subscribe(t, f, "away", part...)
	}
	sweep(t, f)
	f.published.take()
	for range 3 {
		for _, user := range users[:60] {
			s := newSession(t, f.Store, string(user))
			if err := f.EndSession(t.Context(), as(s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	newSession(t, f.Store, "unwatched")
	sweep(t, f)
	sweep(t, f)
	var got []string
	for _, line := range statusEvents(f.published.take()) {
		got = append(got, fmt.Sprint(strings.HasPrefix(line, fmt.Sprint(inbox, " ")), strings.Count(line, "=loggedOut")))
	}
	if !slices.Equal(got, []string{"true 60"}) {
		t.Errorf("60 users who flapped are events of %v", got)
	}
	// A change that a node forgot, as in a crash, is found by the steps through all watched users.
	query[int](t, f, "WITH forgot AS (UPDATE inboxes SET custom_status = '!' WHERE user_id LIKE 'user%' RETURNING 1) SELECT count(*) FROM forgot")
	sweep(t, f)
	got = nil
	for _, line := range statusEvents(f.published.take()) {
		got = append(got, fmt.Sprint(strings.Count(line, "!")))
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{fmt.Sprint(room.MaxStatusesPerEvent), fmt.Sprint(n - room.MaxStatusesPerEvent)}) {
		t.Errorf("%d statuses are events of %v", n, got)
	}
}

// TestDeletedUserHasNoStatus: a deleted user leaves no row behind, and is told to nobody.
func TestDeletedUserHasNoStatus(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{UserRetention: 24 * time.Hour, SessionIdle: 300 * 24 * time.Hour})
	year := f.clock.Now().Add(365 * 24 * time.Hour)
	alice, bob := newSessionUntil(t, f.Store, "alice", year), newSessionUntil(t, f.Store, "bob", year)
	openStream(t, f, alice)
	for by, user := range map[room.UserID]room.UserID{"alice": "bob", "bob": "alice"} {
		if _, _, err := f.SubscribeStatuses(t.Context(), by, []room.UserID{user}, room.MaxStatusSubscription); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.EndSession(t.Context(), as(bob)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(25 * time.Hour)
	for range 3 {
		sweep(t, f)
	}
	if st := statusOf(t, f, "bob"); st.State != room.StatusUnknown {
		t.Errorf("bob is %s", st.State)
	}
	for _, table := range []string{"status_subscriptions", "watched_users"} {
		if n := query[int](t, f, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}

// TestSubscriptionsWhileUsersAreUnwatched: a subscription is never lost or refused because a sweep is
// about to delete the row of the watched user.
func TestSubscriptionsWhileUsersAreUnwatched(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	other := f.otherNode(t)
	users := []room.UserID{"u1", "u2", "u3"}
	for _, user := range users {
		newSession(t, f.Store, string(user))
	}
	const subscribers, times = 4, 30
	var calls, sweeps sync.WaitGroup
	done := make(chan struct{})
	for _, on := range []*store.Store{f.Store, other.Store} {
		sweeps.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := on.Sweep(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range subscribers {
		by := room.UserID(fmt.Sprint("subscriber", i))
		on := []*store.Store{f.Store, other.Store}[i%2]
		calls.Go(func() {
			for range times {
				if _, _, err := on.SubscribeStatuses(context.Background(), by, users, time.Hour); err != nil {
					t.Errorf("subscribe: %v", err)
				}
				if list, err := on.StatusSubscriptions(context.Background(), by, "", 10); err != nil || len(list) != len(users) {
					t.Errorf("subscriptions: %v, %v", list, err)
				}
				if err := on.UnsubscribeStatuses(context.Background(), by, users); err != nil {
					t.Errorf("unsubscribe: %v", err)
				}
			}
		})
	}
	calls.Wait()
	close(done)
	sweeps.Wait()
}
