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
	s.Hub = New(s.store, o)
	t.Cleanup(s.Close)
	return s
}

// appendAndPublish appends n messages to a log and publishes them.
func (s *testHub) appendAndPublish(logID room.LogID, n int) {
	s.Apply(room.Change{Events: s.store.append(logID, n, "hello")})
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
func (s *testHub) streamStart(id room.SessionID, lastID string) StreamStart {
	start := StreamStart{TokenExpiresAt: time.Now().Add(time.Hour)}
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

func (s *testHub) start(stream *Stream, o StreamStart) *client {
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
