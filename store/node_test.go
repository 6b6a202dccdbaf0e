package store_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// A node is another server on a fixture's database, with the same clock. lost counts how often it
// had to reset its state.
type node struct {
	fixture
	lost int
	log  bytes.Buffer
}

func (f fixture) otherNode(t *testing.T) *node {
	t.Helper()
	n := &node{fixture: f}
	n.published = &recorder{}
	n.Store = storetest.Open(t, f.address, store.Options{
		Now: f.clock.Now, Commit: n.published.commit, Reset: func() { n.lost++ },
		Log: slog.New(slog.NewTextHandler(&n.log, nil)),
	})
	return n
}

func renew(t *testing.T, stores ...*store.Store) {
	t.Helper()
	for _, s := range stores {
		if err := s.RenewLease(t.Context()); err != nil {
			t.Fatalf("renew: %v", err)
		}
	}
}

// elapse advances the clock while nodes renew their leases.
func elapse(t *testing.T, f fixture, d time.Duration, nodes ...*store.Store) {
	t.Helper()
	for ; d > 0; d -= store.LeaseInterval {
		f.clock.advance(min(d, store.LeaseInterval))
		renew(t, nodes...)
	}
}

func TestSessionsOfADeadNodeAreDetached(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	openStream(t, f, alice)
	died := f.clock.Now()

	other := f.otherNode(t)
	elapse(t, f, 14*time.Second, other.Store)
	sweep(t, other.fixture)
	if detached(t, f, alice) {
		t.Fatal("detached before the lease expired")
	}
	elapse(t, f, 2*time.Second, other.Store)
	sweep(t, other.fixture)
	session, err := f.SessionByID(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	if late := session.DetachedAt.Sub(died); late < 14*time.Second || late > 16*time.Second {
		t.Errorf("detached %v after the last lease, want when it expired", late)
	}
	elapse(t, f, room.DefaultMemberTimeout, other.Store)
	sweep(t, other.fixture)
	if c := other.published.take(); len(c.Left) != 1 || c.Left[0].Reason != room.ReasonTimedOut {
		t.Errorf("departures: %v", c.Left)
	}
}

// TestOutageRemovesNoMembers: after PostgreSQL was unavailable for longer than a lease, the leases
// of all nodes have expired although all of them run.
func TestOutageRemovesNoMembers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	openStream(t, f, alice)
	other := f.otherNode(t)
	elapse(t, f, time.Minute, f.Store, other.Store)

	for _, outage := range []time.Duration{6 * time.Second, 14 * time.Second, 20 * time.Second, 20 * time.Minute} {
		f.clock.advance(outage)
		// The other node is back first, by as much as its tries may be earlier.
		for range 4 {
			renew(t, other.Store)
			sweep(t, other.fixture)
			f.clock.advance(time.Second)
		}
		for range 15 {
			elapse(t, f, store.LeaseInterval, f.Store, other.Store)
			sweep(t, other.fixture)
			sweep(t, f)
		}
		if detached(t, f, alice) {
			t.Errorf("after %s without a database the session of a running node is detached", outage)
		}
	}
	if c := other.published.take().And(f.published.take()); len(c.Left) > 0 {
		t.Errorf("removed: %v", c.Left)
	}
	if other.lost > 0 {
		t.Error("a node that was never declared dead resets its state")
	}
}

// TestGraceForStreamsBrokenByAnOutage: after an outage, clients have some seconds to reopen their
// streams, however short memberTimeout is.
func TestGraceForStreamsBrokenByAnOutage(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberTimeout = 5 })})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby")
	enter(t, f, bob, "lobby")
	stream, late := openStream(t, f, alice), openStream(t, f, bob)
	renew(t, f.Store)
	f.Detach(alice.ID, stream.StreamNo, f.clock.Now())
	f.Detach(bob.ID, late.StreamNo, f.clock.Now())
	waitUntil(t, "both are detached", func() bool { return detached(t, f, alice) && detached(t, f, bob) })
	f.clock.advance(20 * time.Second)
	renew(t, f.Store)
	f.published.take()
	sweep(t, f)
	elapse(t, f, 6*time.Second, f.Store)
	sweep(t, f)
	openStream(t, f, alice)
	elapse(t, f, 4*time.Second, f.Store)
	sweep(t, f)
	if c := f.published.take(); len(c.Left) != 1 || c.Left[0].Session != bob.ID {
		t.Errorf("removed: %v; want bob, who did not return", c.Left)
	}
}

// TestNodeDeclaredDeadReconnectsItsStreams: a frozen node that was declared dead notices it when it
// continues, and makes its streams reconnect, because other nodes have seen its members leave.
func TestNodeDeclaredDeadReconnectsItsStreams(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	frozen := f.otherNode(t)
	alice := newSession(t, f.Store, "alice")
	bob := unsavedSession("bob")
	if err := frozen.CreateSession(t.Context(), as(bob), bob, room.KeyHash{1}, room.KeyHash{2}); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen.SessionByKey(t.Context(), room.KeyHash{1}); err != nil { // the session is cached
		t.Fatal(err)
	}
	enter(t, f, alice, "lobby")
	openStream(t, frozen.fixture, alice)
	elapse(t, f, 20*time.Second, f.Store, frozen.Store)
	elapse(t, f, 20*time.Second, f.Store)
	sweep(t, f)
	if !detached(t, f, alice) {
		t.Fatal("the session of a node that does nothing is online")
	}
	if frozen.lost != 0 {
		t.Fatal("it has already noticed")
	}
	query[string](t, f, "UPDATE sessions SET user_name = 'Robert' WHERE user_id = 'bob' RETURNING user_name")
	renew(t, frozen.Store)
	if frozen.lost != 1 {
		t.Errorf("Reset was called %d times", frozen.lost)
	}
	if bob, err := frozen.SessionByKey(t.Context(), room.KeyHash{1}); err != nil || bob.User.Name != "Robert" {
		t.Errorf("the session is still cached: %q, %v", bob.User.Name, err)
	}
	elapse(t, f, 20*time.Second, f.Store, frozen.Store)
	openStream(t, frozen.fixture, alice)
	sweep(t, f)
	if frozen.lost != 1 || detached(t, f, alice) {
		t.Errorf("afterwards it reset its state %d times, and its session is detached: %t", frozen.lost, detached(t, f, alice))
	}
}

// TestLeasesWhenTheClockIsSet sets the clock forwards and back: a running node keeps its lease, and
// the lease of a dead node does not last until the wrong time.
func TestLeasesWhenTheClockIsSet(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	dead, running := f.otherNode(t), f.otherNode(t)
	month := f.clock.Now().Add(30 * 24 * time.Hour)
	alice, bob := newSessionUntil(t, f.Store, "alice", month), newSessionUntil(t, f.Store, "bob", month)
	openStream(t, dead.fixture, alice)
	openStream(t, running.fixture, bob)
	elapse(t, f, 20*time.Second, f.Store, dead.Store, running.Store)
	sweep(t, f)
	f.clock.advance(8 * 24 * time.Hour)
	renew(t, f.Store, dead.Store)
	sweep(t, f)
	f.clock.advance(-8 * 24 * time.Hour)
	renew(t, f.Store, running.Store)
	sweep(t, f)
	if detached(t, f, alice) || detached(t, f, bob) {
		t.Error("a session of a running node was detached")
	}
	elapse(t, f, 20*time.Second, f.Store, running.Store)
	sweep(t, f)
	if !detached(t, f, alice) || detached(t, f, bob) {
		t.Errorf("detached of the dead node: %t, of the running one: %t", detached(t, f, alice), detached(t, f, bob))
	}
	if running.lost > 0 {
		t.Error("a running node was declared dead")
	}
}

// TestOtherServersAreCounted: another running server is counted, but not one that is stopping or was
// killed.
func TestOtherServersAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	first := f.otherNode(t)
	elapse(t, f, 2*time.Minute, first.Store) // f was killed
	if n := first.NodeStats().Others; n != 0 {
		t.Errorf("%d others after the only one was killed", n)
	}
	elapse(t, f, 50*time.Second, first.Store, f.Store) // it replaces f
	f.MarkLeaving()
	elapse(t, f, 2*time.Minute, first.Store, f.Store)
	if n := first.NodeStats().Others; n != 0 {
		t.Errorf("%d others while the only one stops", n)
	}
	second := f.otherNode(t)
	elapse(t, f, 10*time.Second, first.Store, second.Store)
	if n := first.NodeStats().Others; n != 1 {
		t.Errorf("%d others", n)
	}
}
