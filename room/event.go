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

// The events of a room's log: stored, numbered, and delivered to every session in the room.
const (
	TypeMembersJoined    EventType = "roomMemberJoined"
	TypeMembersLeft      EventType = "roomMemberLeft"
	TypeMembersCounted   EventType = "roomMemberCountUpdated"
	TypeReconnecting     EventType = "memberReconnecting"
	TypeReconnected      EventType = "memberReconnected"
	TypeMessagesReceived EventType = "roomMessageReceived"
	TypeMessageRecalled  EventType = "messageRecalled"

	TypeAttributesUpdated       EventType = "roomAttributesUpdated"
	TypeMemberAttributesUpdated EventType = "roomMemberAttributesUpdated"
	TypeRoomUpdated             EventType = "roomUpdated"
	TypeUserInfoUpdated         EventType = "userInfoUpdated"
)

// TypeRoomSeqAdvanced is delivered in place of an event of a room's log that the receiver may not
// see.
const TypeRoomSeqAdvanced EventType = "roomSeqAdvanced"

// The events of a user's inbox: stored, numbered, and delivered to every session of the user.
const (
	TypePeerMessagesReceived EventType = "peerMessageReceived"
	TypePeerMessageRecalled  EventType = "peerMessageRecalled"
	TypeConversationChanged  EventType = "conversationChanged"
	TypeConversationsRead    EventType = "conversationsRead"
	TypeBlockListChanged     EventType = "blockListChanged"
	TypeProfileUpdated       EventType = "profileUpdated"
)

// TypeStatusesUpdated is delivered to every session of a user, and not stored.
const TypeStatusesUpdated EventType = "userStatusUpdated"

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

// Body is the content of an event. All bodies are declared in this file and in feed.go.
type Body interface{ Type() EventType }

// Event is an event of a room or of a user's inbox, with its position in the log. An ephemeral
// event, which is not stored, has Seq 0.
type Event struct {
	Room RoomID // empty for an inbox
	Log  LogID
	Seq  Seq
	At   time.Time
	Body Body
}

// LogPage is a range of a log's events in order, and the first and last seq of the whole log.
type LogPage struct {
	Events    []Event
	LastSeq   Seq
	OldestSeq Seq
}

type (
	// MembersJoined says that users became members.
	MembersJoined struct {
		MemberList []Member `json:"memberList"`
		// MemberCount is the number of members according to the log up to this event. It is nil in
		// an event that an earlier release stored.
		MemberCount *int `json:"memberCount,omitempty"`
	}
	// MembersLeft says that users are no longer members, and why.
	MembersLeft struct {
		MemberList  []LeftMember `json:"memberList"`
		MemberCount *int         `json:"memberCount,omitempty"` // as in MembersJoined
	}
	// MembersReconnecting says that members have lost their streams, with all their sessions in the
	// room. They reconnect, or leave after MemberTimeout.
	MembersReconnecting struct {
		MemberList []User `json:"memberList"`
	}
	// MembersReconnected says that members who were reconnecting have a stream again.
	MembersReconnected struct {
		MemberList []User `json:"memberList"`
	}
	// MembersCounted says how many members the room has, and what its log says about members from
	// here on.
	MembersCounted struct {
		MemberCount  int          `json:"memberCount"`
		MemberEvents MemberEvents `json:"memberEvents"`
	}
	// MessagesReceived delivers messages, including those that the receiver sent.
	MessagesReceived struct {
		MessageList []Message `json:"messageList"`
	}
	// MessageRecalled says that a message was recalled. The event of the message, RecalledSeq,
	// stays in the log, but has no content any more.
	MessageRecalled struct {
		MessageID   MessageID `json:"messageID"`
		RecalledSeq Seq       `json:"recalledSeq"`
		// Audience holds the users who may see the message, and so this event; see Audience.
		Audience     []UserID      `json:"audience,omitempty"`
		OperatedInfo *OperatedInfo `json:"operatedInfo,omitempty"`
	}
	// RoomSeqAdvanced says that the log has an event at this position that the receiver may not
	// see. It is the same for all such events.
	RoomSeqAdvanced struct{}
	// PeerMessagesReceived delivers messages between two users, including those that the receiver
	// sent.
	PeerMessagesReceived struct {
		MessageList []Message `json:"messageList"`
	}
	// PeerMessageRecalled is MessageRecalled for a message between two users. Its seqs are those of
	// the receiver's inbox.
	PeerMessageRecalled struct {
		Peer         UserID        `json:"userID"`
		MessageID    MessageID     `json:"messageID"`
		RecalledSeq  Seq           `json:"recalledSeq"`
		OperatedInfo *OperatedInfo `json:"operatedInfo"`
	}
	// ConversationChanged says that the user marked messages of a conversation as read, or deleted
	// all of them up to DeletedSeq.
	ConversationChanged struct {
		Peer             UserID `json:"userID"`
		UnreadCount      int    `json:"unreadCount"`
		ReadSeq          Seq    `json:"readSeq"`
		DeletedSeq       Seq    `json:"deletedSeq,omitempty"` // 0 if the user never deleted the conversation
		TotalUnreadCount int    `json:"totalUnreadCount"`
	}
	// ConversationsRead says that the user marked all messages up to a seq as read.
	ConversationsRead struct {
		ReadSeq Seq `json:"readSeq"`
	}
	// BlockListChanged says that the user blocked another user, or unblocked one.
	BlockListChanged struct {
		User    UserID `json:"userID"`
		Blocked bool   `json:"blocked"`
	}
	// StatusesUpdated lists the new statuses of users whom the receiver has subscribed to.
	StatusesUpdated struct {
		StatusList []UserStatus `json:"statusList"`
	}
	// AttributesUpdated lists the attributes that were set, then those that were deleted.
	AttributesUpdated struct {
		Infos        []AttributesInfo `json:"infos"`
		OperatedInfo *OperatedInfo    `json:"operatedInfo,omitempty"`
	}
	// MemberAttributesUpdated lists the members whose attributes changed, with all their
	// attributes.
	MemberAttributesUpdated struct {
		Infos        []MemberAttributesInfo `json:"infos"`
		OperatedInfo *OperatedInfo          `json:"operatedInfo,omitempty"`
	}
	// RoomUpdated says that the name or the settings of the room were changed. It has all of them.
	RoomUpdated struct {
		Name         string        `json:"roomName"`
		Config       Config        `json:"config"`
		OperatedInfo *OperatedInfo `json:"operatedInfo,omitempty"`
	}
	// UserInfoUpdated says that members have new profiles.
	UserInfoUpdated struct {
		UserList []Profile `json:"userList"`
	}
	// ProfileUpdated says that the profile of the user whose inbox has the event was changed.
	ProfileUpdated struct {
		Profile Profile `json:"profile"`
	}
	// OperatedInfo names the user who caused an event. It is absent if no user did.
	OperatedInfo struct {
		UserID UserID `json:"userID"`
	}

	// SessionReady is the first event of every stream.
	SessionReady struct {
		SessionID SessionID `json:"sessionID"`
		Resumed   bool      `json:"resumed"`
		Rooms     []Room    `json:"rooms"`
		// HeartbeatSeconds is the longest time without a byte on the stream, rounded up.
		HeartbeatSeconds int `json:"heartbeatSeconds"`
	}
	// ConnectionStateChanged is the last event of a stream that the server ends.
	ConnectionStateChanged struct {
		State string          `json:"state"`
		Event ConnectionEvent `json:"event"`
		// Reason is the text that an admin gave; "" if no admin ended the session.
		Reason string `json:"reason,omitempty"`
	}
	// RoomStateChanged says how the session's own state in a room changed.
	RoomStateChanged struct {
		RoomID     RoomID    `json:"roomID"`
		Generation LogID     `json:"generation,omitempty"`
		State      RoomState `json:"state"`
		Event      RoomEvent `json:"event"`
		// Reason is the text that an admin gave for a kick or a destruction.
		Reason string   `json:"reason,omitempty"`
		Error  *Problem `json:"error,omitempty"`
	}
	// Problem is the error of a failed call, as in its reply.
	Problem struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	// RoomReset says that the stream cannot resume a room's log at the cursor.
	RoomReset struct {
		RoomID     RoomID      `json:"roomID"`
		Generation LogID       `json:"generation"`
		Reason     ResetReason `json:"reason"`
		Room       Room        `json:"room"`
		OldestSeq  Seq         `json:"oldestSeq"`
	}
	// InboxReset says that the stream cannot resume the user's inbox at the cursor, or that events
	// were trimmed before they were delivered. The stream continues with the oldest stored event
	// that is not known to be delivered.
	InboxReset struct {
		Reason    ResetReason `json:"reason"`
		OldestSeq Seq         `json:"oldestSeq"`
	}
	// TokenWillExpire says in how many seconds the session's token expires.
	TokenWillExpire struct {
		SecondsLeft int `json:"secondsLeft"`
	}
	// Reconnect asks the client to open a new stream after a short time.
	Reconnect struct {
		AfterMs int64 `json:"afterMs"`
	}
)

// ResetReason says why a stream or a feed could not resume at a cursor.
type ResetReason string

const (
	ResetCursorInvalid ResetReason = "cursorInvalid" // not a cursor of this server
	ResetCursorAhead   ResetReason = "cursorAhead"   // it is beyond the end of the log
	ResetLogTrimmed    ResetReason = "logTrimmed"    // events after it were deleted
	ResetEpochChanged  ResetReason = "epochChanged"  // the database was restored or failed over since
)

func (MembersJoined) Type() EventType           { return TypeMembersJoined }
func (MembersLeft) Type() EventType             { return TypeMembersLeft }
func (MembersCounted) Type() EventType          { return TypeMembersCounted }
func (MembersReconnecting) Type() EventType     { return TypeReconnecting }
func (MembersReconnected) Type() EventType      { return TypeReconnected }
func (MessagesReceived) Type() EventType        { return TypeMessagesReceived }
func (MessageRecalled) Type() EventType         { return TypeMessageRecalled }
func (RoomSeqAdvanced) Type() EventType         { return TypeRoomSeqAdvanced }
func (PeerMessagesReceived) Type() EventType    { return TypePeerMessagesReceived }
func (PeerMessageRecalled) Type() EventType     { return TypePeerMessageRecalled }
func (ConversationChanged) Type() EventType     { return TypeConversationChanged }
func (ConversationsRead) Type() EventType       { return TypeConversationsRead }
func (BlockListChanged) Type() EventType        { return TypeBlockListChanged }
func (StatusesUpdated) Type() EventType         { return TypeStatusesUpdated }
func (AttributesUpdated) Type() EventType       { return TypeAttributesUpdated }
func (MemberAttributesUpdated) Type() EventType { return TypeMemberAttributesUpdated }
func (RoomUpdated) Type() EventType             { return TypeRoomUpdated }
func (UserInfoUpdated) Type() EventType         { return TypeUserInfoUpdated }
func (ProfileUpdated) Type() EventType          { return TypeProfileUpdated }
func (SessionReady) Type() EventType            { return TypeSessionReady }
func (ConnectionStateChanged) Type() EventType  { return TypeConnectionStateChanged }
func (RoomStateChanged) Type() EventType        { return TypeRoomStateChanged }
func (RoomReset) Type() EventType               { return TypeRoomReset }
func (InboxReset) Type() EventType              { return TypeInboxReset }
func (TokenWillExpire) Type() EventType         { return TypeTokenWillExpire }
func (Reconnect) Type() EventType               { return TypeReconnect }

// RecalledBy returns the seq of the message that an event recalls, or 0 if it recalls none.
func RecalledBy(b Body) Seq {
	switch b := b.(type) {
	case MessageRecalled:
		return b.RecalledSeq
	case PeerMessageRecalled:
		return b.RecalledSeq
	}
	return 0
}

// MessagesOf returns the messages that an event delivers to a room or to a user, or none.
func MessagesOf(b Body) []Message {
	switch b := b.(type) {
	case MessagesReceived:
		return b.MessageList
	case PeerMessagesReceived:
		return b.MessageList
	}
	return nil
}

// operatedBy returns nil if id is empty.
func operatedBy(id UserID) *OperatedInfo {
	if id == "" {
		return nil
	}
	return &OperatedInfo{UserID: id}
}

// MarshalJSON returns the event as clients receive it: its position in the log and its body, in one
// object.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil) }

// AppendJSON appends the result of MarshalJSON to b.
func (e Event) AppendJSON(b []byte) ([]byte, error) {
	if messages := MessagesOf(e.Body); len(messages) == 1 {
		const names = 64
		b = slices.Grow(b, names+len(e.Room)+messages[0].sizeJSON())
	}
	before := byte('{') // separates the next field from what is before it
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
	if b[body+1] == '}' && before == ',' { // the body has no fields
		return append(b[:body], '}'), nil
	}
	b[body] = before // replaces the body's '{': its fields are in the same object
	return b, nil
}

// DecodeBody decodes the body of a stored event. It fails for types of events that are not stored.
func DecodeBody(t EventType, data []byte) (Body, error) {
	switch t {
	case TypeMembersJoined:
		return decode[MembersJoined](data)
	case TypeMembersLeft:
		return decode[MembersLeft](data)
	case TypeMembersCounted:
		return decode[MembersCounted](data)
	case TypeReconnecting:
		return decode[MembersReconnecting](data)
	case TypeReconnected:
		return decode[MembersReconnected](data)
	case TypeMessagesReceived:
		return decode[MessagesReceived](data)
	case TypeMessageRecalled:
		return decode[MessageRecalled](data)
	case TypePeerMessagesReceived:
		return decode[PeerMessagesReceived](data)
	case TypePeerMessageRecalled:
		return decode[PeerMessageRecalled](data)
	case TypeConversationChanged:
		return decode[ConversationChanged](data)
	case TypeConversationsRead:
		return decode[ConversationsRead](data)
	case TypeBlockListChanged:
		return decode[BlockListChanged](data)
	case TypeAttributesUpdated:
		return decode[AttributesUpdated](data)
	case TypeMemberAttributesUpdated:
		return decode[MemberAttributesUpdated](data)
	case TypeRoomUpdated:
		return decode[RoomUpdated](data)
	case TypeUserInfoUpdated:
		return decode[UserInfoUpdated](data)
	case TypeProfileUpdated:
		return decode[ProfileUpdated](data)
	default:
		return nil, fmt.Errorf("events of type %q are not stored", t)
	}
}

func decode[B Body](data []byte) (Body, error) {
	var b B
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("decode %s: %w", b.Type(), err)
	}
	return b, nil
}
