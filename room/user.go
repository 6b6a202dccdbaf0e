package room

// ListedUser is a user as admins see it.
type ListedUser struct {
	ID UserID `json:"userID"`
	// Online says that a stream of the user is open, and SessionCount how many sessions of the user
	// have not ended.
	Online       bool `json:"online"`
	SessionCount int  `json:"sessionCount"`
	// LastSeenAt is when the user last had an open stream or a session. It may be up to a day too
	// early. It is zero while the user is online.
	LastSeenAt Instant `json:"lastSeenAt,omitzero"`
}
