package room

import "strings"

// Grants is what a user token allows; nil allows everything but to kick. A
// token that grants anything is fenced everywhere: what it does not grant, it
// does not allow.
type Grants struct {
	Rooms []Grant
	// Peers is the users that messages may be sent to, or what stands before a
	// final '*' of their IDs.
	Peers []UserID
	// Media is to upload files.
	Media bool
}

// Grant allows actions in one room, or in all rooms whose ID begins with what
// stands before a final '*'.
type Grant struct {
	RoomID RoomID `json:"roomID"`
	Create bool   `json:"create,omitempty"`
	Join   bool   `json:"join,omitempty"`
	Send   bool   `json:"send,omitempty"`
	Kick   bool   `json:"kick,omitempty"`
	// Attributes is to change the room's attributes and those of other members.
	Attributes bool `json:"attributes,omitempty"`
}

// Action is something that a grant may allow.
type Action uint8

const (
	ActionCreate Action = iota + 1
	ActionJoin
	ActionSend
	ActionKick
	ActionAttributes
)

// Check returns ErrNotGranted where the grants do not allow the action in a
// room. To kick others must be granted by name.
func (g *Grants) Check(a Action, id RoomID) error {
	if g == nil && a != ActionKick {
		return nil
	}
	if g != nil {
		for _, grant := range g.Rooms {
			if covers(string(grant.RoomID), string(id)) && grant.allows(a) {
				return nil
			}
		}
	}
	return ErrNotGranted
}

// CheckPeer returns ErrNotGranted where the grants do not allow messages to a
// user.
func (g *Grants) CheckPeer(id UserID) error {
	if g == nil {
		return nil
	}
	for _, peer := range g.Peers {
		if covers(string(peer), string(id)) {
			return nil
		}
	}
	return ErrNotGranted
}

// CheckMedia returns ErrNotGranted where the grants do not allow uploads.
func (g *Grants) CheckMedia() error {
	if g == nil || g.Media {
		return nil
	}
	return ErrNotGranted
}

// MayStay reports whether a session with the grants may be in a room: a call
// that they allow leads into it.
func (g *Grants) MayStay(id RoomID) bool {
	return g.Check(ActionJoin, id) == nil || g.Check(ActionCreate, id) == nil
}

// covers reports whether a pattern is an ID, or its beginning and a '*'.
func covers(pattern, id string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(id, prefix)
	}
	return pattern == id
}

func (g Grant) allows(a Action) bool {
	switch a {
	case ActionCreate:
		return g.Create
	case ActionJoin:
		return g.Join
	case ActionSend:
		return g.Send
	case ActionKick:
		return g.Kick
	case ActionAttributes:
		return g.Attributes
	}
	return false
}
