package room

import "time"

// User is an identity that the customer's backend vouches for.
type User struct {
	ID   UserID `json:"userID"`
	Name string `json:"userName"`
}

// Member is a user in a room, once, however many sessions are in it.
type Member struct {
	User
	JoinedAt time.Time `json:"joinedAt"`
}

// MemberCursor is a place in a room's list of members, which is in order of
// entering. The zero cursor is the beginning.
type MemberCursor struct {
	JoinedSeq Seq
	User      UserID
}

// LeftMember is a user who is out of a room, and why.
type LeftMember struct {
	User
	Reason LeaveReason `json:"reason"`
}

// LeaveReason says why a session is no longer in a room. Every removal has one.
type LeaveReason string

const (
	ReasonLeft         LeaveReason = "left"         // the client left
	ReasonLoggedOut    LeaveReason = "loggedOut"    // the session was ended by its client
	ReasonTimedOut     LeaveReason = "timedOut"     // the stream was lost for memberTimeout
	ReasonTokenExpired LeaveReason = "tokenExpired" // the user token ran out
	ReasonSwitched     LeaveReason = "switched"     // the client switched to another room
	ReasonReplaced     LeaveReason = "replaced"     // another session of the user took its place
	ReasonKicked       LeaveReason = "kicked"       // taken out by the operator or by the limit of sessions
	ReasonNotGranted   LeaveReason = "notGranted"   // a newer token of the session does not grant the room
	// ReasonRoomDestroyed is the operator's ending of the room itself.
	ReasonRoomDestroyed LeaveReason = "roomDestroyed"
)

// ByOthers reports whether it was not the session itself that left by a call,
// whose reply told it so.
func (r LeaveReason) ByOthers() bool { return r != ReasonLeft && r != ReasonSwitched }

const (
	// MaxKicked is how many users one call may kick: the vendors' 50.
	MaxKicked = 50
	// MaxNoteBytes bounds what an operator may say of a kick or a destruction.
	MaxReasonBytes = 256
	// MaxBan bounds how long a kicked user may not come back.
	MaxBan = 365 * 24 * time.Hour
)

// Ban keeps a user out of the rooms of one ID, whatever their generation.
type Ban struct {
	UserID UserID    `json:"userID"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// Arrival is a session that came into a room; the store knows the Stay once it
// is written. From is the seq it follows the
// log from: the first event it sees is From+1.
type Joined struct {
	Session    SessionID
	Room       RoomID
	Generation LogID
	Presence   PresenceID
	From       Seq
	// Call is what brought the session in: RoomCreate, RoomEnter or
	// RoomSwitch. Created says that it brought the room to life too.
	Call    RoomEvent
	Created bool
}

// Departure is a session that went out of a room.
type Left struct {
	Session    SessionID
	Room       RoomID
	Generation LogID
	Presence   PresenceID
	Reason     LeaveReason
	// Note is what an operator said of it; only the session is told.
	AdminReason string
}
