package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// crowd is sessions that are all in log 1.
func crowd(s *site, n int) []room.SessionID {
	ids := make([]room.SessionID, n)
	for i := range ids {
		ids[i] = room.SessionID(fmt.Sprintf("session-%d", i))
		s.log.enter(ids[i], 1)
	}
	return ids
}

// wantReads says how often the log was read since the last call.
func (s *site) wantReads(what string, want uint64) {
	s.t.Helper()
	synctest.Wait()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if got := uint64(s.log.reads); got != want {
		s.t.Errorf("%s: the log was read %d times, not %d", what, got, want)
	}
	s.log.reads = 0
}

// When a node or a proxy comes back, everybody does.
func TestCrowdReconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		ids := crowd(s, 1000)
		s.log.append(1, 600, "before")
		reconnect := func(ids []room.SessionID, from room.Seq) {
			clients := make([]*client, len(ids))
			for i, id := range ids {
				clients[i] = s.connect(id, cursorAt(1, from))
			}
			s.post(1, 1)
			for _, c := range clients {
				c.wantSeqs(1, from, s.log.last(1))
				c.hangUp()
			}
		}
		reconnect(ids, 590)
		s.wantReads("a thousand that were away for a moment", 1)
		reconnect(ids[:50], 1)
		s.wantReads("fifty that were away for long", 2)
	})
}

func TestPagesAreKeptForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.append(1, 3*pageFrames, "before")
		replay := func() { s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, 3*pageFrames) }
		replay()
		s.wantReads("the end and two pages", 3)
		elapse(pageKept - 2*time.Second)
		replay()
		s.wantReads("once more", 0)
		elapse(pageKept + 2*time.Second)
		replay()
		s.wantReads("much later", 2)
	})
}

// Two transactions that commit together may tell of themselves the other way
// round. That is no reason to ask the database.
// What was said a while ago is read from the log, however little it was.
func TestRingIsNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		ids := crowd(s, 3)
		reader := s.connected(ids[0], "")
		s.post(1, 1)
		reader.wantSeqs(1, 0, 1)
		s.log.mu.Lock()
		s.log.reads = 0
		s.log.mu.Unlock()
		elapse(ringKept - 2*time.Second)
		s.connect(ids[1], cursorAt(1, 0)).wantSeqs(1, 0, 1)
		s.wantReads("one who was away for less than a minute", 0)
		elapse(2*ringKept + time.Second)
		s.connect(ids[2], cursorAt(1, 0)).wantSeqs(1, 0, 1)
		s.wantReads("one who was away for minutes", 1)
		s.post(1, 1)
		reader.wantSeqs(1, 0, 2)
	})
}

func TestShortHoleCostsNoRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		c := s.connected(alice, "")
		s.wantReads("the beginning", 1)
		events := s.log.append(1, 3, "hello")
		s.Apply(room.Change{Events: events[2:]})
		elapse(holePatience / 2)
		s.Apply(room.Change{Events: events[:1]})
		c.wantSeqs(1, 0, 1)
		s.Apply(room.Change{Events: events[1:2]})
		elapse(time.Second)
		c.wantSeqs(1, 0, 3)
		s.wantReads("a hole of a moment", 0)

		s.log.append(1, 1, "nobody told")
		began := time.Now()
		s.post(1, 1)
		c.wantSeqs(1, 0, 5)
		if waited := time.Since(began); waited != holePatience {
			t.Errorf("the hole lasted %s", waited)
		}
		s.wantReads("a hole that lasts", 1)
	})
}

func TestTopicIsDroppedAndMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		c := s.connected(alice, "")
		s.post(1, 1)
		c.wantSeqs(1, 0, 1)
		c.hangUp()
		elapse(topicKept - 2*time.Second)
		s.post(1, 1)
		if n := s.Stats().Topics; n != 1 {
			t.Errorf("%d topics a moment after the last reader", n)
		}
		s.wantReads("so far", 1)
		again := s.connect(alice, c.lastID())
		again.wantSeqs(1, 1, 2)
		s.wantReads("a short absence", 0)
		again.hangUp()
		elapse(topicKept + 2*time.Second)
		if n := s.Stats().Topics; n != 0 {
			t.Errorf("%d topics long after the last reader", n)
		}
		s.post(1, 5)
		s.connect(alice, again.lastID()).wantSeqs(1, 2, 7)
		s.wantReads("a long absence", 1)
	})
}

// A reader that comes in the instant in which a topic is dropped for want of
// readers must not be left with a topic that nobody tells of anything: from
// finding the topic until it is counted, nothing else happens to the hub.
func TestReaderComesWhileTopicsAreDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t, overServe, Options{})
	s.stop() // the hub drops nothing by itself
	top := s.subscribe(1, 0)
	top.mu.Lock()
	var coming sync.WaitGroup
	coming.Go(func() { s.subscribe(1, 0) })
	s.eventually("the reader's hold on the hub", func() bool {
		for range 1000 {
			if s.Hub.mu.TryLock() {
				s.Hub.mu.Unlock()
				return false
			}
		}
		return true
	})
	top.mu.Unlock()
	coming.Wait()
}

// While a node could not read a log, the log may have been trimmed past what
// the node has. Its streams start afresh; nothing is skipped in silence.
func TestLogIsTrimmedUnderATopic(t *testing.T) {
	tests := map[string]room.Seq{"to its last events": 901, "to nothing": 1011}
	for name, oldest := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, overServe, Options{})
				s.log.enter(alice, 1)
				c := s.connected(alice, "")
				s.post(1, 10)
				c.wantSeqs(1, 0, 10)
				s.log.append(1, 1000, "nobody told")
				s.log.trim(1, oldest)
				s.wantReads("so far", 1)
				s.Resync()
				if m := c.awaitEnd(); m.Event != string(room.TypeReconnect) {
					t.Errorf("the last event is %+v", m)
				}
				c.wantSeqs(1, 0, 10)
				s.wantReads("the topic, and the stream's page", 2)

				again := s.connect(alice, c.lastID())
				reset := data[room.RoomReset](t, again.awaitEvent(room.TypeRoomReset, 1))
				if reset.Reason != room.ResetLogTrimmed || reset.OldestSeq != oldest {
					t.Errorf("the reset is %+v", reset)
				}
				s.post(1, 1)
				again.wantSeqs(1, 1010, 1011)
			})
		})
	}
}

func TestLogIsTrimmedUnderAReplay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.append(1, 2000, "before")
		start := s.attach(alice, cursorAt(1, 10))
		s.log.trim(1, 500) // after it was looked at
		c := s.start(s.open(alice), start)
		if m := c.awaitEnd(); m.Event != string(room.TypeReconnect) {
			t.Errorf("the last event is %+v", m)
		}
		again := s.connect(alice, c.lastID())
		again.awaitEvent(room.TypeRoomReset, 1)
		s.post(1, 1)
		again.wantSeqs(1, 2000, 2001)
	})
}

// A room's log is deleted some time after the room. Who still follows it is left
// in peace, and the database too.
func TestLogIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		for _, id := range []room.SessionID{alice, bob} {
			s.log.enter(id, 1)
			s.log.enter(id, 2)
		}
		s.log.append(1, 1000, "before")
		warm := s.connected(alice, cursorAt(1, 1000))
		start := s.attach(bob, cursorAt(1, 0))
		s.log.remove(1)
		s.Resync()
		behind := s.start(s.open(bob), start)
		s.post(2, 3)
		warm.wantSeqs(2, 0, 3)
		behind.wantSeqs(2, 0, 3)
		elapse(time.Minute)
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		if s.log.reads > 5 {
			t.Errorf("the log was read %d times", s.log.reads)
		}
	})
}

// What a topic has heard of and its log does not show, as a lagging replica
// would not, is asked for with a pause in between.
func TestLogThatLagsIsNotReadInALoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		c := s.connected(alice, "")
		s.post(1, 1)
		c.wantSeqs(1, 0, 1)
		ahead := s.log.append(2, 4, "hello")
		for i := range ahead {
			ahead[i].Room, ahead[i].Log = roomID(1), 1
		}
		s.Apply(room.Change{Events: ahead[3:]})
		elapse(10 * time.Second)
		s.log.mu.Lock()
		if s.log.reads > 20 {
			t.Errorf("the log was read %d times in 10 seconds", s.log.reads)
		}
		s.log.mu.Unlock()
		s.log.append(1, 3, "hello")
		c.wantSeqs(1, 0, 4)
	})
}

func TestReadThatHangsIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.enter(bob, 1)
		s.log.append(1, 1000, "before")
		warm := s.connected(bob, cursorAt(1, 1000))
		s.log.hang(true)
		behind := s.connected(alice, cursorAt(1, 0))
		s.log.append(1, 1, "nobody told")
		s.Resync()
		elapse(time.Second)
		s.log.hang(false)
		warm.wantSeqs(1, 1000, 1001)
		behind.wantSeqs(1, 0, 1001)
	})
}

func TestReadsWaitLongerAndLonger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.fail(errors.New("the database is away"))
		c := s.connected(alice, "")
		elapse(time.Minute)
		s.log.mu.Lock()
		if n := s.log.reads; n < 25 || n > 40 {
			t.Errorf("%d reads in a minute", n)
		}
		s.log.mu.Unlock()
		s.log.fail(nil)
		began := time.Now()
		s.post(1, 1)
		c.wantSeqs(1, 0, 1)
		if waited := time.Since(began); waited > retryMost {
			t.Errorf("it took %s after the database came back", waited)
		}
	})
}

func TestRingIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		top := newTopic(s.Hub, 1)
		sizes := []int{10, 10_000, ringBytes / 2, ringBytes - 1, ringBytes, ringBytes + 1, 3 * ringBytes, 1, 1, 1}
		sizes = append(sizes, slices.Repeat([]int{1}, 2*ringFrames)...)
		top.mu.Lock()
		defer top.mu.Unlock()
		for i, size := range sizes {
			top.remember(&Frame{Log: 1, Seq: room.Seq(i + 1), data: []byte(strings.Repeat("x", size))})
			total := 0
			for j, f := range top.ring {
				total += len(f.data)
				if want := room.Seq(i + 1 - (len(top.ring) - 1 - j)); f.Seq != want {
					t.Fatalf("after %d frames, place %d of the ring has seq %d, not %d", i+1, j, f.Seq, want)
				}
			}
			if len(top.ring) > ringFrames || total > ringBytes || total != top.ringBytes {
				t.Fatalf("after %d frames the ring has %d frames of %d bytes, by its own count %d",
					i+1, len(top.ring), total, top.ringBytes)
			}
		}
		if len(top.ring) != ringFrames {
			t.Errorf("the ring has %d frames", len(top.ring))
		}
	})
}

// Following a frame that no ring can hold is following all the same.
func TestFrameLargerThanTheRing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.enter(bob, 1)
		c := s.connected(alice, "")
		s.Apply(room.Change{Events: s.log.append(1, 3, strings.Repeat("x", ringBytes+1))})
		s.post(1, 2)
		c.wantSeqs(1, 0, 5)
		s.connect(bob, cursorAt(1, 1)).wantSeqs(1, 1, 5)
	})
}

// A page that was read while it was the last one lacks what came later.
func TestPageThatWasReadTooEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.enter(bob, 1)
		post := func() { s.Apply(room.Change{Events: s.log.append(1, 5, strings.Repeat("x", ringBytes/3))}) }
		post()
		s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, 5)
		s.wantReads("the end and a page", 2)
		post()
		s.connect(bob, cursorAt(1, 5)).wantSeqs(1, 5, 10)
		s.wantReads("the page again", 1)
	})
}

func TestStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, overServe, Options{})
		s.log.enter(alice, 1)
		s.log.enter(bob, 1)
		s.connected(alice, "")
		s.connected(bob, "").hangUp()
		s.awaitDetached(bob, 1)
		s.post(1, 5)
		elapse(time.Second)
		want := Stats{Streams: 1, Topics: 1, Delivered: 2 + 5, LogReads: 1}
		if diff := cmp.Diff(want, s.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}
