package room

import "time"

// OpenedStream is the state of a session when its stream opens.
type OpenedStream struct {
	// Epoch identifies the history of the database that the stream's cursors belong to: a restored
	// backup begins a new one. Foreign says that the client's cursor belongs to another epoch.
	Epoch   string
	Foreign bool
	// StreamNo is the number of this stream among the session's streams. A later stream has a
	// greater one.
	StreamNo int64
	// Presences are the rooms that the session is in, in the order of their generations.
	Presences []Presence
	// LastPresence is not less than the ID of any presence that began before the state was read.
	LastPresence PresenceID
	Inbox        Inbox
	// StatusesSince is since when the client may have missed statuses of users whom its user
	// subscribes to; zero if the user subscribes to nobody.
	StatusesSince time.Time
	// Left are the rooms that the session is no longer in, and why, as far as is known: rooms in
	// the client's cursor, and rooms that it was removed from while it had no stream. (A room that
	// was joined after the last event with an id is in no cursor.)
	Left []Left
}

// Position is a seq in a log.
type Position struct {
	Log LogID
	Seq Seq
}

// Presence is a room that a session is in. The session receives the events of the room's log after
// From, or after its cursor if that is later.
type Presence struct {
	Room Room
	ID   PresenceID
	From Seq
}
