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

// endings is a log that keeps what is said of ends of streams.
type endings struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (e *endings) Write(line []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(line)
}

// ending is a line of the log.
type ending struct {
	Level, Msg, Reason, Session, RequestID string
	Lasted                                 time.Duration
	EndsNotLogged                          int
}

func (e *endings) all(t *testing.T) (ends []ending) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for line := range strings.Lines(e.text.String()) {
		var end ending
		if err := json.Unmarshal([]byte(line), &end); err != nil {
			t.Fatal(err)
		}
		if end.Msg == "stream ended" {
			ends = append(ends, end)
		}
	}
	return ends
}

func TestEndsOfStreamsAreLogged(t *testing.T) {
	for want, c := range map[ending]func(s *site, c *client){
		{Level: "DEBUG", Reason: "clientGone"}: func(_ *site, c *client) { c.hangUp() },
		{Level: "DEBUG", Reason: "superseded"}: func(s *site, c *client) { s.connected(alice, "") },
		{Level: "DEBUG", Reason: "loggedOut"}: func(s *site, c *client) {
			s.Apply(room.Change{Ended: []room.EndedSession{{Session: alice, Reason: room.EndLoggedOut}}})
		},
		{Level: "DEBUG", Reason: "reconnect"}: func(s *site, c *client) {
			s.Drain(context.Background(), 0)
		},
		{Level: "INFO", Reason: "serverClosed"}: func(s *site, c *client) { s.Close() },
		{Level: "INFO", Reason: "slowConsumer"}: func(s *site, c *client) { c.pause(); s.post(1, 3); elapse(2 * defaultWriteTimeout) },
	} {
		t.Run(want.Reason, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var log endings
				s := newSite(t, overServe, Options{Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
				s.log.enter(alice, 1)
				start := s.attach(alice, "")
				start.RequestID = "request-1"
				client := s.start(s.open(alice), start)
				client.awaitEvent(room.TypeSessionReady, 1)
				elapse(time.Minute)
				c(s, client)
				elapse(time.Second)
				got := log.all(t)
				if len(got) != 1 {
					t.Fatalf("logged: %+v", got)
				}
				if lasted := got[0].Lasted; lasted < time.Minute || lasted > 2*time.Minute {
					t.Errorf("it lasted %s", lasted)
				}
				got[0].Lasted = 0
				want.Msg, want.Session, want.RequestID = "stream ended", string(alice), "request-1"
				if got[0] != want {
					t.Errorf("logged: %+v, and not %+v", got[0], want)
				}
			})
		})
	}
}

// TestEndsAreBounded: thousands of readers who fall behind at once do not fill the log.
func TestEndsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log endings
		s := newSite(t, overServe, Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		fallBehind := func(from, to int) {
			for i := from; i < to; i++ {
				id := room.SessionID(fmt.Sprint("reader", i))
				s.log.enter(id, 1)
				s.connected(id, "").pause()
			}
			s.post(1, 3)
			elapse(2 * defaultWriteTimeout)
			synctest.Wait()
		}
		fallBehind(0, 3*maxFaultsTold)
		if got := log.all(t); len(got) != maxFaultsTold {
			t.Errorf("%d ends of %d are logged", len(got), 3*maxFaultsTold)
		}
		elapse(time.Minute)
		fallBehind(1000, 1001)
		got := log.all(t)
		if len(got) != maxFaultsTold+1 || got[len(got)-1].EndsNotLogged != 2*maxFaultsTold {
			t.Errorf("a minute later: %+v", got[len(got)-1])
		}
	})
}
