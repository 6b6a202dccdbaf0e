package room

// This file decides who may send which message where. Every message goes through it: stored or not,
// to a room or to a user, from a session or from an admin. A decision has two steps, in the order
// in which a client sees their errors:
//
//	CheckGrants  by the token of the session alone, before files are looked up and before the
//	             message counts against the rate limit
//	Permit       by the facts that the store has read; a permit ends when one of them changes
//
// A new rule is a field of RoomFacts and an if in RoomSend.Permit (see CONTRIBUTING.md).

// A Sender is the caller who sends a message: a session, or an admin on behalf of a user.
type Sender struct {
	Actor  Actor
	User   User    // shown to readers as the sender
	Inbox  LogID   // the log of the user's inbox; 0 if an admin sends
	Grants *Grants // of the session; nil allows all
}

// Sender returns the session as the sender of a message.
func (s Session) Sender(by Actor) Sender {
	return Sender{Actor: by, User: s.User, Inbox: s.Inbox, Grants: s.Grants}
}

// A Permit allows a message into a log. It is current as long as the log is open and the presence
// exists. The statement that stores the message checks this and nothing else, so a change of
// RoomFacts has to end the presence or give it a new ID.
type Permit struct {
	Log      LogID      // of the room, or of the receiver's inbox
	Presence PresenceID // of the sender in the room; 0 if none is needed
	// Earlier is set if the message is a retry: the sender gets Earlier as the answer, and nothing
	// is stored.
	Earlier *Message
}

// A RoomSend is a message that a sender wants to send to a room.
type RoomSend struct {
	Sender Sender
	Room   RoomID
	Draft  Draft
}

// RoomFacts is the state of a room, and of a sender in it, that decides about the sender's
// messages. The store reads it in one statement, and caches it for each sender and room.
type RoomFacts struct {
	Log      LogID      // of the room's current generation; 0 if the room does not exist
	Presence PresenceID // of the sender's session in the room; 0 if the session is not in the room
	// Earlier is the message that the sender stored under the draft's ClientMessageID; nil if there
	// is none.
	Earlier *Message
}

// CheckGrants returns ErrNotGranted if the sender's token does not allow messages to the room.
func (s *RoomSend) CheckGrants() error { return s.Sender.Grants.Check(ActionSend, s.Room) }

// Permit decides whether the message may be sent. Errors: ErrNotGranted, ErrRoomNotFound,
// ErrNotInRoom, ErrMessageIDReused.
func (s *RoomSend) Permit(f RoomFacts) (Permit, error) {
	if err := s.CheckGrants(); err != nil {
		return Permit{}, err
	}
	if f.Log == 0 {
		return Permit{}, ErrRoomNotFound
	}
	if s.Sender.Actor.Kind != ActorAdmin && f.Presence == 0 {
		return Permit{}, ErrNotInRoom
	}
	if f.Earlier != nil {
		return Permit{Earlier: f.Earlier}, f.Earlier.RetriedBy(s.Draft)
	}
	return Permit{Log: f.Log, Presence: f.Presence}, nil
}

// A PeerSend is a message that a sender wants to send to another user.
type PeerSend struct {
	Sender Sender
	Peer   UserID
	Draft  Draft
}

// PeerFacts is the state of the sender and of the receiver that decides about a message between
// them.
type PeerFacts struct {
	SessionEnded bool  // the sender's session; false if an admin sends
	Inbox        LogID // of the receiver; 0 if there is no such user
	// Earlier is the message that the sender stored for the receiver under the draft's
	// ClientMessageID; nil if there is none.
	Earlier *Message
	Blocked bool // the receiver has blocked the sender
}

// CheckGrants returns ErrNotGranted if the sender's token does not allow messages to the receiver.
func (s *PeerSend) CheckGrants() error { return s.Sender.Grants.CheckPeer(s.Peer) }

// Check decides what needs no facts, before the store reads them. Errors: ErrNotGranted,
// ErrMessageToSelf.
func (s *PeerSend) Check() error {
	if err := s.CheckGrants(); err != nil {
		return err
	}
	if s.Peer == s.Sender.User.ID {
		return ErrMessageToSelf
	}
	return nil
}

// StoppedByBlock reports whether a block stops the message. An admin's message is not stopped.
func (s *PeerSend) StoppedByBlock() bool { return s.Sender.Actor.Kind != ActorAdmin }

// Permit decides whether the message may be sent. Errors: ErrNotGranted, ErrMessageToSelf,
// ErrSessionEnded, ErrUserNotFound, ErrMessageIDReused, ErrBlocked.
func (s *PeerSend) Permit(f PeerFacts) (Permit, error) {
	if err := s.Check(); err != nil {
		return Permit{}, err
	}
	if f.SessionEnded {
		return Permit{}, ErrSessionEnded
	}
	if f.Inbox == 0 {
		return Permit{}, ErrUserNotFound
	}
	if f.Earlier != nil {
		return Permit{Earlier: f.Earlier}, f.Earlier.RetriedBy(s.Draft)
	}
	if f.Blocked && s.StoppedByBlock() {
		return Permit{}, ErrBlocked
	}
	return Permit{Log: f.Inbox}, nil
}

// ResolveMedia replaces the mediaIDs in a draft by the files that they name. readable holds those
// that the sender may read: a combined message may quote any of them, but only the owner of a file
// can send it as a message. Errors: ErrMediaNotFound, ErrMediaType, ErrMediaSize, ErrMediaDuration.
func (d *Draft) ResolveMedia(sender UserID, readable map[MediaID]StoredMedia) error {
	if d.Media != nil && readable[d.Media.ID].Owner != sender {
		return ErrMediaNotFound
	}
	return d.Content.resolveMedia(readable)
}

// resolveMedia resolves the files of a content and of everything that it quotes.
func (c *Content) resolveMedia(readable map[MediaID]StoredMedia) error {
	if c.Media != nil {
		m, ok := readable[c.Media.ID]
		if !ok {
			return ErrMediaNotFound
		}
		if err := c.Kind.Takes(m.Media); err != nil {
			return err
		}
		c.Media = &m.Media
	}
	for i := range c.MessageList {
		if err := c.MessageList[i].resolveMedia(readable); err != nil {
			return err
		}
	}
	return nil
}
