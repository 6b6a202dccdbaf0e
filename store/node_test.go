package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
	for ; d > 0; d -= room.LeaseInterval {
		f.clock.advance(min(d, room.LeaseInterval))
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
			elapse(t, f, room.LeaseInterval, f.Store, other.Store)
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
	if _, err := frozen.CreateSession(t.Context(), as(bob), bob, named(bob), room.KeyHash{1}, room.KeyHash{2}); err != nil {
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
	query[string](t, f, "UPDATE profiles SET user_name = 'Robert' WHERE user_id = 'bob' RETURNING user_name")
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

// TestOtherServersAreCounted: another running server is counted, but not one that is stopping or
// was killed.
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

// TestStalledNodeDeclaresNobodyDead: a node that is frozen between a reading of the database's
// clock and its use does not declare nodes dead that have renewed their leases in between.
func TestStalledNodeDeclaresNobodyDead(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	openStream(t, f, alice)
	stall := func() {}
	stalled := fixture{address: f.address, clock: f.clock, published: &recorder{}}
	stalled.Store = storetest.Open(t, f.address, store.Options{Now: f.clock.Now, DatabaseNow: func(time.Time) time.Time {
		now := f.clock.Now()
		stall()
		return now
	}})
	once := func(do func()) {
		stall = func() {
			stall = func() {}
			do()
		}
	}
	elapse(t, f, 20*time.Second, f.Store, stalled.Store)
	once(func() { elapse(t, f, 8*time.Second, f.Store) })
	sweep(t, stalled)
	if detached(t, f, alice) {
		t.Error("a sweep that stalled detached a session of a running node")
	}
	elapse(t, f, 20*time.Second, f.Store, stalled.Store)
	elapse(t, f, 14*time.Second, stalled.Store)
	f.clock.advance(2 * time.Second)
	once(func() { renew(t, f.Store) }) // at the last moment
	renew(t, stalled.Store)
	sweep(t, stalled)
	if detached(t, f, alice) {
		t.Error("a renewal that stalled detached a session of a running node")
	}
	elapse(t, f, 16*time.Second, stalled.Store)
	sweep(t, stalled)
	if !detached(t, f, alice) {
		t.Error("a dead node was not declared dead")
	}
}

// TestNodeDeclaredDeadNoticesAtOnce: a node that continues while others still detach its sessions
// notices that it was declared dead.
func TestNodeDeclaredDeadNoticesAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	frozen := f.otherNode(t)
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	openStream(t, frozen.fixture, alice)
	openStream(t, frozen.fixture, bob)
	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", bob.ID); err != nil {
		t.Fatal(err)
	}
	elapse(t, f, 20*time.Second, f.Store, frozen.Store)
	elapse(t, f, 20*time.Second, f.Store)
	sweep(t, f)
	if !detached(t, f, alice) {
		t.Fatal("the session of a node that does nothing is online")
	}
	renew(t, frozen.Store)
	if frozen.lost != 1 {
		t.Errorf("Reset was called %d times", frozen.lost)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	elapse(t, f, 4*time.Second, f.Store, frozen.Store)
	sweep(t, f)
	if detached(t, f, bob) || frozen.lost != 1 {
		t.Errorf("the others go on to detach its sessions: %t; Reset was called %d times", detached(t, f, bob), frozen.lost)
	}
}

// TestGraceBeginsBeforeTheFirstRenewal: a sweep that runs before the first renewal after an outage
// removes nobody.
func TestGraceBeginsBeforeTheFirstRenewal(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberTimeout = 5 })})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	stream := openStream(t, f, alice)
	renew(t, f.Store)
	f.Detach(alice.ID, stream.StreamNo, f.clock.Now())
	waitUntil(t, "alice is detached", func() bool { return detached(t, f, alice) })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 { // the outage
		f.clock.advance(2 * time.Second)
		if err := f.RenewLease(gone); err == nil {
			t.Fatal("renewed during an outage")
		}
	}
	f.published.take()
	sweep(t, f)
	if c := f.published.take(); len(c.Left) != 0 {
		t.Errorf("removed at once: %v", c.Left)
	}
	elapse(t, f, 12*time.Second, f.Store)
	sweep(t, f)
	if c := f.published.take(); len(c.Left) != 1 {
		t.Errorf("removed in the end: %v", c.Left)
	}
}

// TestLeaseConnectionIsReplaced: a renewal whose connection has ended, for example while the
// machine was suspended, uses a new one at once.
func TestLeaseConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	renew(t, f.Store)
	const others = " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
	query[int](t, f, "SELECT count(pg_terminate_backend(pid))"+others)
	waitUntil(t, "all connections have ended", func() bool { return query[int](t, f, "SELECT count(*)"+others) == 0 })
	renew(t, f.Store)
}

// TestClocksOfNodes: a node whose clock is wrong does not start. If its clock goes wrong while it
// runs, no lease expires because of it, and nobody leaves a room.
func TestClocksOfNodes(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-16 * time.Second, 14 * time.Second, 16 * time.Second, 21 * time.Second} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			f := setup(t, store.Options{Defaults: defaults(func(c *room.Config) { c.MemberTimeout = 5 })})
			wrong := fixture{address: f.address, clock: &clock{now: f.clock.Now()}, published: &recorder{}}
			lost := 0
			opts := store.Options{
				Now: wrong.clock.Now, DatabaseNow: func(time.Time) time.Time { return f.clock.Now() },
				Commit: wrong.published.commit, Reset: func() { lost++ },
			}
			wrong.Store = storetest.Open(t, f.address, opts)
			alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
			enter(t, f, alice, "lobby")
			enter(t, f, bob, "lobby")
			openStream(t, f, alice)
			openStream(t, wrong, bob)

			wrong.clock.advance(ahead)
			s, err := store.Open(t.Context(), f.address, opts)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, store.ErrClockSkew) {
				t.Errorf("a server with this clock starts: %v", err)
			}
			for range 60 {
				f.clock.advance(time.Second)
				wrong.clock.advance(time.Second)
				renew(t, f.Store, wrong.Store)
				sweep(t, f)
				if err := wrong.Sweep(t.Context()); err != nil && !strings.Contains(err.Error(), "clock") {
					t.Fatal(err)
				}
			}
			if detached(t, f, alice) || detached(t, f, bob) || lost > 0 {
				t.Errorf("a running server was declared dead; detached: %t, %t", detached(t, f, alice), detached(t, f, bob))
			}
			if c := f.published.take().And(wrong.published.take()); len(c.Left) > 0 {
				t.Errorf("removed: %v", c.Left)
			}
		})
	}
}

// TestNodesDescribeThemselves: the log names a server that is declared dead.
func TestNodesDescribeThemselves(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{NodeName: "web-1", Version: "v1.2.3"})
	other := f.otherNode(t)
	elapse(t, f, 20*time.Second, other.Store)
	for _, want := range []string{"server declared dead", "web-1", "version v1.2.3"} {
		if !strings.Contains(other.log.String(), want) {
			t.Errorf("the log does not contain %q: %s", want, &other.log)
		}
	}
	started := query[time.Time](t, f, "SELECT started_at FROM nodes WHERE name = 'web-1'")
	renew(t, f.Store) // it registers again
	if again := query[time.Time](t, f, "SELECT started_at FROM nodes WHERE name = 'web-1' AND dead_since IS NULL"); !again.Equal(started) {
		t.Errorf("started at %v, and later at %v", started, again)
	}
}

// TestListNodes lists a node that runs, one that stops, and one that has crashed.
func TestListNodes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{NodeName: "web-1", Version: "v1.2.3"})
	for _, user := range []string{"alice", "bob"} {
		openStream(t, f, newSession(t, f.Store, user))
	}
	first := f.clock.Now()
	f.clock.advance(time.Second)
	stopping, crashed := f.otherNode(t), f.otherNode(t)
	openStream(t, crashed.fixture, newSession(t, crashed.Store, "carol"))
	stopping.MarkLeaving()
	type listed struct {
		node    room.NodeID
		state   room.NodeState
		streams int
	}
	want := func(at string, crashedIs ...listed) {
		t.Helper()
		nodes, err := f.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[listed]bool)
		for _, n := range nodes {
			got[listed{n.Lease.Node, n.State(f.Now()), n.Streams}] = true
		}
		all := append(crashedIs, listed{f.NodeID(), room.NodeRunning, 2}, listed{stopping.NodeID(), room.NodeStopping, 0})
		for _, l := range all {
			if !got[l] || len(nodes) != len(all) {
				t.Errorf("%s: %v is not among %v", at, l, got)
			}
		}
		if n := nodes[0]; n.Lease.Node != f.NodeID() || n.Name != "web-1" || n.Version != "v1.2.3" || first.Sub(n.StartedAt).Abs() > time.Millisecond || !n.Until.After(f.Now()) {
			t.Errorf("%s: the first node is %+v", at, n)
		}
	}
	elapse(t, f, 4*time.Second, f.Store, stopping.Store)
	want("early", listed{crashed.NodeID(), room.NodeRunning, 1})
	elapse(t, f, 4*time.Second, f.Store, stopping.Store)
	want("late", listed{crashed.NodeID(), room.NodeLate, 1})
	elapse(t, f, 12*time.Second, f.Store, stopping.Store)
	want("dead", listed{crashed.NodeID(), room.NodeDead, 1})
	sweep(t, f)
	want("swept")

	nodes, now, err := store.ListNodes(t.Context(), f.address)
	if err != nil || len(nodes) != 2 || nodes[0].Lease.Node != f.NodeID() || time.Since(now).Abs() > 10*time.Minute {
		t.Errorf("ListNodes = %+v, %v, %v", nodes, now, err)
	}
}
