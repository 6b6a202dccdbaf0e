package store

import (
	"sync"
	"time"

	"parlor/room"
)

const (
	// knownFor bounds how long something that another node did may go unseen here,
	// by calls that only read and by messages that are not stored: everything else
	// is checked again under its transaction's locks.
	knownFor = 5 * time.Second
	// knownAlone is the same while there is no other node: then it bounds how long
	// something goes unseen that was done to the database by hand.
	knownAlone = time.Minute
	// maxKnown bounds the memory; past it remembering starts again.
	maxKnown = 100_000
)

// known remembers for a short while who a key belongs to, and which rooms its
// session is in: who sends much is not looked up each time. What this node
// commits it forgets at once.
type known struct {
	mu       sync.Mutex // guards all below
	sessions map[room.KeyHash]*knownSession
	keys     map[room.SessionID]room.KeyHash
	// changes counts what was forgotten. What was read from the database before
	// something was forgotten is not remembered after it: it may be from before.
	changes uint64
	sweepAt time.Time
	// aloneSince and aloneUntil are from when until when no other node can have
	// changed anything.
	aloneSince, aloneUntil time.Time
}

type knownSession struct {
	session room.Session
	rooms   map[room.RoomID]room.LogID
	at      time.Time // before it was read
}

// fresh reports whether what was read at an instant still counts. The caller
// holds mu.
func (k *known) fresh(at, now time.Time) bool {
	age := now.Sub(at)
	return age < knownFor || age < knownAlone && !at.Before(k.aloneSince) && now.Before(k.aloneUntil)
}

// alone tells whether, at an instant, there were nodes beside this one. One that
// came right after it is heard of before knownFor is over, or counts as there.
func (k *known) alone(others bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case others:
		k.aloneUntil = time.Time{}
		return
	case !now.Before(k.aloneUntil):
		k.aloneSince = now
	}
	k.aloneUntil = now.Add(knownFor)
}

// session is the session of a key; false where that has to be asked for.
func (k *known) session(key room.KeyHash, now time.Time) (room.Session, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessions[key]
	if s == nil || !k.fresh(s.at, now) {
		return room.Session{}, false
	}
	return s.session, true
}

// generation is the life of a room that a session is in; false where that has to
// be asked for.
func (k *known) generation(session room.SessionID, id room.RoomID, now time.Time) (room.LogID, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessions[k.keys[session]]
	if s == nil || !k.fresh(s.at, now) {
		return 0, false
	}
	g, ok := s.rooms[id]
	return g, ok
}

// mark is to be taken before what is to be remembered is read.
func (k *known) mark() (changes uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

// addSession remembers whose a key is, if nothing was forgotten since.
func (k *known) addSession(key room.KeyHash, session room.Session, since uint64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.changes != since {
		return
	}
	k.sweep(now)
	if k.sessions == nil || len(k.sessions) >= maxKnown {
		k.sessions = make(map[room.KeyHash]*knownSession)
		k.keys = make(map[room.SessionID]room.KeyHash)
	}
	k.sessions[key] = &knownSession{session: session, at: now}
	k.keys[session.ID] = key
}

// addRoom remembers that a session is in a room, if nothing was forgotten since.
func (k *known) addRoom(session room.SessionID, id room.RoomID, g room.LogID, since uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessions[k.keys[session]]
	if k.changes != since || s == nil {
		return
	}
	if s.rooms == nil {
		s.rooms = make(map[room.RoomID]room.LogID, 1)
	}
	s.rooms[id] = g
}

// committed forgets what is not so any more.
func (k *known) committed(c room.Change) {
	if len(c.Left) == 0 && len(c.Ended) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range c.Left {
		k.drop(d.Session)
	}
	for _, e := range c.Ended {
		k.drop(e.Session)
	}
}

// forget is for what becomes of a session and is no room.Change.
func (k *known) forget(sessions ...room.SessionID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range sessions {
		k.drop(id)
	}
}

// forgetAll is for when it is not known what was committed.
func (k *known) forgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes++
	clear(k.sessions)
	clear(k.keys)
}

// drop forgets a session. The caller holds mu.
func (k *known) drop(id room.SessionID) {
	k.changes++
	delete(k.sessions, k.keys[id])
	delete(k.keys, id)
}

// sweep makes place: most sessions that call do so once. The caller holds mu.
func (k *known) sweep(now time.Time) {
	if now.Before(k.sweepAt) {
		return
	}
	k.sweepAt = now.Add(knownFor)
	for key, s := range k.sessions {
		if !k.fresh(s.at, now) {
			delete(k.sessions, key)
			delete(k.keys, s.session.ID)
		}
	}
}
