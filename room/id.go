// Package room holds Parlor's rules: what rooms, members, sessions, messages
// and their events are, and what may happen to them. It decides and does no
// I/O: a decision takes what it needs to know and the instant, and returns the
// new value with its events, or an Error. Package store keeps the decisions
// true under concurrency.
package room

// Names given by the caller, and numbers given by Parlor. They are distinct
// types so that none can stand in for another.
type (
	// UserID is the customer's name for a user, 1 to MaxUserIDBytes of idChars.
	UserID string
	// RoomID is the caller's name for a room, 1 to MaxRoomIDBytes of idChars.
	RoomID string
	// SessionID names one logged-in client instance; a UUID.
	SessionID string
	// MessageID names a message; a UUID.
	MessageID string
	// Generation numbers the lives of rooms. A destroyed and re-created room
	// has a new one, so a generation names one log for ever. Inboxes have numbers
	// of the same kind.
	LogID int64
	// Stay numbers the stays of sessions in rooms: of two stays of one session
	// in one room, the later has the greater number.
	PresenceID int64
	// Seq is an event's place in its log, counted from 1 without gaps.
	Seq int64
)

// Limits of names, in bytes (docs/room-states.md has the sources).
const (
	MaxUserIDBytes   = 32
	MaxUserNameBytes = 256
	MaxRoomIDBytes   = 128
	MaxRoomNameBytes = 64
	MaxDeviceBytes   = 64
)

// Valid reports whether the ID may name a user.
func (id UserID) Valid() bool { return validID(string(id), MaxUserIDBytes) }

// Valid reports whether the ID may name a room.
func (id RoomID) Valid() bool { return validID(string(id), MaxRoomIDBytes) }

func validID(id string, maxBytes int) bool {
	if id == "" || len(id) > maxBytes {
		return false
	}
	// Browsers resolve these two as path segments even when they are
	// percent-encoded (WHATWG URL, "double-dot URL path segment"), so a room
	// of that name could be created and never addressed.
	if id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		if !idChar(id[i]) {
			return false
		}
	}
	return true
}

// idChar reports whether c is of the vendors' character set: letters, digits
// and ! # $ % & ( ) + - : ; < = . > ? @ [ ] ^ _ { } | ~
func idChar(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '(', ')', '+', '-', ':', ';', '<', '=', '.', '>', '?', '@', '[', ']', '^', '_', '{', '}', '|', '~':
		return true
	}
	return false
}
