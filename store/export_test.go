package store

import (
	"time"

	"parlor/room"
)

// ReadableBy is the condition that the user $2 may read the media m.
const ReadableBy = readableBy

// Waiting is how many wait at a room's door, beside those who are being let in.
func (s *Store) Waiting(id room.RoomID) int {
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	return len(s.doors.waiting[id])
}

// WaitingAppends is how many messages wait for the transaction that is under way.
func (s *Store) WaitingAppends() int {
	s.appender.mu.Lock()
	defer s.appender.mu.Unlock()
	return len(s.appender.waiting[0]) + len(s.appender.waiting[1])
}

// SetPatience says how long a migration tries to get its locks.
func (m *Migrator) SetPatience(d time.Duration) { m.patience = d }
