// Package room contains Parlor's rules: what rooms, members, sessions, messages and their events
// are, and how they may change. It does no I/O. A rule takes values and the current time, and
// returns the new values with their events, or an Error. Package store applies the rules under
// locks, so that they hold when many callers change the same room.
package room

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// IDs chosen by callers, and numbers assigned by Parlor. Each has a type of its own, so that they
// cannot be confused.
type (
	// UserID is the customer's ID of a user: 1 to MaxUserIDBytes bytes, see idFault.
	UserID string
	// RoomID is the caller's ID of a room: 1 to MaxRoomIDBytes bytes, see idFault.
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
	MaxUserIDBytes   = 64
	MaxUserNameBytes = 256
	MaxRoomIDBytes   = 128
	MaxRoomNameBytes = 64
	MaxDeviceBytes   = 64
)

// Fault returns what the ID must be to be allowed for a user, such as "must be at most 64 bytes",
// or "" if it is allowed.
func (id UserID) Fault() string { return idFault(string(id), MaxUserIDBytes) }

// Fault returns what the ID must be to be allowed for a room, or "" if it is allowed.
func (id RoomID) Fault() string { return idFault(string(id), MaxRoomIDBytes) }

// Valid reports whether the ID is allowed for a user.
func (id UserID) Valid() bool { return id.Fault() == "" }

// Valid reports whether the ID is allowed for a room.
func (id RoomID) Valid() bool { return id.Fault() == "" }

// chosenID is an ID that a caller chose.
type chosenID interface {
	~string
	Valid() bool
}

// ValidPrefix reports whether some allowed ID is the prefix or begins with it.
func ValidPrefix[ID chosenID](prefix ID) bool { return prefix.Valid() || (prefix + "x").Valid() }

// idFault contains the rule for IDs. Its characters are those of ASCII that can be seen, and spaces
// between them: the union of what vendors allow (ADR 0032). IDs are opaque and compared byte by
// byte, so beyond ASCII two of them could look the same.
func idFault(id string, maxBytes int) string {
	switch {
	case id == "":
		return "must not be empty"
	case len(id) > maxBytes:
		return fmt.Sprintf("must be at most %d bytes", maxBytes)
	}
	for i := range len(id) {
		if c := id[i]; c < ' ' || c > '~' {
			bad, size := utf8.DecodeRuneInString(id[i:])
			if bad == utf8.RuneError && size == 1 {
				return fmt.Sprintf("must not contain the byte 0x%02x: only ASCII letters, digits, punctuation and spaces", c)
			}
			return fmt.Sprintf("must not contain %U: only ASCII letters, digits, punctuation and spaces", bad)
		}
	}
	// Forms, headers and people lose such spaces.
	if id[0] == ' ' || id[len(id)-1] == ' ' {
		return "must not begin or end with a space"
	}
	// Browsers resolve these path segments even if they are percent-encoded (WHATWG URL,
	// "double-dot URL path segment"), and proxies do so after decoding the slashes around them.
	for segment := range strings.FieldsFuncSeq(id, func(c rune) bool { return c == '/' || c == '\\' }) {
		if segment == "." || segment == ".." {
			return "must not be or contain the path segment . or .., which browsers and proxies resolve"
		}
	}
	return ""
}
