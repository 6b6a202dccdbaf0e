package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"parlor/room"
)

// memoryStore has logs and presences in memory. It is to the hub and its callers what the store is.
type memoryStore struct {
	mu       sync.Mutex // guards all below
	rooms    map[room.LogID]*memoryRoom
	sessions map[room.SessionID]*memorySession
	err      error // returned by reads
	hanging  bool  // reads block until their context ends
	reads    int
	// held is closed when reads may return what they have read; nil if they do not wait.
	held chan struct{}
}

type memoryRoom struct {
	events []room.Event // from oldest to last, without gaps
	oldest room.Seq
	last   room.Seq
}

type memorySession struct {
	streamNo  int64
	from      map[room.LogID]room.Seq
	presences map[room.LogID]room.PresenceID // the newest
	left      map[room.LogID]room.LeaveReason
	// inbox is the log of the user's inbox, or 0; delivered is the newest event that the user has
	// received.
	inbox     room.LogID
	delivered room.Seq
}

// tooManyReads is more than any test needs. Later reads block, so that a loop without a delay fails
// the test.
const tooManyReads = 20_000

func newMemoryStore() *memoryStore {
	return &memoryStore{rooms: make(map[room.LogID]*memoryRoom), sessions: make(map[room.SessionID]*memorySession)}
}

func roomID(logID room.LogID) room.RoomID { return room.RoomID(fmt.Sprintf("room-%d", logID)) }

// room returns a log's room, which it creates if there is none. The caller holds mu.
func (l *memoryStore) room(logID room.LogID) *memoryRoom {
	r := l.rooms[logID]
	if r == nil {
		r = &memoryRoom{oldest: 1}
		l.rooms[logID] = r
	}
	return r
}

// session returns a session, which it creates if there is none. The caller holds mu.
func (l *memoryStore) session(id room.SessionID) *memorySession {
	s := l.sessions[id]
	if s == nil {
		s = &memorySession{
			from: make(map[room.LogID]room.Seq), presences: make(map[room.LogID]room.PresenceID),
			left: make(map[room.LogID]room.LeaveReason),
		}
		l.sessions[id] = s
	}
	return s
}

// append adds n messages to a log, to some users or to all, as one commit, and returns their events.
func (l *memoryStore) append(logID room.LogID, n int, text string, to ...room.UserID) []room.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.room(logID)
	events := make([]room.Event, 0, n)
	for range n {
		r.last++
		m := room.Message{Content: room.Content{Kind: room.KindText, Text: text}, To: to, SentAt: room.InstantOf(time.Now())}
		events = append(events, room.Event{
			Room: roomID(logID), Log: logID, Seq: r.last, At: m.SentAt.Time(),
			Body: room.MessagesReceived{MessageList: []room.Message{m.In(roomID(logID), r.last)}},
		})
	}
	r.events = append(r.events, events...)
	return slices.Clone(events)
}

// recall removes the content of a message from a log and returns the event of the recall.
func (l *memoryStore) recall(logID room.LogID, seq room.Seq) room.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.room(logID)
	r.events = slices.Clone(r.events)
	audience := room.Audience(r.events[seq-r.oldest].Body)
	m := room.Message{Content: room.Content{Kind: room.KindText}, To: audience, Recalled: true}
	r.events[seq-r.oldest].Body = room.MessagesReceived{MessageList: []room.Message{m.In(roomID(logID), seq)}}
	r.last++
	e := room.Event{Room: roomID(logID), Log: logID, Seq: r.last, Body: room.MessageRecalled{RecalledSeq: seq, Audience: audience}}
	r.events = append(r.events, e)
	return e
}

// holdReads makes reads wait until release is called.
func (l *memoryStore) holdReads() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held = held
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		close(held)
	}
}

// trim removes the events before oldest.
func (l *memoryStore) trim(logID room.LogID, oldest room.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.room(logID)
	r.events = slices.Clone(r.events[oldest-r.oldest:])
	r.oldest = oldest
}

// remove removes a log.
func (l *memoryStore) remove(logID room.LogID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rooms, logID)
}

// failReads makes reads fail until it is called with nil.
func (l *memoryStore) failReads(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// hangReads makes reads block until their context ends.
func (l *memoryStore) hangReads(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hanging = on
}

func (l *memoryStore) last(logID room.LogID) room.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room(logID).last
}

// Tail implements LogReader.
func (l *memoryStore) Tail(ctx context.Context, logID room.LogID, n int) (room.LogPage, error) {
	return l.page(ctx, logID, func(events []room.Event) []room.Event { return events[max(0, len(events)-n):] })
}

// EventsAfter implements LogReader.
func (l *memoryStore) EventsAfter(ctx context.Context, logID room.LogID, after room.Seq, n int) (room.LogPage, error) {
	return l.page(ctx, logID, func(events []room.Event) []room.Event {
		for len(events) > 0 && events[0].Seq <= after {
			events = events[1:]
		}
		return events[:min(n, len(events))]
	})
}

func (l *memoryStore) page(ctx context.Context, logID room.LogID, choose func([]room.Event) []room.Event) (room.LogPage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.hanging || l.reads > tooManyReads {
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return room.LogPage{}, err
	}
	if l.err != nil {
		return room.LogPage{}, l.err
	}
	r := l.rooms[logID]
	if r == nil {
		return room.LogPage{}, room.ErrRoomNotFound
	}
	p := room.LogPage{Events: slices.Clone(choose(r.events)), LastSeq: r.last, OldestSeq: r.oldest}
	if held := l.held; held != nil {
		l.mu.Unlock()
		<-held
		l.mu.Lock()
	}
	return p, nil
}

// setInbox gives a session's user an inbox.
func (l *memoryStore) setInbox(id room.SessionID, inbox room.LogID, delivered room.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room(inbox)
	s := l.session(id)
	s.inbox, s.delivered = inbox, delivered
}

// inbox returns the log of a session's inbox.
func (l *memoryStore) inbox(id room.SessionID) room.LogID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session(id).inbox
}

// join adds a session to a room, from the current end of the log.
func (l *memoryStore) join(id room.SessionID, logID room.LogID) room.Joined {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.room(logID).last
	s := l.session(id)
	s.from[logID] = from
	s.presences[logID]++
	delete(s.left, logID)
	return room.Joined{Session: id, Room: roomID(logID), Generation: logID, Presence: s.presences[logID], From: from, Call: room.RoomEnter}
}

// leave removes a session from a room.
func (l *memoryStore) leave(id room.SessionID, logID room.LogID, reason room.LeaveReason) room.Left {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session(id)
	delete(s.from, logID)
	s.left[logID] = reason
	return room.Left{Session: id, Room: roomID(logID), Generation: logID, Presence: s.presences[logID], Reason: reason}
}

// openStream gives a session's new stream its number and returns the session's presences. cursor is
// the client's.
func (l *memoryStore) openStream(id room.SessionID, cursor Cursor) room.OpenedStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.session(id)
	s.streamNo++
	a := room.OpenedStream{StreamNo: s.streamNo}
	if s.inbox != 0 {
		r := l.room(s.inbox)
		a.Inbox = room.Inbox{Log: s.inbox, LastSeq: r.last, OldestSeq: r.oldest, DeliveredSeq: s.delivered}
	}
	for logID, from := range s.from {
		r := l.room(logID)
		a.Presences = append(a.Presences, room.Presence{
			Room: room.Room{ID: roomID(logID), Generation: logID, LastSeq: r.last, OldestSeq: r.oldest}, From: from, ID: s.presences[logID],
		})
	}
	slices.SortFunc(a.Presences, func(a, b room.Presence) int { return int(a.Room.Generation - b.Room.Generation) })
	for _, p := range cursor {
		if reason, ok := s.left[p.Log]; ok {
			a.Left = append(a.Left, room.Left{Session: id, Room: roomID(p.Log), Generation: p.Log, Reason: reason})
		}
	}
	return a
}
