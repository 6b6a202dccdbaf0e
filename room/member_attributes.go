package room

import (
	"encoding/json"
	"maps"
	"time"
)

// Limits of a member's attributes: a number of attributes, and bytes of UTF-8.
const (
	MaxMemberAttributes          = 30
	MaxMemberAttributeKeyBytes   = 8
	MaxMemberAttributeValueBytes = 64
	MaxMemberAttributesBytes     = 144 // all keys and values together
)

// MemberAttribute is one of a member's attributes, without its key.
type MemberAttribute struct {
	Value string
	// Keep says that the attribute is stored after the member leaves, in case the user joins again.
	Keep bool
}

// MemberAttributes are a member's attributes by key. In JSON they are only keys and values, which
// is all that clients see.
type MemberAttributes map[string]MemberAttribute

// Pairs returns the keys and values, never nil.
func (a MemberAttributes) Pairs() map[string]string {
	pairs := make(map[string]string, len(a))
	for key, attribute := range a {
		pairs[key] = attribute.Value
	}
	return pairs
}

// MarshalJSON encodes the keys and values.
func (a MemberAttributes) MarshalJSON() ([]byte, error) { return json.Marshal(a.Pairs()) }

// UnmarshalJSON decodes keys and values, without Keep.
func (a *MemberAttributes) UnmarshalJSON(data []byte) error {
	var pairs map[string]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	*a = make(MemberAttributes, len(pairs))
	for key, value := range pairs {
		(*a)[key] = MemberAttribute{Value: value}
	}
	return nil
}

// Kept returns the attributes that are stored after the member leaves.
func (a MemberAttributes) Kept() MemberAttributes {
	kept := maps.Clone(a)
	maps.DeleteFunc(kept, func(_ string, attribute MemberAttribute) bool { return !attribute.Keep })
	return kept
}

// MemberAttributesUpdate is a change of the attributes of members, or of their user data. No key is
// in both Set and Delete.
type MemberAttributesUpdate struct {
	// By is the user who asks for the change; empty for an admin.
	By     UserID
	Set    map[string]string
	Delete []string
	// DeleteAfterOwnerLeft is nil to leave it unchanged; a new attribute has true.
	DeleteAfterOwnerLeft *bool
	// UserData is nil to leave it unchanged. Only a user's own can be changed.
	UserData *string
}

// Update returns the attributes after an update. It does not modify a. Errors: ErrAttributesFull.
func (a MemberAttributes) Update(u MemberAttributesUpdate) (MemberAttributes, error) {
	updated := maps.Clone(a)
	if updated == nil {
		updated = make(MemberAttributes, len(u.Set))
	}
	for key, value := range u.Set {
		attribute := updated[key]
		attribute.Value = value
		if u.DeleteAfterOwnerLeft != nil {
			attribute.Keep = !*u.DeleteAfterOwnerLeft
		}
		updated[key] = attribute
	}
	for _, key := range u.Delete {
		delete(updated, key)
	}
	if !fit(updated.Pairs(), MaxMemberAttributes, MaxMemberAttributesBytes) {
		return a, ErrAttributesFull
	}
	return updated, nil
}

// MemberAttributesInfo is a member and all its attributes.
type MemberAttributesInfo struct {
	UserID     UserID           `json:"userID"`
	Attributes MemberAttributes `json:"attributes"`
	// UserData is nil unless it was changed: the attributes of a hundred members can change at
	// once.
	UserData *string `json:"userData,omitempty"`
}

// UpdateMemberAttributes changes the attributes of all the members or, if it fails for one, of
// none, and returns the attributes of all. The event lists only members of whom something changed.
// members have their current user data if it is to be changed.
// Errors: ErrAttributesFull.
func (r Room) UpdateMemberAttributes(members []MemberAttributesInfo, u MemberAttributesUpdate, now time.Time) (Room, Change, []MemberAttributesInfo, error) {
	all := make([]MemberAttributesInfo, 0, len(members))
	var changed []MemberAttributesInfo
	for _, m := range members {
		updated, err := m.Attributes.Update(u)
		if err != nil {
			return r, Change{}, nil, err
		}
		info := MemberAttributesInfo{m.UserID, updated, u.UserData}
		all = append(all, info)
		if !maps.Equal(m.Attributes, updated) || (u.UserData != nil && *u.UserData != *m.UserData) {
			changed = append(changed, info)
		}
	}
	var c Change
	if len(changed) > 0 {
		r, c.Events = r.append(c.Events, now, MemberAttributesUpdated{Infos: changed, OperatedInfo: operatedBy(u.By)})
	}
	return r, c, all, nil
}
