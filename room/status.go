package room

import "time"

// Limits of statuses.
const (
	// MaxCustomStatusBytes is the longest custom status.
	MaxCustomStatusBytes = 128
	// MaxStatusesPerEvent bounds the size of an event; more statuses are published in several.
	MaxStatusesPerEvent = 200
	// DefaultStatusSubscriptions is how many users a user may subscribe to.
	DefaultStatusSubscriptions = 3000

	MinStatusSubscription = time.Minute
	MaxStatusSubscription = 30 * 24 * time.Hour
)

// OfflineAfter is how long a user has no stream before the user is offline. Clients that reconnect,
// or poll, are back before.
const OfflineAfter = 30 * time.Second

// StatusState says whether a user is online, as others see it.
type StatusState string

const (
	StatusOnline    StatusState = "online"    // a session of the user has a stream, or had one within OfflineAfter
	StatusOffline   StatusState = "offline"   // none has, or the last one was ended by others
	StatusLoggedOut StatusState = "loggedOut" // the user logged out of the last one
	StatusUnknown   StatusState = "unknown"   // there is no such user, or the asking user may not know
)

// UserStatus is the status of a user, in all sessions together.
type UserStatus struct {
	User         UserID      `json:"userID"`
	State        StatusState `json:"state"`
	CustomStatus string      `json:"customStatus,omitempty"`
	// LastSeenAt is when the user was last online; zero if the user is, or if it is not known.
	LastSeenAt Instant `json:"lastSeenAt,omitzero"`
	// UpdatedAt orders the statuses of a user: a later one replaces an earlier one.
	UpdatedAt Instant `json:"updatedAt"`
}

// SameAs reports whether the status says the same as another one, whenever it was read.
func (s UserStatus) SameAs(other UserStatus) bool {
	s.UpdatedAt = other.UpdatedAt
	return s == other
}

// HiddenStatus is what a user who may not know the status of another one sees. It is the status of a
// user who does not exist.
func HiddenStatus(user UserID, now time.Time) UserStatus {
	return UserStatus{User: user, State: StatusUnknown, UpdatedAt: InstantOf(now)}
}

// StatusFacts is what the status of a user follows from.
type StatusFacts struct {
	User UserID
	// Exists says that the user has logged in before, and was not deleted since.
	Exists       bool
	CustomStatus string
	// Connected says that a session of the user has a stream.
	Connected bool
	// DetachedAt is when the last of the other sessions that have not ended was detached; zero if
	// there is none.
	DetachedAt time.Time
	// OnlineUntil is when the user was last online in a session that has ended; zero if that is not
	// known. LoggedOut says that this session was logged out while it was online.
	OnlineUntil time.Time
	LoggedOut   bool
}

// Status returns the user's status at a time. Facts that were read after it may be later.
func (f StatusFacts) Status(now time.Time) UserStatus {
	if !f.Exists {
		return HiddenStatus(f.User, now)
	}
	s := UserStatus{User: f.User, CustomStatus: f.CustomStatus, UpdatedAt: InstantOf(now)}
	seen := f.OnlineUntil
	if f.DetachedAt.After(seen) {
		seen = f.DetachedAt
	}
	switch {
	case f.Connected, !f.DetachedAt.IsZero() && now.Sub(f.DetachedAt) < OfflineAfter:
		s.State = StatusOnline
		return s
	case f.LoggedOut && seen.Equal(f.OnlineUntil):
		s.State = StatusLoggedOut
	default:
		s.State = StatusOffline
	}
	if !seen.IsZero() {
		s.LastSeenAt = InstantOf(seen)
	}
	return s
}

// StatusVisibility says whose status a user may know. Users always know their own.
type StatusVisibility string

const (
	StatusForEverybody StatusVisibility = "everybody"
	// StatusForAcquaintances lets users know the status of users who are in a room with them, or
	// have lately written to them. That they have written to somebody themselves is not enough.
	StatusForAcquaintances StatusVisibility = "acquaintances"
	StatusForNobody        StatusVisibility = "nobody"
)

// StatusSubscription is a user's subscription to the status of another user.
type StatusSubscription struct {
	UserStatus
	ExpiresAt Instant `json:"expiresAt"`
}
