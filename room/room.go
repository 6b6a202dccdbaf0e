package room

import "time"

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
}

// DefaultConfig is the settings of rooms where nobody says otherwise: those of a
// chat room.
func DefaultConfig() Config {
	return Config{
		UnusedTimeout: Seconds(DefaultUnusedTimeout / time.Second),
		MemberTimeout: Seconds(DefaultMemberTimeout / time.Second),
		MaxMembers:    DefaultMaxMembers,
		SameUser:      SameUserAllow,
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
}

// Over is the defaults with what the creator said in their place.
func (s Settings) Over(defaults Config) Config {
	c := defaults
	set(&c.DestroyDelay, s.DestroyDelay)
	set(&c.UnusedTimeout, s.UnusedTimeout)
	set(&c.MemberTimeout, s.MemberTimeout)
	set(&c.MaxMembers, s.MaxMembers)
	set(&c.SameUser, s.SameUser)
	return c
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Blueprint is what a creator says of a room. It counts only where the call
// brings the room to life.
type Blueprint struct {
	Name     string
	Settings Settings
}

// Room is one life of a named place.
type Room struct {
	ID          RoomID     `json:"roomID"`
	Generation  Generation `json:"generation"`
	Name        string     `json:"roomName"`
	Config      Config     `json:"config"`
	MemberCount int        `json:"memberCount"`
	CreatedAt   time.Time  `json:"createdAt"`
	LastSeq     Seq        `json:"lastSeq"`
	// DestroyAt is when the room goes unless somebody enters before; zero while
	// it has members.
	DestroyAt time.Time `json:"destroyAt,omitzero"`

	// OldestSeq is the oldest event that can still be read.
	OldestSeq Seq `json:"-"`
	// DestroyedAt is when this life ended; zero while it lasts.
	DestroyedAt time.Time `json:"-"`
}

// Entrant is a session that wants in, with what the room's rules need to know
// of it. It is read under the room's lock.
type Entrant struct {
	Session SessionID
	User    User
	InRoom  bool // this session is in the room already
	// Others is the user's other sessions in the room.
	Others []SessionID
	Rooms  int // how many rooms the user is in
	// Call is how it comes: RoomCreate, RoomEnter or RoomSwitch. Created says
	// that the call brought the room to life.
	Call    RoomEvent
	Created bool
	// MaxRooms is how many rooms a user may be in.
	MaxRooms int
}

// Join lets a session in. Others see a member come only with the user's first
// session. Joining again changes nothing. Errors: ErrUserInRoom, ErrRoomFull,
// ErrTooManyRooms.
func (r Room) Join(e Entrant, now time.Time) (Room, Change, error) {
	if e.InRoom {
		return r, Change{}, nil
	}
	var c Change
	if len(e.Others) == 0 {
		if r.MemberCount >= r.Config.MaxMembers {
			return r, Change{}, ErrRoomFull
		}
		if e.Rooms >= e.MaxRooms {
			return r, Change{}, ErrTooManyRooms
		}
		r.MemberCount++
		r.DestroyAt = time.Time{}
		c.Events = append(c.Events, r.next(now, MembersJoined{
			MemberList: []Member{{User: e.User, JoinedAt: now}},
		}))
		r.LastSeq++
	}
	switch r.Config.SameUser {
	case SameUserReject:
		if len(e.Others) > 0 {
			return r, Change{}, ErrUserInRoom
		}
	case SameUserReplace:
		for _, other := range e.Others {
			c.Departures = append(c.Departures, r.departure(other, ReasonReplaced))
		}
	case SameUserAllow:
	}
	// The session follows the log from after its own entering.
	c.Arrivals = append(c.Arrivals, Arrival{
		Session: e.Session, Room: r.ID, Generation: r.Generation, From: r.LastSeq,
		Call: e.Call, Created: e.Created,
	})
	return r, c, nil
}

// Leaver is a session that goes. Last says that it is the user's last one in
// the room; it is read under the room's lock.
type Leaver struct {
	Session SessionID
	User    User
	Last    bool
}

// Leave takes a session out for a reason. Others see a member leave only with
// the user's last session, and with the last member the room goes too, at once
// or after its delay.
func (r Room) Leave(l Leaver, reason LeaveReason, now time.Time) (Room, Change) {
	c := Change{Departures: []Departure{r.departure(l.Session, reason)}}
	if !l.Last {
		return r, c
	}
	r.MemberCount--
	c.Events = append(c.Events, r.next(now, MembersLeft{
		MemberList: []FormerMember{{User: l.User, Reason: reason}},
	}))
	r.LastSeq++
	if r.MemberCount > 0 {
		return r, c
	}
	if r.Config.DestroyDelay == 0 {
		r.DestroyedAt = now
	} else {
		r.DestroyAt = now.Add(r.Config.DestroyDelay.Duration())
	}
	return r, c
}

func (r Room) departure(s SessionID, reason LeaveReason) Departure {
	return Departure{Session: s, Room: r.ID, Generation: r.Generation, Reason: reason}
}

func (r Room) next(now time.Time, body Body) Event {
	return Event{Room: r.ID, Generation: r.Generation, Seq: r.LastSeq + 1, At: now, Body: body}
}
