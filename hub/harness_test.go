package hub

import (
	"slices"
	"sync"
	"time"

	"parlor/room"
)

// testHub is a hub with its store, and the streams whose end the hub has reported.
type testHub struct {
	*Hub
	t         testingT
	transport transport
	store     *memoryStore

	mu       sync.Mutex // guards detached
	detached []detachedStream
}

type detachedStream struct {
	Session  room.SessionID
	StreamNo int64
}

func newTestHub(t testingT, w transport, o Options) *testHub {
	s := &testHub{t: t, transport: w, store: newMemoryStore()}
	o.OnStreamEnd = func(session room.SessionID, streamNo int64, _ time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.detached = append(s.detached, detachedStream{session, streamNo})
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	if w.gathers {
		o.pacedStreams = 1
	}
	s.Hub = New(s.store, o)
	t.Cleanup(s.Close)
	return s
}

// Apply is Hub.Apply. If the transport gathers, all events of the change are gathered.
func (s *testHub) Apply(c room.Change) {
	s.t.Helper()
	if !s.transport.gathers {
		s.Hub.Apply(c)
		return
	}
	var idle []*topic // that have nothing pending from before they were strained
	s.Hub.mu.RLock()
	for log := range runs(c.Events, func(e room.Event) (room.LogID, room.Seq) { return e.Log, e.Seq }) {
		if t := s.topics[log]; t != nil && t.strain() {
			idle = append(idle, t)
		}
	}
	s.Hub.mu.RUnlock()
	s.Hub.Apply(c)
	for _, t := range idle {
		if !t.hasGathered() {
			s.t.Errorf("log %d did not gather its events", t.logID)
		}
	}
}

// strain makes a topic gather its next events, as if it had taken too much of the workers' time. It
// reports whether nothing was pending.
func (t *topic) strain() (idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	idle = true
	for i := range t.shards {
		s := &t.shards[i]
		idle = idle && len(s.pending) == 0 && !s.scheduled
		if s.pace == nil {
			s.pace = &pace{window: DefaultWindow}
		}
		now := time.Now()
		s.pace.add(now.Add(-time.Second), now)
		s.pace.at = now.Add(time.Minute) // also if this goroutine now waits for a processor
	}
	return idle
}

// hasGathered reports whether all shards with pending events have gathered them, or others before.
func (t *topic) hasGathered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.shards {
		if s := &t.shards[i]; len(s.pending) > 0 && s.pace.timer == nil {
			return false
		}
	}
	return true
}

// appendAndPublish appends n messages to a log and publishes them.
func (s *testHub) appendAndPublish(logID room.LogID, n int) {
	s.Apply(room.Change{Events: s.store.append(logID, n, "hello")})
}

// whisper publishes an event that is not stored, to some users or to all.
func (s *testHub) whisper(logID room.LogID, text string, to ...room.UserID) {
	said := room.Message{Content: room.Content{Kind: room.KindCommand, Text: text}, To: to, Priority: room.PriorityHigh}
	s.Apply(room.Change{Events: []room.Event{{
		Room: roomID(logID), Log: logID, Body: room.MessagesReceived{MessageList: []room.Message{said}},
	}}})
}

// join adds a session to a room and applies the change to the hub.
func (s *testHub) join(id room.SessionID, logID room.LogID) room.Joined {
	a := s.store.join(id, logID)
	s.Apply(room.Change{Joined: []room.Joined{a}})
	return a
}

// leave removes a session from a room and applies the change to the hub.
func (s *testHub) leave(id room.SessionID, logID room.LogID, reason room.LeaveReason) {
	s.Apply(room.Change{Left: []room.Left{s.store.leave(id, logID, reason)}})
}

// streamStart returns what a stream of a session starts with, as the handlers build it.
func (s *testHub) streamStart(id room.SessionID, lastID string) *StreamStart {
	start := &StreamStart{TokenExpiresAt: time.Now().Add(time.Hour)}
	if lastID != "" {
		c, err := ParseCursor(lastID)
		start.Cursor, start.CursorInvalid = c, err != nil
	}
	start.OpenedStream = s.store.openStream(id, start.Cursor)
	return start
}

// userOf returns the user of a session. Tests name a session after its user.
func userOf(id room.SessionID) room.UserID { return room.UserID(id) }

func (s *testHub) open(id room.SessionID) *Stream {
	s.t.Helper()
	stream, err := s.OpenStream(id, userOf(id), s.store.inbox(id))
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	return stream
}

func (s *testHub) start(stream *Stream, o *StreamStart) *client {
	s.t.Helper()
	c := newClient(s.t)
	s.transport.serve(s.t, stream, o, c)
	return c
}

// connect opens and starts a session's stream. lastID is empty for a client that has none.
func (s *testHub) connect(id room.SessionID, lastID string) *client {
	s.t.Helper()
	stream := s.open(id)
	return s.start(stream, s.streamStart(id, lastID))
}

// connectReady is connect, and waits for sessionReady.
func (s *testHub) connectReady(id room.SessionID, lastID string) *client {
	s.t.Helper()
	c := s.connect(id, lastID)
	c.awaitEvent(room.TypeSessionReady, 1)
	return c
}

// eventually polls a condition until it holds.
func (s *testHub) eventually(what string, ok func() bool) {
	s.t.Helper()
	timeout := time.NewTimer(waitLimit)
	defer timeout.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-timeout.C:
			s.t.Fatalf("%s did not happen", what)
		}
	}
}

// awaitDetached waits until the hub has reported the end of a session's stream with this number.
func (s *testHub) awaitDetached(id room.SessionID, streamNo int64) {
	s.t.Helper()
	s.eventually("the end of the stream", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.detached, detachedStream{id, streamNo})
	})
}

// detachments returns the streams whose end the hub has reported so far.
func (s *testHub) detachments() []detachedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.detached)
}
