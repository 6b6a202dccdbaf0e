package hub

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

const (
	alice room.SessionID = "alice"
	bob   room.SessionID = "bob"
)

// disconnectedEvent is the last event of a stream that the server ends.
func disconnectedEvent(reason room.ConnectionEvent) sseMessage {
	return sseMessage{
		Event: string(room.TypeConnectionStateChanged),
		Data:  `{"state":"disconnected","event":"` + string(reason) + `"}`,
	}
}

func TestEventsAreDeliveredInOrderAndOnce(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		for _, g := range []room.LogID{1, 2, 40} {
			s.store.join(alice, g)
			s.store.join(bob, g)
		}
		a, b := s.connectReady(alice, ""), s.connectReady(bob, "")
		for range 100 {
			s.appendAndPublish(1, 1)
			s.appendAndPublish(2, 3)
			s.appendAndPublish(40, 1)
		}
		for _, c := range []*client{a, b} {
			c.wantSeqs(1, 0, 100)
			c.wantSeqs(2, 0, 300)
			c.wantSeqs(40, 0, 100)
		}
	})
}

// TestEphemeralEventsKeepTheirPlace checks that a stream gets stored and ephemeral events in the
// order in which they were published.
func TestEphemeralEventsKeepTheirPlace(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.appendAndPublish(1, 1)
		c.awaitSeq(1, 1) // the stream is live
		var want []string
		for n := range 300 {
			text := strconv.Itoa(n)
			if want = append(want, text); rand.N(3) == 0 {
				s.Apply(room.Change{Events: s.store.append(1, 1, text)})
			} else {
				s.whisper(1, text)
			}
		}
		s.appendAndPublish(1, 1)
		c.awaitSeq(1, s.store.last(1))
		var got []string
		for _, m := range c.received()[2:] {
			got = append(got, data[room.MessagesReceived](t, m).MessageList[0].Text)
		}
		if diff := cmp.Diff(append(want, "hello"), got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestResumeFromEveryID checks that a stream with several logs resumes from each of its ids.
func TestResumeFromEveryID(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(alice, 2)
		first := s.connectReady(alice, "")
		for range 6 {
			s.appendAndPublish(1, 1)
			s.appendAndPublish(2, 2)
		}
		first.awaitSeq(1, 6)
		first.awaitSeq(2, 12)
		for _, m := range first.received() {
			_, cursor, err := ParseID(m.ID)
			if err != nil {
				t.Fatal(err)
			}
			one, _ := cursor.Seq(1)
			two, _ := cursor.Seq(2)
			c := s.connectReady(alice, m.ID)
			c.wantSeqs(1, one, 6)
			c.wantSeqs(2, two, 12)
			c.close()
		}
	})
}

func TestReplayFromRecentFrames(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		b := s.connectReady(bob, "")
		s.appendAndPublish(1, 1000)
		b.awaitSeq(1, 1000)
		reads := s.Stats().LogReads
		c := s.connectReady(alice, cursorAt(1, 1000-maxRecentFrames))
		c.wantSeqs(1, 1000-maxRecentFrames, 1000)
		if got := s.Stats().LogReads; got != reads {
			t.Errorf("the log was read %d times, although all frames are recent", got-reads)
		}
	})
}

func TestReplayFromSegmentsWhilePublishing(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		s.store.append(1, 5000, "long ago")
		b := s.connectReady(bob, cursorAt(1, 5000))
		c := s.connectReady(alice, cursorAt(1, 7))
		for range 500 {
			s.appendAndPublish(1, 2)
		}
		b.wantSeqs(1, 5000, 6000)
		c.wantSeqs(1, 7, 6000)
	})
}

func TestPublishedOutOfOrder(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		for range 20 {
			events := s.store.append(1, 20, "hello")
			rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			for _, e := range events {
				s.Apply(room.Change{Events: []room.Event{e}})
			}
			s.Apply(room.Change{Events: events[:5]}) // some twice
		}
		c.wantSeqs(1, 0, 400)
	})
}

// TestUnpublishedEventsAreRead checks that events are read from the log if their process failed
// between the commit and the publication. The next event shows the gap; if there is none, Resync
// finds the events.
func TestUnpublishedEventsAreRead(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.appendAndPublish(1, 1)
		s.store.append(1, 700, "not published")
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 702)
		s.store.append(1, 700, "not published")
		s.Resync()
		c.wantSeqs(1, 0, 1402)
	})
}

func TestJoinAndLeave(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.append(1, 4, "before")
		c := s.connectReady(alice, "")
		s.join(alice, 1)
		s.join(alice, 1) // a second time, which changes nothing
		// The id contains the room, so that a client that resumes from it is notified if it is no
		// longer in the room.
		if in := c.awaitEvent(room.TypeRoomStateChanged, 2); in.ID != "1:4" {
			t.Errorf("after joining, the id is %q", in.ID)
		}
		s.appendAndPublish(1, 3)
		c.wantSeqs(1, 4, 7)
		s.leave(alice, 1, room.ReasonTimedOut)
		want := sseMessage{
			ID:    "-", // no subscriptions are left
			Event: string(room.TypeRoomStateChanged),
			Data:  `{"roomID":"room-1","generation":1,"state":"disconnected","event":"networkTimeout"}`,
		}
		// Each join sends two of these events.
		if diff := cmp.Diff(want, c.awaitEvent(room.TypeRoomStateChanged, 5)); diff != "" {
			t.Errorf("after leaving (-want +got):\n%s", diff)
		}
		s.appendAndPublish(1, 5)
		s.join(alice, 2)
		s.appendAndPublish(2, 1)
		c.wantSeqs(2, 0, 1)
		c.wantSeqs(1, 4, 7)
		if got := c.lastID(); got != "2:1" {
			t.Errorf("the id is %q", got)
		}
	})
}

// TestRemovedWhileWorkerIsBusy removes a session and then publishes an event, both while the worker
// is busy in a round that will deliver to the session's stream. The event must not be delivered.
func TestRemovedWhileWorkerIsBusy(t *testing.T) {
	for _, ephemeral := range []bool{false, true} {
		t.Run(fmt.Sprintf("ephemeral: %t", ephemeral), func(t *testing.T) {
			eachWindow(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{Workers: 1})
				s.store.join(alice, 1)
				c := s.connectReady(alice, "")
				busy := s.workers[0]
				busy.do(func() {
					s.appendAndPublish(1, 1) // the next round delivers to the topic's streams
					busy.do(func() {
						s.leave(alice, 1, room.ReasonKicked)
						later := s.store.append(1, 1, "after the end")
						if ephemeral {
							later[0].Seq = 0
						}
						s.Apply(room.Change{Events: later})
					})
				})
				c.awaitEvent(room.TypeRoomStateChanged, 1)
				synctest.Wait()
				for _, m := range c.received() {
					if strings.Contains(m.Data, "after the end") {
						t.Errorf("received after the session was removed: %s", m.Data)
					}
				}
			})
		})
	}
}

func TestNewerStreamSupersedes(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		first := s.connectReady(alice, "")
		s.appendAndPublish(1, 3)
		first.awaitSeq(1, 3)
		second := s.connectReady(alice, first.lastID())
		if diff := cmp.Diff(disconnectedEvent(room.ConnectionSuperseded), first.awaitEnd()); diff != "" {
			t.Errorf("the last event (-want +got):\n%s", diff)
		}
		s.awaitDetached(alice, 1)
		s.appendAndPublish(1, 2)
		second.wantSeqs(1, 3, 5)
		second.close()
		s.awaitDetached(alice, 2)
		if diff := cmp.Diff([]detachedStream{{alice, 1}, {alice, 2}}, s.detachments()); diff != "" {
			t.Errorf("detached (-want +got):\n%s", diff)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		s.Apply(room.Change{
			Left:  []room.Left{s.store.leave(alice, 1, room.ReasonLoggedOut)},
			Ended: []room.EndedSession{{Session: alice, Reason: room.EndLoggedOut}},
		})
		if diff := cmp.Diff(disconnectedEvent(room.ConnectionLoggedOut), c.awaitEnd()); diff != "" {
			t.Errorf("the last event (-want +got):\n%s", diff)
		}
		s.awaitDetached(alice, 1)
	})
}

// TestPeerCloses checks that a closed connection is noticed at once, not at the next write.
func TestPeerCloses(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{Heartbeat: waitLimit + waitLimit})
		s.store.join(alice, 1)
		c := s.connectReady(alice, "")
		c.close()
		s.awaitDetached(alice, 1)
		if n := s.Stats().Streams; n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}

func TestSlowConsumer(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{Workers: 1}) // which writes to both streams in one round
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		slow, other := s.connectReady(alice, ""), s.connectReady(bob, "")
		slow.stopReading()
		last := room.Seq(0)
		for s.Stats().SlowConsumers == 0 {
			if last += 50; last > 100_000 {
				t.Fatal("a client that reads nothing is not closed as slow")
			}
			s.appendAndPublish(1, 50)
			other.awaitSeq(1, last) // so that the other client is not slow
		}
		slow.readAll()
		if diff := cmp.Diff(disconnectedEvent(room.ConnectionSlowConsumer), slow.awaitEnd()); diff != "" {
			t.Errorf("the last event (-want +got):\n%s", diff)
		}
		s.awaitDetached(alice, 1)
		s.appendAndPublish(1, 10)
		last += 10
		got := room.Seq(len(slow.received()) - 2)
		if got == 0 || got >= last {
			t.Errorf("the slow client got %d of %d", got, last)
		}
		slow.wantSeqs(1, 0, got)
		s.connectReady(alice, slow.lastID()).wantSeqs(1, got, last)
		other.wantSeqs(1, 0, last)
		if n := s.Stats().SlowConsumers; n != 1 {
			t.Errorf("%d streams were too slow", n)
		}
	})
}

// TestLongReplayIsNotSlow checks that a client that is behind is not closed as slow, because the
// events to replay are not added to its queue.
func TestLongReplayIsNotSlow(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(alice, 2)
		s.store.append(1, 2*segmentFrames, strings.Repeat("x", 8<<10))
		s.store.append(1, maxRecentFrames, "small")
		c := newClient(t)
		c.readMore(4 << 10)
		w.serve(t, s.open(alice), s.streamStart(alice, cursorAt(1, 0)), c)
		c.await("the first bytes", func() bool { return c.window == 0 })
		for range 10 {
			s.appendAndPublish(2, 1)
		}
		c.readAll()
		c.wantSeqs(1, 0, 2*segmentFrames+maxRecentFrames)
		c.wantSeqs(2, 0, 10)
	})
}

func TestLogFailsForAWhile(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		s.store.append(1, 2000, "before")
		s.store.failReads(errors.New("the database is down"))
		behind := s.connectReady(bob, cursorAt(1, 100))
		cold := s.connectReady(alice, cursorAt(1, 2000))
		s.appendAndPublish(1, 3)
		s.eventually("a retry", func() bool { return s.Stats().LogReads >= 2 })
		s.store.failReads(nil)
		cold.wantSeqs(1, 2000, 2003)
		behind.wantSeqs(1, 100, 2003)

		s.store.failReads(errors.New("the database is down"))
		s.store.append(1, 5, "not published")
		reads := s.Stats().LogReads
		s.appendAndPublish(1, 1)
		s.eventually("a retry", func() bool { return s.Stats().LogReads >= reads+2 })
		s.store.failReads(nil)
		cold.wantSeqs(1, 2000, 2009)
		behind.wantSeqs(1, 100, 2009)
		if n := s.Stats().Streams; n != 2 {
			t.Errorf("%d streams are open", n)
		}
	})
}

// cursorAt returns the cursor of a client that has received a log up to a seq.
func cursorAt(logID room.LogID, seq room.Seq) string {
	return string(Cursor{{Log: logID, Seq: seq}}.AppendTo(nil))
}
