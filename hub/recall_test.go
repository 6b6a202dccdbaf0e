package hub

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parlor/room"
)

// TestRecalledContentIsNotReplayed checks each place in which a topic has frames for replay.
func TestRecalledContentIsNotReplayed(t *testing.T) {
	const n = 3 * segmentFrames
	for _, c := range []struct {
		where    string
		recalled room.Seq
	}{
		{"in the recent frames", n - 3}, {"at the first recent frame", n - maxRecentFrames + 2}, {"in a segment", 2}, {"at the first frame of a segment", segmentFrames + 1}, {"at the last frame of a segment", segmentFrames},
	} {
		t.Run(c.where, func(t *testing.T) {
			eachWindow(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{})
				s.store.join(alice, 1)
				listening := s.connectReady(alice, cursorAt(1, 0))
				for i := range n {
					s.Apply(room.Change{Events: s.store.append(1, 1, fmt.Sprintf("number %d.", i+1))})
				}
				listening.awaitSeq(1, n)
				s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, n) // loads all segments
				said := fmt.Sprintf("number %d.", c.recalled)
				s.Apply(room.Change{Events: []room.Event{s.store.recall(1, c.recalled)}})
				s.wantReplayWithout(c.recalled-1, n+1, said)
				s.appendAndPublish(1, 1)
				s.wantReplayWithout(0, n+2, said)
			})
		})
	}
}

// wantReplayWithout replays a log after a seq, and fails if the text is in it.
func (s *testHub) wantReplayWithout(after, last room.Seq, text string) {
	s.t.Helper()
	c := s.connect(alice, cursorAt(1, after))
	c.wantSeqs(1, after, last)
	for _, m := range c.received() {
		if strings.Contains(m.Data, text) {
			s.t.Errorf("replayed: %s", m.Data)
		}
	}
}

// TestRecallDuringRead recalls a message while a read is in progress whose result contains the
// content, and checks that the content is not replayed afterwards.
func TestRecallDuringRead(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.append(1, 1, "a secret")
		release := s.store.holdReads()
		first := s.connect(alice, cursorAt(1, 0)) // reads the newest events
		synctest.Wait()
		s.Apply(room.Change{Events: []room.Event{s.store.recall(1, 1)}})
		release()
		first.wantSeqs(1, 0, 2)
		s.wantReplayWithout(0, 2, "secret")

		s.store.append(1, 1, "another secret")
		s.store.append(1, maxRecentFrames, "hello")
		s.Apply(room.Change{Events: s.store.append(1, 1, "hello")})
		advanceTime(time.Second) // the gap was filled
		const last = maxRecentFrames + 4
		release = s.store.holdReads()
		second := s.connect(alice, cursorAt(1, 2)) // reads a segment
		synctest.Wait()
		s.Apply(room.Change{Events: []room.Event{s.store.recall(1, 3)}})
		release()
		second.wantSeqs(1, 2, last+1)
		for _, m := range second.received() {
			if strings.Contains(m.Data, "secret") {
				t.Errorf("replayed: %s", m.Data)
			}
		}
		s.wantReplayWithout(0, last+1, "secret")
	})
}

// TestRecallPublishedBeforeItsMessage applies the changes of two transactions in the other order.
// Open streams get both events in order; later ones do not get the content.
func TestRecallPublishedBeforeItsMessage(t *testing.T) {
	eachWindow(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		listening := s.connectReady(alice, "")
		sent := s.store.append(1, 1, "a secret")
		recalled := s.store.recall(1, 1)
		s.Apply(room.Change{Events: []room.Event{recalled}})
		s.Apply(room.Change{Events: sent})
		listening.wantSeqs(1, 0, 2)
		s.wantReplayWithout(0, 2, "secret")
	})
}
