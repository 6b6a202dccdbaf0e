package room

import "slices"

// This file decides who may see a message that was sent to some members, and everything that tells
// of it. Everybody else learns that there is an event at its position in the log, and nothing more.

// MaxTo is the maximum number of users that a message can be sent to by name.
const MaxTo = 100

// MaxFilesTo is the maximum number of files in a message to some members, each of which is recorded
// for each of them.
const MaxFilesTo = 100

// MaxFileReaders is the maximum number of users who may read a file in a room because it was sent
// there to some members.
const MaxFileReaders = 1000

// Check returns the faults of a draft, at most MaxFaults. A draft without faults may be sent to a
// room.
func (d Draft) Check() []Fault {
	faults := d.Content.Check()
	if len(faults) == 0 && len(d.To) > 0 && len(d.MediaIDs()) > MaxFilesTo {
		faults = append(faults, Fault{"/messageList", "maxFiles", MaxFilesTo})
	}
	return faults
}

// VisibleTo reports whether a user may see the message.
func (m Message) VisibleTo(user UserID) bool {
	return len(m.To) == 0 || user == m.Sender.ID || slices.Contains(m.To, user)
}

// Audience returns the users who may see the message, in ascending order, each once; nil means
// everybody in the room.
func (m Message) Audience() []UserID {
	if len(m.To) == 0 {
		return nil
	}
	users := append(slices.Clone(m.To), m.Sender.ID)
	slices.Sort(users)
	return slices.Compact(users)
}

// Audience returns the users who may see an event, in ascending order, each once; nil means all
// subscribers of its log.
func Audience(b Body) []UserID {
	switch b := b.(type) {
	case MessagesReceived:
		if len(b.MessageList) > 0 {
			return b.MessageList[0].Audience() // the event of a message contains no other
		}
	case MessageRecalled:
		return b.Audience
	}
	return nil
}

// VisibleMessages returns the messages that a user may see. It may use the memory of the list.
func VisibleMessages(messages []Message, user UserID) []Message {
	return slices.DeleteFunc(messages, func(m Message) bool { return !m.VisibleTo(user) })
}
