package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"parlor/room"
)

const (
	// segmentFrames is how many events one read of the log returns. Segments begin at multiples of
	// it, so that streams that are behind share them.
	segmentFrames = 256
	// segmentIdle is how long a segment stays in memory after its last use.
	segmentIdle = 10 * time.Second
)

// replay is the part of a log that a stream catches up with next.
type replay struct {
	// frames holds the next events.
	frames []*Frame
	// live reports that frames end with the newest event: the stream gets later ones as they are
	// fanned out.
	live bool
	// pending reports that the next events are being read. The stream is notified when they are in
	// memory.
	pending bool
	// oldestSeq is the oldest event of the log if the next ones were trimmed, otherwise 0.
	oldestSeq room.Seq
}

// segment is a run of older events that was read for streams that are behind.
type segment struct {
	loaded bool
	frames []*Frame
	// oldestSeq is the oldest event of the log at the time of the read.
	oldestSeq room.Seq
	// logDeleted reports that the log does not exist any more.
	logDeleted bool
	// waiters are called when the segment is loaded.
	waiters []func()
	usedAt  time.Time
}

// replayAfter returns the events after a seq, or a first part of them. If they have to be read
// first, the result is pending: ready is called when the segment is loaded, and the worker's
// catchUp when the topic is.
func (t *topic) replayAfter(seq room.Seq, ready func()) replay {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		t.startCatchUp(0)
		return replay{pending: true}
	}
	if seq >= t.lastSeq {
		return replay{live: true}
	}
	if frames, ok := t.recent.after(seq); ok {
		return replay{frames: frames, live: true}
	}
	return t.replayFromSegment(seq, ready)
}

// replayFromSegment serves a stream that lacks events which are no longer recent. The caller holds
// mu.
func (t *topic) replayFromSegment(seq room.Seq, ready func()) replay {
	start := seq - seq%segmentFrames
	seg := t.segments[start]
	if seg == nil {
		seg = &segment{}
		if t.segments == nil {
			t.segments = make(map[room.Seq]*segment)
		}
		t.segments[start] = seg
		t.hub.background(func(ctx context.Context) { t.loadSegment(ctx, start, seg) })
	}
	seg.usedAt = time.Now()
	switch {
	case !seg.loaded:
		seg.waiters = append(seg.waiters, ready)
		return replay{pending: true}
	case seq+1 < seg.oldestSeq:
		return replay{oldestSeq: seg.oldestSeq}
	case seg.logDeleted:
		return replay{live: true}
	}
	next := slices.IndexFunc(seg.frames, func(f *Frame) bool { return f.seq > seq })
	if next < 0 { // the segment was read before the next event was appended
		delete(t.segments, start)
		return t.replayFromSegment(seq, ready)
	}
	return replay{frames: firstChunk(seg.frames[next:])}
}

// firstChunk returns as many of the frames as fit into one write. Events to replay are not added to
// the queue of the stream, which is for new events: a stream whose queue is full is closed.
func firstChunk(frames []*Frame) []*Frame {
	size := 0
	for i, f := range frames {
		if size += len(f.data); size >= chunkBytes {
			return frames[:i+1]
		}
	}
	return frames
}

// loadSegment reads a segment, and retries until it has been read or the hub is closed.
func (t *topic) loadSegment(ctx context.Context, start room.Seq, seg *segment) {
	for delay := minReadRetry; ; delay = min(2*delay, maxReadRetry) {
		page, err := t.readAfter(ctx, start)
		if err == nil || errors.Is(err, room.ErrRoomNotFound) {
			t.segmentLoaded(seg, page, err != nil)
			return
		}
		if !sleep(ctx, delay) {
			return
		}
	}
}

// segmentLoaded adds what was read to a segment, and calls the streams that wait for it.
func (t *topic) segmentLoaded(seg *segment, page room.LogPage, logDeleted bool) {
	frames := t.hub.Encode(page.Events)
	t.mu.Lock()
	seg.loaded, seg.frames, seg.oldestSeq, seg.logDeleted = true, frames, page.OldestSeq, logDeleted
	waiters := seg.waiters
	seg.waiters = nil
	t.mu.Unlock()
	for _, ready := range waiters {
		ready()
	}
}
