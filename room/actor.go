package room

// ActorKind says what sort of caller an Actor is.
type ActorKind string

const (
	ActorSession ActorKind = "session" // a session of a user, which called with its key
	ActorAdmin   ActorKind = "admin"   // a server, which called with an admin token
	ActorServer  ActorKind = "server"  // Parlor itself, because a timeout or a token expired
)

// Actor is the caller who makes a change, or Parlor itself.
type Actor struct {
	Kind ActorKind
	// ID is the session's ID, or the subject of the admin token. It is empty for Parlor itself and
	// for an admin token without a subject.
	ID string
	// RequestID names the caller's request in the server's log. It is empty for Parlor itself.
	RequestID string
}

// Server returns the actor of changes that nobody asked for, such as the end of a session whose
// token expired.
func Server() Actor { return Actor{Kind: ActorServer} }

// Session returns the ID of the acting session, or "" if the actor is not a session.
func (a Actor) Session() SessionID {
	if a.Kind != ActorSession {
		return ""
	}
	return SessionID(a.ID)
}
