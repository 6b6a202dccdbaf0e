package room

// Attachment is where a session stands when its stream opens.
type Attachment struct {
	// StreamNo tells this stream from the session's earlier ones.
	StreamNo int64
	// Attendances is the rooms that the session is in, by generation.
	Attendances []Attendance
	// Departures is what became of those rooms of the client's cursor that the
	// session is no longer in, as far as it is known.
	Departures []Departure
}

// Attendance is a room that a session is in. It follows the room's log from
// after From, unless its cursor is further.
type Attendance struct {
	Room Room
	Stay Stay
	From Seq
}
