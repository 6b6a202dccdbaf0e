package room

// Inbox is where the messages between a user and other users are: a log of the
// user's own, which every session of the user follows. A message stands in the
// inboxes of both sides.
type Inbox struct {
	// Log is the inbox's number among all logs.
	Log       LogID
	LastSeq   Seq
	OldestSeq Seq
	// DeliveredSeq is the newest event that a session of the user has shown to
	// have, by coming back with a cursor. A session without a cursor begins after it.
	DeliveredSeq Seq
}

// To is the message as it stands in the inbox of one side: peer is the other.
func (m Message) To(peer UserID, seq Seq) Message {
	m.Peer, m.Seq = peer, seq
	return m
}
