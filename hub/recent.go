package hub

import (
	"slices"
	"time"

	"parlor/room"
)

const (
	// maxRecentFrames and maxRecentBytes bound the recent frames of a topic.
	maxRecentFrames = 256
	maxRecentBytes  = 256 << 10
	// recentMinAge is the shortest time that a frame is kept, unless it is evicted by newer ones;
	// the longest is twice that. Streams that were away for longer share a read of the log. Without
	// a limit, thousands of quiet rooms would fill their buffers over time and hold them for ever.
	recentMinAge = time.Minute
)

// recentFrames holds the newest events of a topic, so that a stream that was away for a moment
// needs no read of the log. It has no gaps and ends with the topic's lastSeq, unless it is empty.
type recentFrames struct {
	frames []*Frame
	bytes  int
	// agedSeq is the newest frame that existed at agedAt, when evictAged last ran.
	agedSeq room.Seq
	agedAt  time.Time
}

// add adds the next frame, and evicts the oldest ones if there are too many.
func (r *recentFrames) add(f *Frame) {
	r.frames = append(r.frames, f)
	r.bytes += f.Size()
	n := 0
	for len(r.frames)-n > maxRecentFrames || r.bytes > maxRecentBytes {
		r.bytes -= r.frames[n].Size()
		n++
	}
	r.frames = slices.Delete(r.frames, 0, n)
}

// after returns the frames after a seq. It reports false if some of them were evicted.
func (r *recentFrames) after(seq room.Seq) ([]*Frame, bool) {
	if len(r.frames) == 0 || r.frames[0].seq > seq+1 {
		return nil, false
	}
	return slices.Clone(r.frames[seq+1-r.frames[0].seq:]), true
}

// evictUpTo evicts the frames up to a seq.
func (r *recentFrames) evictUpTo(seq room.Seq) {
	n := 0
	for n < len(r.frames) && r.frames[n].seq <= seq {
		r.bytes -= r.frames[n].Size()
		n++
	}
	r.frames = slices.Delete(r.frames, 0, n)
	if len(r.frames) == 0 {
		r.frames = nil // an idle topic holds no buffer
	}
}

// evictAged evicts the frames that are older than recentMinAge. It checks only once in that time.
func (r *recentFrames) evictAged(now time.Time) {
	if now.Sub(r.agedAt) < recentMinAge {
		return
	}
	r.evictUpTo(r.agedSeq)
	if n := len(r.frames); n > 0 {
		r.agedSeq = r.frames[n-1].seq
	}
	r.agedAt = now
}

// evictAll evicts all frames.
func (r *recentFrames) evictAll() { r.frames, r.bytes = nil, 0 }
