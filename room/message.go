package room

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Limits of a message, in bytes.
const (
	MaxTextBytes            = 32 << 10
	MaxCommandBytes         = 5 << 10
	MaxBarrageBytes         = 5 << 10
	MaxTitleBytes           = 256
	MaxSummaryBytes         = 1 << 10
	MaxExtendedDataBytes    = 1 << 10
	MaxClientMessageIDBytes = 64
)

const (
	// MaxSubType is the largest subType of a custom message, as in the vendors' SDKs.
	MaxSubType = 200
	// MaxCombined is the maximum number of messages in a combined message, at each level.
	MaxCombined = 100
	// MaxCombineDepth is how deep combined messages may be nested.
	MaxCombineDepth = 3
)

// MessageKind is the kind of content of a message.
type MessageKind string

const (
	KindText    MessageKind = "text"    // plain text, up to MaxTextBytes
	KindCommand MessageKind = "command" // bytes for programs, up to MaxCommandBytes; not stored
	KindBarrage MessageKind = "barrage" // text that is shown for a moment, up to MaxBarrageBytes; not stored, and shed first
	KindCustom  MessageKind = "custom"  // text for the application, up to MaxTextBytes, and a subType
	KindCombine MessageKind = "combine" // a list of quoted messages
	KindImage   MessageKind = "image"   // an image; mediaRules lists the files of this kind and the next three
	KindFile    MessageKind = "file"    // any file
	KindAudio   MessageKind = "audio"   // an audio file
	KindVideo   MessageKind = "video"   // a video
)

// Stored reports whether messages of the kind are appended to the log. Other messages are only
// published to current subscribers.
func (k MessageKind) Stored() bool { return k != KindCommand && k != KindBarrage }

// Priority decides which messages are shed first if a client is a slow consumer. A stored message
// is never shed.
type Priority string

const (
	PriorityLow    Priority = "low"
	PriorityMedium Priority = "medium"
	PriorityHigh   Priority = "high"
)

// Content is the content of a message. Its kind decides which fields it has.
type Content struct {
	Kind MessageKind `json:"kind"`
	// Text belongs to a text, barrage or custom message.
	Text string `json:"text,omitempty"`
	// Data belongs to a command.
	Data []byte `json:"data,omitempty"`
	// SubType belongs to a custom message: the application's own kind.
	SubType *int `json:"subType,omitempty"`
	// Title, Summary and MessageList belong to a combined message.
	Title       string   `json:"title,omitempty"`
	Summary     string   `json:"summary,omitempty"`
	MessageList []Quoted `json:"messageList,omitempty"`
	// Media belongs to an image, file, audio or video message.
	Media *Media `json:"media,omitempty"`
}

// Quoted is a message in a combined message, as its sender quotes it: the server does not check
// whether it was ever sent.
type Quoted struct {
	Content
	Sender User    `json:"sender"`
	SentAt Instant `json:"sentAt"`
}

// Draft is a message before it is accepted.
type Draft struct {
	Content
	// To holds the users who may see the message besides its sender; nil means everybody in the
	// room. A message between users has none.
	To              []UserID
	Priority        Priority
	ExtendedData    string
	ClientMessageID string
}

// Message is an accepted draft. A message that is not stored has no Seq, and a recalled message has
// no content.
type Message struct {
	ID MessageID `json:"messageID"`
	// Room is the room of the message. A message between users has a Peer instead: the other user,
	// from the point of view of the inbox that it is in.
	Room RoomID `json:"roomID,omitempty"`
	Peer UserID `json:"userID,omitempty"`
	Seq  Seq    `json:"seq,omitempty"`
	Content
	Sender          User     `json:"sender"`
	To              []UserID `json:"to,omitempty"`
	Priority        Priority `json:"priority"`
	ExtendedData    string   `json:"extendedData,omitempty"`
	ClientMessageID string   `json:"clientMessageID,omitempty"`
	SentAt          Instant  `json:"sentAt"`
	Recalled        bool     `json:"recalled,omitempty"`
}

// Message returns the draft as a message of its sender. Its Room and Seq are set when it is
// appended.
func (d Draft) Message(id MessageID, sender User, now time.Time) Message {
	return Message{
		ID: id, Content: d.Content, Sender: sender, To: d.To, Priority: d.Priority,
		ExtendedData: d.ExtendedData, ClientMessageID: d.ClientMessageID, SentAt: InstantOf(now),
	}
}

// In returns the message with its room and its seq in the room's log.
func (m Message) In(room RoomID, seq Seq) Message {
	m.Room, m.Seq = room, seq
	return m
}

// RetriedBy returns nil if a draft with the message's ClientMessageID is a retry of the message,
// and ErrMessageIDReused if it differs. Of a recalled message, only the kind and the users that it
// was sent to can be compared.
func (m Message) RetriedBy(d Draft) error {
	if !slices.Equal(m.To, d.To) {
		return ErrMessageIDReused
	}
	if m.Recalled && m.Kind == d.Kind {
		return nil
	}
	if m.Priority != d.Priority || m.ExtendedData != d.ExtendedData || !reflect.DeepEqual(m.Content, d.Content) {
		return ErrMessageIDReused
	}
	return nil
}

// Span is a range of a log.
type Span struct {
	After, Before Seq // the range between these seqs, both excluded
	// From and Until are the range of instants, Until excluded. The zero value means no limit.
	From, Until time.Time
}

// fields holds the maximum lengths of the fields of a kind; 0 means that the kind does not have the
// field.
type fields struct {
	text, data, title, summary, list int
	subType, media                   bool
}

var fieldsOf = map[MessageKind]fields{
	KindText:    {text: MaxTextBytes},
	KindCommand: {data: MaxCommandBytes},
	KindBarrage: {text: MaxBarrageBytes},
	KindCustom:  {text: MaxTextBytes, subType: true},
	KindCombine: {title: MaxTitleBytes, summary: MaxSummaryBytes, list: MaxCombined},
	KindImage:   {media: true},
	KindFile:    {media: true},
	KindAudio:   {media: true},
	KindVideo:   {media: true},
}

// Fault is a rule that a content or the settings of a room violate.
type Fault struct {
	Field string // a JSON Pointer
	// Rule is missing (the kind needs the field), forbidden (the kind does not have it), maxBytes,
	// min, max or depth for a content, and ceiling for settings.
	Rule  string
	Limit int // set for all rules but missing and forbidden
}

// MaxFaults is the maximum number of faults that Check returns.
const MaxFaults = 20

// Check returns the faults of a content, at most MaxFaults. A content without faults may be sent.
func (c Content) Check() []Fault {
	faults := c.check("", 1)
	return faults[:min(len(faults), MaxFaults)]
}

func (c Content) check(at string, depth int) (faults []Fault) {
	kind := fieldsOf[c.Kind]
	add := func(field, rule string, limit int) { faults = append(faults, Fault{at + "/" + field, rule, limit}) }
	for _, f := range []struct {
		name          string
		length, limit int
		optional      bool
		tooLong       string
	}{
		{name: "text", length: len(c.Text), limit: kind.text, tooLong: "maxBytes"},
		{name: "data", length: len(c.Data), limit: kind.data, tooLong: "maxBytes"},
		{name: "title", length: len(c.Title), limit: kind.title, tooLong: "maxBytes"},
		{name: "summary", length: len(c.Summary), limit: kind.summary, optional: true, tooLong: "maxBytes"},
		{name: "messageList", length: len(c.MessageList), limit: kind.list, tooLong: "max"},
	} {
		switch {
		case f.limit == 0 && f.length > 0:
			add(f.name, "forbidden", 0)
		case f.limit > 0 && f.length == 0 && !f.optional:
			add(f.name, "missing", 0)
		case f.length > f.limit:
			add(f.name, f.tooLong, f.limit)
		}
	}
	switch {
	case kind.subType && c.SubType == nil:
		add("subType", "missing", 0)
	case !kind.subType && c.SubType != nil:
		add("subType", "forbidden", 0)
	case kind.subType && *c.SubType < 0:
		add("subType", "min", 0)
	case kind.subType && *c.SubType > MaxSubType:
		add("subType", "max", MaxSubType)
	}
	switch {
	case kind.media && c.Media == nil:
		add("mediaID", "missing", 0)
	case !kind.media && c.Media != nil:
		add("mediaID", "forbidden", 0)
	}
	if kind.list > 0 && depth > MaxCombineDepth {
		add("messageList", "depth", MaxCombineDepth)
		return faults
	}
	for i, quoted := range c.MessageList {
		if len(faults) >= MaxFaults {
			break
		}
		faults = append(faults, quoted.check(fmt.Sprintf("%s/messageList/%d", at, i), depth+1)...)
	}
	return faults
}
