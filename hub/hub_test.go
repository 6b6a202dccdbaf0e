package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"parlor/room"
)

func TestDrain(t *testing.T) {
	everyWay(t, func(t *testing.T, w way) {
		const spread = 3 * time.Second
		s := newSite(t, w, Options{})
		clients := make([]*client, 20)
		for i, id := range crowd(s, len(clients)) {
			clients[i] = s.connected(id, "")
		}
		clients[3].pause() // one that does not read does not hold up the rest
		s.post(1, 10)
		for i, c := range clients {
			if i != 3 {
				c.awaitSeq(1, 10)
			}
		}
		unstarted := s.open(alice)
		s.Drain(context.Background(), spread)
		if got := s.Stats().Streams; got != 0 {
			t.Errorf("%d streams are open", got)
		}
		s.eventually("everybody's detachment", func() bool { return len(s.detachments()) == len(clients) })
		clients[3].resume()
		afters := make(map[int64]bool)
		for _, c := range clients {
			after := data[room.Reconnect](t, c.awaitEnd()).AfterMs
			afters[after] = true
			if after < 0 || after > spread.Milliseconds() {
				t.Errorf("come back after %d ms", after)
			}
			c.wantSeqs(1, 0, 10)
		}
		if len(afters) < len(clients)/2 {
			t.Errorf("%d clients come back at %d different times", len(clients), len(afters))
		}
		if _, err := s.Open(bob, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("Open says %v", err)
		}
		if m := s.start(unstarted, s.attach(alice, "")).awaitEnd(); m != (message{}) {
			t.Errorf("a stream that had not begun got %+v", m)
		}
		s.awaitDetached(alice, 1)
		s.Drain(context.Background(), spread) // again, and there is nothing to do
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{Workers: 1})
		s.connected(alice, "")
		busy := make(chan struct{})
		s.workers[0].do(func() { <-busy })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		s.Drain(ctx, 0)
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("Drain returned after %s", waited)
		}
		close(busy)
	})
}

func TestCloseEndsStreams(t *testing.T) {
	everyWay(t, func(t *testing.T, w way) {
		s := newSite(t, w, Options{})
		ids := crowd(s, 20)
		clients := make([]*client, len(ids))
		for i, id := range ids {
			clients[i] = s.connected(id, "")
		}
		s.post(1, 10)
		s.Close()
		if got := s.Stats(); got.Streams != 0 || got.Topics != 0 {
			t.Errorf("a closed hub has %+v", got)
		}
		for i, c := range clients {
			c.awaitEnd()
			s.awaitDetached(ids[i], 1)
		}
		// Late news finds nobody, and does no harm.
		s.post(1, 1)
		s.join(alice, 1)
		s.leave(alice, 1, room.ReasonLeft)
		s.Refresh()
		s.Close()
	})
}

func TestCloseWhileTheLogIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.enter(bob, 1)
		s.log.enter(bob, 2)
		s.log.append(1, 1000, "before")
		s.connected(alice, cursorAt(1, 1000))
		s.log.fail(errors.New("the database is away"))
		s.connected(bob, cursorAt(1, 0))
		elapse(time.Second)
		began := time.Now()
		s.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it took %s to close", waited)
		}
	})
}

// A hub is closed before the store is, so commits go on while it closes.
func TestCloseWhileEventsCome(t *testing.T) {
	everyWayInRealTime(t, func(t *testing.T, w way) {
		for range 200 {
			s := newSite(t, w, Options{})
			s.log.enter(alice, 1)
			s.connected(alice, "")
			events := s.log.append(1, 300, "hello")
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
	everyWayInRealTime(t, func(t *testing.T, w way) {
		const (
			rooms   = 3
			posters = 3
			posts   = 100
			last    = posters * posts
		)
		s := newSite(t, w, Options{})
		var posting, using sync.WaitGroup
		for range posters {
			posting.Go(func() {
				for range posts {
					for g := range room.Generation(rooms) {
						s.post(g+1, 1)
					}
				}
			})
		}
		for _, id := range crowd(s, 8) {
			for g := range room.Generation(rooms) {
				s.log.enter(id, g+1)
			}
			using.Go(func() { s.useUntil(id, rooms, last) })
		}
		posting.Wait()
		using.Wait()
	})
}

// useUntil reads a session's events with a connection that is lost, or
// superseded, every few events.
func (s *site) useUntil(id room.SessionID, rooms room.Generation, last room.Seq) {
	lastID := ""
	for round := 1; ; round++ {
		c := s.connected(id, lastID)
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
			c.hangUp()
		}
		lastID = c.lastID()
	}
}
