package room

import "time"

// Standing is what the database says about a session that has a stream.
type Standing struct {
	Session SessionID
	// Ended is set if the session has ended or does not exist.
	Ended bool
	// StreamNo is the number of the session's newest stream.
	StreamNo       int64
	TokenExpiresAt time.Time
	// Presences are the session's presences in rooms, in ascending order.
	Presences []PresenceID
}
