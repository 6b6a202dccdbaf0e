package hub

import (
	"encoding/json"
	"fmt"
	"time"

	"parlor/room"
)

// Frame is an event as it goes over the wire, but for its id line, which
// differs from stream to stream. A frame of a log is encoded once and shared
// by all its readers; it is never changed.
type frame struct {
	// Log and Seq are the event's place; Seq is 0 for an event of one stream.
	log room.LogID
	seq room.Seq
	// id says that the frame carries the stream's cursor: it moves that, or says
	// that the stream follows a log or does not any more.
	carriesID bool
	// patience is how much may wait for a stream, in eighths of what it may have
	// waiting at all, before this frame is shed instead. It is that of an event
	// that is not stored.
	shedAbove int
	// recalls is the event whose content is no more since this one; 0: none.
	recalledSeq room.Seq
	data        []byte
}

// encodeEvent makes the frame of a log's event.
func encodeEvent(e room.Event) (*frame, error) {
	data, err := e.AppendJSON(frameHead(e.Body.Type()))
	if err != nil {
		return nil, err
	}
	f := &frame{log: e.Log, seq: e.Seq, carriesID: e.Seq > 0, data: append(data, frameEnd...)}
	if messages := room.MessagesOf(e.Body); e.Seq == 0 && len(messages) > 0 {
		f.shedAbove = shedAboveFor(messages[0])
	}
	f.recalledSeq = room.RecalledBy(e.Body)
	return f, nil
}

// patienceOf orders what is shed: barrage before commands, and low priority
// before high. Half of what may wait is left to what is stored.
func shedAboveFor(m room.Message) int {
	var patience int
	switch m.Priority {
	case room.PriorityLow:
		patience = 0
	case room.PriorityMedium:
		patience = 1
	case room.PriorityHigh:
		patience = 2
	}
	if m.Kind == room.KindBarrage {
		return patience
	}
	return patience + 2
}

// encodeBody makes the frame of an event of one stream.
func encodeBody(b room.Body) *frame {
	data, err := json.Marshal(b)
	if err != nil {
		// The bodies are plain structs of this program: there is no input that
		// could make encoding fail.
		panic(fmt.Sprintf("encode %s: %v", b.Type(), err))
	}
	if r, ok := b.(room.Reconnect); ok {
		return &frame{data: AppendReconnect(nil, time.Duration(r.AfterMs)*time.Millisecond)}
	}
	t := b.Type()
	id := t == room.TypeSessionReady || t == room.TypeRoomReset || t == room.TypeInboxReset || t == room.TypeRoomStateChanged
	return &frame{carriesID: id, data: append(append(frameHead(t), data...), frameEnd...)}
}

// minRetry is the least that a native EventSource is told to wait. It waits the
// same time after each try, and would load a server that is away for longer.
const minRetry = 250 * time.Millisecond

// AppendReconnect writes the last event of a stream that is to come back after a
// time. A native EventSource does not know of the event; it obeys the retry field,
// which otherwise says some seconds, and so do clients whose first try fails.
func AppendReconnect(b []byte, after time.Duration) []byte {
	return fmt.Appendf(b, "retry: %d\nevent: %s\ndata: {\"afterMs\":%d}\n\n",
		max(after, minRetry).Milliseconds(), room.TypeReconnect, after.Milliseconds())
}

// beginFrame writes the lines after the id, up to the data. JSON holds no raw line
// breaks, so that is one line.
func frameHead(t room.EventType) []byte {
	b := append(make([]byte, 0, 64), "event: "...)
	return append(append(b, t...), "\ndata: "...)
}

// frameEnd ends the data and the frame.
const frameEnd = "\n\n"

// heartbeat is a comment: it keeps proxies and watchdogs content, and makes a
// vanished peer show.
const heartbeat = ":\n\n"
