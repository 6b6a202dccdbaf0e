package room

import "time"

// Bounds and defaults of room settings.
const (
	MinMemberTimeout     = 5 * time.Second
	MaxMemberTimeout     = 300 * time.Second
	DefaultMemberTimeout = 30 * time.Second
	MaxMaxMembers        = 1_000_000
	DefaultMaxMembers    = 500
	DefaultRoomsPerUser  = 20
)

// Seconds is a duration in whole seconds, as settings are written on the wire.
type Seconds int

// Duration converts to the standard type.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Config is what may be set for one room when it is created.
type Config struct {
	// MemberTimeout is how long a session whose stream is lost stays.
	MemberTimeout Seconds `json:"memberTimeout"`
	// MaxMembers is how many users may be in the room at once.
	MaxMembers int `json:"maxMembers"`
}

// Or fills what is unset from the defaults.
func (c Config) Or(defaults Config) Config {
	if c.MemberTimeout == 0 {
		c.MemberTimeout = defaults.MemberTimeout
	}
	if c.MaxMembers == 0 {
		c.MaxMembers = defaults.MaxMembers
	}
	return c
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
	Member  bool // the user is, by whatever session
	Rooms   int  // how many rooms the user is in
	// Call is how it comes, RoomCreate or RoomEnter; Created says that the
	// call brought the room to life.
	Call    RoomEvent
	Created bool
	// MaxRooms is how many rooms a user may be in.
	MaxRooms int
}

// Join lets a session in. Others see a member come only with the user's first
// session. Joining again changes nothing. Errors: ErrRoomFull, ErrTooManyRooms.
func (r Room) Join(e Entrant, now time.Time) (Room, Change, error) {
	if e.InRoom {
		return r, Change{}, nil
	}
	var c Change
	if !e.Member {
		if r.MemberCount >= r.Config.MaxMembers {
			return r, Change{}, ErrRoomFull
		}
		if e.Rooms >= e.MaxRooms {
			return r, Change{}, ErrTooManyRooms
		}
		r.MemberCount++
		c.Events = append(c.Events, r.next(now, MembersJoined{
			MemberList: []Member{{User: e.User, JoinedAt: now}},
		}))
		r.LastSeq++
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
// the user's last session, and with the last member the room goes too.
func (r Room) Leave(l Leaver, reason LeaveReason, now time.Time) (Room, Change) {
	c := Change{Departures: []Departure{{Session: l.Session, Room: r.ID, Generation: r.Generation, Reason: reason}}}
	if !l.Last {
		return r, c
	}
	r.MemberCount--
	c.Events = append(c.Events, r.next(now, MembersLeft{
		MemberList: []FormerMember{{User: l.User, Reason: reason}},
	}))
	r.LastSeq++
	if r.MemberCount == 0 {
		r.DestroyedAt = now
	}
	return r, c
}

func (r Room) next(now time.Time, body Body) Event {
	return Event{Room: r.ID, Generation: r.Generation, Seq: r.LastSeq + 1, At: now, Body: body}
}
