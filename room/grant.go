package room

import "strings"

// Grants is what a user token allows. Nil allows everything except kicking and changing the settings
// of rooms. A token that grants anything is restricted everywhere: it allows only what it grants.
type Grants struct {
	Rooms []Grant
	// Peers holds the IDs of the users that messages may be sent to, or patterns; see covers.
	Peers []UserID
	// Media allows uploads, and Profile changes of the user's own profile.
	Media, Profile bool
}

// Grant allows actions in one room, or in several rooms if RoomID is a pattern; see covers.
type Grant struct {
	RoomID RoomID `json:"roomID"`
	Create bool   `json:"create,omitempty"`
	Join   bool   `json:"join,omitempty"`
	Send   bool   `json:"send,omitempty"`
	Kick   bool   `json:"kick,omitempty"`
	// Attributes allows changes of the room's attributes and of other members' attributes.
	Attributes bool `json:"attributes,omitempty"`
	// Settings allows changes of the room's name and settings.
	Settings bool `json:"settings,omitempty"`
}

// Action is an action that a grant may allow.
type Action uint8

const (
	ActionCreate Action = iota + 1
	ActionJoin
	ActionSend
	ActionKick
	ActionAttributes
	ActionSettings
)

// Check returns ErrNotGranted if the grants do not allow the action in a room. Kicking and changing
// settings need an explicit grant, because they concern other members.
func (g *Grants) Check(a Action, id RoomID) error {
	if g == nil && a != ActionKick && a != ActionSettings {
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

// CheckPeer returns ErrNotGranted if the grants do not allow messages to a user.
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

// CheckMedia returns ErrNotGranted if the grants do not allow uploads.
func (g *Grants) CheckMedia() error {
	if g == nil || g.Media {
		return nil
	}
	return ErrNotGranted
}

// CheckProfile returns ErrNotGranted if the grants do not allow changes of the user's own profile.
func (g *Grants) CheckProfile() error {
	if g == nil || g.Profile {
		return nil
	}
	return ErrNotGranted
}

// MayStay reports whether a session with the grants may stay in a room, because the grants allow a
// call that joins it.
func (g *Grants) MayStay(id RoomID) bool {
	return g.Check(ActionJoin, id) == nil || g.Check(ActionCreate, id) == nil
}

// covers reports whether a pattern covers an ID. A pattern that ends in '*' covers all IDs with
// that prefix. An ID may end in '*' itself: a pattern that ends in `\*` covers only the ID with the
// '*' instead of these two. Every other pattern covers only the ID that equals it.
func covers(pattern, id string) bool {
	prefix, found := strings.CutSuffix(pattern, "*")
	if !found {
		return id == pattern
	}
	if exact, escaped := strings.CutSuffix(prefix, `\`); escaped {
		return id == exact+"*"
	}
	return strings.HasPrefix(id, prefix)
}

// ValidPattern reports whether a pattern of a grant covers some allowed ID.
func ValidPattern[ID chosenID](pattern ID) bool {
	prefix, found := strings.CutSuffix(string(pattern), "*")
	exact, escaped := strings.CutSuffix(prefix, `\`)
	switch {
	case !found:
		return pattern.Valid()
	case escaped:
		return ID(exact + "*").Valid()
	}
	return ValidPrefix(ID(prefix))
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
	case ActionSettings:
		return g.Settings
	}
	return false
}
