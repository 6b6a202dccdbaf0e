package room

import "time"

// User is a user, as named by a token that the customer's backend signed.
type User struct {
	ID   UserID `json:"userID"`
	Name string `json:"userName"`
}

// MaxUserDataBytes is the longest user data of a member.
const MaxUserDataBytes = 1024

// Member is a user in a room, with one or more sessions.
type Member struct {
	User
	// AvatarURL is that of the user's profile.
	AvatarURL string  `json:"avatarURL,omitempty"`
	JoinedAt  Instant `json:"joinedAt"`
	// UserData is text of the application about this member. It is given by the call with which the
	// user became a member, and can be changed by the user.
	UserData string `json:"userData,omitempty"`
	// State is empty unless the room has MemberStates.
	State MemberState `json:"state,omitempty"`
}

// sizeJSON returns about how many bytes the member has in an event.
func (m Member) sizeJSON() int {
	const names = 128
	return names + len(m.ID) + sizeString(m.Name) + sizeString(m.AvatarURL) + sizeString(m.UserData)
}

// MemberCursor is a position in a room's list of members, which is in the order of joining. The
// zero cursor is the beginning.
type MemberCursor struct {
	JoinedSeq Seq
	User      UserID
}

// MemberPage is a page of a room's members, or of their attributes, in the order of joining. It is
// read in one snapshot with the end of the room's log.
type MemberPage[T Member | MemberAttributesInfo] struct {
	// Seq is the newest event of the log; 0 if there is none. The page includes the effects of all
	// events up to this one.
	Seq  Seq
	List []T
	// Next is the cursor of the next page; zero for the last page.
	Next MemberCursor
}

// LeftMember is a user who left a room.
type LeftMember struct {
	User
	Reason LeaveReason `json:"reason"`
}

// LeaveReason says why a session left a room.
type LeaveReason string

const (
	ReasonLeft         LeaveReason = "left"         // the client called leaveRoom
	ReasonLoggedOut    LeaveReason = "loggedOut"    // the client ended the session
	ReasonTimedOut     LeaveReason = "timedOut"     // the stream was lost for MemberTimeout
	ReasonTokenExpired LeaveReason = "tokenExpired" // the user token expired
	ReasonSwitched     LeaveReason = "switched"     // the client switched to another room
	ReasonReplaced     LeaveReason = "replaced"     // another session of the user replaced it
	ReasonKicked       LeaveReason = "kicked"       // removed by an admin, or by the limit of sessions per user
	ReasonNotGranted   LeaveReason = "notGranted"   // a newer token of the session does not grant the room
	// ReasonRoomDestroyed means that an admin destroyed the room.
	ReasonRoomDestroyed LeaveReason = "roomDestroyed"
)

// ByOthers reports whether the session did not leave by a call of its own.
func (r LeaveReason) ByOthers() bool { return r != ReasonLeft && r != ReasonSwitched }

const (
	// MaxKicked is the largest number of users in one kick, 50 as in the vendors' SDKs.
	MaxKicked = 50
	// MaxReasonBytes is the longest reason for a kick, a ban or a destruction.
	MaxReasonBytes = 256
	// MaxBan is the longest ban.
	MaxBan = 365 * 24 * time.Hour
)

// Ban keeps a user out of all generations of a room.
type Ban struct {
	UserID UserID  `json:"userID"`
	Until  Instant `json:"until"`
	Reason string  `json:"reason,omitempty"`
}

// Joined is a session that joined a room.
type Joined struct {
	Session    SessionID
	Room       RoomID
	Generation LogID
	// Presence is assigned by the store.
	Presence PresenceID
	// From is the position in the log at which the session joined: the first event that it receives
	// is From+1.
	From Seq
	// Call is RoomCreate, RoomEnter or RoomSwitch. Created says that the call created the room.
	Call    RoomEvent
	Created bool
}

// Left is a session that left a room.
type Left struct {
	Session    SessionID
	Room       RoomID
	Generation LogID
	Presence   PresenceID
	Reason     LeaveReason
	// AdminReason is the text that an admin gave, or "". Only the session itself receives it.
	AdminReason string
}
