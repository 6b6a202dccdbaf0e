package room

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Limits of a room's attributes: a number of attributes, and bytes of UTF-8.
const (
	MaxRoomAttributes          = 20
	MaxRoomAttributeKeyBytes   = 16
	MaxRoomAttributeValueBytes = 1 << 10
	MaxRoomAttributesBytes     = 5 << 10 // all keys and values together
)

// Attribute is one of a room's attributes, without its key.
type Attribute struct {
	Value string
	// Owner is the user who may change it without force. If it is empty, every member may.
	Owner UserID
	// DeleteAfterOwnerLeft says that it is deleted when its owner leaves.
	DeleteAfterOwnerLeft bool
}

// Attributes are a room's attributes by key. In JSON they are only keys and values, which is all
// that clients see.
type Attributes map[string]Attribute

// NewAttributes returns the attributes of a new room. They are not deleted when their owner leaves.
func NewAttributes(pairs map[string]string, owner UserID) Attributes {
	a := make(Attributes, len(pairs))
	for key, value := range pairs {
		a[key] = Attribute{Value: value, Owner: owner}
	}
	return a
}

// Pairs returns the keys and values, never nil.
func (a Attributes) Pairs() map[string]string {
	pairs := make(map[string]string, len(a))
	for key, attribute := range a {
		pairs[key] = attribute.Value
	}
	return pairs
}

// MarshalJSON encodes the keys and values.
func (a Attributes) MarshalJSON() ([]byte, error) { return json.Marshal(a.Pairs()) }

// UnmarshalJSON decodes keys and values, without owners.
func (a *Attributes) UnmarshalJSON(data []byte) error {
	var pairs map[string]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	*a = NewAttributes(pairs, "")
	return nil
}

// fit reports whether there are at most maxPairs pairs of at most maxBytes bytes.
func fit(pairs map[string]string, maxPairs, maxBytes int) bool {
	return len(pairs) <= maxPairs && PairsBytes(pairs) <= maxBytes
}

// PairsBytes returns the number of bytes of all keys and values.
func PairsBytes(pairs map[string]string) (n int) {
	for key, value := range pairs {
		n += len(key) + len(value)
	}
	return n
}

// AttributesUpdate is a change of a room's attributes. No key is in both Set and Delete.
type AttributesUpdate struct {
	// By is the user who asks for the change; empty for an admin.
	By     UserID
	Set    map[string]string
	Delete []string
	// Force also changes attributes of other owners.
	Force bool
	// UpdateOwner makes By the owner of the attributes that are set.
	UpdateOwner bool
	// DeleteAfterOwnerLeft is nil to leave it unchanged; a new attribute has false.
	DeleteAfterOwnerLeft *bool
	// Base lists the versions that the update may be based on; nil allows any.
	Base []Seq
}

// Update returns the attributes after an update, and the sorted keys that it did not change because
// another user owns them. It does not modify a. Errors: ErrAttributesFull.
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

// without returns the attributes that are left when these owners leave.
func (a Attributes) without(owners ...UserID) Attributes {
	rest := maps.Clone(a)
	maps.DeleteFunc(rest, func(_ string, attribute Attribute) bool {
		return attribute.DeleteAfterOwnerLeft && slices.Contains(owners, attribute.Owner)
	})
	return rest
}

// AttributesAction says whether attributes were set or deleted.
type AttributesAction string

const (
	AttributesSet    AttributesAction = "set"
	AttributesDelete AttributesAction = "delete"
)

// AttributesInfo lists attributes that were set, with their new values, or deleted, with their last
// values.
type AttributesInfo struct {
	Action     AttributesAction  `json:"action"`
	Attributes map[string]string `json:"roomAttributes"`
}

// diff returns the differences between a and updated. A new owner is a difference, although members
// see the same value again: an update that depends on the owner must notice it by the version.
func (a Attributes) diff(updated Attributes) []AttributesInfo {
	changed, deleted := make(map[string]string), make(map[string]string)
	for key, attribute := range updated {
		if before, existed := a[key]; !existed || before != attribute {
			changed[key] = attribute.Value
		}
	}
	for key, attribute := range a {
		if _, exists := updated[key]; !exists {
			deleted[key] = attribute.Value
		}
	}
	var infos []AttributesInfo
	if len(changed) > 0 {
		infos = append(infos, AttributesInfo{AttributesSet, changed})
	}
	if len(deleted) > 0 {
		infos = append(infos, AttributesInfo{AttributesDelete, deleted})
	}
	return infos
}

// UpdateAttributes changes the room's attributes, and returns the sorted keys that it did not
// change because another user owns them. An update without effect appends no event and does not
// change the version. Errors: ErrVersionMismatch, ErrAttributesFull.
func (r Room) UpdateAttributes(u AttributesUpdate, now time.Time) (Room, Change, []string, error) {
	if u.Base != nil && !slices.Contains(u.Base, r.AttributesVersion) {
		return r, Change{}, nil, ErrVersionMismatch
	}
	updated, refused, err := r.Attributes.Update(u)
	if err != nil {
		return r, Change{}, nil, err
	}
	var c Change
	r = r.replaceAttributes(&c, updated, u.By, now)
	return r, c, refused, nil
}

// replaceAttributes sets the room's attributes and, if they differ, appends an event, whose seq
// becomes their version.
func (r Room) replaceAttributes(c *Change, updated Attributes, by UserID, now time.Time) Room {
	infos := r.Attributes.diff(updated)
	if len(infos) == 0 {
		return r
	}
	r, c.Events = r.append(c.Events, now, AttributesUpdated{Infos: infos, OperatedInfo: operatedBy(by)})
	r.Attributes, r.AttributesVersion = updated, r.LastSeq
	return r
}
