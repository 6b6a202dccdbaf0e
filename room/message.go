package room

import "time"

// Limits of a message, in bytes.
const (
	MaxTextBytes            = 32 << 10
	MaxExtendedDataBytes    = 1 << 10
	MaxClientMessageIDBytes = 64
)

// MessageKind says what a message carries.
type MessageKind string

// KindText is a message of plain text, up to MaxTextBytes.
const KindText MessageKind = "text"

// Priority decides what is shed first when a stream cannot keep up. A stored
// message is never shed.
type Priority string

const (
	PriorityLow    Priority = "low"
	PriorityMedium Priority = "medium"
	PriorityHigh   Priority = "high"
)

// Draft is a message as its sender wrote it.
type Draft struct {
	Kind            MessageKind
	Text            string
	Priority        Priority
	ExtendedData    string
	ClientMessageID string
}

// Message is a draft that was stored.
type Message struct {
	ID              MessageID   `json:"messageID"`
	Room            RoomID      `json:"roomID,omitempty"`
	Seq             Seq         `json:"seq,omitempty"`
	Kind            MessageKind `json:"kind"`
	Sender          User        `json:"sender"`
	Text            string      `json:"text"`
	Priority        Priority    `json:"priority"`
	ExtendedData    string      `json:"extendedData,omitempty"`
	ClientMessageID string      `json:"clientMessageID,omitempty"`
	SentAt          time.Time   `json:"sentAt"`
}

// Message makes the draft a message of its sender. Room and Seq are known once
// it is in the log.
func (d Draft) Message(id MessageID, sender User, now time.Time) Message {
	return Message{
		ID: id, Kind: d.Kind, Sender: sender, Text: d.Text, Priority: d.Priority,
		ExtendedData: d.ExtendedData, ClientMessageID: d.ClientMessageID, SentAt: now,
	}
}

// RetriedBy reports whether the draft, which carries this message's
// ClientMessageID, is the same message once more. Errors: ErrMessageIDReused
// where it says something else.
func (m Message) RetriedBy(d Draft) error {
	if m.Kind != d.Kind || m.Text != d.Text || m.Priority != d.Priority || m.ExtendedData != d.ExtendedData {
		return ErrMessageIDReused
	}
	return nil
}

// In is the message at its place in a room's log.
func (m Message) In(room RoomID, seq Seq) Message {
	m.Room, m.Seq = room, seq
	return m
}
