package room

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// EventType is the name of an event on the wire.
type EventType string

// The events of a room's log: stored, numbered, told to everybody in the room.
const (
	TypeMembersJoined    EventType = "roomMemberJoined"
	TypeMembersLeft      EventType = "roomMemberLeft"
	TypeMessagesReceived EventType = "roomMessageReceived"
	TypeMessageRecalled  EventType = "messageRecalled"

	TypeAttributesUpdated       EventType = "roomAttributesUpdated"
	TypeMemberAttributesUpdated EventType = "roomMemberAttributesUpdated"
)

// The events of a user's inbox: stored, numbered, told to all sessions of the
// user.
const (
	TypePeerMessagesReceived EventType = "peerMessageReceived"
	TypePeerMessageRecalled  EventType = "peerMessageRecalled"
)

// The events of one session's stream: never stored.
const (
	TypeSessionReady           EventType = "sessionReady"
	TypeConnectionStateChanged EventType = "connectionStateChanged"
	TypeRoomStateChanged       EventType = "roomStateChanged"
	TypeRoomReset              EventType = "roomReset"
	TypeInboxReset             EventType = "inboxReset"
	TypeTokenWillExpire        EventType = "tokenWillExpire"
	TypeReconnect              EventType = "reconnect"
)

// Body is what an event says. The set of bodies is closed.
type Body interface{ Type() EventType }

// Event is something that happened in a room or for a user, at its place in the
// log. One that is not stored has no place: its Seq is 0.
type Event struct {
	Room RoomID // empty in an inbox
	Log  LogID  // the log's number
	Seq  Seq
	At   time.Time
	Body Body
}

// LogPage is a run of a log's events in order, and where the whole log stands.
type LogPage struct {
	Events    []Event
	LastSeq   Seq
	OldestSeq Seq
}

type (
	// MembersJoined says that users became members.
	MembersJoined struct {
		MemberList []Member `json:"memberList"`
	}
	// MembersLeft says that users are no longer members, and why.
	MembersLeft struct {
		MemberList []LeftMember `json:"memberList"`
	}
	// MessagesReceived brings messages, those of the receiver's own included.
	MessagesReceived struct {
		MessageList []Message `json:"messageList"`
	}
	// MessageRecalled says that a message's content is no more: its event keeps
	// its place, RecalledSeq, and shows a message that says nothing.
	MessageRecalled struct {
		MessageID    MessageID     `json:"messageID"`
		RecalledSeq  Seq           `json:"recalledSeq"`
		OperatedInfo *OperatedInfo `json:"operatedInfo,omitempty"`
	}
	// PeerMessagesReceived brings messages between a user and another, those
	// that the user sent included.
	PeerMessagesReceived struct {
		MessageList []Message `json:"messageList"`
	}
	// PeerMessageRecalled is MessageRecalled for a message between a user and a
	// peer. Seqs are those of the user's inbox.
	PeerMessageRecalled struct {
		Peer         UserID        `json:"userID"`
		MessageID    MessageID     `json:"messageID"`
		RecalledSeq  Seq           `json:"recalledSeq"`
		OperatedInfo *OperatedInfo `json:"operatedInfo"`
	}
	// AttributesUpdated says what was set and what was deleted, each at most
	// once and in this order.
	AttributesUpdated struct {
		Infos        []AttributesInfo `json:"infos"`
		OperatedInfo *OperatedInfo    `json:"operatedInfo,omitempty"`
	}
	// MemberAttributesUpdated brings all the attributes of members some of
	// whose were changed.
	MemberAttributesUpdated struct {
		Infos        []MemberAttributesInfo `json:"infos"`
		OperatedInfo *OperatedInfo          `json:"operatedInfo,omitempty"`
	}
	// OperatedInfo says whose doing an event is; absent where it is nobody's.
	OperatedInfo struct {
		UserID UserID `json:"userID"`
	}

	// SessionReady is the first event of every stream.
	SessionReady struct {
		SessionID SessionID `json:"sessionID"`
		Resumed   bool      `json:"resumed"`
		Rooms     []Room    `json:"rooms"`
	}
	// ConnectionStateChanged is the last event before a stream ends for a reason.
	ConnectionStateChanged struct {
		State string          `json:"state"`
		Event ConnectionEvent `json:"event"`
		// Note is what an operator said of it.
		Reason string `json:"reason,omitempty"`
	}
	// RoomStateChanged tells a session of its own relation to a room.
	RoomStateChanged struct {
		RoomID     RoomID    `json:"roomID"`
		Generation LogID     `json:"generation,omitempty"`
		State      RoomState `json:"state"`
		Event      RoomEvent `json:"event"`
		// Note is what an operator said of a kick or a destruction.
		Reason string   `json:"reason,omitempty"`
		Error  *Problem `json:"error,omitempty"`
	}
	// Problem is the error of a call that failed, as its reply told it.
	Problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	// RoomReset says that a room's events cannot be continued at the cursor.
	RoomReset struct {
		RoomID     RoomID      `json:"roomID"`
		Generation LogID       `json:"generation"`
		Reason     ResetReason `json:"reason"`
		Room       Room        `json:"room"`
		OldestSeq  Seq         `json:"oldestSeq"`
	}
	// InboxReset says that the user's inbox cannot be continued at the cursor, or
	// no longer has what was not delivered to the user yet. It goes on with the
	// oldest event that is kept and not known to be delivered.
	InboxReset struct {
		Reason    ResetReason `json:"reason"`
		OldestSeq Seq         `json:"oldestSeq"`
	}
	// TokenWillExpire says how long the session's token still lasts.
	TokenWillExpire struct {
		SecondsLeft int `json:"secondsLeft"`
	}
	// Reconnect asks the client to come back a little later.
	Reconnect struct {
		AfterMs int64 `json:"afterMs"`
	}
)

// ResetReason says why a cursor could not be served.
type ResetReason string

const (
	ResetCursorInvalid ResetReason = "cursorInvalid" // not a cursor of this server
	ResetCursorAhead   ResetReason = "cursorAhead"   // it names events the log does not have
	ResetLogTrimmed    ResetReason = "logTrimmed"    // the events after it are no longer kept
	ResetEpochChanged  ResetReason = "epochChanged"  // the database was restored since, or failed over
)

func (MembersJoined) Type() EventType           { return TypeMembersJoined }
func (MembersLeft) Type() EventType             { return TypeMembersLeft }
func (MessagesReceived) Type() EventType        { return TypeMessagesReceived }
func (MessageRecalled) Type() EventType         { return TypeMessageRecalled }
func (PeerMessagesReceived) Type() EventType    { return TypePeerMessagesReceived }
func (PeerMessageRecalled) Type() EventType     { return TypePeerMessageRecalled }
func (AttributesUpdated) Type() EventType       { return TypeAttributesUpdated }
func (MemberAttributesUpdated) Type() EventType { return TypeMemberAttributesUpdated }
func (SessionReady) Type() EventType            { return TypeSessionReady }
func (ConnectionStateChanged) Type() EventType  { return TypeConnectionStateChanged }
func (RoomStateChanged) Type() EventType        { return TypeRoomStateChanged }
func (RoomReset) Type() EventType               { return TypeRoomReset }
func (InboxReset) Type() EventType              { return TypeInboxReset }
func (TokenWillExpire) Type() EventType         { return TypeTokenWillExpire }
func (Reconnect) Type() EventType               { return TypeReconnect }

// RecalledBy is the event of a log whose content is no more since this one; 0
// where it says nothing of the kind.
func RecalledBy(b Body) Seq {
	switch b := b.(type) {
	case MessageRecalled:
		return b.RecalledSeq
	case PeerMessageRecalled:
		return b.RecalledSeq
	}
	return 0
}

// MessagesOf is the messages that a body brings, to a room or to a user; none
// where it brings something else.
func MessagesOf(b Body) []Message {
	switch b := b.(type) {
	case MessagesReceived:
		return b.MessageList
	case PeerMessagesReceived:
		return b.MessageList
	}
	return nil
}

// operatedBy is nil where no user did it.
func operatedBy(id UserID) *OperatedInfo {
	if id == "" {
		return nil
	}
	return &OperatedInfo{UserID: id}
}

// MarshalJSON is the event as clients get it: its place in the log, and then
// what it says.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil) }

// AppendJSON is MarshalJSON into a buffer that is there already.
func (e Event) AppendJSON(b []byte) ([]byte, error) {
	if messages := MessagesOf(e.Body); len(messages) == 1 {
		const names = 64
		b = slices.Grow(b, names+len(e.Room)+messages[0].sizeJSON())
	}
	before := byte('{') // stands before the next field
	if e.Room != "" {
		b = appendString(append(append(b, before), `"roomID":`...), string(e.Room))
		b = strconv.AppendInt(append(b, `,"generation":`...), int64(e.Log), 10)
		before = ','
	}
	if e.Seq > 0 {
		b = strconv.AppendInt(append(append(b, before), `"seq":`...), int64(e.Seq), 10)
		before = ','
	}
	body := len(b)
	b, err := AppendBody(b, e.Body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Body.Type(), err)
	}
	b[body] = before // its fields stand in the same object
	return b, nil
}

// DecodeBody reads a body of a log's event from its JSON. It fails on types
// that no log holds.
func DecodeBody(t EventType, data []byte) (Body, error) {
	switch t {
	case TypeMembersJoined:
		return decode[MembersJoined](data)
	case TypeMembersLeft:
		return decode[MembersLeft](data)
	case TypeMessagesReceived:
		return decode[MessagesReceived](data)
	case TypeMessageRecalled:
		return decode[MessageRecalled](data)
	case TypePeerMessagesReceived:
		return decode[PeerMessagesReceived](data)
	case TypePeerMessageRecalled:
		return decode[PeerMessageRecalled](data)
	case TypeAttributesUpdated:
		return decode[AttributesUpdated](data)
	case TypeMemberAttributesUpdated:
		return decode[MemberAttributesUpdated](data)
	default:
		return nil, fmt.Errorf("no log holds events of type %q", t)
	}
}

func decode[B Body](data []byte) (Body, error) {
	var b B
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("decode %s: %w", b.Type(), err)
	}
	return b, nil
}
