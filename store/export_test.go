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

// SetPatience says how long a migration tries to get its locks.
func (m *Migrator) SetPatience(d time.Duration) { m.patience = d }
