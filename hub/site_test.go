package hub

import (
	"slices"
	"sync"
	"time"

	"parlor/room"
)

// site is a hub with its log, and what the hub said of detached sessions.
type site struct {
	*Hub
	t   testingT
	way way
	log *memoryLog

	mu       sync.Mutex // guards detached
	detached []detachment
}

type detachment struct {
	Session  room.SessionID
	StreamNo int64
}

func newSite(t testingT, w way, o Options) *site {
	s := &site{t: t, way: w, log: newMemoryLog()}
	o.OnStreamEnd = func(session room.SessionID, streamNo int64, _ time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.detached = append(s.detached, detachment{session, streamNo})
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	s.Hub = New(s.log, o)
	t.Cleanup(s.Close)
	return s
}

// post appends n messages to a log and publishes them.
func (s *site) post(g room.LogID, n int) {
	s.Apply(room.Change{Events: s.log.append(g, n, "hello")})
}

// join lets a session into a room and tells the hub.
func (s *site) join(id room.SessionID, g room.LogID) room.Joined {
	a := s.log.enter(id, g)
	s.Apply(room.Change{Joined: []room.Joined{a}})
	return a
}

// leave takes a session out of a room and tells the hub.
func (s *site) leave(id room.SessionID, g room.LogID, reason room.LeaveReason) {
	s.Apply(room.Change{Left: []room.Left{s.log.exit(id, g, reason)}})
}

// attach is what a stream of a session starts with, as the handlers put it
// together.
func (s *site) attach(id room.SessionID, lastID string) StreamStart {
	start := StreamStart{TokenExpiresAt: time.Now().Add(time.Hour)}
	if lastID != "" {
		c, err := ParseCursor(lastID)
		start.Cursor, start.CursorInvalid = c, err != nil
	}
	start.OpenedStream = s.log.attach(id, start.Cursor)
	return start
}

func (s *site) open(id room.SessionID) *Stream {
	s.t.Helper()
	stream, err := s.OpenStream(id, s.log.inbox(id))
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	return stream
}

func (s *site) start(stream *Stream, o StreamStart) *client {
	s.t.Helper()
	c := newClient(s.t)
	s.way.serve(s.t, stream, o, c)
	return c
}

// connect opens a session's stream; lastID is empty for a client that has none.
func (s *site) connect(id room.SessionID, lastID string) *client {
	s.t.Helper()
	stream := s.open(id)
	return s.start(stream, s.attach(id, lastID))
}

// connected is connect, and waits until the stream has begun.
func (s *site) connected(id room.SessionID, lastID string) *client {
	s.t.Helper()
	c := s.connect(id, lastID)
	c.awaitEvent(room.TypeSessionReady, 1)
	return c
}

// eventually waits for a condition that nobody announces.
func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-timeout.C:
			s.t.Fatalf("%s did not come about", what)
		}
	}
}

// awaitDetached waits until the hub has said that a session's stream of this
// number has ended.
func (s *site) awaitDetached(id room.SessionID, streamNo int64) {
	s.t.Helper()
	s.eventually("the detachment", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.detached, detachment{id, streamNo})
	})
}

// detachments is what the hub has said so far.
func (s *site) detachments() []detachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.detached)
}
