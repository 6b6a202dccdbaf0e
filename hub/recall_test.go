package hub

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parlor/room"
)

// TestNobodyIsReplayedWhatWasRecalled looks into each place in which a hub keeps
// frames for those who come back.
func TestRecalledContentIsNotReplayed(t *testing.T) {
	const n = 3 * segmentFrames
	for _, c := range []struct {
		where    string
		recalled room.Seq
	}{
		{"in the ring", n - 3}, {"at the ring's beginning", n - maxRecentFrames + 2}, {"in a page", 2}, {"at a page's beginning", segmentFrames + 1}, {"at a page's end", segmentFrames},
	} {
		t.Run(c.where, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				s := newTestHub(t, overServe, Options{})
				s.store.join(alice, 1)
				listening := s.connectReady(alice, cursorAt(1, 0))
				for i := range n {
					s.Apply(room.Change{Events: s.store.append(1, 1, fmt.Sprintf("number %d.", i+1))})
				}
				listening.awaitSeq(1, n)
				s.connect(alice, cursorAt(1, 0)).wantSeqs(1, 0, n) // reads all pages
				said := fmt.Sprintf("number %d.", c.recalled)
				s.Apply(room.Change{Events: []room.Event{s.store.recall(1, c.recalled)}})
				s.wantReplayWithout(c.recalled-1, n+1, said)
				s.appendAndPublish(1, 1)
				s.wantReplayWithout(0, n+2, said)
			})
		})
	}
}

// replays lets a stream read all that there is after a seq, in which nobody may
// say this.
func (s *testHub) wantReplayWithout(after, last room.Seq, said string) {
	s.t.Helper()
	c := s.connect(alice, cursorAt(1, after))
	c.wantSeqs(1, after, last)
	for _, m := range c.received() {
		if strings.Contains(m.Data, said) {
			s.t.Errorf("replayed: %s", m.Data)
		}
	}
}

// TestRecalledWhileItIsRead: a page, or the end of the log, may be on its way
// from the database with what is recalled meanwhile.
func TestRecallDuringRead(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.store.append(1, 1, "a secret")
		letGo := s.store.holdReads()
		first := s.connect(alice, cursorAt(1, 0)) // reads the end
		synctest.Wait()
		s.Apply(room.Change{Events: []room.Event{s.store.recall(1, 1)}})
		letGo()
		first.wantSeqs(1, 0, 2)
		s.wantReplayWithout(0, 2, "secret")

		s.store.append(1, 1, "another secret")
		s.store.append(1, maxRecentFrames, "hello")
		s.Apply(room.Change{Events: s.store.append(1, 1, "hello")})
		advanceTime(time.Second) // the hole was read
		const last = maxRecentFrames + 4
		letGo = s.store.holdReads()
		second := s.connect(alice, cursorAt(1, 2)) // reads a page
		synctest.Wait()
		s.Apply(room.Change{Events: []room.Event{s.store.recall(1, 3)}})
		letGo()
		second.wantSeqs(1, 2, last+1)
		for _, m := range second.received() {
			if strings.Contains(m.Data, "secret") {
				t.Errorf("replayed: %s", m.Data)
			}
		}
		s.wantReplayWithout(0, last+1, "secret")
	})
}

// TestRecallThatOvertakesItsMessage: the changes of two transactions may come the
// other way round. Who listens is told of both in order; nobody after them of
// what is gone.
func TestRecallPublishedBeforeItsMessage(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.join(alice, 1)
		s.connectReady(alice, "")
		said := s.store.append(1, 1, "a secret")
		recalled := s.store.recall(1, 1)
		s.Apply(room.Change{Events: []room.Event{recalled}})
		s.Apply(room.Change{Events: said})
		s.wantReplayWithout(0, 2, "secret")
	})
}
