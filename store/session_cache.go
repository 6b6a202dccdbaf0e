package store

import (
	"slices"
	"sync"
	"time"

	"parlor/room"
)

const (
	// sessionCacheTime bounds how long a change made by another node, and lost on the bus, can go
	// unnoticed by calls that only read and by messages that are not stored. Everything else is
	// checked again under the locks of its transaction.
	sessionCacheTime = 5 * time.Second
	// sessionCacheTimeTrusted replaces sessionCacheTime while this node learns of all changes: there
	// is no other node, or all others are heard. It bounds how long a change made to the database by
	// hand can go unnoticed.
	sessionCacheTimeTrusted = time.Minute
	// maxCached bounds the number of cached sessions. A full cache is emptied.
	maxCached = 100_000
)

// sessionCache caches sessions by their keys, and the facts that permit their unstored messages, so
// that a busy sender is not looked up on every call. An entry is evicted as soon as this node
// commits a change to it.
type sessionCache struct {
	mu       sync.Mutex // guards all below
	sessions map[room.SessionID]*cachedSession
	byKey    [keyKinds]map[room.KeyHash]*cachedSession
	// evictions counts the evicted entries. A value that was read from the database before an
	// eviction may be stale, so it is not added after it.
	evictions uint64
	sweepAt   time.Time
	// This node learns of all changes from trustedSince until trustedUntil.
	trustedSince, trustedUntil time.Time
}

// keyKind is a kind of keys by which sessions are found. A key of one kind is never accepted as one
// of the other.
type keyKind int

const (
	sessionKeys keyKind = iota
	streamKeys
	keyKinds
)

// sessionKeySet holds the hashes of the keys of a session. Those that are not known are zero.
type sessionKeySet [keyKinds]room.KeyHash

type cachedSession struct {
	session room.Session // whose DetachedAt may be out of date
	keys    sessionKeySet
	facts   []cachedFacts // about rooms that the session may send to, the oldest first
	at      time.Time     // an instant before the session was read
}

type cachedFacts struct {
	id    room.RoomID
	facts room.RoomFacts
}

// maxFacts bounds the facts of a session. They are searched one by one.
const maxFacts = 16

// fresh reports whether a value that was read at an instant may still be used. The caller holds mu.
func (c *sessionCache) fresh(at, now time.Time) bool {
	age := now.Sub(at)
	return age < sessionCacheTime || age < sessionCacheTimeTrusted && !at.Before(c.trustedSince) && now.Before(c.trustedUntil)
}

// trust records that at an instant this node was alone or heard all others. What begins right after
// that instant, such as another node, is noticed within sessionCacheTime, when trustedUntil has
// passed.
func (c *sessionCache) trust(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(c.trustedUntil) {
		c.trustedSince = now
	}
	c.trustedUntil = now.Add(sessionCacheTime)
	c.sweep(now)
}

// session returns the session of a key; ok is false if it is not cached.
func (c *sessionCache) session(kind keyKind, key room.KeyHash, now time.Time) (session room.Session, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byKey[kind][key]
	if s == nil || !c.fresh(s.at, now) {
		return room.Session{}, false
	}
	return s.session, true
}

// cached returns the entry of a session, or nil if there is none. A session that is evicted gets
// another entry afterwards.
func (c *sessionCache) cached(id room.SessionID) *cachedSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[id]
}

// facts returns the facts that decide about messages from a session to a room; ok is false if they
// are not cached.
func (c *sessionCache) facts(session room.SessionID, id room.RoomID, now time.Time) (f room.RoomFacts, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil || !c.fresh(s.at, now) {
		return room.RoomFacts{}, false
	}
	i := s.about(id)
	if i < 0 {
		return room.RoomFacts{}, false
	}
	return s.facts[i].facts, true
}

// about returns the index of the facts about a room, or -1.
func (s *cachedSession) about(id room.RoomID) int {
	return slices.IndexFunc(s.facts, func(f cachedFacts) bool { return f.id == id })
}

// mark returns the number of evictions so far. A caller takes the mark before it reads the value
// that it adds.
func (c *sessionCache) mark() (evictions uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evictions
}

// addSession adds a session with keys, unless something was evicted since the mark. An entry that is
// there and fresh gets the keys.
func (c *sessionCache) addSession(session room.Session, keys sessionKeySet, mark uint64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.evictions != mark {
		return
	}
	c.sweep(now)
	if c.sessions == nil || len(c.sessions) >= maxCached {
		c.sessions = make(map[room.SessionID]*cachedSession)
		for kind := range c.byKey {
			c.byKey[kind] = make(map[room.KeyHash]*cachedSession)
		}
	}
	s := c.sessions[session.ID]
	if s == nil || !c.fresh(s.at, now) {
		c.forget(s)
		s = &cachedSession{session: session, at: now}
		c.sessions[session.ID] = s
	}
	for kind, key := range keys {
		if key != (room.KeyHash{}) {
			s.keys[kind], c.byKey[kind][key] = key, s
		}
	}
}

// addFacts adds the facts about a session in a room to the entry that the session had before they
// were read or committed, unless the session was evicted since.
func (c *sessionCache) addFacts(to *cachedSession, id room.RoomID, f room.RoomFacts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to == nil || c.sessions[to.session.ID] != to {
		return
	}
	if i := to.about(id); i >= 0 {
		to.facts = slices.Delete(to.facts, i, i+1)
	} else if len(to.facts) == maxFacts {
		to.facts = slices.Delete(to.facts, 0, 1)
	}
	to.facts = append(to.facts, cachedFacts{id, f})
}

// evictChanged evicts the sessions that a committed change concerns. A stream that is opened changes
// nothing that is cached.
func (c *sessionCache) evictChanged(change room.Change) {
	if len(change.Left)+len(change.Renewed)+len(change.Renamed)+len(change.Ended) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, left := range change.Left {
		c.remove(left.Session)
	}
	for _, renewed := range change.Renewed {
		c.remove(renewed.Session)
	}
	for _, renamed := range change.Renamed {
		c.remove(renamed)
	}
	for _, ended := range change.Ended {
		c.remove(ended.Session)
	}
}

// evictAll empties the cache, after a change that this node may not know of. There may be more of
// them until the next trust.
func (c *sessionCache) evictAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evictions++
	clear(c.sessions)
	for _, sessions := range c.byKey {
		clear(sessions)
	}
	c.trustedUntil = time.Time{}
}

// remove evicts a session. The caller holds mu.
func (c *sessionCache) remove(id room.SessionID) {
	c.evictions++
	c.forget(c.sessions[id])
}

// forget deletes an entry, which may be nil. The caller holds mu.
func (c *sessionCache) forget(s *cachedSession) {
	if s == nil {
		return
	}
	delete(c.sessions, s.session.ID)
	for kind, key := range s.keys {
		delete(c.byKey[kind], key)
	}
}

// sweep deletes stale entries from time to time, because most sessions are used only after their
// login. The caller holds mu.
func (c *sessionCache) sweep(now time.Time) {
	if now.Before(c.sweepAt) {
		return
	}
	c.sweepAt = now.Add(sessionCacheTime)
	for _, s := range c.sessions {
		if !c.fresh(s.at, now) {
			c.forget(s)
		}
	}
}
