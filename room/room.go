package room

import (
	"time"
)

// Bounds and defaults of room settings.
const (
	MaxDestroyDelay      = 3 * time.Hour
	MinUnusedTimeout     = time.Second
	MaxUnusedTimeout     = 24 * time.Hour
	DefaultUnusedTimeout = 30 * time.Second
	MinMemberTimeout     = 5 * time.Second
	MaxMemberTimeout     = 300 * time.Second
	DefaultMemberTimeout = 30 * time.Second
	MaxMaxMembers        = 1_000_000
	DefaultMaxMembers    = 500

	DefaultRoomsPerUser    = 20
	DefaultSessionsPerUser = 10
)

// Seconds is a duration in whole seconds, which is how settings are written on the wire.
type Seconds int

// Duration returns the duration as the standard type.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// SameUser says what happens when a second session of a member joins.
type SameUser string

const (
	SameUserAllow   SameUser = "allow"   // both sessions are in the room
	SameUserReplace SameUser = "replace" // the first session is taken out of the room
	SameUserReject  SameUser = "reject"  // the second session is refused
)

// HistoryVisible says how much of the room's history members can read.
type HistoryVisible string

const (
	HistoryAll         HistoryVisible = "all"         // all stored messages
	HistorySinceJoined HistoryVisible = "sinceJoined" // the messages sent since they became members
)

// Config is a room's settings.
type Config struct {
	// DestroyDelay is the time from when the last member leaves until the room is destroyed.
	DestroyDelay Seconds `json:"destroyDelay"`
	// UnusedTimeout is how long a room exists if no session joins it.
	UnusedTimeout Seconds `json:"unusedTimeout"`
	// MemberTimeout is how long a session whose stream was lost stays in the room.
	MemberTimeout Seconds `json:"memberTimeout"`
	// MaxMembers is the largest number of users in the room at once.
	MaxMembers     int            `json:"maxMembers"`
	SameUser       SameUser       `json:"sameUser"`
	HistoryVisible HistoryVisible `json:"historyVisible"`
	Lifetime       Lifetime       `json:"lifetime"`
	History        History        `json:"history"`
	// RetentionDays is how many days events are stored. 0 means as long as the server stores them.
	RetentionDays int `json:"retentionDays"`
	// RetentionCount is the number of newest events that are stored at least; older ones are
	// deleted. 0 means no such limit.
	RetentionCount int          `json:"retentionCount"`
	Presence       PresenceMode `json:"presence"`
	// NamesUpTo is the largest number of members with which joins and leaves are published by name.
	// In a larger room they are published as with PresenceCounts.
	NamesUpTo int `json:"namesUpTo"`
	// MemberStates says whether members see which of them are reconnecting.
	MemberStates bool `json:"memberStates"`
}

// DefaultConfig returns the settings of a room for which neither the operator nor the creator chose
// any. They suit a chat room.
func DefaultConfig() Config {
	return Config{
		UnusedTimeout: Seconds(DefaultUnusedTimeout / time.Second),
		MemberTimeout: Seconds(DefaultMemberTimeout / time.Second),
		MaxMembers:    DefaultMaxMembers,
		SameUser:      SameUserAllow,

		HistoryVisible: HistoryAll,
		Lifetime:       LifetimeUntilEmpty,
		History:        HistoryStored,
		Presence:       PresenceFull,
		NamesUpTo:      MaxMaxMembers,
	}
}

// Settings is the part of a Config that a caller chose: the creator of a room, or one who changes
// it. A nil field means the server's default, or no change.
type Settings struct {
	DestroyDelay  *Seconds
	UnusedTimeout *Seconds
	MemberTimeout *Seconds
	MaxMembers    *int
	SameUser      *SameUser

	HistoryVisible *HistoryVisible
	Lifetime       *Lifetime
	History        *History
	RetentionDays  *int
	RetentionCount *int
	Presence       *PresenceMode
	NamesUpTo      *int
	MemberStates   *bool
}

// Over returns the defaults, replaced by the settings that the caller chose.
func (s Settings) Over(defaults Config) Config {
	c := defaults
	set(&c.DestroyDelay, s.DestroyDelay)
	set(&c.UnusedTimeout, s.UnusedTimeout)
	set(&c.MemberTimeout, s.MemberTimeout)
	set(&c.MaxMembers, s.MaxMembers)
	set(&c.SameUser, s.SameUser)
	set(&c.HistoryVisible, s.HistoryVisible)
	set(&c.Lifetime, s.Lifetime)
	set(&c.History, s.History)
	set(&c.RetentionDays, s.RetentionDays)
	set(&c.RetentionCount, s.RetentionCount)
	set(&c.Presence, s.Presence)
	set(&c.NamesUpTo, s.NamesUpTo)
	set(&c.MemberStates, s.MemberStates)
	return c
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Ceilings are the largest settings that clients may choose for a room. A nil field means no limit
// other than the bounds of the setting. Admins may exceed them.
type Ceilings struct {
	DestroyDelay  *Seconds
	MaxMembers    *int
	RetentionDays *int
}

// Check returns the settings that exceed a ceiling.
func (c Ceilings) Check(s Settings) []Fault {
	var faults []Fault
	if c.DestroyDelay != nil && s.DestroyDelay != nil && *s.DestroyDelay > *c.DestroyDelay {
		faults = append(faults, Fault{"/destroyDelay", "ceiling", int(*c.DestroyDelay)})
	}
	if c.MaxMembers != nil && s.MaxMembers != nil && *s.MaxMembers > *c.MaxMembers {
		faults = append(faults, Fault{"/maxMembers", "ceiling", *c.MaxMembers})
	}
	if c.RetentionDays != nil && s.RetentionDays != nil && *s.RetentionDays > *c.RetentionDays {
		faults = append(faults, Fault{"/retentionDays", "ceiling", *c.RetentionDays})
	}
	return faults
}

// RoomOptions is what a call that may create a room asks for. It has no effect on a room that
// already exists, except for UserData.
type RoomOptions struct {
	Name     string
	Settings Settings
	// Attributes are owned by the creator.
	Attributes map[string]string
	// UserData is that of the user who joins.
	UserData string
}

// Room is one generation of a room.
type Room struct {
	ID          RoomID  `json:"roomID"`
	Generation  LogID   `json:"generation"`
	Name        string  `json:"roomName"`
	Config      Config  `json:"config"`
	MemberCount int     `json:"memberCount"`
	CreatedAt   Instant `json:"createdAt"`
	LastSeq     Seq     `json:"lastSeq"`
	// MemberEvents is what the log says about members after LastSeq.
	MemberEvents MemberEvents `json:"memberEvents"`

	Attributes Attributes `json:"roomAttributes"`
	// AttributesVersion is the seq of the last event that changed the attributes; 0 if none did.
	AttributesVersion Seq `json:"attributesVersion"`
	// SettingsVersion is the seq of the last event that changed the name or the settings; 0 if none
	// did.
	SettingsVersion Seq `json:"settingsVersion"`

	// DestroyAt is when the room is destroyed unless a session joins before. It is zero while the
	// room has members, and always in a kept room.
	DestroyAt Instant `json:"destroyAt,omitzero"`

	// EmptySince is when the last member left; zero if no session ever joined. It has no meaning
	// while the room has members or is kept.
	EmptySince Instant `json:"-"`
	// PresencePending says that joins or leaves are waiting for the next batch of presence events.
	PresencePending bool `json:"-"`
	// OldestSeq is the oldest event that can still be read.
	OldestSeq Seq `json:"-"`
	// LastAt is the latest time of an event or a join. It is set if the room was read under its
	// lock.
	LastAt Instant `json:"-"`
	// DestroyedAt and DestroyReason are zero until the room is destroyed.
	DestroyedAt   time.Time     `json:"-"`
	DestroyReason DestroyReason `json:"-"`
}

// StartUnusedTimeout returns a room without members that is destroyed after its UnusedTimeout
// unless a session joins, or it is kept.
func (r Room) StartUnusedTimeout() Room {
	if r.Config.Lifetime != LifetimeKept {
		r.DestroyAt = r.unusedUntil()
	}
	return r
}

// A JoinRequest is the request of a session to join a room, with everything that Room.Join depends
// on. It is read under the room's lock.
type JoinRequest struct {
	Session SessionID
	User    User
	// AvatarURL is that of the user's profile.
	AvatarURL string
	// UserData is used if the user becomes a member.
	UserData string
	InRoom   bool // the session is already in the room
	// Others are the user's other sessions in the room.
	Others []SessionID
	// LeavePending says that the user left a moment ago, and the event is waiting for the next
	// batch. The batch is published before the user joins again.
	LeavePending bool
	// BannedUntil is when the user's ban ends; zero means no ban.
	BannedUntil time.Time
	Rooms       int // the number of rooms that the user is in
	// Call is RoomCreate, RoomEnter or RoomSwitch. Created says that the call created the room.
	Call    RoomEvent
	Created bool
	// MaxRooms is the largest number of rooms that the user may be in.
	MaxRooms int
}

// Join adds a session to the room. The join is published only for the user's first session. Joining
// again changes nothing. Errors: ErrBanned, ErrUserInRoom, ErrRoomFull, ErrTooManyRooms.
func (r Room) Join(request JoinRequest, now time.Time) (Room, Change, error) {
	if request.InRoom {
		return r, Change{}, nil
	}
	if now.Before(request.BannedUntil) {
		return r, Change{}, ErrBanned
	}
	var c Change
	now = r.next(now)
	if len(request.Others) == 0 {
		if r.MemberCount >= r.Config.MaxMembers {
			return r, Change{}, ErrRoomFull
		}
		if request.Rooms >= request.MaxRooms {
			return r, Change{}, ErrTooManyRooms
		}
		batched := r.BatchesJoin()
		r.MemberCount++
		if r.publishesNames() && !batched {
			r, c.Events = r.append(c.Events, now, MembersJoined{
				MemberList:  []Member{{User: request.User, AvatarURL: request.AvatarURL, JoinedAt: InstantOf(now), UserData: request.UserData, State: r.Config.firstState()}},
				MemberCount: new(r.MemberCount),
			})
		}
		r = r.withPending(batched)
		r.DestroyAt, r.LastAt = 0, InstantOf(now)
	}
	switch r.Config.SameUser {
	case SameUserReject:
		if len(request.Others) > 0 {
			return r, Change{}, ErrUserInRoom
		}
	case SameUserReplace:
		for _, other := range request.Others {
			c.Left = append(c.Left, r.left(other, ReasonReplaced, ""))
		}
	case SameUserAllow:
	}
	// The session receives the events after its own join.
	c.Joined = append(c.Joined, Joined{
		Session: request.Session, Room: r.ID, Generation: r.Generation, From: r.LastSeq,
		Call: request.Call, Created: request.Created,
	})
	return r, c, nil
}

// A LeaveRequest names a user and the user's sessions that leave a room, with everything that
// Room.Leave depends on. It is read under the room's lock.
type LeaveRequest struct {
	User     User
	Sessions []SessionID
	// Last says that no other session of the user stays in the room.
	Last bool
	// JoinPending says that the event of the user's join is waiting for the next batch, which is
	// published before the user leaves.
	JoinPending bool
	// Attributes are the user's attributes in the room. The store keeps those with Keep.
	Attributes MemberAttributes
}

// Leave takes sessions out of the room. adminReason is the text that an admin gave, or "". A leave
// is published only for a user's last session. It deletes the user's attributes of the room that
// have DeleteAfterOwnerLeft. When the last member leaves, the room is destroyed, at once or after
// DestroyDelay, during which it has no attributes. A kept room stays, with its attributes.
func (r Room) Leave(requests []LeaveRequest, reason LeaveReason, adminReason string, now time.Time) (Room, Change) {
	var (
		c    Change
		left []LeftMember
		gone []UserID
	)
	batched, emptied := r.BatchesLeave(requests), r.emptiedBy(requests)
	for _, request := range requests {
		for _, session := range request.Sessions {
			c.Left = append(c.Left, r.left(session, reason, adminReason))
		}
		if !request.Last {
			continue
		}
		r.MemberCount--
		gone = append(gone, request.User.ID)
		left = append(left, LeftMember{User: request.User, Reason: reason})
	}
	switch {
	case len(left) == 0:
	case r.publishesNames() && !batched:
		r, c.Events = r.publishLeft(c.Events, left, r.MemberCount+len(left), now)
		r = r.withPending(false)
	case emptied: // nothing is pending when a room ends
		r.PresencePending = false
		r, c.Events = r.publishCount(c.Events, now)
	default:
		r = r.withPending(batched)
	}
	switch {
	case len(gone) == 0:
	case r.MemberCount > 0, r.Config.Lifetime == LifetimeKept:
		r = r.replaceAttributes(&c, r.Attributes.without(gone...), "", now)
	case r.Config.DestroyDelay == 0:
		r.DestroyedAt, r.DestroyReason = r.next(now), DestroyEmpty
	default:
		r.EmptySince = InstantOf(now)
		r.DestroyAt = InstantOf(now.Add(r.Config.DestroyDelay.Duration()))
		r = r.replaceAttributes(&c, nil, "", now)
	}
	return r, c
}

// Destroy destroys the room with all its members, for an admin. sessions are those in the room, and
// left are the members whose join was published.
func (r Room) Destroy(sessions []SessionID, left []LeftMember, adminReason string, now time.Time) (Room, Change) {
	var c Change
	for _, session := range sessions {
		c.Left = append(c.Left, r.left(session, ReasonRoomDestroyed, adminReason))
	}
	r.MemberCount = 0
	if r.publishesNames() {
		r, c.Events = r.publishLeft(c.Events, left, len(left), now)
	} else {
		r, c.Events = r.publishCount(c.Events, now)
	}
	r.PresencePending = false
	r.DestroyAt, r.DestroyedAt, r.DestroyReason = 0, r.next(now), DestroyAdmin
	return r, c
}

func (r Room) left(s SessionID, reason LeaveReason, adminReason string) Left {
	return Left{Session: s, Room: r.ID, Generation: r.Generation, Reason: reason, AdminReason: adminReason}
}

// append appends an event to the room's log.
func (r Room) append(events []Event, now time.Time, body Body) (Room, []Event) {
	now = r.next(now)
	r.LastSeq++
	r.LastAt = InstantOf(now)
	return r, append(events, Event{Room: r.ID, Log: r.Generation, Seq: r.LastSeq, At: now, Body: body})
}

// next returns the time of the next event or join: now, or the latest time of the room if that is
// later. Servers know the time with a difference of milliseconds, and a transaction may have waited
// for the room's lock since it asked for the time.
func (r Room) next(now time.Time) time.Time {
	if last := max(r.CreatedAt, r.LastAt); InstantOf(now) < last {
		return last.Time()
	}
	return now
}
