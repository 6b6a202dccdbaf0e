package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// data decodes the data of an event.
func data[B room.Body](t testingT, m sseMessage) B {
	t.Helper()
	var b B
	if err := json.Unmarshal([]byte(m.Data), &b); err != nil {
		t.Fatalf("%s: %v", m.Event, err)
	}
	if m.Event != string(b.Type()) {
		t.Fatalf("%s is not %s", m.Event, b.Type())
	}
	return b
}

func eventTypes(messages []sseMessage) []string {
	types := make([]string, len(messages))
	for i, m := range messages {
		types[i] = m.Event
	}
	return types
}

// trimmedTestHub returns a hub with three logs: 1 has 20 events, 2 has 20 of which the first 10 are
// trimmed, 3 is empty. Alice joined all of them at the beginning.
func trimmedTestHub(t testingT, w transport) *testHub {
	s := newTestHub(t, w, Options{})
	for g := range room.LogID(3) {
		s.store.join(alice, g+1)
	}
	s.store.append(1, 20, "hello")
	s.store.append(2, 20, "hello")
	s.store.trim(2, 11)
	return s
}

func TestStreamStart(t *testing.T) {
	const (
		invalid = room.ResetCursorInvalid
		ahead   = room.ResetCursorAhead
		trimmed = room.ResetLogTrimmed
	)
	tests := []struct {
		name    string
		lastID  string
		resumed bool
		begin   string // the id of sessionReady
		reset   map[room.LogID]room.ResetReason
	}{
		{"without a cursor", "", false, "1:0,2:k,3:0", map[room.LogID]room.ResetReason{2: trimmed}},
		{"at a cursor", "1:5,2:a,3:0", true, "1:5,2:a,3:0", nil},
		{"at the end", "1:k,2:k,3:0", true, "1:k,2:k,3:0", nil},
		{"at a cursor without one of the rooms", "2:c", true, "1:0,2:c,3:0", nil},
		{"at the empty cursor", "-", false, "1:0,2:k,3:0", map[room.LogID]room.ResetReason{2: trimmed}},
		{"at a cursor with an unknown log", "1:5,2:a,9:9", true, "1:5,2:a,3:0", nil},
		{"before trimmed events", "1:5,2:9,3:0", false, "1:5,2:k,3:0", map[room.LogID]room.ResetReason{2: trimmed}},
		{"ahead of the log", "1:l,2:a,3:0", false, "1:k,2:a,3:0", map[room.LogID]room.ResetReason{1: ahead}},
		{"invalid cursor", "1:5;2:a", false, "1:k,2:k,3:0", map[room.LogID]room.ResetReason{1: invalid, 2: invalid, 3: invalid}},
	}
	eachTransport(t, func(t *testing.T, w transport) {
		for _, tt := range tests {
			s := trimmedTestHub(t, w)
			c := s.connect(alice, tt.lastID)
			m := c.awaitEvent(room.TypeSessionReady, 1)
			ready := data[room.SessionReady](t, m)
			if ready.SessionID != alice || ready.Resumed != tt.resumed || len(ready.Rooms) != 3 || m.ID != tt.begin {
				t.Errorf("%s: sessionReady has id %q and data %+v", tt.name, m.ID, ready)
			}
			for n := range len(tt.reset) {
				m := c.awaitEvent(room.TypeRoomReset, n+1)
				reset := data[room.RoomReset](t, m)
				want := room.RoomReset{RoomID: roomID(reset.Generation), Generation: reset.Generation, Reason: tt.reset[reset.Generation]}
				want.Room = ready.Rooms[reset.Generation-1]
				want.OldestSeq = map[room.LogID]room.Seq{1: 1, 2: 11, 3: 1}[reset.Generation]
				if diff := cmp.Diff(want, reset); diff != "" || m.ID != tt.begin {
					t.Errorf("%s: roomReset with id %q (-want +got):\n%s", tt.name, m.ID, diff)
				}
			}
			for g := range room.LogID(3) {
				s.appendAndPublish(g+1, 1)
			}
			begin, err := ParseCursor(tt.begin)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range begin {
				c.wantSeqs(p.Log, p.Seq, s.store.last(p.Log))
			}
			if n := len(c.received()) - 1; n != len(tt.reset)+3+20+20-int(begin[0].Seq+begin[1].Seq) {
				t.Errorf("%s: got %d events: %v", tt.name, n, eventTypes(c.received()))
			}
		}
	})
}

// TestStartAfterRejoin checks that a session that left a room and joined it again gets the events
// since it joined, even if its cursor is at an earlier seq.
func TestStartAfterRejoin(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.append(1, 10, "before")
		s.store.join(alice, 1)
		c := s.connect(alice, cursorAt(1, 4))
		s.appendAndPublish(1, 2)
		c.wantSeqs(1, 10, 12)
	})
}

func TestStartReportsRoomsLeft(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.join(alice, 2)
		s.store.leave(alice, 2, room.ReasonTimedOut)
		c := s.connectReady(alice, "1:0,2:0")
		got := data[room.RoomStateChanged](t, c.awaitEvent(room.TypeRoomStateChanged, 1))
		want := room.RoomStateChanged{
			RoomID: "room-2", Generation: 2, State: room.RoomDisconnected, Event: room.RoomNetworkTimeout,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the event about the room (-want +got):\n%s", diff)
		}
		ready := data[room.SessionReady](t, c.awaitEvent(room.TypeSessionReady, 1))
		if !ready.Resumed || len(ready.Rooms) != 1 || ready.Rooms[0].Generation != 1 {
			t.Errorf("sessionReady is %+v", ready)
		}
	})
}

// TestChangesBetweenOpenAndStart checks that a stream ends up the same, whether the handler read
// the session's presences before or after the changes that happened between opening and starting
// the stream.
func TestChangesBetweenOpenAndStart(t *testing.T) {
	for _, readFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("read first: %t", readFirst), func(t *testing.T) {
			eachTransport(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{})
				s.store.join(alice, 1)
				s.store.join(alice, 2)
				s.store.append(3, 5, "before")
				stream := s.open(alice)
				var start *StreamStart
				if readFirst {
					start = s.streamStart(alice, "")
				}
				s.appendAndPublish(1, 2)
				s.join(alice, 3)
				s.appendAndPublish(3, 2)
				s.leave(alice, 2, room.ReasonLeft)
				s.appendAndPublish(2, 2)
				s.Apply(room.Change{Refused: []room.RefusedJoin{{Session: alice, Room: "full", Call: room.RoomEnter}}})
				s.join(alice, 4)
				s.leave(alice, 4, room.ReasonLeft)
				s.join(alice, 4)
				if !readFirst {
					start = s.streamStart(alice, "")
				}
				c := s.start(stream, start)
				for _, g := range []room.LogID{1, 2, 3, 4} {
					s.appendAndPublish(g, 1)
				}
				c.wantSeqs(1, 0, 3)
				c.wantSeqs(3, 5, 8)
				c.wantSeqs(4, 0, 1)
				// Presences that had ended when the handler read are not reported.
				c.awaitEvent(room.TypeRoomStateChanged, map[bool]int{true: 10, false: 7}[readFirst])
				c.wantSeqs(2, 0, 0)
				if got := c.lastID(); got != "1:3,3:8,4:1" {
					t.Errorf("the id is %q", got)
				}
			})
		})
	}
}

// TestSupersededBeforeItsStart checks that the end of a stream that was superseded before it
// started is reported. The database only accepts the end of the stream whose number it gave out
// last, which may be that stream.
func TestSupersededBeforeItsStart(t *testing.T) {
	tests := []struct {
		name string
		test func(*testing.T, *testHub, *Stream, *Stream)
	}{
		{"while its successor is open", func(t *testing.T, s *testHub, first, second *Stream) {
			two := s.start(second, s.streamStart(alice, "")) // number 1
			two.awaitEvent(room.TypeSessionReady, 1)
			one := s.start(first, s.streamStart(alice, "")) // number 2
			one.awaitEnd()
			want := []sseMessage{disconnectedEvent(room.ConnectionSuperseded)}
			if diff := cmp.Diff(want, one.received()); diff != "" {
				t.Errorf("the superseded stream got (-want +got):\n%s", diff)
			}
			s.appendAndPublish(1, 1)
			two.wantSeqs(1, 0, 1)
			two.close()
		}},
		{"before its successor starts", func(_ *testing.T, s *testHub, first, second *Stream) {
			start := s.streamStart(alice, "")                   // number 1
			s.start(first, s.streamStart(alice, "")).awaitEnd() // number 2
			two := s.start(second, start)
			two.awaitEvent(room.TypeSessionReady, 1)
			two.close()
		}},
		{"after its successor has ended", func(_ *testing.T, s *testHub, first, second *Stream) {
			two := s.start(second, s.streamStart(alice, "")) // number 1
			two.awaitEvent(room.TypeSessionReady, 1)
			two.close()
			s.awaitDetached(alice, 1)
			s.start(first, s.streamStart(alice, "")).awaitEnd() // number 2
		}},
		{"and its successor is aborted", func(_ *testing.T, s *testHub, first, second *Stream) {
			s.streamStart(alice, "")                            // number 1
			s.start(first, s.streamStart(alice, "")).awaitEnd() // number 2
			second.Abort()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{})
				s.store.join(alice, 1)
				tt.test(t, s, s.open(alice), s.open(alice))
				s.awaitDetached(alice, 2)
			})
		})
	}
}

// recordingSink is a connection that takes everything.
type recordingSink struct{ bytes.Buffer }

func (r *recordingSink) write(b []byte) (int, error) { return r.Write(b) }

func (r *recordingSink) close() {}

// TestHeadPrecedesFirstEvents checks that the head of the reply and the first events are one write,
// of which only the events are compressed, also if the stream ended before it started.
func TestHeadPrecedesFirstEvents(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		for _, ended := range []bool{false, true} {
			t.Run(fmt.Sprintf("gzip: %t, ended: %t", compressed, ended), func(t *testing.T) {
				t.Parallel()
				s := newTestHub(t, overServe, Options{})
				stream, start := s.open(alice), s.streamStart(alice, "")
				start.Head, start.Gzip = []byte("HTTP/1.1 200 OK\r\n\r\n"), compressed
				if ended {
					s.open(alice).Abort()
				}
				var sink recordingSink
				started := make(chan struct{})
				stream.worker.do(func() {
					stream.start(start, &sink)
					close(started)
				})
				<-started
				events, found := bytes.CutPrefix(sink.Bytes(), start.Head)
				if compressed {
					g := newGunzip()
					defer g.stop()
					events = g.write(events)
				}
				if !found || !bytes.HasPrefix(events, []byte("retry: ")) || ended != bytes.Contains(events, []byte("superseded")) {
					t.Errorf("the stream begins with %q, then %q", sink.Bytes(), events)
				}
			})
		}
	}
}

// TestSuccessorEndsWhileItTakesOverNumber ends a stream while it takes over the number of the
// stream that it superseded.
func TestSuccessorEndsWhileItTakesOverNumber(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		first, second := s.open(alice), s.open(alice)
		c := s.start(second, s.streamStart(alice, "")) // number 1
		c.awaitEvent(room.TypeSessionReady, 1)
		busy := make(chan struct{})
		second.worker.do(func() { <-busy })
		for range 2 { // a second end has no effect
			s.Apply(room.Change{Ended: []room.EndedSession{{Session: alice, Reason: room.EndLoggedOut}}})
		}
		s.start(first, s.streamStart(alice, "")).awaitEnd() // number 2
		close(busy)
		c.awaitEnd()
		advanceTime(0)
		if diff := cmp.Diff([]detachedStream{{alice, 1}, {alice, 2}}, s.detachments()); diff != "" {
			t.Errorf("detached (-want +got):\n%s", diff)
		}
	})
}

// TestRoomStateChangedPrecedesRoomEvents checks that a client gets roomStateChanged before any
// event of the room.
func TestRoomStateChangedPrecedesRoomEvents(t *testing.T) {
	for _, started := range []bool{true, false} {
		t.Run(fmt.Sprintf("started: %t", started), func(t *testing.T) {
			eachTransport(t, func(t *testing.T, w transport) {
				s := newTestHub(t, w, Options{})
				s.store.join(bob, 1)
				s.connectReady(bob, "")
				var (
					stream = s.open(alice)
					start  = s.streamStart(alice, "")
					c      *client
				)
				if started {
					c = s.start(stream, start)
					c.awaitEvent(room.TypeSessionReady, 1)
				}
				a := s.store.join(alice, 1)
				s.appendAndPublish(1, 3) // committed after the join, and applied before it
				s.Apply(room.Change{Joined: []room.Joined{a}})
				if !started {
					c = s.start(stream, start)
				}
				c.wantSeqs(1, 0, 3)
				c.awaitEvent(room.TypeRoomStateChanged, 2)
				const changed, message = string(room.TypeRoomStateChanged), string(room.TypeMessagesReceived)
				want := []string{string(room.TypeSessionReady), changed, changed, message, message, message}
				if diff := cmp.Diff(want, eventTypes(c.received())); diff != "" {
					t.Errorf("the events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestPresencesAppliedOutOfOrder checks that a stream ends up the same if the changes of its
// session are applied in another order than they were committed in.
func TestPresencesAppliedOutOfOrder(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(bob, 1)
		s.connectReady(bob, "")
		c := s.connectReady(alice, "")
		var (
			in1   = s.store.join(alice, 1)
			out1  = s.store.leave(alice, 1, room.ReasonTimedOut)
			in2   = s.store.join(alice, 1)
			again = s.store.join(alice, 2)
			out2  = s.store.leave(alice, 2, room.ReasonKicked)
		)
		// The second join is applied before the leave.
		s.Apply(room.Change{Joined: []room.Joined{in1}})
		s.Apply(room.Change{Joined: []room.Joined{in2}})
		s.Apply(room.Change{Left: []room.Left{out1}})
		// The kick is applied before the join.
		s.Apply(room.Change{Left: []room.Left{out2}})
		s.Apply(room.Change{Joined: []room.Joined{again}})
		s.appendAndPublish(1, 2)
		s.appendAndPublish(2, 2)
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 0, 3)
		c.wantSeqs(2, 0, 0)
		if got := c.lastID(); got != "1:3" {
			t.Errorf("the id is %q", got)
		}
	})
}

func TestAbort(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		stream := s.open(alice)
		if !s.HasStream(alice) || s.HasStream(bob) {
			t.Error("HasStream is wrong for a stream that has not started, or for no stream")
		}
		stream.Abort()
		advanceTime(time.Second)
		if s.HasStream(alice) {
			t.Error("HasStream reports an aborted stream")
		}
		if n := s.Stats().Streams; n != 0 {
			t.Errorf("%d streams are open", n)
		}
		if got := s.detachments(); got != nil {
			t.Errorf("the end of a stream without a number was reported: %v", got)
		}
	})
}

func TestStartOnClosedHub(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		stream := s.open(alice)
		s.Close()
		if err := stream.Serve(t.Context(), s.streamStart(alice, ""), &wire{client: newClient(t)}); !errors.Is(err, ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if _, err := s.OpenStream(bob, "bob", 0); !errors.Is(err, ErrClosed) {
			t.Errorf("OpenStream returned %v", err)
		}
		// The database has given this stream a number, so its end must be reported.
		s.awaitDetached(alice, 1)
	})
}

// TestJoinWhileStreamEnds checks that a stream that has ended does not subscribe again, because it
// would never be unsubscribed.
func TestJoinWhileStreamEnds(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{Workers: 1})
		s.connectReady(alice, "")
		busy := make(chan struct{})
		s.workers[0].do(func() { <-busy })
		s.Apply(room.Change{Ended: []room.EndedSession{{Session: alice, Reason: room.EndLoggedOut}}})
		s.join(alice, 1)
		close(busy)
		s.awaitDetached(alice, 1)
		advanceTime(topicIdle + 2*time.Second)
		if n := s.Stats().Topics; n != 0 {
			t.Errorf("%d topics without a stream", n)
		}
	})
}

// TestResumeReadsEventsOfOtherProcesses checks that a stream that resumes, and the streams that are
// open, get events that another process committed. Those are in the log, but were not published to
// this hub.
func TestResumeReadsEventsOfOtherProcesses(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.setInbox(alice, 7, 0)
		for _, id := range []room.SessionID{alice, bob} {
			s.store.join(id, 1)
		}
		other := s.connectReady(bob, "")
		s.appendAndPublish(1, 1)
		other.wantSeqs(1, 0, 1) // the topic has read the log
		s.connectReady(alice, "1:1,7:0").close()
		s.awaitDetached(alice, 1)

		s.store.append(1, 3, "elsewhere")
		s.store.append(7, 2, "elsewhere")
		c := s.connectReady(alice, "1:1,7:0")
		if ready := data[room.SessionReady](t, c.awaitEvent(room.TypeSessionReady, 1)); !ready.Resumed {
			t.Errorf("sessionReady is %+v", ready)
		}
		c.wantSeqs(1, 1, 4)
		c.wantSeqs(7, 0, 2)
		other.wantSeqs(1, 0, 4)
		if reads := s.Stats().LogReads; reads > 4 {
			t.Errorf("the logs were read %d times", reads)
		}
	})
}

// TestCursorOfAnotherEpoch checks that a cursor of another epoch is ignored, that the client gets
// the reason, and that its new ids have the current epoch.
func TestCursorOfAnotherEpoch(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		s.store.join(alice, 1)
		s.store.setInbox(alice, 7, 1)
		s.store.append(1, 5, "before")
		s.store.append(7, 3, "before")
		start := s.streamStart(alice, "1:2,7:3")
		start.Epoch, start.Foreign = "k3x9", true
		c := s.start(s.open(alice), start)
		m := c.awaitEvent(room.TypeSessionReady, 1)
		if ready := data[room.SessionReady](t, m); ready.Resumed || m.ID != "k3x9.1:5,7:1" {
			t.Errorf("sessionReady has id %q and data %+v", m.ID, ready)
		}
		if r := data[room.RoomReset](t, c.awaitEvent(room.TypeRoomReset, 1)); r.Reason != room.ResetEpochChanged {
			t.Errorf("roomReset is %+v", r)
		}
		if r := data[room.InboxReset](t, c.awaitEvent(room.TypeInboxReset, 1)); r.Reason != room.ResetEpochChanged {
			t.Errorf("inboxReset is %+v", r)
		}
		s.appendAndPublish(1, 1)
		c.wantSeqs(1, 5, 6)
		c.wantSeqs(7, 1, 3)
		if got := c.lastID(); got != "k3x9.1:6,7:3" {
			t.Errorf("the id is %q", got)
		}
	})
}

// TestReconnectAll checks that the clients of open streams are asked to reconnect and that topics
// are discarded, even if the database has fewer events than before. Only logs of rooms are followed.
func TestReconnectAll(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		var followed []string // guarded by the hub's mutex
		s := newTestHub(t, w, Options{
			Follow:   func(log room.LogID) { followed = append(followed, fmt.Sprint("follow ", log)) },
			Unfollow: func(log room.LogID) { followed = append(followed, fmt.Sprint("unfollow ", log)) },
		})
		s.store.setInbox(alice, 7, 0)
		s.store.join(alice, 1)
		s.store.join(bob, 1)
		one, other := s.connectReady(alice, ""), s.connectReady(bob, "")
		s.appendAndPublish(1, 5)
		one.wantSeqs(1, 0, 5)
		other.wantSeqs(1, 0, 5)
		before := s.open("carol") // which has not started

		s.store.remove(1) // a restored database has fewer events
		s.store.append(1, 2, "restored")
		s.ReconnectAll()
		for _, c := range []*client{one, other} {
			last := c.awaitEnd()
			if after := data[room.Reconnect](t, last).AfterMs; after < 0 || after > 2000 {
				t.Errorf("reconnect after %d ms", after)
			}
		}
		s.start(before, s.streamStart("carol", "")).awaitEnd()
		c := s.connectReady(alice, cursorAt(1, 1))
		s.appendAndPublish(1, 2)
		c.wantSeqs(1, 1, 4)
		s.Hub.mu.Lock()
		if want := []string{"follow 1", "unfollow 1", "follow 1"}; !slices.Equal(followed, want) {
			t.Errorf("followed: %q", followed)
		}
		s.Hub.mu.Unlock()
		if m := c.awaitEvent(room.TypeMessagesReceived, 1); !strings.Contains(m.Data, "restored") {
			t.Errorf("the first event is %s", m.Data)
		}
	})
}

// TestMissedEventsFollowSubscription: what a client has missed is found out when the stream already
// gets what is published, and comes after its first event; if it cannot be found out, the client
// reconnects.
func TestMissedEventsFollowSubscription(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := newTestHub(t, w, Options{})
		status := func(text string) room.StatusesUpdated {
			return room.StatusesUpdated{StatusList: []room.UserStatus{{User: "bob", State: room.StatusOnline, CustomStatus: text}}}
		}
		const inbox = 7
		s.store.setInbox(alice, inbox, 0)
		start := s.streamStart(alice, "")
		start.Missed = func(context.Context) ([]room.Body, error) {
			s.Apply(room.Change{Events: []room.Event{{Log: inbox, Body: status("meanwhile")}}})
			return []room.Body{status("missed")}, nil
		}
		c := s.start(s.open(alice), start)
		c.awaitEvent(room.TypeStatusesUpdated, 2)
		var texts []string
		for _, m := range c.received() {
			if m.Event == string(room.TypeStatusesUpdated) {
				texts = append(texts, data[room.StatusesUpdated](t, m).StatusList[0].CustomStatus)
			}
		}
		slices.Sort(texts) // each status has a time, so their order does not matter
		if types := eventTypes(c.received()); types[0] != string(room.TypeSessionReady) || !slices.Equal(texts, []string{"meanwhile", "missed"}) {
			t.Errorf("%s: got %q with %q", w.name, types, texts)
		}
		start = s.streamStart(alice, "")
		start.Missed = func(context.Context) ([]room.Body, error) { return nil, room.ErrUnavailable }
		s.start(s.open(alice), start).awaitEvent(room.TypeReconnect, 1)
	})
}
