package room

import (
	"cmp"
	"time"
)

// The events of the feed that no room's log holds.
const (
	TypeFeedReady     EventType = "feedReady"
	TypeRoomCreated   EventType = "roomCreated"
	TypeRoomDestroyed EventType = "roomDestroyed"
)

// FeedCursor is a place in the feed, which is all rooms' events in one order. A
// room's creation stands before its events, as number 0, and its end after
// them. The zero value is before everything.
type FeedCursor struct {
	// Epoch is the history of the database that the place belongs to; see
	// Attachment. Places are compared within one.
	Epoch string
	// Xact is at least the number of the transaction that wrote the event, and
	// never falls within a log.
	Xact uint64
	Log  LogID
	Seq  Seq
}

// Before reports whether a place comes before another.
func (c FeedCursor) Before(d FeedCursor) bool {
	return cmp.Or(cmp.Compare(c.Xact, d.Xact), cmp.Compare(c.Log, d.Log), cmp.Compare(c.Seq, d.Seq)) < 0
}

// FeedEvent is an event at its place in the feed.
type FeedEvent struct {
	Cursor FeedCursor
	Type   EventType
	// Data is what the event says, to be encoded as JSON: an Event of a room's
	// log, a Created or a Destroyed.
	Data any
}

// FeedPage is a run of the feed, and where the feed stood when it was read.
type FeedPage struct {
	Events []FeedEvent
	// Epoch is the database's. Foreign says that the cursor is of another one: the
	// events are of no use to its owner.
	Epoch   string
	Foreign bool
	// Trimmed is the last place that was purged: who has not come as far has
	// missed something.
	Trimmed FeedCursor
	// Ahead says that the cursor is of a future that this database does not
	// know, as after a restored backup.
	Ahead bool
	// Busy says that transactions are under way whose events may come soon.
	Busy bool
}

type (
	// FeedReady is the first event of every feed.
	FeedReady struct {
		// Resumed says that the feed continues exactly at the cursor that was
		// sent; where it does not, Reason says why, unless none was sent.
		Resumed bool        `json:"resumed"`
		Reason  ResetReason `json:"reason,omitempty"`
	}
	// Created says that a room came to life. The room is as it stands when
	// the feed is read.
	Created struct {
		Room Room `json:"room"`
	}
	// Destroyed says that a room's life has ended.
	Destroyed struct {
		RoomID      RoomID        `json:"roomID"`
		Generation  LogID         `json:"generation"`
		Reason      DestroyReason `json:"reason"`
		DestroyedAt time.Time     `json:"destroyedAt"`
	}
)

func (FeedReady) Type() EventType { return TypeFeedReady }
func (Created) Type() EventType   { return TypeRoomCreated }
func (Destroyed) Type() EventType { return TypeRoomDestroyed }

// DestroyReason says why a room's life ended.
type DestroyReason string

const (
	DestroyEmpty  DestroyReason = "empty"    // its last member left, and its delay is over
	DestroyUnused DestroyReason = "unused"   // nobody ever entered
	DestroyAdmin  DestroyReason = "operator" // a server asked for it
)
