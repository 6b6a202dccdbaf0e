package room

import (
	"slices"
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

	// PresenceBatchThreshold is up to how many members a room tells of each coming and going
	// at once. In a larger one they are told together, about once a second, so
	// that ten thousand people who enter do not send ten thousand events to each
	// other. Who is in the room, and how many, is exact at any time.
	PresenceBatchThreshold = 100
	// MaxMembersPerEvent bounds the members of one event.
	MaxMembersPerEvent = 500
)

// Seconds is a duration in whole seconds, as settings are written on the wire.
type Seconds int

// Duration converts to the standard type.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// SameUser says what happens when another session of a member enters.
type SameUser string

const (
	SameUserAllow   SameUser = "allow"   // both stay
	SameUserReplace SameUser = "replace" // the first is kicked out of the room
	SameUserReject  SameUser = "reject"  // the second is refused
)

// HistoryVisible says what members read of what was said before.
type HistoryVisible string

const (
	HistoryAll         HistoryVisible = "all"         // everything that the room keeps
	HistorySinceJoined HistoryVisible = "sinceJoined" // what was said since they became members
)

// Config is a room's settings.
type Config struct {
	// DestroyDelay is from the last member's leaving to the room's end.
	DestroyDelay Seconds `json:"destroyDelay"`
	// UnusedTimeout is the life of a room that nobody ever entered.
	UnusedTimeout Seconds `json:"unusedTimeout"`
	// MemberTimeout is how long a session whose stream is lost stays.
	MemberTimeout Seconds `json:"memberTimeout"`
	// MaxMembers is how many users may be in the room at once.
	MaxMembers int      `json:"maxMembers"`
	SameUser   SameUser `json:"sameUser"`
	// HistoryVisible is what members read of the room's past.
	HistoryVisible HistoryVisible `json:"historyVisible"`
}

// DefaultConfig is the settings of rooms where nobody says otherwise: those of a
// chat room.
func DefaultConfig() Config {
	return Config{
		UnusedTimeout: Seconds(DefaultUnusedTimeout / time.Second),
		MemberTimeout: Seconds(DefaultMemberTimeout / time.Second),
		MaxMembers:    DefaultMaxMembers,
		SameUser:      SameUserAllow,

		HistoryVisible: HistoryAll,
	}
}

// Settings is what a room's creator says of its Config; nil leaves a setting to the
// server's defaults.
type Settings struct {
	DestroyDelay  *Seconds
	UnusedTimeout *Seconds
	MemberTimeout *Seconds
	MaxMembers    *int
	SameUser      *SameUser

	HistoryVisible *HistoryVisible
}

// Over is the defaults with what the creator said in their place.
func (s Settings) Over(defaults Config) Config {
	c := defaults
	set(&c.DestroyDelay, s.DestroyDelay)
	set(&c.UnusedTimeout, s.UnusedTimeout)
	set(&c.MemberTimeout, s.MemberTimeout)
	set(&c.MaxMembers, s.MaxMembers)
	set(&c.SameUser, s.SameUser)
	set(&c.HistoryVisible, s.HistoryVisible)
	return c
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Ceilings is the most that clients may ask for in a room's settings; nil: as much
// as the bounds allow. Operators may exceed them.
type Ceilings struct {
	DestroyDelay *Seconds
	MaxMembers   *int
}

// Check returns what a client asks for too much of.
func (c Ceilings) Check(s Settings) []Fault {
	var faults []Fault
	if c.DestroyDelay != nil && s.DestroyDelay != nil && *s.DestroyDelay > *c.DestroyDelay {
		faults = append(faults, Fault{"/destroyDelay", "ceiling", int(*c.DestroyDelay)})
	}
	if c.MaxMembers != nil && s.MaxMembers != nil && *s.MaxMembers > *c.MaxMembers {
		faults = append(faults, Fault{"/maxMembers", "ceiling", *c.MaxMembers})
	}
	return faults
}

// RoomOptions is what a creator says of a room. It counts only where the call
// brings the room to life.
type RoomOptions struct {
	Name     string
	Settings Settings
	// Attributes belong to whoever makes the call.
	Attributes map[string]string
}

// Room is one life of a named place.
type Room struct {
	ID          RoomID    `json:"roomID"`
	Generation  LogID     `json:"generation"`
	Name        string    `json:"roomName"`
	Config      Config    `json:"config"`
	MemberCount int       `json:"memberCount"`
	CreatedAt   time.Time `json:"createdAt"`
	LastSeq     Seq       `json:"lastSeq"`

	Attributes Attributes `json:"roomAttributes"`
	// AttributesVersion is the seq of the event that changed the attributes
	// last; 0 until one does.
	AttributesVersion Seq `json:"attributesVersion"`

	// DestroyAt is when the room goes unless somebody enters before; zero while
	// it has members.
	DestroyAt time.Time `json:"destroyAt,omitzero"`

	// Untold says that the log has yet to tell of comings and goings.
	PresencePending bool `json:"-"`
	// OldestSeq is the oldest event that can still be read.
	OldestSeq Seq `json:"-"`
	// DestroyedAt is when this life ended, and DestroyReason why; zero while it
	// lasts.
	DestroyedAt   time.Time     `json:"-"`
	DestroyReason DestroyReason `json:"-"`
}

// Open starts the clock of a room that nobody is in: it goes after its
// unusedTimeout unless somebody enters.
func (r Room) StartUnusedTimeout(now time.Time) Room {
	r.DestroyAt = now.Add(r.Config.UnusedTimeout.Duration())
	return r
}

// JoinRequest is a session that wants in, with what the room's rules need to know
// of it. It is read under the room's lock.
type JoinRequest struct {
	Session SessionID
	User    User
	InRoom  bool // this session is in the room already
	// Others is the user's other sessions in the room.
	Others []SessionID
	// Parted says that the user has just left, and nobody was told yet.
	LeavePending bool
	// BannedUntil is when the user may come back; zero: at any time.
	BannedUntil time.Time
	Rooms       int // how many rooms the user is in
	// Call is how it comes: RoomCreate, RoomEnter or RoomSwitch. Created says
	// that the call brought the room to life.
	Call    RoomEvent
	Created bool
	// MaxRooms is how many rooms a user may be in.
	MaxRooms int
}

// BatchesPresence reports whether the room is so large that the next coming or going
// is told together with others.
func (r Room) BatchesPresence() bool { return r.MemberCount >= PresenceBatchThreshold }

// Join lets a session in. Others see a member come only with the user's first
// session. Joining again changes nothing. Errors: ErrBanned, ErrUserInRoom,
// ErrRoomFull, ErrTooManyRooms.
func (r Room) Join(e JoinRequest, now time.Time) (Room, Change, error) {
	if e.InRoom {
		return r, Change{}, nil
	}
	if now.Before(e.BannedUntil) {
		return r, Change{}, ErrBanned
	}
	var c Change
	if len(e.Others) == 0 {
		if r.MemberCount >= r.Config.MaxMembers {
			return r, Change{}, ErrRoomFull
		}
		if e.Rooms >= e.MaxRooms {
			return r, Change{}, ErrTooManyRooms
		}
		switch {
		case e.LeavePending: // as if never gone
		case r.BatchesPresence():
			r.PresencePending = true
		default:
			r, c.Events = r.append(c.Events, now, MembersJoined{MemberList: []Member{{User: e.User, JoinedAt: now}}})
		}
		r.MemberCount++
		r.DestroyAt = time.Time{}
	}
	switch r.Config.SameUser {
	case SameUserReject:
		if len(e.Others) > 0 {
			return r, Change{}, ErrUserInRoom
		}
	case SameUserReplace:
		for _, other := range e.Others {
			c.Left = append(c.Left, r.left(other, ReasonReplaced, ""))
		}
	case SameUserAllow:
	}
	// The session follows the log from after its own entering.
	c.Joined = append(c.Joined, Joined{
		Session: e.Session, Room: r.ID, Generation: r.Generation, From: r.LastSeq,
		Call: e.Call, Created: e.Created,
	})
	return r, c, nil
}

// Leaver is a user of whom sessions go. Last says that none stays; it is read
// under the room's lock.
type LeaveRequest struct {
	User     User
	Sessions []SessionID
	Last     bool
	// Untold says that the log has yet to tell that the user came.
	JoinPending bool
	// Attributes is what is noted of the user in the room.
	Attributes MemberAttributes
}

// Leave takes sessions out for a reason, which an operator may explain by a
// note. Others see a member leave only with the user's last session, and with
// the last member the room goes too, at once or after its delay. Attributes may
// go with their owner, and do not survive an empty room's delay.
func (r Room) Leave(leavers []LeaveRequest, reason LeaveReason, note string, now time.Time) (Room, Change) {
	var (
		c    Change
		left []LeftMember
		gone []UserID
	)
	later := r.BatchesPresence()
	for _, l := range leavers {
		for _, session := range l.Sessions {
			c.Left = append(c.Left, r.left(session, reason, note))
		}
		if !l.Last {
			continue
		}
		r.MemberCount--
		gone = append(gone, l.User.ID)
		switch {
		case l.JoinPending: // nobody knows that the user was here
		case later:
			r.PresencePending = true
		default:
			left = append(left, LeftMember{User: l.User, Reason: reason})
		}
	}
	if len(left) > 0 {
		r, c.Events = r.append(c.Events, now, MembersLeft{MemberList: left})
	}
	switch {
	case len(gone) == 0:
	case r.MemberCount > 0:
		r = r.turnAttributes(&c, r.Attributes.without(gone...), "", now)
	case r.Config.DestroyDelay == 0:
		r.DestroyedAt, r.DestroyReason = now, DestroyEmpty
	default:
		r.DestroyAt = now.Add(r.Config.DestroyDelay.Duration())
		r = r.turnAttributes(&c, nil, "", now)
	}
	return r, c
}

// Announce tells of the comings and goings that were not told at once.
func (r Room) FlushPresence(joined []Member, left []LeftMember, now time.Time) (Room, []Event) {
	var events []Event
	for list := range slices.Chunk(joined, MaxMembersPerEvent) {
		r, events = r.append(events, now, MembersJoined{MemberList: list})
	}
	for list := range slices.Chunk(left, MaxMembersPerEvent) {
		r, events = r.append(events, now, MembersLeft{MemberList: list})
	}
	r.PresencePending = false
	return r, events
}

// Destroy ends the room for the operator's reason, whoever is in it: the
// sessions are out, and left is all members that others know of.
func (r Room) Destroy(sessions []SessionID, left []LeftMember, note string, now time.Time) (Room, Change) {
	var c Change
	for _, session := range sessions {
		c.Left = append(c.Left, r.left(session, ReasonRoomDestroyed, note))
	}
	r, c.Events = r.FlushPresence(nil, left, now)
	r.MemberCount = 0
	r.DestroyAt, r.DestroyedAt, r.DestroyReason = time.Time{}, now, DestroyAdmin
	return r, c
}

func (r Room) left(s SessionID, reason LeaveReason, note string) Left {
	return Left{Session: s, Room: r.ID, Generation: r.Generation, Reason: reason, AdminReason: note}
}

// tell appends what happened to the room's log.
func (r Room) append(events []Event, now time.Time, body Body) (Room, []Event) {
	r.LastSeq++
	return r, append(events, Event{Room: r.ID, Log: r.Generation, Seq: r.LastSeq, At: now, Body: body})
}
