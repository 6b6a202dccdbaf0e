package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"parlor/room"
)

// TestDrain checks that every open stream ends and that its client may reconnect at once, also to
// the same hub, where the new stream stays open until Shutdown.
func TestDrain(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		clients := make([]*client, 20)
		ids := joinedSessions(s, len(clients))
		for i, id := range ids {
			clients[i] = s.connectReady(id, "")
		}
		clients[3].stopReading() // a client that does not read does not delay the others
		s.appendAndPublish(1, 10)
		for i, c := range clients {
			if i != 3 {
				c.awaitSeq(1, 10)
			}
		}
		s.Drain(t.Context(), 50*time.Millisecond)
		s.eventually("the end of all streams", func() bool { return len(s.detachments()) == len(clients) })
		clients[3].readAll()
		for _, c := range clients {
			if after := data[room.Reconnect](t, c.awaitEnd()).AfterMs; after < 0 || after > 100 {
				t.Errorf("reconnect after %d ms", after)
			}
			if got := c.retry(); got != minRetry {
				t.Errorf("retry is %s", got)
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
			t.Errorf("reconnect after %s, retry is %s", after, again.retry())
		}
		if _, err := s.OpenStream(bob, "bob", 0); !errors.Is(err, ErrClosed) {
			t.Errorf("OpenStream returned %v", err)
		}
		if m := s.start(unstarted, s.streamStart(alice, "")).awaitEnd(); m.Event != string(room.TypeReconnect) {
			t.Errorf("a stream that had not started got %+v", m)
		}
		s.awaitDetached(alice, 1)
		s.Drain(t.Context(), time.Second) // returns at once, as there are no streams
		s.Shutdown(t.Context())
	})
}

// TestDrainSpreads checks that streams end one by one over the whole time.
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
			if got := len(s.detachments()); got != ended+1 {
				t.Errorf("after %s, %d streams have ended, want %d", time.Since(began), got, ended+1)
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
		s.connectReady(bob, "") // whose turn would come after half a minute
		busy := make(chan struct{})
		s.workers[0].do(func() { <-busy })
		for _, tt := range []struct {
			name string
			call func(context.Context)
		}{
			{"Drain", func(ctx context.Context) { s.Drain(ctx, time.Minute) }},
			{"Shutdown", s.Shutdown},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			began := time.Now()
			tt.call(ctx)
			if waited := time.Since(began); waited != 5*time.Second {
				t.Errorf("%s returned after %s", tt.name, waited)
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
		// Later changes have no effect.
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
		s.store.failReads(errors.New("the database is down"))
		s.connectReady(bob, cursorAt(1, 0))
		advanceTime(time.Second)
		began := time.Now()
		s.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Close took %s", waited)
		}
	})
}

// TestCloseWhilePublishing publishes while the hub is closed. The hub is closed before the store,
// so transactions still commit at that time.
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
					for i := worker; i < len(events); i += 3 { // with gaps, so that the log is read as well
						s.Apply(room.Change{Events: events[i : i+1]})
					}
				})
			}
			s.Close()
			publishing.Wait()
		}
	})
}

// TestConcurrentUse is for the race detector. Each client checks that its events continue without a
// gap.
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

// useUntil reads a session's events over connections that are closed or superseded every few
// events.
func (s *testHub) useUntil(id room.SessionID, rooms room.LogID, last room.Seq) {
	lastID := ""
	for round := 1; ; round++ {
		c := s.connectReady(id, lastID)
		if ready := c.received()[0]; lastID != "" && ready.ID != lastID {
			s.t.Errorf("%s reconnected at %q, and continues at %q", id, lastID, ready.ID)
		}
		done := false
		c.await("more events", func() bool {
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
