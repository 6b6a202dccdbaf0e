package room

import "strings"

// Grants is what a user token allows in which rooms. No grants at all allow
// everything everywhere: a backend that wants fences names them.
type Grants []Grant

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

// Check returns ErrNotGranted where the grants do not allow the action. To kick
// others must be granted by name.
func (g Grants) Check(a Action, id RoomID) error {
	if g == nil && a != ActionKick {
		return nil
	}
	for _, grant := range g {
		if grant.covers(id) && grant.allows(a) {
			return nil
		}
	}
	return ErrNotGranted
}

func (g Grant) covers(id RoomID) bool {
	if prefix, ok := strings.CutSuffix(string(g.RoomID), "*"); ok {
		return strings.HasPrefix(string(id), prefix)
	}
	return g.RoomID == id
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
