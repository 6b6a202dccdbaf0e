package room

import (
	"cmp"
	"slices"
	"time"
)

// Change is everything that one committed transaction did to rooms, inboxes and sessions. The store
// hands it to the hub after the commit, never before: every effect that clients see travels in one,
// so that it can also be sent to other nodes. A session that joins one room and leaves another is
// notified of the join first.
type Change struct {
	// By is the actor. It is the zero Actor in a transaction that commits the joins or the messages
	// of several sessions: each Joined and each Message names its own.
	By      Actor
	Events  []Event
	Joined  []Joined
	Left    []Left
	Renewed []RenewedToken
	// Renamed are the sessions of a user who has a new name.
	Renamed []SessionID
	Refused []RefusedJoin
	Ended   []EndedSession
	Opened  []NewStream
}

// NewStream is a stream that a session has opened. It supersedes the session's earlier streams,
// which have lower numbers and may be on other nodes.
type NewStream struct {
	Session  SessionID
	StreamNo int64
}

// EndedSession is a session that ended.
type EndedSession struct {
	Session SessionID
	Reason  EndReason
	// AdminReason is the text that an admin gave; "" if no admin ended the session.
	AdminReason string
}

// RenewedToken is a session whose token was replaced by a newer one.
type RenewedToken struct {
	Session   SessionID
	ExpiresAt time.Time
}

// RefusedJoin is a call of a session to join a room that failed. The session is not in the room.
type RefusedJoin struct {
	Session SessionID
	Room    RoomID
	Call    RoomEvent // RoomCreate, RoomEnter or RoomSwitch
	Problem Problem
}

// TakesAway reports whether others removed sessions or content. Once that call has its reply, the
// sessions receive nothing more and the content is gone, on every node.
func (c Change) TakesAway() bool {
	return len(c.Ended) > 0 ||
		slices.ContainsFunc(c.Left, func(l Left) bool { return l.Reason.ByOthers() }) ||
		slices.ContainsFunc(c.Events, func(e Event) bool { return RecalledBy(e.Body) > 0 })
}

// And returns both changes, c first. They are of the same actor, or one of them is empty.
func (c Change) And(d Change) Change {
	return Change{
		By:      cmp.Or(c.By, d.By),
		Events:  append(c.Events, d.Events...),
		Joined:  append(c.Joined, d.Joined...),
		Left:    append(c.Left, d.Left...),
		Renewed: append(c.Renewed, d.Renewed...),
		Renamed: append(c.Renamed, d.Renamed...),
		Refused: append(c.Refused, d.Refused...),
		Ended:   append(c.Ended, d.Ended...),
		Opened:  append(c.Opened, d.Opened...),
	}
}
