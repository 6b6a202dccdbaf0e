package room

import (
	"slices"
	"time"
)

// RoomUpdate is a change of a room's name and settings. What is nil stays as it is.
type RoomUpdate struct {
	// By is the user who asks for the change; empty for an admin.
	By       UserID
	Name     *string
	Settings Settings
	// Base lists the versions that the update may be based on; nil allows any.
	Base []Seq
}

// Update changes the room's name and settings. An update without effect appends no event and does
// not change the version. No member is removed: a room with more members than the new MaxMembers
// admits others when enough have left, and sessions of one user that are in the room stay, whatever
// SameUser says. If the room is empty, its time without members is measured again by the new
// settings, and may be over. Errors: ErrVersionMismatch.
func (r Room) Update(u RoomUpdate, now time.Time) (Room, Change, error) {
	if u.Base != nil && !slices.Contains(u.Base, r.SettingsVersion) {
		return r, Change{}, ErrVersionMismatch
	}
	name, config := r.Name, u.Settings.Over(r.Config)
	set(&name, u.Name)
	if name == r.Name && config == r.Config {
		return r, Change{}, nil
	}
	var c Change
	r.EmptySince, r.DestroyAt = r.endWith(config, now)
	r.Name, r.Config = name, config
	r, c.Events = r.append(c.Events, now, RoomUpdated{Name: name, Config: config, OperatedInfo: operatedBy(u.By)})
	r.SettingsVersion = r.LastSeq
	r = r.withPending(false) // the next flush publishes another kind of member events
	return r, c, nil
}

// endWith returns since when the room is empty, and when it is destroyed, with other settings.
func (r Room) endWith(config Config, now time.Time) (emptySince, destroyAt Instant) {
	emptySince = r.EmptySince
	switch {
	case r.MemberCount > 0, config.Lifetime == LifetimeKept:
		return emptySince, 0
	case r.Config.Lifetime == LifetimeKept: // until now, its time without members was no matter
		emptySince = InstantOf(r.next(now))
	case emptySince != 0:
	case r.DestroyAt == r.unusedUntil():
		r.Config = config
		return 0, r.unusedUntil()
	default: // a server of an earlier release removed the last member
		emptySince = InstantOf(r.DestroyAt.Time().Add(-r.Config.DestroyDelay.Duration()))
	}
	return emptySince, InstantOf(emptySince.Time().Add(config.DestroyDelay.Duration()))
}

// unusedUntil returns when the room is destroyed if no session ever joins.
func (r Room) unusedUntil() Instant {
	return InstantOf(r.CreatedAt.Time().Add(r.Config.UnusedTimeout.Duration()))
}
