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

// joinedSessions returns n sessions that are in the room of log 1.
func joinedSessions(s *testHub, n int) []room.SessionID {
	ids := make([]room.SessionID, n)
	for i := range ids {
		ids[i] = room.SessionID(fmt.Sprintf("session-%d", i))
		s.store.join(ids[i], 1)
	}
	return ids
}

// wantReads fails unless the log was read this often since the last call.
func (s *testHub) wantReads(what string, want uint64) {
	s.t.Helper()
	synctest.Wait()
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if got := uint64(s.store.reads); got != want {
		s.t.Errorf("%s: the log was read %d times, want %d", what, got, want)
	}
	s.store.reads = 0
}

// TestCrowdReconnects checks that the log is read once for all clients that reconnect together, as
// after a restart of a node or a proxy.
func TestCrowdReconnects(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		ids := joinedSessions(s, 1000)
		s.store.append(1, 600, "before")
		reconnect := func(ids []room.SessionID, from room.Seq) {
			clients := make([]*client, len(ids))
			for i, id := range ids {
				clients[i] = s.connect(id, cursorAt(1, from))
			}
			s.appendAndPublish(1, 1)
			for _, c := range clients {
				c.wantSeqs(1, from, s.store.last(1))
				c.close()
			}
		}
		reconnect(ids, 590)
		s.wantReads("a thousand clients that were away for a moment", 1)
		reconnect(ids[:50], 1)
		s.wantReads("fifty clients that were away for long", 2)
	})
}

func TestSegmentsAreEvictedWhenIdle(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.store.append(1, 3*segmentFrames, "before")
		replay := func() { s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, 3*segmentFrames) }
		replay()
		s.wantReads("the newest events and two segments", 3)
		advanceTime(segmentIdle - 2*time.Second)
		replay()
		s.wantReads("once more", 0)
		advanceTime(segmentIdle + 2*time.Second)
		replay()
		s.wantReads("much later", 2)
	})
}

// TestRecentFramesAreEvictedByAge checks that frames of a quiet room are evicted after a while, and
// that a replay then reads the log.
func TestRecentFramesAreEvictedByAge(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		ids := joinedSessions(s, 3)
		reader := s.connectReady(ids[0], "")
		s.appendAndPublish(1, 1)
		reader.wantSeqs(1, 0, 1)
		s.store.mu.Lock()
		s.store.reads = 0
		s.store.mu.Unlock()
		advanceTime(recentMinAge - 2*time.Second)
		s.connect(ids[1], cursorAt(1, 0)).wantSeqs(1, 0, 1)
		s.wantReads("a client that was away for less than a minute", 0)
		advanceTime(2*recentMinAge + time.Second)
		s.connect(ids[2], cursorAt(1, 0)).wantSeqs(1, 0, 1)
		s.wantReads("a client that was away for minutes", 1)
		s.appendAndPublish(1, 1)
		reader.wantSeqs(1, 0, 2)
	})
}

// TestShortGapNeedsNoRead checks that the log is not read if two transactions that commit in the
// same moment are published in the other order.
func TestShortGapNeedsNoRead(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.wantReads("the first read", 1)
		events := s.store.append(1, 3, "hello")
		s.Apply(room.Change{Events: events[2:]})
		advanceTime(minGapTimeout / 2)
		s.Apply(room.Change{Events: events[:1]})
		c.wantSeqs(1, 0, 1)
		s.Apply(room.Change{Events: events[1:2]})
		advanceTime(time.Second)
		c.wantSeqs(1, 0, 3)
		s.wantReads("a short gap", 0)

		s.store.append(1, 1, "not published")
		began := time.Now()
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 5)
		if waited := time.Since(began); waited != minGapTimeout {
			t.Errorf("the gap lasted %s", waited)
		}
		s.wantReads("a gap that lasts", 1)
	})
}

func TestIdleTopicIsEvicted(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 1)
		c.close()
		advanceTime(topicIdle - 2*time.Second)
		s.appendAndPublish(1, 1)
		if n := s.Stats().Topics; n != 1 {
			t.Errorf("%d topics a moment after the last stream", n)
		}
		s.wantReads("so far", 1)
		again := s.connect(alice, c.lastID())
		again.wantSeqs(1, 1, 2)
		s.wantReads("a short absence", 0)
		again.close()
		advanceTime(topicIdle + 2*time.Second)
		if n := s.Stats().Topics; n != 0 {
			t.Errorf("%d topics long after the last stream", n)
		}
		s.appendAndPublish(1, 5)
		s.connect(alice, again.lastID()).wantSeqs(1, 2, 7)
		s.wantReads("a long absence", 1)
	})
}

// TestAcquireTopicDuringEviction checks that a topic is not evicted between the moment in which a
// stream finds it and the moment in which the stream is counted as a subscriber.
func TestAcquireTopicDuringEviction(t *testing.T) {
	t.Parallel()
	s := newTestHub(t, overServe, Options{})
	s.stop() // so that the hub evicts nothing by itself
	top := s.acquireTopic(1, 0, true)
	top.mu.Lock()
	var acquiring sync.WaitGroup
	acquiring.Go(func() { s.acquireTopic(1, 0, true) })
	s.eventually("the hub is locked", func() bool {
		for range 1000 {
			if s.Hub.mu.TryLock() {
				s.Hub.mu.Unlock()
				return false
			}
		}
		return true
	})
	top.mu.Unlock()
	acquiring.Wait()
}

// TestLogTrimmedPastTopic trims a log past the last event of a topic while the node cannot read the
// log. The streams of the topic end, and their clients get a roomReset: nothing is skipped
// silently.
func TestLogTrimmedPastTopic(t *testing.T) {
	tests := map[string]room.Seq{"to its last events": 901, "to nothing": 1011}
	for name, oldest := range tests {
		t.Run(name, func(t *testing.T) {
			eachWindow(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{})
				s.store.join(alice, 1)
				c := s.connectReady(alice, "")
				s.appendAndPublish(1, 10)
				c.wantSeqs(1, 0, 10)
				s.store.append(1, 1000, "not published")
				s.store.trim(1, oldest)
				s.wantReads("so far", 1)
				s.Resync()
				if m := c.awaitEnd(); m.Event != string(room.TypeReconnect) {
					t.Errorf("the last event is %+v", m)
				}
				c.wantSeqs(1, 0, 10)
				s.wantReads("the topic's read, and the stream's segment", 2)

				again := s.connect(alice, c.lastID())
				reset := data[room.RoomReset](t, again.awaitEvent(room.TypeRoomReset, 1))
				if reset.Reason != room.ResetLogTrimmed || reset.OldestSeq != oldest {
					t.Errorf("the reset is %+v", reset)
				}
				s.appendAndPublish(1, 1)
				again.wantSeqs(1, 1010, 1011)
			})
		})
	}
}

func TestLogTrimmedDuringReplay(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.append(1, 2000, "before")
		start := s.streamStart(alice, cursorAt(1, 10))
		s.store.trim(1, 500) // after the stream's state was read
		c := s.start(s.open(alice), start)
		if m := c.awaitEnd(); m.Event != string(room.TypeReconnect) {
			t.Errorf("the last event is %+v", m)
		}
		again := s.connect(alice, c.lastID())
		again.awaitEvent(room.TypeRoomReset, 1)
		s.appendAndPublish(1, 1)
		again.wantSeqs(1, 2000, 2001)
	})
}

// TestLogDeleted checks that streams that are still subscribed stay open when the log of a
// destroyed room is deleted, and that the log is not read again and again.
func TestLogDeleted(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		for _, id := range []room.SessionID{alice, bob} {
			s.store.join(id, 1)
			s.store.join(id, 2)
		}
		s.store.append(1, 1000, "before")
		warm := s.connectReady(alice, cursorAt(1, 1000))
		start := s.streamStart(bob, cursorAt(1, 0))
		s.store.remove(1)
		s.Resync()
		behind := s.start(s.open(bob), start)
		s.appendAndPublish(2, 3)
		warm.wantSeqs(2, 0, 3)
		behind.wantSeqs(2, 0, 3)
		advanceTime(time.Minute)
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		if s.store.reads > 5 {
			t.Errorf("the log was read %d times", s.store.reads)
		}
	})
}

// TestLaggingLogIsReadWithDelay checks that events that were published but are not in the log, as
// in a replica that lags behind, are read again with a delay.
func TestLaggingLogIsReadWithDelay(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 1)
		ahead := s.store.append(2, 4, "hello")
		for i := range ahead {
			ahead[i].Room, ahead[i].Log = roomID(1), 1
		}
		s.Apply(room.Change{Events: ahead[3:]})
		advanceTime(10 * time.Second)
		s.store.mu.Lock()
		if s.store.reads > 20 {
			t.Errorf("the log was read %d times in 10 seconds", s.store.reads)
		}
		s.store.mu.Unlock()
		s.store.append(1, 3, "hello")
		c.wantSeqs(1, 0, 4)
	})
}

func TestHangingReadIsRetried(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		s.store.append(1, 1000, "before")
		warm := s.connectReady(bob, cursorAt(1, 1000))
		s.store.hangReads(true)
		behind := s.connectReady(alice, cursorAt(1, 0))
		s.store.append(1, 1, "not published")
		s.Resync()
		advanceTime(time.Second)
		s.store.hangReads(false)
		warm.wantSeqs(1, 1000, 1001)
		behind.wantSeqs(1, 0, 1001)
	})
}

func TestReadRetryDelayGrows(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.store.failReads(errors.New("the database is down"))
		c := s.connectReady(alice, "")
		advanceTime(time.Minute)
		s.store.mu.Lock()
		if n := s.store.reads; n < 25 || n > 40 {
			t.Errorf("%d reads in a minute", n)
		}
		s.store.mu.Unlock()
		s.store.failReads(nil)
		began := time.Now()
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 1)
		if waited := time.Since(began); waited > maxReadRetry {
			t.Errorf("it took %s after the database was up again", waited)
		}
	})
}

func TestRecentFramesAreBounded(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		top := newTopic(s.Hub, 1, true)
		sizes := []int{10, 10_000, maxRecentBytes / 2, maxRecentBytes - 1, maxRecentBytes, maxRecentBytes + 1, 3 * maxRecentBytes, 1, 1, 1}
		sizes = append(sizes, slices.Repeat([]int{1}, 2*maxRecentFrames)...)
		top.mu.Lock()
		defer top.mu.Unlock()
		for i, size := range sizes {
			top.recent.add(&Frame{log: 1, seq: room.Seq(i + 1), data: []byte(strings.Repeat("x", size))})
			total := 0
			for j, f := range top.recent.frames {
				total += len(f.data)
				if want := room.Seq(i + 1 - (len(top.recent.frames) - 1 - j)); f.seq != want {
					t.Fatalf("after %d frames, recent frame %d has seq %d, want %d", i+1, j, f.seq, want)
				}
			}
			if len(top.recent.frames) > maxRecentFrames || total > maxRecentBytes || total != top.recent.bytes {
				t.Fatalf("after %d frames, there are %d recent frames of %d bytes, but bytes is %d",
					i+1, len(top.recent.frames), total, top.recent.bytes)
			}
		}
		if len(top.recent.frames) != maxRecentFrames {
			t.Errorf("%d recent frames", len(top.recent.frames))
		}
	})
}

// TestFrameLargerThanRecentFrames checks that a frame that is too large for recentFrames is still
// delivered.
func TestFrameLargerThanRecentFrames(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		c := s.connectReady(alice, "")
		s.Apply(room.Change{Events: s.store.append(1, 3, strings.Repeat("x", maxRecentBytes+1))})
		s.appendAndPublish(1, 2)
		c.wantSeqs(1, 0, 5)
		s.connect(bob, cursorAt(1, 1)).wantSeqs(1, 1, 5)
	})
}

// TestSegmentReadBeforeLastEvents checks that a segment that was read before its last events were
// appended is read again.
func TestSegmentReadBeforeLastEvents(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		post := func() { s.Apply(room.Change{Events: s.store.append(1, 5, strings.Repeat("x", maxRecentBytes/3))}) }
		post()
		s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, 5)
		s.wantReads("the newest events and a segment", 2)
		post()
		s.connect(bob, cursorAt(1, 5)).wantSeqs(1, 5, 10)
		s.wantReads("the segment again", 1)
	})
}

func TestStats(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		s.connectReady(alice, "")
		s.connectReady(bob, "").close()
		s.awaitDetached(bob, 1)
		s.appendAndPublish(1, 5)
		advanceTime(time.Second)
		want := Stats{Streams: 1, Topics: 1, Delivered: 2 + 5, LogReads: 1}
		if diff := cmp.Diff(want, s.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}

// TestExpect checks that Expect makes a topic read the events that another node has committed. It
// must not read events that are known or published soon, nor those of logs without a topic.
func TestExpect(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.appendAndPublish(1, 2)
		c.wantSeqs(1, 0, 2)
		reads := s.Stats().LogReads

		s.store.append(9, 5, "unread")
		s.Expect(room.Position{Log: 9, Seq: 5})
		s.Expect(room.Position{Log: 1, Seq: 2})
		events := s.store.append(1, 1, "hello")
		s.Expect(room.Position{Log: 1, Seq: 3})
		advanceTime(minGapTimeout / 2)
		s.Apply(room.Change{Events: events})
		advanceTime(time.Second)
		if got := s.Stats(); got.LogReads != reads || got.Topics != 1 {
			t.Errorf("%d reads and %d topics", got.LogReads-reads, got.Topics)
		}

		s.store.append(1, 2, "elsewhere")
		s.Expect(room.Position{Log: 1, Seq: 5})
		advanceTime(2 * minGapTimeout)
		c.wantSeqs(1, 0, 5)
		if got := s.Stats().LogReads - reads; got != 1 {
			t.Errorf("%d reads", got)
		}
	})
}
