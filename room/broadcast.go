package room

import (
	"errors"
	"time"
)

const (
	// MaxBroadcasts is how many broadcasts may be running.
	MaxBroadcasts = 10
	// BroadcastLease is how long a node may send nothing before another one continues its broadcast.
	BroadcastLease = 15 * time.Second
	// MaxListedBroadcasts is the maximum number of broadcasts in a list.
	MaxListedBroadcasts = 100
)

// BroadcastID is the ID of a broadcast, a UUID.
type BroadcastID string

// Broadcast is one message to all rooms that existed when it was created, or to those whose IDs begin
// with a prefix. Each room gets it once.
type Broadcast struct {
	ID     BroadcastID    `json:"broadcastID"`
	Prefix string         `json:"prefix,omitempty"`
	Sender User           `json:"sender"`
	State  BroadcastState `json:"state"`
	// ClientMessageID is that of the message in each room, by which a room that has the message is
	// recognized.
	ClientMessageID string `json:"clientMessageID"`
	// RoomCount is how many rooms were to get the message when the first node began to send it; nil
	// before.
	RoomCount *int64 `json:"roomCount,omitempty"`
	// SentCount is how many rooms have the message, and FailedCount how many refused it, for example
	// because its file was deleted. Rooms that were destroyed are in neither.
	SentCount   int64   `json:"sentCount"`
	FailedCount int64   `json:"failedCount"`
	CreatedAt   Instant `json:"createdAt"`
	EndedAt     Instant `json:"endedAt,omitzero"`
}

// BroadcastState says whether a broadcast is being sent.
type BroadcastState string

const (
	BroadcastRunning BroadcastState = "running"
	BroadcastDone    BroadcastState = "done"
	BroadcastStopped BroadcastState = "stopped" // by an admin
)

// BroadcastDraft is what a broadcast sends.
type BroadcastDraft struct {
	Prefix string
	Sender User
	Draft  Draft
}

// RetriedBy returns nil if a draft with the same sender and ClientMessageID is a retry of the
// broadcast, and ErrMessageIDReused if it differs.
func (d BroadcastDraft) RetriedBy(again BroadcastDraft) error {
	if d.Prefix != again.Prefix {
		return ErrMessageIDReused
	}
	return d.Draft.Message("", d.Sender, time.Time{}).RetriedBy(again.Draft)
}

// BroadcastProgress counts what happened to the message in some rooms.
type BroadcastProgress struct{ Sent, Failed int64 }

// Add counts the result of sending the message to a room. It returns an error if the result is not
// known, so that the room has to be tried again.
func (p *BroadcastProgress) Add(err error) error {
	var refused *Error
	switch {
	case err == nil:
		p.Sent++
	case errors.Is(err, ErrRoomNotFound): // destroyed meanwhile
	case errors.As(err, &refused) && refused.Kind != Unavailable && refused.Kind != Internal:
		p.Failed++
	default:
		return err
	}
	return nil
}
