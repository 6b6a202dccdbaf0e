package hub

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestHeartbeat(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		const beat = 5 * time.Second
		s := newTestHub(t, overServe, Options{Heartbeat: beat})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		for range 20 {
			before := c.comments()
			if advanceTime(beat); c.comments() == before {
				t.Fatalf("no heartbeat in %s", beat)
			}
		}
		if n := c.comments(); n > 26 {
			t.Errorf("%d heartbeats in 20 intervals", n)
		}
		// Events replace heartbeats.
		before := c.comments()
		for range 20 {
			s.appendAndPublish(1, 1)
			advanceTime(beat / 4)
		}
		if n := c.comments(); n != before {
			t.Errorf("%d heartbeats on a busy stream", n-before)
		}
	})
}

func TestRetryIsSpread(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		const about = 4 * time.Second
		s := newTestHub(t, overServe, Options{Retry: about})
		seen := make(map[time.Duration]bool)
		for i := range 20 {
			c := s.connectReady(room.SessionID(fmt.Sprint(i)), "")
			wait := c.retry()
			seen[wait] = true
			if wait < about/2 || wait >= about/2+about {
				t.Errorf("retry: %s", wait)
			}
		}
		if len(seen) < 10 {
			t.Errorf("20 clients have %d different retry times", len(seen))
		}
	})
}

func TestStalledClientIsClosed(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		c, other := s.connectReady(alice, ""), s.connectReady(bob, "")
		c.stopReading()
		s.appendAndPublish(1, 3)
		advanceTime(defaultWriteTimeout - 2*time.Second)
		if got := s.detachments(); got != nil {
			t.Fatalf("detached too early: %v", got)
		}
		advanceTime(3 * time.Second)
		if diff := cmp.Diff([]detachedStream{{alice, 1}}, s.detachments()); diff != "" {
			t.Errorf("detached (-want +got):\n%s", diff)
		}
		c.awaitEnd()
		s.appendAndPublish(1, 1)
		other.wantSeqs(1, 0, 4)
		s.connect(alice, c.lastID()).wantSeqs(1, 0, 4)
	})
}

func TestTokenExpires(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		stream := s.open(alice)
		start := s.streamStart(alice, "")
		start.TokenExpiresAt = time.Now().Add(time.Minute)
		c := s.start(stream, start)
		advanceTime(time.Minute - room.TokenWarning - time.Second)
		if n := len(c.received()); n != 1 {
			t.Fatalf("warned too early: %v", eventTypes(c.received()))
		}
		advanceTime(2 * time.Second)
		warned := data[room.TokenWillExpire](t, c.awaitEvent(room.TypeTokenWillExpire, 1))
		if warned.SecondsLeft < 29 || warned.SecondsLeft > 30 {
			t.Errorf("%d seconds left", warned.SecondsLeft)
		}
		advanceTime(28 * time.Second)
		if got := s.detachments(); got != nil {
			t.Fatalf("ended too early: %v", got)
		}
		advanceTime(2 * time.Second)
		if diff := cmp.Diff(disconnectedEvent(room.ConnectionTokenExpired), c.awaitEnd()); diff != "" {
			t.Errorf("the last event (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]detachedStream{{alice, 1}}, s.detachments()); diff != "" {
			t.Errorf("detached (-want +got):\n%s", diff)
		}
		if n := len(c.received()); n != 3 {
			t.Errorf("got %v", eventTypes(c.received()))
		}
	})
}

func TestTokenIsRenewed(t *testing.T) {
	for _, started := range []bool{true, false} {
		t.Run(fmt.Sprintf("started: %t", started), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				s := newTestHub(t, overServe, Options{})
				stream := s.open(alice)
				start := s.streamStart(alice, "")
				start.TokenExpiresAt = time.Now().Add(time.Minute)
				renew := func() {
					s.Apply(room.Change{Renewed: []room.RenewedToken{{Session: alice, ExpiresAt: time.Now().Add(2 * time.Minute)}}})
				}
				if !started {
					renew()
				}
				c := s.start(stream, start)
				if started {
					advanceTime(40 * time.Second)
					c.awaitEvent(room.TypeTokenWillExpire, 1)
					renew()
				}
				advanceTime(80 * time.Second)
				if got := s.detachments(); got != nil {
					t.Fatalf("ended when the older token expired: %v", got)
				}
				advanceTime(41 * time.Second)
				if diff := cmp.Diff(disconnectedEvent(room.ConnectionTokenExpired), c.awaitEnd()); diff != "" {
					t.Errorf("the last event (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestTokenExpiresByTheDatabasesClock: a wrong clock of this machine neither ends streams early nor
// late, and comparing a stream with the database does not warn its client again.
func TestTokenExpiresByTheDatabasesClock(t *testing.T) {
	for _, ahead := range []time.Duration{-16 * time.Second, 16 * time.Second} {
		t.Run(ahead.String(), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				database := func() time.Time { return time.Now().Add(-ahead) }
				s := newTestHub(t, overServe, Options{Now: database})
				stream := s.open(alice)
				start := s.streamStart(alice, "")
				start.TokenExpiresAt = database().Add(time.Minute)
				c := s.start(stream, start)
				for range 58 {
					advanceTime(time.Second)
					s.Compare([]room.Standing{{Session: alice, StreamNo: start.StreamNo, TokenExpiresAt: start.TokenExpiresAt}})
				}
				if got := s.detachments(); got != nil {
					t.Fatalf("ended too early: %v", got)
				}
				advanceTime(3 * time.Second)
				if diff := cmp.Diff(disconnectedEvent(room.ConnectionTokenExpired), c.awaitEnd()); diff != "" {
					t.Errorf("the last event (-want +got):\n%s", diff)
				}
				warnings := 0
				for _, event := range eventTypes(c.received()) {
					if event == string(room.TypeTokenWillExpire) {
						warnings++
					}
				}
				if warnings != 1 {
					t.Errorf("%d warnings: %v", warnings, eventTypes(c.received()))
				}
			})
		})
	}
}

// TestTokenExpiresForBlockedStream checks that a client that reads something now and then is not
// closed as slow, but its stream ends when its token expires.
func TestTokenExpiresForBlockedStream(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		stream := s.open(alice)
		start := s.streamStart(alice, "")
		start.TokenExpiresAt = time.Now().Add(time.Minute)
		c := s.start(stream, start)
		c.awaitEvent(room.TypeSessionReady, 1)
		c.stopReading()
		s.Apply(room.Change{Events: s.store.append(1, 800, strings.Repeat("x", 1000))})
		for range 7 {
			advanceTime(8 * time.Second)
			c.readMore(chunkBytes + 4<<10) // a chunk ends with a whole frame
		}
		if got := s.detachments(); got != nil {
			t.Fatalf("ended too early: %v", got)
		}
		advanceTime(5 * time.Second)
		if diff := cmp.Diff([]detachedStream{{alice, 1}}, s.detachments()); diff != "" {
			t.Errorf("detached (-want +got):\n%s", diff)
		}
		c.readAll()
		if diff := cmp.Diff(disconnectedEvent(room.ConnectionTokenExpired), c.awaitEnd()); diff != "" {
			t.Errorf("the last event (-want +got):\n%s", diff)
		}
	})
}

// limitedSink is a sink that takes a limited number of bytes. Only the stream's worker uses it.
type limitedSink struct {
	capacity int
	taken    []byte
	closed   bool
}

func (r *limitedSink) write(p []byte) (int, error) {
	n := min(len(p), r.capacity)
	r.capacity -= n
	r.taken = append(r.taken, p[:n]...)
	return n, nil
}

func (r *limitedSink) close() { r.closed = true }

// TestStalledSocketIsClosed checks that a socket that takes something now and then stays open. One
// that takes nothing for WriteTimeout is closed, with a last event if it continues soon.
func TestStalledSocketIsClosed(t *testing.T) {
	for _, continues := range []bool{false, true} {
		t.Run(fmt.Sprintf("continues=%t", continues), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				s := newTestHub(t, overServe, Options{})
				stream, start, sink := s.open(alice), s.streamStart(alice, ""), &limitedSink{capacity: 100}
				take := func(n int) {
					stream.worker.do(func() {
						sink.capacity = n
						stream.writable()
					})
				}
				stream.worker.do(func() { stream.start(start, sink) })
				for range 5 {
					advanceTime(defaultWriteTimeout - 2*time.Second)
					take(1)
				}
				advanceTime(defaultWriteTimeout - 2*time.Second)
				if got := s.detachments(); got != nil {
					t.Fatalf("ended too early: %v", got)
				}
				advanceTime(3 * time.Second)
				if diff := cmp.Diff([]detachedStream{{alice, 1}}, s.detachments()); diff != "" {
					t.Errorf("detached (-want +got):\n%s", diff)
				}
				if n := s.Stats().SlowConsumers; n != 1 {
					t.Errorf("%d slow consumers", n)
				}
				if continues {
					take(1 << 20)
				} else {
					advanceTime(defaultWriteTimeout)
				}
				synctest.Wait()
				if !sink.closed {
					t.Error("the socket is still open")
				}
				if sent := bytes.Contains(sink.taken, []byte(room.ConnectionSlowConsumer)); sent != continues {
					t.Errorf("last event sent: %t, in %d bytes", sent, len(sink.taken))
				}
			})
		})
	}
}
