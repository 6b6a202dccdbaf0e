package hub

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parlor/room"
)

// slowSinks are the sinks of many streams whose writes take time, by the clock of a bubble.
type slowSinks struct {
	cost time.Duration // of a write

	mu        sync.Mutex    // guards all below
	busy      time.Duration // of all writes
	published []time.Time
	received  int
	// longest is the longest time from the publication of an event to the end of its last write, and
	// longestStored that of a stored event.
	longest, longestStored time.Duration
}

func (s *slowSinks) write(b []byte) (int, error) {
	<-time.After(s.cost)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += s.cost
	stored := false
	for line := range bytes.Lines(b) {
		var n int
		stored = stored || bytes.HasPrefix(line, []byte("id: "))
		if _, err := fmt.Sscanf(string(line), "data: number %d\n", &n); err == nil {
			s.received++
			late := time.Since(s.published[n])
			s.longest = max(s.longest, late)
			if stored {
				s.longestStored = max(s.longestStored, late)
			}
			stored = false
		}
	}
	return len(b), nil
}

func (s *slowSinks) close() {}

// TestPace publishes events to a room in which a round takes 10 ms, and checks how much of its
// worker's time the room takes, and how late the events arrive.
func TestPace(t *testing.T) {
	t.Parallel()
	const streams, round = 100, 10 * time.Millisecond
	for _, tt := range []struct {
		name      string
		window    time.Duration
		stored    func(n int) bool
		intervals []time.Duration // between events, in turn
		// minBusy and maxBusy are shares of the time, in percent.
		minBusy, maxBusy int
		maxLate          time.Duration
	}{
		{"quiet", 0, none, each(200 * time.Millisecond), 5, 5, round},
		{"as much as a room may take", 0, none, each(50 * time.Millisecond), 20, 20, round},
		{"bursts of two", 0, none, []time.Duration{12 * time.Millisecond, 200 * time.Millisecond}, 9, 10, round},
		{"too much", 0, none, each(2 * time.Millisecond), 15, 30, DefaultWindow + 2*round},
		{"too much, stored", 0, all, each(2 * time.Millisecond), 40, 60, DefaultWindow/5 + 2*round},
		{"too much, stored now and then", 0, func(n int) bool { return n%33 == 32 }, each(2 * time.Millisecond), 15, 45, DefaultWindow + 2*round},
		{"too much, a short window", 20 * time.Millisecond, none, each(2 * time.Millisecond), 30, 40, 20*time.Millisecond + 2*round},
		{"too much, no window", -1, none, each(2 * time.Millisecond), 95, 100, 2 * round},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newTestHub(t, overServe, Options{Workers: 1, Window: tt.window})
				sinks := &slowSinks{}
				for _, id := range joinedSessions(h, streams) {
					s, start := h.open(id), h.streamStart(id, "")
					s.worker.do(func() { s.start(start, sinks) })
				}
				synctest.Wait()
				sinks.cost = round / streams
				topic, seq, began := h.topics[1], room.Seq(0), time.Now()
				for n := 0; time.Since(began) < time.Second; n++ {
					f := &Frame{log: 1, data: fmt.Appendf(nil, "data: number %d\n\n", n), shedAbove: 2}
					sinks.mu.Lock()
					sinks.published = append(sinks.published, time.Now())
					sinks.mu.Unlock()
					if tt.stored(n) {
						seq++
						f.seq, f.carriesID = seq, true
						topic.publish([]*Frame{f})
					} else {
						topic.publishEphemeral([]*Frame{f})
					}
					<-time.After(tt.intervals[n%len(tt.intervals)])
				}
				sinks.mu.Lock()
				busy := int(100 * sinks.busy / time.Since(began))
				sinks.mu.Unlock()
				if busy < tt.minBusy || busy > tt.maxBusy {
					t.Errorf("the room took %d %% of the time, want %d to %d", busy, tt.minBusy, tt.maxBusy)
				}
				advanceTime(time.Second)
				if sinks.longest > tt.maxLate {
					t.Errorf("an event arrived after %s, want at most %s", sinks.longest, tt.maxLate)
				}
				if most := DefaultWindow/storedWindow + 2*round; sinks.longestStored > most {
					t.Errorf("a stored event arrived after %s, want at most %s", sinks.longestStored, most)
				}
				if want := streams * len(sinks.published); sinks.received != want {
					t.Errorf("%d events arrived, want %d", sinks.received, want)
				}
			})
		})
	}
}

// TestStreamsEndDuringWindow ends streams while events are gathered. Their clients get the stored
// ones once when they resume, and nothing of what was not stored: they were not connected.
func TestStreamsEndDuringWindow(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*testing.T, *testHub, *client)
		last room.EventType
	}{
		{"the client closes", func(_ *testing.T, _ *testHub, c *client) { c.close() }, ""},
		{"superseded", func(*testing.T, *testHub, *client) {}, room.TypeConnectionStateChanged},
		{"drain", func(t *testing.T, h *testHub, _ *client) { h.Drain(t.Context(), 0) }, room.TypeReconnect},
		{"reconnect all", func(_ *testing.T, h *testHub, _ *client) { h.ReconnectAll() }, room.TypeReconnect},
		{"shutdown", func(t *testing.T, h *testHub, _ *client) { h.Shutdown(t.Context()) }, room.TypeReconnect},
		{"close", func(_ *testing.T, h *testHub, _ *client) { h.Close() }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				h := newTestHub(t, gathering(overServe), Options{Workers: 1})
				h.store.join(alice, 1)
				c := h.connectReady(alice, "")
				h.appendAndPublish(1, 1)
				c.awaitSeq(1, 1)
				h.appendAndPublish(1, 5)
				h.whisper(1, "gathered")
				tt.end(t, h, c)
				if h.Hub.closed { // the client finds another server
					store := h.store
					h = newTestHub(t, gathering(overServe), Options{})
					h.store, h.logs = store, store
				}
				again := h.connect(alice, c.lastID()) // while the window lasts
				h.appendAndPublish(1, 1)
				advanceTime(DefaultWindow)
				again.wantSeqs(1, 1, 7)
				c.wantSeqs(1, 0, 1)
				got := c.received()
				if last := got[len(got)-1]; tt.last != "" && last.Event != string(tt.last) {
					t.Errorf("the last event is %+v", last)
				}
				for _, m := range again.received() {
					if strings.Contains(m.Data, "gathered") {
						t.Errorf("received by a later stream: %s", m.Data)
					}
				}
			})
		})
	}
}

func each(d time.Duration) []time.Duration { return []time.Duration{d} }

func none(int) bool { return false }
func all(int) bool  { return true }
