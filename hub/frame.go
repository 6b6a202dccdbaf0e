package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"parlor/room"
)

// Frame is an event as it is sent in an event stream, without its id line, which differs between
// streams. A frame of a log is encoded once and shared by all subscribers; it is never modified.
type Frame struct {
	// log and seq are the position of the event. seq is 0 for an ephemeral event, and both are 0
	// for an event of one stream.
	log room.LogID
	seq room.Seq
	// carriesID reports that the frame is sent with the stream's cursor as its id, because the
	// event advances the cursor, or adds a log to it or removes one.
	carriesID bool
	// shedAbove is how full the queue of a stream may be, in eighths of its bounds, before this
	// frame is shed. It is used for ephemeral events only.
	shedAbove int
	// recalledSeq is the message whose content was recalled by this event; 0 if there is none.
	recalledSeq room.Seq
	// inbox reports that the log is that of an inbox. A frame from another node does not say so.
	inbox bool
	data  []byte
	// audience says who receives data; nil means all subscribers. It is a pointer because few
	// frames have one.
	audience *audience
}

// audience says which users receive the data of a frame.
type audience struct {
	Users []room.UserID // in ascending order
	// Others is what everybody else receives; nil means nothing, if the event is ephemeral.
	Others []byte
}

// dataFor returns what a user receives of the frame; nil means nothing.
func (f *Frame) dataFor(user room.UserID) []byte {
	if f.audience == nil {
		return f.data
	}
	if _, found := slices.BinarySearch(f.audience.Users, user); found {
		return f.data
	}
	return f.audience.Others
}

// Size returns about how many bytes of memory the frame takes.
func (f *Frame) Size() int {
	size := len(f.data)
	if f.audience == nil {
		return size
	}
	size += len(f.audience.Others)
	for _, user := range f.audience.Users {
		const header = 16 // of a string
		size += header + len(user)
	}
	return size
}

// RoomLog returns the log of the frame's room, or 0 if the event belongs to an inbox.
func (f *Frame) RoomLog() room.LogID {
	if f.inbox {
		return 0
	}
	return f.log
}

// IsStored reports whether the event is in a log, where streams that lack it can read it.
func (f *Frame) IsStored() bool { return f.seq > 0 }

// encodeEvent returns the frame of an event of a log.
func encodeEvent(e room.Event) (*Frame, error) {
	data, err := e.AppendJSON(frameHead(e.Body.Type()))
	if err != nil {
		return nil, err
	}
	f := &Frame{
		log: e.Log, seq: e.Seq, carriesID: e.Seq > 0, recalledSeq: room.RecalledBy(e.Body), inbox: e.Room == "",
		data: append(OneLine(data), frameEnd...),
	}
	if users := room.Audience(e.Body); users != nil {
		f.audience = &audience{Users: users}
		if f.seq > 0 {
			e.Body = room.RoomSeqAdvanced{}
			hidden, err := e.AppendJSON(frameHead(e.Body.Type()))
			if err != nil {
				return nil, err
			}
			f.audience.Others = append(OneLine(hidden), frameEnd...)
		}
	}
	if messages := room.MessagesOf(e.Body); e.Seq == 0 && len(messages) > 0 {
		f.shedAbove = shedAboveFor(messages[0])
	}
	if e.Body.Type() == room.TypeStatusesUpdated {
		f.shedAbove = 4 // like the most important command
	}
	return f, nil
}

// shedAboveFor decides the order in which messages are shed: barrage before commands, and low
// priority before high. At least half of the queue is left to stored events.
func shedAboveFor(m room.Message) int {
	var eighths int
	switch m.Priority {
	case room.PriorityLow:
		eighths = 0
	case room.PriorityMedium:
		eighths = 1
	case room.PriorityHigh:
		eighths = 2
	}
	if m.Kind == room.KindBarrage {
		return eighths
	}
	return eighths + 2
}

// encodeBody returns the frame of an event of one stream.
func encodeBody(b room.Body) *Frame {
	if r, ok := b.(room.Reconnect); ok {
		return &Frame{data: AppendReconnect(nil, time.Duration(r.AfterMs)*time.Millisecond)}
	}
	data, err := json.Marshal(b)
	if err != nil {
		// Bodies are plain structs of this program, which encode without errors.
		panic(fmt.Sprintf("encode %s: %v", b.Type(), err))
	}
	t := b.Type()
	carriesID := t == room.TypeSessionReady || t == room.TypeRoomReset || t == room.TypeInboxReset ||
		t == room.TypeRoomStateChanged
	return &Frame{carriesID: carriesID, data: append(append(frameHead(t), OneLine(data)...), frameEnd...)}
}

// minRetry is the shortest time in the retry field of a stream. A native EventSource waits that
// long between all of its attempts, and would overload a server that is down for longer.
const minRetry = 250 * time.Millisecond

// AppendReconnect appends a stream's last event, which asks the client to reconnect after a time. A
// native EventSource ignores the event and obeys the retry field, and so do clients whose first
// attempt fails.
func AppendReconnect(b []byte, after time.Duration) []byte {
	return fmt.Appendf(b, "retry: %d\nevent: %s\ndata: {\"afterMs\":%d}\n\n",
		max(after, minRetry).Milliseconds(), room.TypeReconnect, after.Milliseconds())
}

// nextLine is U+0085. Encoders of JSON do not escape it, and some readers break lines at it
// although Server-Sent Events do not: Python's splitlines, for example. They escape all the other
// characters at which such readers break lines.
const nextLine = "\u0085"

// OneLine returns JSON that is one line for every reader, with the same value.
func OneLine(json []byte) []byte {
	if !bytes.Contains(json, []byte(nextLine)) {
		return json
	}
	return bytes.ReplaceAll(json, []byte(nextLine), []byte(`\u0085`))
}

// frameHead returns the lines of a frame before the data.
func frameHead(t room.EventType) []byte {
	b := append(make([]byte, 0, 64), "event: "...)
	return append(append(b, t...), "\ndata: "...)
}

// frameEnd ends the data line and the frame.
const frameEnd = "\n\n"

// heartbeat is an SSE comment. It prevents proxies and watchdogs from closing an idle stream, and
// makes the server notice a client that has vanished.
const heartbeat = ":\n\n"
