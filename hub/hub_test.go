package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"parlor/room"
)

// TestDrain: everybody who is here is sent away, may come back at once, here as well,
// and stays until the end.
func TestDrain(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		clients := make([]*client, 20)
		ids := joinedSessions(s, len(clients))
		for i, id := range ids {
			clients[i] = s.connectReady(id, "")
		}
		clients[3].stopReading() // one that does not read does not hold up the rest
		s.appendAndPublish(1, 10)
		for i, c := range clients {
			if i != 3 {
				c.awaitSeq(1, 10)
			}
		}
		s.Drain(t.Context(), 50*time.Millisecond)
		s.eventually("everybody's detachment", func() bool { return len(s.detachments()) == len(clients) })
		clients[3].readAll()
		for _, c := range clients {
			if after := data[room.Reconnect](t, c.awaitEnd()).AfterMs; after < 0 || after > 100 {
				t.Errorf("come back after %d ms", after)
			}
			if got := c.retry(); got != minRetry {
				t.Errorf("EventSource comes back after %s", got)
			}
			c.wantSeqs(1, 0, 10)
		}
		again := s.connectReady(ids[0], clients[0].lastID())
		s.appendAndPublish(1, 1)
		again.awaitSeq(1, 11)

		unstarted := s.open(alice)
		s.Shutdown(t.Context())
		if got := s.Stats().Streams; got != 0 {
			t.Errorf("%d streams are open", got)
		}
		after := time.Duration(data[room.Reconnect](t, again.awaitEnd()).AfterMs) * time.Millisecond
		if after < maxRestartDelay/2 || after > maxRestartDelay || again.retry() != after {
			t.Errorf("come back after %s, EventSource after %s", after, again.retry())
		}
		if _, err := s.OpenStream(bob, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("Open says %v", err)
		}
		if m := s.start(unstarted, s.streamStart(alice, "")).awaitEnd(); m != (sseMessage{}) {
			t.Errorf("a stream that had not begun got %+v", m)
		}
		s.awaitDetached(alice, 1)
		s.Drain(t.Context(), time.Second) // there is nothing to do, and nothing to wait for
		s.Shutdown(t.Context())
	})
}

// TestDrainSpreads: streams end one by one over the whole time.
func TestDrainSpreads(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		const streams, spread = 20, 4 * time.Second
		s := newTestHub(t, overServe, Options{})
		for _, id := range joinedSessions(s, streams) {
			s.connectReady(id, "")
		}
		drained := make(chan struct{})
		began := time.Now()
		go func() {
			s.Drain(t.Context(), spread)
			close(drained)
		}()
		advanceTime(time.Millisecond)
		for ended := range streams {
			if got := len(s.detachments()); got != ended {
				t.Errorf("after %s %d streams have ended, and not %d", time.Since(began), got, ended)
			}
			advanceTime(spread / streams)
		}
		<-drained
		if got, took := len(s.detachments()), time.Since(began); got != streams || took > spread+time.Second/10 {
			t.Errorf("%d streams have ended after %s", got, took)
		}
	})
}

func TestDrainStopsWithContext(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{Workers: 1})
		s.connectReady(alice, "")
		busy := make(chan struct{})
		s.workers[0].do(func() { <-busy })
		for name, drain := range map[string]func(context.Context){
			"Drain": func(ctx context.Context) { s.Drain(ctx, time.Minute) },
			"End":   s.Shutdown,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			began := time.Now()
			drain(ctx)
			if waited := time.Since(began); waited != 5*time.Second {
				t.Errorf("%s returned after %s", name, waited)
			}
			cancel()
		}
		close(busy)
	})
}

func TestCloseEndsStreams(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		ids := joinedSessions(s, 20)
		clients := make([]*client, len(ids))
		for i, id := range ids {
			clients[i] = s.connectReady(id, "")
		}
		s.appendAndPublish(1, 10)
		s.Close()
		if got := s.Stats(); got.Streams != 0 || got.Topics != 0 {
			t.Errorf("a closed hub has %+v", got)
		}
		for i, c := range clients {
			c.awaitEnd()
			s.awaitDetached(ids[i], 1)
		}
		// Late news finds nobody, and does no harm.
		s.appendAndPublish(1, 1)
		s.join(alice, 1)
		s.leave(alice, 1, room.ReasonLeft)
		s.Resync()
		s.Close()
	})
}

func TestCloseWhileLogFails(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		s.store.join(bob, 2)
		s.store.append(1, 1000, "before")
		s.connectReady(alice, cursorAt(1, 1000))
		s.store.failReads(errors.New("the database is away"))
		s.connectReady(bob, cursorAt(1, 0))
		advanceTime(time.Second)
		began := time.Now()
		s.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it took %s to close", waited)
		}
	})
}

// A hub is closed before the store is, so commits go on while it closes.
func TestCloseWhilePublishing(t *testing.T) {
	eachTransportInRealTime(t, func(t *testing.T, w transport) {
		for range 200 {
			s := newTestHub(t, w, Options{})
			s.store.join(alice, 1)
			s.connectReady(alice, "")
			events := s.store.append(1, 300, "hello")
			var publishing sync.WaitGroup
			for worker := range 2 {
				publishing.Go(func() {
					for i := worker; i < len(events); i += 3 { // with holes, so that the log is read, too
						s.Apply(room.Change{Events: events[i : i+1]})
					}
				})
			}
			s.Close()
			publishing.Wait()
		}
	})
}

// Everything at once, for the race detector. Each client checks for itself that
// what it gets follows from what it had.
func TestConcurrentUse(t *testing.T) {
	eachTransportInRealTime(t, func(t *testing.T, w transport) {
		const (
			rooms   = 3
			posters = 3
			posts   = 100
			last    = posters * posts
		)
		s := newTestHub(t, w, Options{})
		var posting, using sync.WaitGroup
		for range posters {
			posting.Go(func() {
				for range posts {
					for g := range room.LogID(rooms) {
						s.appendAndPublish(g+1, 1)
					}
				}
			})
		}
		for _, id := range joinedSessions(s, 8) {
			for g := range room.LogID(rooms) {
				s.store.join(id, g+1)
			}
			using.Go(func() { s.useUntil(id, rooms, last) })
		}
		posting.Wait()
		using.Wait()
	})
}

// useUntil reads a session's events with a connection that is lost, or
// superseded, every few events.
func (s *testHub) useUntil(id room.SessionID, rooms room.LogID, last room.Seq) {
	lastID := ""
	for round := 1; ; round++ {
		c := s.connectReady(id, lastID)
		if ready := c.received()[0]; lastID != "" && ready.ID != lastID {
			s.t.Errorf("%s came back at %q, and goes on from %q", id, lastID, ready.ID)
		}
		done := false
		c.await("more", func() bool {
			done = true
			for g := range rooms {
				seq, _ := c.cursor.Seq(g + 1)
				done = done && seq == last
			}
			return done || len(c.sse.messages) > 10
		})
		if done {
			return
		}
		if round%3 > 0 {
			c.close()
		}
		lastID = c.lastID()
	}
}
