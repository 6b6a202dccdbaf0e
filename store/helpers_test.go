package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// A fixture is a store on a database of its own, with its committed changes and its clock.
type fixture struct {
	*store.Store
	address   string
	clock     *clock
	published *recorder
}

func setup(t testing.TB, opts store.Options) fixture {
	t.Helper()
	f := fixture{address: storetest.Database(t), clock: &clock{now: time.Now()}, published: &recorder{}}
	opts.Now, opts.Commit = f.clock.Now, f.published.commit
	if opts.LockTimeout == 0 {
		opts.LockTimeout = time.Minute // tests hold locks, on slow and busy machines
	}
	f.Store = storetest.Open(t, f.address, opts)
	return f
}

// defaults returns the default settings with a change.
func defaults(change func(*room.Config)) room.Config {
	c := room.DefaultConfig()
	change(&c)
	return c
}

// query reads one value from the database.
func query[T any](t testing.TB, f fixture, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// A clock only moves when a test sets or advances it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A recorder stores the changes that a store committed.
type recorder struct {
	mu     sync.Mutex
	change room.Change
}

func (r *recorder) commit(c room.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change = r.change.And(c)
}

// take returns what was committed since the last take.
func (r *recorder) take() room.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.change
	r.change = room.Change{}
	return c
}

func roomOf(i int) room.RoomID { return room.RoomID(fmt.Sprintf("room%d", i)) }

func textDraft(text string) room.Draft {
	return room.Draft{Content: room.Content{Kind: room.KindText, Text: text}, Priority: room.PriorityMedium}
}

// toRoom returns a session's message to a room.
func toRoom(sender room.Session, id room.RoomID, d room.Draft) room.RoomSend {
	return room.RoomSend{Sender: sender.Sender(as(sender)), Room: id, Draft: d}
}

// toPeer returns a session's message to a user.
func toPeer(sender room.Session, to room.UserID, d room.Draft) room.PeerSend {
	return room.PeerSend{Sender: sender.Sender(as(sender)), Peer: to, Draft: d}
}

// PostMessage sends a session's message to a room.
func (f fixture) PostMessage(
	ctx context.Context, sender room.Session, id room.RoomID, d room.Draft,
) (room.Message, error) {
	m, _, err := f.Store.PostMessage(ctx, toRoom(sender, id, d))
	return m, err
}

// PostMessageAs sends an admin's message to a room.
func (f fixture) PostMessageAs(
	ctx context.Context, sender room.User, id room.RoomID, d room.Draft,
) (room.Message, error) {
	m, _, err := f.Store.PostMessage(ctx, room.RoomSend{Sender: room.Sender{Actor: admin, User: sender}, Room: id, Draft: d})
	return m, err
}

// PostPeerMessage sends a session's message to a user.
func (f fixture) PostPeerMessage(
	ctx context.Context, sender room.Session, to room.UserID, d room.Draft,
) (room.Message, error) {
	m, _, err := f.Store.PostPeerMessage(ctx, toPeer(sender, to, d))
	return m, err
}

// newSession stores a session that lasts an hour.
func newSession(t testing.TB, s *store.Store, user string) room.Session {
	t.Helper()
	return newSessionUntil(t, s, user, time.Now().Add(time.Hour))
}

func newSessionUntil(t testing.TB, s *store.Store, user string, expires time.Time) room.Session {
	t.Helper()
	session := unsavedSession(user)
	session.TokenExpiresAt = expires.UTC().Truncate(time.Millisecond)
	if _, err := s.CreateSession(context.Background(), as(session), session, named(session), randomKey(t), randomKey(t)); err != nil {
		t.Fatalf("create a session: %v", err)
	}
	return session
}

// named returns what a login with the session's name says.
func named(s room.Session) room.Naming { return room.Naming{Asked: s.User.Name} }

// unsavedSession returns a session that is not stored, with a token that lasts an hour.
func unsavedSession(user string) room.Session {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return room.Session{
		ID:        room.SessionID(uuid.Must(uuid.NewV7()).String()),
		User:      room.User{ID: room.UserID(user), Name: "User " + user},
		CreatedAt: now, DetachedAt: now, TokenExpiresAt: now.Add(time.Hour),
	}
}

func randomKey(t testing.TB) room.KeyHash {
	t.Helper()
	a, b := uuid.New(), uuid.New()
	return room.KeyHash(append(a[:], b[:]...))
}

func openOn(t testing.TB, address string, opts store.Options) *store.Store {
	t.Helper()
	return storetest.Open(t, address, opts)
}

func openStream(t testing.TB, f fixture, session room.Session) room.OpenedStream {
	t.Helper()
	opened, err := f.OpenStream(t.Context(), session.ID, "", nil)
	if err != nil {
		t.Fatalf("open a stream of %s: %v", session.User.ID, err)
	}
	return opened
}

// streamsOf returns functions that open a stream of a session at a node, and that lose it there.
func streamsOf(t testing.TB, f fixture) (open, lose func(on *store.Store, s room.Session)) {
	numbers := map[room.SessionID]int64{}
	open = func(on *store.Store, s room.Session) {
		t.Helper()
		opened, err := on.OpenStream(t.Context(), s.ID, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		numbers[s.ID] = opened.StreamNo
	}
	lose = func(on *store.Store, s room.Session) {
		t.Helper()
		on.Detach(s.ID, numbers[s.ID], f.clock.Now())
		waitUntil(t, "the session is detached", func() bool { return detached(t, f, s) })
	}
	return open, lose
}

func detached(t testing.TB, f fixture, session room.Session) bool {
	t.Helper()
	s, err := f.SessionByID(t.Context(), session.ID)
	if err != nil {
		t.Fatal(err)
	}
	return !s.DetachedAt.IsZero()
}

// waitUntil waits for the effect of another goroutine.
func waitUntil(t testing.TB, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// hold opens a transaction that locks rows until release is called.
func hold(t *testing.T, f fixture, sql string, args ...any) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
	}
}

// waitForLocks waits until n transactions wait for locks.
func waitForLocks(t *testing.T, f fixture, n int) {
	t.Helper()
	waitUntil(t, fmt.Sprintf("%d wait for a lock", n), func() bool {
		return query[int](t, f, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == n
	})
}

// as returns the session as the actor of a call.
func as(session room.Session) room.Actor {
	return room.Actor{Kind: room.ActorSession, ID: string(session.ID), RequestID: "request"}
}

// admin is the actor of calls that an admin makes.
var admin = room.Actor{Kind: room.ActorAdmin, ID: "backend", RequestID: "request"}
