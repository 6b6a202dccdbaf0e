package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/localpg"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// TestPostgreSQLOutage stops a real server while clients write. Calls fail with an error until it
// is back. Then everything continues, and each acknowledged message is stored once.
func TestPostgreSQLOutage(t *testing.T) {
	t.Parallel()
	dir := storetest.Folder(t)
	opts := localpg.Options{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"fsync": "off"}}
	pg := start(t, opts)
	if _, err := store.Migrate(t.Context(), pg.URL(), nil); err != nil {
		t.Fatal(err)
	}
	var unknownCommits atomic.Int64
	published := &recorder{}
	f := fixture{address: pg.URL(), clock: &clock{now: time.Now()}, published: published}
	f.Store = storetest.Open(t, pg.URL(), store.Options{
		Commit: published.commit, CommitUnknown: func() { unknownCommits.Add(1) }, Now: f.clock.Now,
	})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	stream := openStream(t, f, alice)
	bob := newSession(t, f.Store, "bob")
	enter(t, f, bob, "lobby")
	openStream(t, f, bob)
	other := f.otherNode(t)
	elapse(t, f, 20*time.Second, f.Store, other.Store)

	stop := make(chan struct{})
	var (
		writing      sync.WaitGroup
		mu           sync.Mutex
		acknowledged = map[string]room.Seq{}
		refused      atomic.Int64
	)
	for w := range 8 {
		writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d := textDraft("hello")
				d.ClientMessageID = fmt.Sprintf("%d-%d", w, i)
				m, err := f.PostMessage(context.Background(), alice, "lobby", d)
				switch {
				case err == nil:
					mu.Lock()
					acknowledged[d.ClientMessageID] = m.Seq
					mu.Unlock()
				case errors.Is(err, room.ErrUnavailable):
					refused.Add(1)
					i-- // retries the same message, as a client does
				default:
					t.Errorf("post: %v", err)
					return
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	waitUntil(t, "messages flow", func() bool { return count() > 20 })
	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "writes are rejected", func() bool { return refused.Load() > 8 })
	if _, err := f.SessionByID(t.Context(), alice.ID); !errors.Is(err, room.ErrUnavailable) {
		t.Errorf("a read during the outage: %v", err)
	}
	if err := f.Sweep(t.Context()); !errors.Is(err, room.ErrUnavailable) {
		t.Errorf("a sweep during the outage: %v", err)
	}
	if err := f.RenewLease(t.Context()); !errors.Is(err, room.ErrUnavailable) {
		t.Errorf("a renewal of the lease during the outage: %v", err)
	}
	f.clock.advance(20 * time.Second) // longer than a lease
	lost := f.clock.Now().Add(time.Second)
	f.Detach(alice.ID, stream.StreamNo, lost) // must not be lost
	start(t, opts)
	before := count()
	waitUntil(t, "messages flow again", func() bool { return count() > before+20 })
	close(stop)
	writing.Wait()

	waitUntil(t, "the session of the lost stream is detached", func() bool { return detached(t, f, alice) })
	session, err := f.SessionByID(t.Context(), alice.ID)
	if err != nil || !session.DetachedAt.Equal(lost.UTC().Truncate(time.Millisecond)) {
		t.Errorf("detached at %v, %v; want %v", session.DetachedAt, err, lost)
	}
	if unknownCommits.Load() == 0 {
		t.Error("no unknown commit was reported")
	}
	for id, seq := range acknowledged {
		if got := query[room.Seq](t, f, "SELECT max(seq) FROM events WHERE client_message_id = $1 HAVING count(*) = 1", id); got != seq {
			t.Fatalf("message %s has seq %d, acknowledged as %d", id, got, seq)
		}
	}
	// The other node is back first, and this one is alive.
	waitUntil(t, "the other node has a connection", func() bool { return other.RenewLease(t.Context()) == nil })
	sweep(t, other.fixture)
	elapse(t, f, 40*time.Second, f.Store, other.Store)
	sweep(t, other.fixture)
	if detached(t, f, bob) || other.lost > 0 {
		t.Error("a session whose stream is open was detached")
	}
	checkInvariants(t, f)
}

func start(t *testing.T, opts localpg.Options) *localpg.Server {
	t.Helper()
	pg, err := localpg.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	return pg
}
