package room

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Limits of a room's attributes, in bytes of UTF-8 where they are not counts.
const (
	MaxRoomAttributes          = 20
	MaxRoomAttributeKeyBytes   = 16
	MaxRoomAttributeValueBytes = 1 << 10
	MaxRoomAttributesBytes     = 5 << 10 // all keys and values together
)

// Attribute is one of a room's attributes, without its key.
type Attribute struct {
	Value string
	// Owner is who may change it without force. Where there is none, anybody
	// may.
	Owner UserID
	// DeleteAfterOwnerLeft says that it goes with its owner.
	DeleteAfterOwnerLeft bool
}

// Attributes is what a room's members keep in it, by key. In JSON it is keys
// and values alone: that is all that clients see.
type Attributes map[string]Attribute

// NewAttributes is the attributes of a new room. They stay when their owner
// leaves.
func NewAttributes(pairs map[string]string, owner UserID) Attributes {
	a := make(Attributes, len(pairs))
	for key, value := range pairs {
		a[key] = Attribute{Value: value, Owner: owner}
	}
	return a
}

// Pairs is the keys and values, never nil.
func (a Attributes) Pairs() map[string]string {
	pairs := make(map[string]string, len(a))
	for key, attribute := range a {
		pairs[key] = attribute.Value
	}
	return pairs
}

// MarshalJSON writes keys and values.
func (a Attributes) MarshalJSON() ([]byte, error) { return json.Marshal(a.Pairs()) }

// UnmarshalJSON reads keys and values; nobody owns them.
func (a *Attributes) UnmarshalJSON(data []byte) error {
	var pairs map[string]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	*a = NewAttributes(pairs, "")
	return nil
}

// fit reports whether keys and values are within a count and a number of bytes.
func fit(pairs map[string]string, most, mostBytes int) bool {
	return len(pairs) <= most && PairsBytes(pairs) <= mostBytes
}

// PairsBytes is how long all keys and values are together.
func PairsBytes(pairs map[string]string) (n int) {
	for key, value := range pairs {
		n += len(key) + len(value)
	}
	return n
}

// AttributesUpdate is what somebody wants to change in a room's attributes. No
// key stands in both Set and Delete.
type AttributesUpdate struct {
	// By is who wants it; empty where it is no user.
	By     UserID
	Set    map[string]string
	Delete []string
	// Force changes what others own. UpdateOwner makes By the owner of what
	// is set.
	Force       bool
	UpdateOwner bool
	// DeleteAfterOwnerLeft nil leaves it as it is, which for a new attribute is
	// false.
	DeleteAfterOwnerLeft *bool
	// Base is the versions that the update may be based on; nil means any.
	Base []Seq
}

// Update is the attributes after an update, and the keys, sorted, that were left
// alone because somebody else owns them. The receiver stays as it is. Errors:
// ErrAttributesFull.
func (a Attributes) Update(u AttributesUpdate) (updated Attributes, refused []string, err error) {
	updated = maps.Clone(a)
	if updated == nil {
		updated = make(Attributes, len(u.Set))
	}
	refused = []string{}
	for key, value := range u.Set {
		attribute, exists := a[key]
		if exists && !attribute.changeable(u) {
			refused = append(refused, key)
			continue
		}
		if !exists || u.UpdateOwner {
			attribute.Owner = u.By
		}
		attribute.Value = value
		set(&attribute.DeleteAfterOwnerLeft, u.DeleteAfterOwnerLeft)
		updated[key] = attribute
	}
	for _, key := range u.Delete {
		if attribute, exists := a[key]; exists && !attribute.changeable(u) {
			refused = append(refused, key)
			continue
		}
		delete(updated, key)
	}
	slices.Sort(refused)
	if !fit(updated.Pairs(), MaxRoomAttributes, MaxRoomAttributesBytes) {
		return a, nil, ErrAttributesFull
	}
	return updated, refused, nil
}

// changeable reports whether an update may change the attribute.
func (a Attribute) changeable(u AttributesUpdate) bool {
	return u.Force || a.Owner == "" || a.Owner == u.By
}

// without is the attributes that stay when these owners leave.
func (a Attributes) without(owners ...UserID) Attributes {
	stay := maps.Clone(a)
	maps.DeleteFunc(stay, func(_ string, attribute Attribute) bool {
		return attribute.DeleteAfterOwnerLeft && slices.Contains(owners, attribute.Owner)
	})
	return stay
}

// AttributesAction says what happened to attributes.
type AttributesAction string

const (
	AttributesSet    AttributesAction = "set"
	AttributesDelete AttributesAction = "delete"
)

// AttributesInfo is attributes that something happened to: those that were set
// with their new values, those that were deleted with their last ones.
type AttributesInfo struct {
	Action     AttributesAction  `json:"action"`
	Attributes map[string]string `json:"roomAttributes"`
}

// infosTo says what happened on the way from the attributes to others. A new
// owner counts, though members see the same value again: what is decided by the
// owner is decided anew, so the version must tell.
func (a Attributes) infosTo(updated Attributes) []AttributesInfo {
	changed, gone := make(map[string]string), make(map[string]string)
	for key, attribute := range updated {
		if before, existed := a[key]; !existed || before != attribute {
			changed[key] = attribute.Value
		}
	}
	for key, attribute := range a {
		if _, stays := updated[key]; !stays {
			gone[key] = attribute.Value
		}
	}
	var infos []AttributesInfo
	if len(changed) > 0 {
		infos = append(infos, AttributesInfo{AttributesSet, changed})
	}
	if len(gone) > 0 {
		infos = append(infos, AttributesInfo{AttributesDelete, gone})
	}
	return infos
}

// UpdateAttributes changes the room's attributes, as far as their owners allow,
// and returns the keys, sorted, that they do not. An update without effect is no
// event and leaves the version. Errors: ErrVersionMismatch, ErrAttributesFull.
func (r Room) UpdateAttributes(u AttributesUpdate, now time.Time) (Room, Change, []string, error) {
	if u.Base != nil && !slices.Contains(u.Base, r.AttributesVersion) {
		return r, Change{}, nil, ErrVersionMismatch
	}
	updated, refused, err := r.Attributes.Update(u)
	if err != nil {
		return r, Change{}, nil, err
	}
	var c Change
	r = r.turnAttributes(&c, updated, u.By, now)
	return r, c, refused, nil
}

// turnAttributes gives the room other attributes and, where they differ, tells
// of it. The event's seq is their version.
func (r Room) turnAttributes(c *Change, updated Attributes, by UserID, now time.Time) Room {
	infos := r.Attributes.infosTo(updated)
	if len(infos) == 0 {
		return r
	}
	r, c.Events = r.append(c.Events, now, AttributesUpdated{Infos: infos, OperatedInfo: operatedBy(by)})
	r.Attributes, r.AttributesVersion = updated, r.LastSeq
	return r
}
