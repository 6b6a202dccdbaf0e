package room

import "time"

// Inbox is the log of the messages between a user and other users. All sessions of the user receive
// its events. A message is in the inboxes of both its sender and its receiver.
type Inbox struct {
	Log       LogID
	LastSeq   Seq
	OldestSeq Seq
	// DeliveredSeq is the newest event that some session of the user has received, as proved by the
	// cursor of a later stream. A stream without a cursor starts after it.
	DeliveredSeq Seq
	// CountedSeq is the event up to which the conversations include the inbox.
	CountedSeq Seq
	// ReadSeq is the seq up to which the messages of all conversations were marked as read at once.
	ReadSeq Seq
	// Unread is the number of unread messages in all conversations.
	Unread int
}

// With returns the message as it is in the inbox of one side of a conversation with peer.
func (m Message) With(peer UserID, seq Seq) Message {
	m.Peer, m.Seq = peer, seq
	return m
}

// append returns the inbox with an event at its end.
func (in Inbox) append(now time.Time, b Body) (Inbox, Change) {
	in.LastSeq++
	return in, Change{Events: []Event{{Log: in.Log, Seq: in.LastSeq, At: now, Body: b}}}
}
