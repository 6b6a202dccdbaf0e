package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parlor/room"
)

// endLogRecorder records the log lines about ends of streams.
type endLogRecorder struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (e *endLogRecorder) Write(line []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(line)
}

// loggedEnd is a log line about the end of a stream.
type loggedEnd struct {
	Level, Msg, Reason, Session, RequestID string
	Lasted                                 time.Duration
	EndsNotLogged                          int
}

func (e *endLogRecorder) all(t *testing.T) (ends []loggedEnd) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for line := range strings.Lines(e.text.String()) {
		var end loggedEnd
		if err := json.Unmarshal([]byte(line), &end); err != nil {
			t.Fatal(err)
		}
		if end.Msg == "stream ended" {
			ends = append(ends, end)
		}
	}
	return ends
}

func TestStreamEndsAreLogged(t *testing.T) {
	for _, step := range []struct {
		want loggedEnd
		end  func(s *testHub, c *client)
	}{
		{loggedEnd{Level: "DEBUG", Reason: "clientGone"}, func(_ *testHub, c *client) { c.close() }},
		{loggedEnd{Level: "DEBUG", Reason: "superseded"}, func(s *testHub, c *client) { s.connectReady(alice, "") }},
		{loggedEnd{Level: "DEBUG", Reason: "loggedOut"}, func(s *testHub, c *client) {
			s.Apply(room.Change{Ended: []room.EndedSession{{Session: alice, Reason: room.EndLoggedOut}}})
		}},
		{loggedEnd{Level: "DEBUG", Reason: "reconnect"}, func(s *testHub, c *client) {
			s.Drain(context.Background(), 0)
		}},
		{loggedEnd{Level: "INFO", Reason: "serverClosed"}, func(s *testHub, c *client) { s.Close() }},
		{loggedEnd{Level: "INFO", Reason: "slowConsumer"}, func(s *testHub, c *client) {
			c.stopReading()
			s.appendAndPublish(1, 3)
			advanceTime(2 * defaultWriteTimeout)
		}},
	} {
		t.Run(step.want.Reason, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				var log endLogRecorder
				s := newTestHub(t, overServe, Options{Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
				s.store.join(alice, 1)
				start := s.streamStart(alice, "")
				start.RequestID = "request-1"
				client := s.start(s.open(alice), start)
				client.awaitEvent(room.TypeSessionReady, 1)
				advanceTime(time.Minute)
				step.end(s, client)
				advanceTime(time.Second)
				got := log.all(t)
				if len(got) != 1 {
					t.Fatalf("logged: %+v", got)
				}
				if lasted := got[0].Lasted; lasted < time.Minute || lasted > 2*time.Minute {
					t.Errorf("it lasted %s", lasted)
				}
				got[0].Lasted = 0
				step.want.Msg, step.want.Session, step.want.RequestID = "stream ended", string(alice), "request-1"
				if got[0] != step.want {
					t.Errorf("logged: %+v, want %+v", got[0], step.want)
				}
			})
		})
	}
}

// TestLoggedStreamEndsAreLimited checks that the log is not flooded when thousands of clients fall
// behind together.
func TestLoggedStreamEndsAreLimited(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		var log endLogRecorder
		s := newTestHub(t, overServe, Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		fallBehind := func(from, to int) {
			for i := from; i < to; i++ {
				id := room.SessionID(fmt.Sprint("reader", i))
				s.store.join(id, 1)
				s.connectReady(id, "").stopReading()
			}
			s.appendAndPublish(1, 3)
			advanceTime(2 * defaultWriteTimeout)
			synctest.Wait()
		}
		fallBehind(0, 3*maxEndsLogged)
		if got := log.all(t); len(got) != maxEndsLogged {
			t.Errorf("%d ends of %d are logged", len(got), 3*maxEndsLogged)
		}
		advanceTime(time.Minute)
		fallBehind(1000, 1001)
		got := log.all(t)
		if len(got) != maxEndsLogged+1 || got[len(got)-1].EndsNotLogged != 2*maxEndsLogged {
			t.Errorf("a minute later: %+v", got[len(got)-1])
		}
	})
}

// TestEventsForOthersTakeNoQueue checks that a slow client is not closed because of messages that it
// does not receive: their size would be known to it.
func TestEventsForOthersTakeNoQueue(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		s := newTestHub(t, overServe, Options{})
		s.join("dave", 1)
		slow := s.connectReady("dave", "")
		slow.stopReading()
		for range 3 { // the first are being written, and the others are queued
			s.Apply(room.Change{Events: s.store.append(1, 100, strings.Repeat("x", 32<<10), "bob")})
			synctest.Wait()
		}
		if n := s.Stats().SlowConsumers; n != 0 {
			t.Fatalf("%d slow consumers", n)
		}
		slow.readAll()
		slow.wantSeqs(1, 0, 300)
	})
}
