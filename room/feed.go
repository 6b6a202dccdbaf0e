package room

import "cmp"

// The events of the feed that are not in a room's log.
const (
	TypeFeedReady      EventType = "feedReady"
	TypeRoomCreated    EventType = "roomCreated"
	TypeRoomDestroyed  EventType = "roomDestroyed"
	TypeSessionStarted EventType = "sessionStarted"
	TypeSessionEnded   EventType = "sessionEnded"
)

// FeedParts says what a feed has besides the events of rooms.
type FeedParts struct {
	Sessions bool // the beginnings and ends of sessions
	Peers    bool // messages between users, and their recalls
	Commands bool // commands of rooms and users, as they are sent; they are not stored
}

// FeedCursor is a position in the feed, which has the events of all rooms in one order. The
// creation of a room comes before its events, with seq 0, and its destruction after them. Events of
// users have Log 0, and a number as their Seq. The zero cursor is before all events.
type FeedCursor struct {
	// Epoch identifies the history of the database that the cursor belongs to; see OpenedStream.
	// Only cursors of one epoch can be compared.
	Epoch string
	// Xact is the number of the transaction that wrote the event, or a greater one. Within a log it
	// never decreases.
	Xact uint64
	Log  LogID
	Seq  Seq
}

// Before reports whether c is before d.
func (c FeedCursor) Before(d FeedCursor) bool {
	return cmp.Or(cmp.Compare(c.Xact, d.Xact), cmp.Compare(c.Log, d.Log), cmp.Compare(c.Seq, d.Seq)) < 0
}

// FeedEvent is an event with its position in the feed.
type FeedEvent struct {
	Cursor FeedCursor
	Type   EventType
	// Data is encoded as JSON: an Event of a log, a Created, a Destroyed, a Started or an
	// Ended.
	Data any
}

// FeedPage is a range of the feed, and the state of the feed when it was read.
type FeedPage struct {
	Events []FeedEvent
	// Epoch is the database's current one. Foreign says that the cursor belongs to another epoch,
	// so that the events do not continue it.
	Epoch   string
	Foreign bool
	// Trimmed is the last position that was deleted: a reader whose cursor is before it has missed
	// events.
	Trimmed FeedCursor
	// Ahead says that the cursor is beyond the end of the feed, for example because a backup was
	// restored.
	Ahead bool
	// Busy says that transactions are in flight that may add events soon.
	Busy bool
}

type (
	// FeedReady is the first event of every feed.
	FeedReady struct {
		// Resumed says that the feed continues exactly at the reader's cursor. If it does not,
		// Reason says why, unless the reader sent no cursor.
		Resumed bool        `json:"resumed"`
		Reason  ResetReason `json:"reason,omitempty"`
	}
	// Created says that a room was created. The room is in its state at the time when the feed is
	// read.
	Created struct {
		Room Room `json:"room"`
		// OperatedInfo names the user who created the room; nil if an admin did.
		OperatedInfo *OperatedInfo `json:"operatedInfo,omitempty"`
	}
	// Destroyed says that a room was destroyed.
	Destroyed struct {
		RoomID      RoomID        `json:"roomID"`
		Generation  LogID         `json:"generation"`
		Reason      DestroyReason `json:"reason"`
		DestroyedAt Instant       `json:"destroyedAt"`
	}
	// Started says that a user has logged in.
	Started struct {
		SessionID SessionID `json:"sessionID"`
		UserID    UserID    `json:"userID"`
		UserName  string    `json:"userName"`
		Device    string    `json:"device,omitempty"`
		StartedAt Instant   `json:"startedAt"`
	}
	// Ended says that a session has ended. It has left its rooms in the same transaction.
	Ended struct {
		SessionID SessionID `json:"sessionID"`
		UserID    UserID    `json:"userID"`
		UserName  string    `json:"userName"`
		Device    string    `json:"device,omitempty"`
		Reason    EndReason `json:"reason"`
		// AdminReason is the text that an admin gave; "" if no admin ended the session.
		AdminReason string  `json:"adminReason,omitempty"`
		EndedAt     Instant `json:"endedAt"`
	}
)

func (FeedReady) Type() EventType { return TypeFeedReady }
func (Created) Type() EventType   { return TypeRoomCreated }
func (Destroyed) Type() EventType { return TypeRoomDestroyed }
func (Started) Type() EventType   { return TypeSessionStarted }
func (Ended) Type() EventType     { return TypeSessionEnded }

// CreatedBy returns the event of a room that a user has created, or an admin, who has no ID.
func CreatedBy(r Room, user UserID) Created { return Created{r, operatedBy(user)} }

// DestroyReason says why a room was destroyed.
type DestroyReason string

const (
	DestroyEmpty  DestroyReason = "empty"    // its last member left, and DestroyDelay has passed
	DestroyUnused DestroyReason = "unused"   // no session joined within UnusedTimeout
	DestroyAdmin  DestroyReason = "operator" // an admin destroyed it
)
