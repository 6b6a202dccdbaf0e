// Package room contains Parlor's rules: what rooms, members, sessions, messages and their events
// are, and how they may change. It does no I/O. A rule takes values and the current time, and
// returns the new values with their events, or an Error. Package store applies the rules under
// locks, so that they hold when many callers change the same room.
package room

// IDs chosen by callers, and numbers assigned by Parlor. Each has a type of its own, so that they
// cannot be confused.
type (
	// UserID is the customer's ID of a user: 1 to MaxUserIDBytes bytes, see idChar.
	UserID string
	// RoomID is the caller's ID of a room: 1 to MaxRoomIDBytes bytes, see idChar.
	RoomID string
	// SessionID is the ID of a session, a UUID.
	SessionID string
	// MessageID is the ID of a message, a UUID.
	MessageID string
	// NodeID is the ID of a node, a UUID.
	NodeID string
	// LogID is the ID of a log: of one generation of a room, or of a user's inbox. A room that is
	// destroyed and created again has a new log.
	LogID int64
	// PresenceID is the ID of one session's presence in one room. If the session leaves and joins
	// again, the later presence has the greater ID.
	PresenceID int64
	// Seq is the number of an event in its log, counted from 1 without gaps.
	Seq int64
)

// Limits of IDs and names, in bytes (docs/room-states.md has the sources).
const (
	MaxUserIDBytes   = 32
	MaxUserNameBytes = 256
	MaxRoomIDBytes   = 128
	MaxRoomNameBytes = 64
	MaxDeviceBytes   = 64
)

// Valid reports whether the ID is allowed for a user.
func (id UserID) Valid() bool { return validID(string(id), MaxUserIDBytes) }

// Valid reports whether the ID is allowed for a room.
func (id RoomID) Valid() bool { return validID(string(id), MaxRoomIDBytes) }

func validID(id string, maxBytes int) bool {
	if id == "" || len(id) > maxBytes {
		return false
	}
	// Browsers resolve these two path segments even if they are percent-encoded (WHATWG URL,
	// "double-dot URL path segment"), so a room with such an ID could never be addressed.
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

// idChar reports whether c is in the vendors' character set: letters, digits and
// ! # $ % & ( ) + - : ; < = . > ? @ [ ] ^ _ { } | ~
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
