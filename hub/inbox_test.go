package hub

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// inboxTestHub returns a hub whose store has an inbox of alice, with 20 events of which the first
// 10 are trimmed.
func inboxTestHub(t *testing.T, w transport, delivered room.Seq) *testHub {
	t.Helper()
	s := newTestHub(t, w, Options{})
	s.store.setInbox(alice, 7, delivered)
	s.store.append(7, 20, "hello")
	s.store.trim(7, 11)
	return s
}

// TestInboxResume checks that an inbox continues at the client's cursor, or else after the events
// that the user has received. If those were trimmed, the client gets inboxReset.
func TestInboxResume(t *testing.T) {
	const (
		invalid = room.ResetCursorInvalid
		ahead   = room.ResetCursorAhead
		trimmed = room.ResetLogTrimmed
	)
	tests := []struct {
		name      string
		lastID    string
		delivered room.Seq
		resumed   bool
		begin     string // the id of sessionReady
		reset     room.ResetReason
	}{
		{"without a cursor", "", 15, false, "7:f", ""},
		{"without a cursor, all delivered", "", 20, false, "7:k", ""},
		{"without a cursor, delivered events trimmed", "", 9, false, "7:a", trimmed},
		{"at a cursor", "7:c", 15, true, "7:c", ""},
		{"at a cursor after the delivered events", "7:k", 15, true, "7:k", ""},
		{"before the oldest event", "7:a", 15, true, "7:a", ""},
		{"before trimmed events", "7:9", 15, false, "7:a", trimmed},
		{"at a cursor without the inbox", "8:1", 15, true, "7:f", ""},
		{"at the empty cursor", "-", 15, true, "7:f", ""},
		{"ahead of the log", "7:l", 15, false, "7:f", ahead},
		{"ahead of the log, delivered events trimmed", "7:l", 5, false, "7:a", ahead},
		{"invalid cursor", "7;a", 15, false, "7:f", invalid},
	}
	eachTransport(t, func(t *testing.T, w transport) {
		for _, tt := range tests {
			s := inboxTestHub(t, w, tt.delivered)
			c := s.connect(alice, tt.lastID)
			m := c.awaitEvent(room.TypeSessionReady, 1)
			if ready := data[room.SessionReady](t, m); ready.Resumed != tt.resumed || m.ID != tt.begin {
				t.Errorf("%s: sessionReady has id %q and data %+v", tt.name, m.ID, ready)
			}
			if tt.reset != "" {
				m := c.awaitEvent(room.TypeInboxReset, 1)
				want := room.InboxReset{Reason: tt.reset, OldestSeq: 11}
				if diff := cmp.Diff(want, data[room.InboxReset](t, m)); diff != "" || m.ID != tt.begin {
					t.Errorf("%s: inboxReset with id %q (-want +got):\n%s", tt.name, m.ID, diff)
				}
			}
			s.appendAndPublish(7, 1)
			begin, err := ParseCursor(tt.begin)
			if err != nil {
				t.Fatal(err)
			}
			c.wantSeqs(7, begin[0].Seq, 21)
			want := 1 + 21 - int(begin[0].Seq)
			if tt.reset != "" {
				want++
			}
			if n := len(c.received()); n != want {
				t.Errorf("%s: got %d events, want %d: %v", tt.name, n, want, eventTypes(c.received()))
			}
		}
	})
}

// TestInboxNeedsNoRead checks that the log is not read if the user has received all of the inbox,
// as after a restart of the server. Events that are committed while the stream starts are not
// missed.
func TestInboxNeedsNoRead(t *testing.T) {
	eachTransport(t, func(t *testing.T, w transport) {
		s := inboxTestHub(t, w, 0)
		stream := s.open(alice)
		s.appendAndPublish(7, 1)
		start := s.streamStart(alice, "7:l")
		s.appendAndPublish(7, 2)
		c := s.start(stream, start)
		s.appendAndPublish(7, 1)
		c.wantSeqs(7, 21, 24)
		if reads := s.Stats().LogReads; reads != 0 {
			t.Errorf("the log was read %d times", reads)
		}
		// A gap is filled from the log.
		s.store.append(7, 1, "not published")
		s.appendAndPublish(7, 1)
		c.wantSeqs(7, 21, 26)
	})
}

// TestInboxTopicsAreEvicted checks that the topic of an inbox is evicted when no stream uses it.
// Open streams use it before they start.
func TestInboxTopicsAreEvicted(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.store.setInbox(alice, 7, 0)
		s.store.setInbox(bob, 8, 0)
		s.open(alice).Abort()
		stream := s.open(bob)
		advanceTime(topicIdle + 2*time.Second)
		if n := s.Stats().Topics; n != 1 {
			t.Errorf("%d topics, want only that of bob, whose stream has not started", n)
		}
		c := s.start(stream, s.streamStart(bob, ""))
		c.awaitEvent(room.TypeSessionReady, 1)
		c.close()
		advanceTime(topicIdle + 2*time.Second)
		if n := s.Stats().Topics; n != 0 {
			t.Errorf("%d topics without a stream", n)
		}
	})
}
