package room

import "time"

// TokenWarning is how long before the token's end a client is told of it: the
// vendors' 30 seconds.
const TokenWarning = 30 * time.Second

// Session is one logged-in client instance of a user.
type Session struct {
	ID             SessionID
	User           User
	Device         string
	Grants         *Grants
	Inbox          LogID // the log of the user's inbox
	CreatedAt      time.Time
	TokenExpiresAt time.Time
	TokenIssuedAt  time.Time // zero where the token does not say
	// DetachedAt is since when no stream is open; zero while one is.
	DetachedAt time.Time
	// EndedAt and EndReason are set once the session is over.
	EndedAt   time.Time
	EndReason EndReason
}

// KeyHash is the SHA-256 of a key. Keys are random and long, so a plain hash
// keeps them safe, and looking one up by its hash tells a guesser nothing about
// how close the guess was.
type KeyHash [32]byte

// EndReason says why a session is over.
type EndReason string

const (
	EndLoggedOut    EndReason = "loggedOut"    // its client ended it
	EndTokenExpired EndReason = "tokenExpired" // its user token ran out
	EndKickedOut    EndReason = "kickedOut"    // the user's newer sessions took its place
)

// LeaveReason is the reason that the session's rooms see.
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

// State is the session's state at an instant; see SessionTransitions.
func (s Session) State(now time.Time) SessionState {
	switch {
	case !s.EndedAt.IsZero() || !now.Before(s.TokenExpiresAt):
		return SessionEnded
	case !s.DetachedAt.IsZero():
		return SessionDetached
	}
	return SessionOnline
}

// Usable returns why the session can no longer call, or nil. Errors:
// ErrSessionEnded, ErrTokenExpired.
func (s Session) Usable(now time.Time) error {
	switch {
	case s.EndReason == EndTokenExpired || !now.Before(s.TokenExpiresAt):
		return ErrTokenExpired
	case !s.EndedAt.IsZero():
		return ErrSessionEnded
	}
	return nil
}

// Claims is what a verified user token says.
type Claims struct {
	User      User // Name is empty where the token has none
	Grants    *Grants
	ExpiresAt time.Time
	IssuedAt  time.Time // zero where the token does not say
}

// Renew extends the session by a newer token of the same user; the token's
// grants replace the old ones. Errors: ErrTokenUserMismatch.
func (s Session) Renew(c Claims) (Session, error) {
	if c.User.ID != s.User.ID {
		return s, ErrTokenUserMismatch
	}
	s.TokenExpiresAt, s.TokenIssuedAt = c.ExpiresAt, c.IssuedAt
	s.Grants = c.Grants
	return s, nil
}
