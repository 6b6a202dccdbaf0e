package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// clocks is a fixture with two clocks: clock is that of the process, whose monotonic reading never
// jumps, and database is that of PostgreSQL.
type clocks struct {
	fixture
	database *clock
	log      bytes.Buffer
}

func setupClocks(t *testing.T, opts store.Options) *clocks {
	t.Helper()
	f := &clocks{database: &clock{now: time.Now()}}
	f.address, f.clock, f.published = storetest.Database(t), &clock{now: f.database.now}, &recorder{}
	opts.Now, opts.Commit = f.clock.Now, f.published.commit
	opts.DatabaseNow = func(time.Time) time.Time { return f.database.Now().Round(0) }
	opts.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	f.Store = storetest.Open(t, f.address, opts)
	return f
}

// elapse advances both clocks.
func (f *clocks) elapse(d time.Duration) {
	f.clock.advance(d)
	f.database.advance(d)
}

// kept counts the rows that a wrong clock could delete.
func (f *clocks) kept(t *testing.T) map[string]int {
	t.Helper()
	kept := make(map[string]int)
	for _, table := range []string{"events", "rooms WHERE destroyed_at IS NULL", "members", "sessions WHERE ended_at IS NULL", "departures", "bans", "media"} {
		kept[table] = query[int](t, f.fixture, "SELECT count(*) FROM "+table)
	}
	return kept
}

// populate creates rows of each kind that a wrong clock could delete.
func (f *clocks) populate(t *testing.T) {
	t.Helper()
	day := f.clock.Now().Add(24 * time.Hour)
	alice, bob := newSessionUntil(t, f.Store, "alice", day), newSessionUntil(t, f.Store, "bob", day)
	enter(t, f.fixture, alice, "lobby")
	enter(t, f.fixture, bob, "lobby")
	openStream(t, f.fixture, alice)
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PostPeerMessage(t.Context(), alice, "bob", textDraft("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "empty", room.RoomOptions{}); err != nil {
		t.Fatal(err)
	}
	enter(t, f.fixture, bob, "cellar")
	if _, err := f.KickMembers(t.Context(), admin, "cellar", []room.UserID{"bob"}, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := f.AddMedia(t.Context(), "alice", "a.png", 10); err != nil {
		t.Fatal(err)
	}
}

func (f *clocks) sweepAll(ctx context.Context) error {
	err := f.Sweep(ctx)
	if err := f.SweepMedia(ctx, func(context.Context, room.MediaID) error { return nil }); err != nil {
		return err
	}
	return err
}

// TestMomentarilyWrongClockDeletesNothing sets the clock of the database's machine, or that of this
// machine, which may be the same one.
func TestMomentarilyWrongClockDeletesNothing(t *testing.T) {
	t.Parallel()
	const ahead = 8 * 24 * time.Hour
	for _, step := range []struct {
		name string
		set  func(*clocks, time.Duration)
	}{
		{"the database's", func(f *clocks, by time.Duration) { f.database.advance(by) }},
		{"this machine's", func(f *clocks, by time.Duration) { f.clock.set(f.clock.Now().Round(0).Add(by)) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			f := setupClocks(t, store.Options{MessageRetention: 7 * 24 * time.Hour})
			f.populate(t)
			before := f.kept(t)
			for _, by := range []time.Duration{ahead, -ahead} {
				step.set(f, by)
				for range 3 {
					if err := f.sweepAll(t.Context()); err == nil || !strings.Contains(err.Error(), "clock") {
						t.Errorf("clock set by %s: sweep: %v", by, err)
					}
					f.elapse(time.Second)
				}
				step.set(f, -by)
				renew(t, f.Store)
				if err := f.sweepAll(t.Context()); err != nil {
					t.Errorf("clock correct again: sweep: %v", err)
				}
			}
			for what, n := range f.kept(t) {
				if n != before[what] {
					t.Errorf("%d rows of %s are left, want %d", n, what, before[what])
				}
			}
		})
	}
}

// TestClockThatWasSetIsAcceptedLater: timers use a clock that was set after a minute, and nothing
// is deleted for an hour.
func TestClockThatWasSetIsAcceptedLater(t *testing.T) {
	t.Parallel()
	f := setupClocks(t, store.Options{MessageRetention: 10 * time.Minute})
	f.populate(t)
	f.elapse(10 * time.Minute)
	f.database.advance(5 * time.Second)
	for range 59 {
		if err := f.Sweep(t.Context()); err == nil {
			t.Fatal("timers use a clock that was just set")
		}
		f.elapse(time.Second)
	}
	f.elapse(2 * time.Second)
	if err := f.sweepAll(t.Context()); err != nil {
		t.Errorf("clock accepted: sweep: %v", err)
	}
	if err := f.sweepAll(t.Context()); err != nil {
		t.Errorf("clock accepted: sweep: %v", err)
	}
	messages := func() int {
		return query[int](t, f.fixture, "SELECT count(*) FROM events WHERE type = $1", room.TypeMessagesReceived)
	}
	if kept := f.kept(t); kept["rooms WHERE destroyed_at IS NULL"] != 1 || messages() != 1 {
		t.Errorf("after the timers: %v; want the empty room gone and nothing deleted", kept)
	}
	f.elapse(time.Hour)
	if err := f.sweepAll(t.Context()); err != nil {
		t.Error(err)
	}
	if n := messages(); n != 0 {
		t.Errorf("%d messages older than the retention are left", n)
	}
	if n := strings.Count(f.log.String(), "the database's clock was set"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &f.log)
	}
}

// TestClockSkewStopsTimers: a server with a wrong clock does not start, and if a clock goes wrong
// later, timers stop.
func TestClockSkewStopsTimers(t *testing.T) {
	t.Parallel()
	f := setupClocks(t, store.Options{})
	f.populate(t)
	for range 8 {
		f.clock.advance(1500 * time.Millisecond)
		renew(t, f.Store)
	}
	if n := strings.Count(f.log.String(), "this server's clock differs from the database's"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &f.log)
	}
	if s := f.NodeStats(); s.Timers || s.ClockAhead.Round(time.Second) != 12*time.Second {
		t.Errorf("stats: %+v", s)
	}
	if err := f.Sweep(t.Context()); err == nil {
		t.Error("timers are running")
	}
	s, err := store.Open(t.Context(), f.address, store.Options{Now: f.clock.Now, DatabaseNow: func(time.Time) time.Time { return f.database.Now() }})
	if err == nil {
		s.Close()
	}
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "this machine's clock is 12s ahead of the database's") {
		t.Errorf("starting with a wrong clock: %v", err)
	}
}

// TestStoredTimesAreTheDatabases: stored times come from the database's clock, whatever this
// machine's clock shows.
func TestStoredTimesAreTheDatabases(t *testing.T) {
	t.Parallel()
	f := setupClocks(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f.fixture, alice, "lobby")
	stream := openStream(t, f.fixture, alice)
	f.clock.advance(1500 * time.Millisecond) // ahead of the database
	renew(t, f.Store)
	m, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello"))
	if err != nil {
		t.Fatal(err)
	}
	f.Detach(alice.ID, stream.StreamNo, f.clock.Now())
	waitUntil(t, "the session is detached", func() bool { return detached(t, f.fixture, alice) })
	now := f.database.Now().UTC().Truncate(time.Millisecond)
	if s, err := f.SessionByID(t.Context(), alice.ID); err != nil || !s.DetachedAt.Equal(now) || !m.SentAt.Time().Equal(now) {
		t.Errorf("sent at %v, detached at %v, %v; want %v", m.SentAt, s.DetachedAt, err, now)
	}
}

// TestSlowReadingRefusesNoStart: the first answer of a slow database does not look like a wrong
// clock.
func TestSlowReadingRefusesNoStart(t *testing.T) {
	t.Parallel()
	address, process := storetest.Database(t), &clock{now: time.Now()}
	open := func(ahead time.Duration) error {
		s, err := store.Open(t.Context(), address, store.Options{
			Now: func() time.Time {
				process.advance(5 * time.Second) // the time of each answer
				return process.Now()
			},
			DatabaseNow: func(time.Time) time.Time { return process.Now().Add(ahead) },
		})
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := open(0); err != nil {
		t.Errorf("clocks are equal: %v", err)
	}
	if err := open(10 * time.Second); !errors.Is(err, store.ErrClockSkew) {
		t.Errorf("clocks differ by more than the delay: %v", err)
	}
}

// TestTimesOfAServerDoNotGoBack sets the database's clock back by less than a step, as NTP does.
func TestTimesOfAServerDoNotGoBack(t *testing.T) {
	t.Parallel()
	f := setupClocks(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	r := enter(t, f.fixture, alice, "lobby")
	latest := r.CreatedAt
	for _, step := range []time.Duration{-time.Second, 600 * time.Millisecond, 600 * time.Millisecond, -100 * time.Millisecond} {
		f.database.advance(step)
		renew(t, f.Store)
		m, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if now := max(latest, room.InstantOf(f.database.Now())); m.SentAt != now {
			t.Errorf("after a step of %s: sent at %s, want %s", step, m.SentAt, now)
		}
		latest = m.SentAt
	}
}
