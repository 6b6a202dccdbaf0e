package room

import "time"

// A Conversation is what the inbox of a user says about another user, the peer: a function of the
// inbox's events, in their order. Clients apply the same function to the events of their streams.
type Conversation struct {
	Peer UserID
	// LastSeq is the newest message, in either direction, that the user has not deleted; 0 if there
	// is none. Without one, the conversation does not exist for the user.
	LastSeq Seq
	// ReadSeq is the seq up to which all messages are read. It never decreases.
	ReadSeq Seq
	// DeletedSeq is the seq up to which the user has deleted all messages, which are hidden from
	// the user from then on. The peer keeps them.
	DeletedSeq Seq
	// Unread is the number of messages of the peer after ReadSeq that were not recalled and are
	// still stored.
	Unread int
}

// Exists reports whether the user has a conversation with the peer.
func (c Conversation) Exists() bool { return c.LastSeq > 0 }

// A PeerEvent is what conversations depend on in an event of an inbox.
type PeerEvent struct {
	Seq         Seq
	Type        EventType
	Peer        UserID
	ByPeer      bool // the peer sent the message or recalled it, and not the user
	RecalledSeq Seq  // of a recall
}

// Apply returns the conversation after an event of an inbox about its peer. A recalled message counts
// as unread until the event of its recall, if it is still stored: oldest is the oldest seq of the
// inbox.
func (c Conversation) Apply(e PeerEvent, oldest Seq) Conversation {
	switch {
	case e.Type == TypePeerMessagesReceived:
		c.LastSeq = e.Seq
		if e.ByPeer {
			c.Unread++
		}
	case e.Type == TypePeerMessageRecalled && e.ByPeer && e.RecalledSeq > c.ReadSeq && e.RecalledSeq >= oldest:
		c.Unread--
	}
	return c
}

// ReadWith returns the conversation after all conversations were read up to a seq at once, which is
// recorded in the inbox and not in each of them. All events up to the seq were counted before, so a
// conversation that is stored as read less far has changed since.
func (c Conversation) ReadWith(all Seq) Conversation {
	if c.ReadSeq < all {
		c.ReadSeq, c.Unread = all, 0
	}
	return c
}

// CheckRead returns an error if a conversation cannot be read up to a seq. A seq of the future is
// refused, because its messages would never have been unread. Errors: ErrNoConversation,
// ErrSeqAhead.
func (in Inbox) CheckRead(c Conversation, upTo Seq) error {
	switch {
	case !c.Exists():
		return ErrNoConversation
	case upTo > in.LastSeq:
		return ErrSeqAhead
	}
	return nil
}

// Read marks the messages of a conversation as read up to a seq, n of which are unread. Without
// unread messages it changes nothing.
func (in Inbox) Read(c Conversation, upTo Seq, n int, now time.Time) (Inbox, Conversation, Change) {
	if n == 0 {
		return in, c, Change{}
	}
	c.ReadSeq = upTo
	c.Unread -= n
	in.Unread -= n
	return in.changed(c, now)
}

// ReadAll marks all messages of all conversations as read. Without unread messages it changes
// nothing.
func (in Inbox) ReadAll(now time.Time) (Inbox, Change) {
	if in.Unread == 0 {
		return in, Change{}
	}
	in.ReadSeq, in.Unread = in.LastSeq, 0
	in, change := in.append(now, ConversationsRead{ReadSeq: in.ReadSeq})
	in.CountedSeq = in.LastSeq
	return in, change
}

// Delete deletes all messages of a conversation for the user. The next message begins it again.
// Errors: ErrNoConversation.
func (in Inbox) Delete(c Conversation, now time.Time) (Inbox, Conversation, Change, error) {
	if !c.Exists() {
		return in, c, Change{}, ErrNoConversation
	}
	in.Unread -= c.Unread
	c.LastSeq, c.ReadSeq, c.DeletedSeq, c.Unread = 0, in.LastSeq, in.LastSeq, 0
	in, c, change := in.changed(c, now)
	return in, c, change, nil
}

// changed appends the event that a conversation was changed by its user. All events before it are
// counted.
func (in Inbox) changed(c Conversation, now time.Time) (Inbox, Conversation, Change) {
	in, change := in.append(now, ConversationChanged{
		Peer: c.Peer, UnreadCount: c.Unread, ReadSeq: c.ReadSeq, DeletedSeq: c.DeletedSeq, TotalUnreadCount: in.Unread,
	})
	in.CountedSeq = in.LastSeq
	return in, c, change
}

// A ListedConversation is a conversation with its newest message, as clients see it.
type ListedConversation struct {
	Peer        UserID  `json:"userID"`
	UnreadCount int     `json:"unreadCount"`
	ReadSeq     Seq     `json:"readSeq"`
	LastMessage Message `json:"lastMessage"`
}

// A ConversationPage is a part of a user's conversations, and what is true of all of them.
type ConversationPage struct {
	Seq              Seq // the event of the inbox up to which the page is true
	TotalUnreadCount int
	List             []ListedConversation
}
