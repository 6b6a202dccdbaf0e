package room

import (
	"fmt"
	"reflect"
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
	// MaxSubType is the largest subType of a custom message: the vendors' 200.
	MaxSubType = 200
	// MaxCombined is how many messages a combined one may hold, at each level.
	MaxCombined = 100
	// MaxCombineDepth is how deep combined messages may stand in each other.
	MaxCombineDepth = 3
)

// MessageKind says what a message carries.
type MessageKind string

const (
	KindText    MessageKind = "text"    // plain text, up to MaxTextBytes
	KindCommand MessageKind = "command" // bytes for programs, up to MaxCommandBytes; not stored
	KindBarrage MessageKind = "barrage" // text that flies by, up to MaxBarrageBytes; not stored, and the first to be shed
	KindCustom  MessageKind = "custom"  // text that only the application reads, up to MaxTextBytes, and a subType
	KindCombine MessageKind = "combine" // a bundle of messages that were said elsewhere
	KindImage   MessageKind = "image"   // a picture; what files these four take, Takes says
	KindFile    MessageKind = "file"    // any file
	KindAudio   MessageKind = "audio"   // sound
	KindVideo   MessageKind = "video"   // a film
)

// Stored reports whether messages of the kind go into the log. The others reach
// those who listen at the moment.
func (k MessageKind) Stored() bool { return k != KindCommand && k != KindBarrage }

// Priority decides what is shed first when a stream cannot keep up. A stored
// message is never shed.
type Priority string

const (
	PriorityLow    Priority = "low"
	PriorityMedium Priority = "medium"
	PriorityHigh   Priority = "high"
)

// Content is what a message carries. Its kind says which fields it has.
type Content struct {
	Kind MessageKind `json:"kind"`
	// Text is of a text, a barrage and a custom message.
	Text string `json:"text,omitempty"`
	// Data is of a command.
	Data []byte `json:"data,omitempty"`
	// SubType is of a custom message: the application's own kind.
	SubType *int `json:"subType,omitempty"`
	// Title, Summary and MessageList are of a combined message.
	Title       string   `json:"title,omitempty"`
	Summary     string   `json:"summary,omitempty"`
	MessageList []Quoted `json:"messageList,omitempty"`
	// Media is of an image, a file, an audio and a video message.
	Media *Media `json:"media,omitempty"`
}

// Quoted is a message within a combined one, as the sender quotes it: the server
// does not know whether it was ever said.
type Quoted struct {
	Content
	Sender User      `json:"sender"`
	SentAt time.Time `json:"sentAt"`
}

// Draft is a message as its sender wrote it.
type Draft struct {
	Content
	Priority        Priority
	ExtendedData    string
	ClientMessageID string
}

// Message is a draft that was accepted. One that is not stored has no Seq, and
// one that was recalled has no content.
type Message struct {
	ID MessageID `json:"messageID"`
	// Room is where it was said, or else Peer is the other side: who has it in
	// the inbox talks with Peer.
	Room RoomID `json:"roomID,omitempty"`
	Peer UserID `json:"userID,omitempty"`
	Seq  Seq    `json:"seq,omitempty"`
	Content
	Sender          User      `json:"sender"`
	Priority        Priority  `json:"priority"`
	ExtendedData    string    `json:"extendedData,omitempty"`
	ClientMessageID string    `json:"clientMessageID,omitempty"`
	SentAt          time.Time `json:"sentAt"`
	Recalled        bool      `json:"recalled,omitempty"`
}

// Message makes the draft a message of its sender. Room and Seq are known once
// it is in the log.
func (d Draft) Message(id MessageID, sender User, now time.Time) Message {
	return Message{
		ID: id, Content: d.Content, Sender: sender, Priority: d.Priority,
		ExtendedData: d.ExtendedData, ClientMessageID: d.ClientMessageID, SentAt: now,
	}
}

// RetriedBy reports whether the draft, which carries this message's
// ClientMessageID, is the same message once more. Of one that was recalled only
// its kind is known. Errors: ErrMessageIDReused where it says something else.
func (m Message) RetriedBy(d Draft) error {
	if m.Recalled && m.Kind == d.Kind {
		return nil
	}
	if m.Priority != d.Priority || m.ExtendedData != d.ExtendedData || !reflect.DeepEqual(m.Content, d.Content) {
		return ErrMessageIDReused
	}
	return nil
}

// Span is a part of a log.
type Span struct {
	After, Before Seq // the events between, without these
	// From and Until bound the instants, the first included; zero: not at all.
	From, Until time.Time
}

// In is the message at its place in a room's log.
func (m Message) In(room RoomID, seq Seq) Message {
	m.Room, m.Seq = room, seq
	return m
}

// fields is which fields the contents of a kind have, and how long they may be;
// 0 is a field that the kind does not have.
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

// Fault is a rule that a content or a room's settings break.
type Fault struct {
	Field string // a JSON Pointer
	// Rule is missing (the kind needs the field), forbidden (it does not have
	// it), maxBytes, min, max or depth of a content, and ceiling of settings.
	Rule  string
	Limit int // of all but missing and forbidden
}

// MaxFaults is how many faults Check returns at most.
const MaxFaults = 20

// Check returns what keeps the content from being sent, at most MaxFaults of it.
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
