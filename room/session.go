package room

import "time"

// TokenWarning is how long before the token expires the client is notified, 30 seconds as in the
// vendors' SDKs.
const TokenWarning = 30 * time.Second

// Session is a login of a user, from one client.
type Session struct {
	ID             SessionID
	User           User
	Device         string
	Grants         *Grants
	Inbox          LogID
	CreatedAt      time.Time
	TokenExpiresAt time.Time
	TokenIssuedAt  time.Time // zero if the token has no iat
	// DetachedAt is when the last stream ended; zero while a stream is open.
	DetachedAt time.Time
	// EndedAt and EndReason are zero until the session ends.
	EndedAt   time.Time
	EndReason EndReason
}

// KeyHash is the SHA-256 of a key. Keys are long and random, so they need no salt and no slow hash,
// and the time of a lookup by hash does not reveal how close a guess was.
type KeyHash [32]byte

// EndReason says why a session ended.
type EndReason string

const (
	EndLoggedOut    EndReason = "loggedOut"    // the client ended it
	EndTokenExpired EndReason = "tokenExpired" // the user token expired
	EndKickedOut    EndReason = "kickedOut"    // an admin ended it, or the user opened more sessions than allowed
)

// LeaveReason returns the reason with which the session leaves its rooms.
func (r EndReason) LeaveReason() LeaveReason {
	switch r {
	case EndLoggedOut:
		return ReasonLoggedOut
	case EndTokenExpired:
		return ReasonTokenExpired
	case EndKickedOut:
		return ReasonKicked
	}
	return ReasonKicked
}

// State returns the session's state at a time; see SessionTransitions.
func (s Session) State(now time.Time) SessionState {
	switch {
	case !s.EndedAt.IsZero() || !now.Before(s.TokenExpiresAt):
		return SessionEnded
	case !s.DetachedAt.IsZero():
		return SessionDetached
	}
	return SessionOnline
}

// Usable returns an error if the session can make no more calls. Errors: ErrSessionEnded,
// ErrTokenExpired.
func (s Session) Usable(now time.Time) error {
	switch {
	case s.EndReason == EndTokenExpired || !now.Before(s.TokenExpiresAt):
		return ErrTokenExpired
	case !s.EndedAt.IsZero():
		return ErrSessionEnded
	}
	return nil
}

// Claims are the claims of a verified user token.
type Claims struct {
	User      User // Name is empty if the token has no name
	Grants    *Grants
	ExpiresAt time.Time
	IssuedAt  time.Time // zero if the token has no iat
}

// Renew replaces the session's token, including its grants, by a newer one of the same user.
// Errors: ErrTokenUserMismatch.
func (s Session) Renew(c Claims) (Session, error) {
	if c.User.ID != s.User.ID {
		return s, ErrTokenUserMismatch
	}
	s.TokenExpiresAt, s.TokenIssuedAt = c.ExpiresAt, c.IssuedAt
	s.Grants = c.Grants
	return s, nil
}
