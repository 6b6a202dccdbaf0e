package cluster

import (
	"slices"
	"time"

	"parlor/hub"
)

const (
	// maxWithheldBytes bounds the frames that are withheld. Under full load, they are those of half a
	// second, and other nodes hear within some tens of milliseconds that a node follows a log.
	maxWithheldBytes = 4 << 20
	// clockError is how far the database's time may differ between two nodes: half of what it takes
	// to read it.
	clockError = 100 * time.Millisecond
)

// withheld holds the latest frames that were not published, because no other node followed their
// logs. One that begins to follow a log, and says so some milliseconds later, gets those that it has
// missed. The oldest frame is the first.
type withheld struct {
	frames []withheldFrame
	bytes  int
	// droppedAt is the time of the last frame that was dropped to make room.
	droppedAt time.Time
}

type withheldFrame struct {
	at time.Time // when it would have been published, by the database's clock
	*hub.Frame
}

// add adds a frame.
func (w *withheld) add(at time.Time, f *hub.Frame) {
	w.frames = append(w.frames, withheldFrame{at, f})
	w.bytes += f.Size()
	for w.bytes > maxWithheldBytes {
		w.bytes -= w.frames[0].Size()
		w.droppedAt = w.frames[0].at
		w.frames[0] = withheldFrame{} // for the garbage collector
		w.frames = w.frames[1:]
	}
}

// take removes and returns the frames of logs that a node has followed since a time. It reports false
// if some of them were dropped. A member must not receive what was sent before it entered, so frames
// that are not stored must not be older; topics ignore stored events that they have.
func (w *withheld) take(since time.Time, logs *interest) (frames []*hub.Frame, complete bool) {
	begin := since.Add(-clockError)
	first := len(w.frames)
	for first > 0 && !w.frames[first-1].at.Before(begin) {
		first--
	}
	kept := slices.DeleteFunc(w.frames[first:], func(f withheldFrame) bool {
		taken := logs.has(f.RoomLog()) && (f.IsStored() || !f.at.Before(since))
		if taken {
			frames = append(frames, f.Frame)
			w.bytes -= f.Size()
		}
		return taken
	})
	w.frames = w.frames[:first+len(kept)]
	return frames, w.droppedAt.Before(begin)
}
