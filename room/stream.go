package room

// Attachment is where a session stands when its stream opens.
type OpenedStream struct {
	// Epoch is which history of the database the stream's cursors belong to.
	// A restored backup is another one than what was backed up. Foreign says that
	// the client's cursor is of another one.
	Epoch   string
	Foreign bool
	// StreamNo tells this stream from the session's earlier ones.
	StreamNo int64
	// Attendances is the rooms that the session is in, by generation.
	Presences []Presence
	// Inbox is the user's.
	Inbox Inbox
	// Departures is why the session is no longer in rooms, as far as it is
	// known: in those of the client's cursor, and in those that it was taken out
	// of while it had no stream. A room that was entered after the last event
	// with an id is in no cursor.
	Left []Left
}

// Position is how far a session has read one log.
type Position struct {
	Log LogID
	Seq Seq
}

// Attendance is a room that a session is in. It follows the room's log from
// after From, unless its cursor is further.
type Presence struct {
	Room Room
	ID   PresenceID
	From Seq
}
