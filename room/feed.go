package room

import "cmp"

// The events of the feed that are not in a room's log.
const (
	TypeFeedReady     EventType = "feedReady"
	TypeRoomCreated   EventType = "roomCreated"
	TypeRoomDestroyed EventType = "roomDestroyed"
)

// FeedCursor is a position in the feed, which has the events of all rooms in one order. The
// creation of a room comes before its events, with seq 0, and its destruction after them. The zero
// cursor is before all events.
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
	// Data is encoded as JSON: an Event of a room's log, a Created or a Destroyed.
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
	}
	// Destroyed says that a room was destroyed.
	Destroyed struct {
		RoomID      RoomID        `json:"roomID"`
		Generation  LogID         `json:"generation"`
		Reason      DestroyReason `json:"reason"`
		DestroyedAt Instant       `json:"destroyedAt"`
	}
)

func (FeedReady) Type() EventType { return TypeFeedReady }
func (Created) Type() EventType   { return TypeRoomCreated }
func (Destroyed) Type() EventType { return TypeRoomDestroyed }

// DestroyReason says why a room was destroyed.
type DestroyReason string

const (
	DestroyEmpty  DestroyReason = "empty"    // its last member left, and DestroyDelay has passed
	DestroyUnused DestroyReason = "unused"   // no session joined within UnusedTimeout
	DestroyAdmin  DestroyReason = "operator" // an admin destroyed it
)
