package hub

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"parlor/room"
)

const (
	// maxShardPending bounds the frames that wait for a worker that has fallen behind. Beyond it,
	// ephemeral events are shed. Stored events are not bounded here: they come no faster than the
	// database stores them.
	maxShardPending = 4096
	// topicIdle is how long a topic without subscribers stays in memory: long enough for all
	// members of a room to reload the page.
	topicIdle = 30 * time.Second
	// minGapTimeout is how long a topic waits for the missing event of a gap before it reads the
	// log. Usually the event is about to be published by another transaction that committed in the
	// same moment.
	minGapTimeout = 10 * time.Millisecond
)

// topic is the log of a room or an inbox that streams of this hub are subscribed to. It puts the
// committed events of the log into order, keeps the newest of them in memory, and fans them out to
// the workers that have subscribed streams.
//
// topic_catchup.go reads the events that were not published to this hub, and topic_replay.go serves
// streams that are behind.
type topic struct {
	hub    *Hub
	logID  room.LogID
	ofRoom bool // the log is not that of an inbox

	mu sync.Mutex // guards all below; acquired after Hub.mu and before worker.mu
	// loaded reports that lastSeq is known. Nothing is fanned out before that.
	loaded bool
	// lastSeq is the newest event that was fanned out.
	lastSeq room.Seq
	// recent holds the events up to lastSeq that are still in memory.
	recent recentFrames
	// outOfOrder holds the published events that wait for an earlier one, or for the topic to be
	// loaded, sorted by seq.
	outOfOrder []*Frame
	// knownSeq is the newest event that the log is known to contain.
	knownSeq room.Seq
	// stale reports that the log may contain events after knownSeq.
	stale bool
	// catchingUp reports that the goroutine of catchUp is running.
	catchingUp bool
	// discarded reports that the hub no longer uses the topic. Streams that are still subscribed
	// are about to close.
	discarded bool
	// segments holds the older events that were read for streams that are behind. The key is the
	// seq before the first event of the segment.
	segments map[room.Seq]*segment
	// shards holds the subscribed streams, by worker.
	shards []shard
	// subscribers is the number of subscribed streams in all shards.
	subscribers int
	// idleSince is when the number of subscribers last changed.
	idleSince time.Time
}

// shard is the part of a topic that belongs to one worker.
type shard struct {
	topic  *topic
	worker int // the index of the worker
	// pending holds the frames that the worker has not delivered yet; guarded by topic.mu.
	pending []*Frame
	// added is the number of frames that were ever added to pending; guarded by topic.mu.
	added int
	// scheduled reports that the shard is in the worker's list, or gathers events before it gets
	// there; guarded by topic.mu.
	scheduled bool
	// pace is nil until the shard has many streams; guarded by topic.mu.
	pace *pace
	// subscribers is the number of subscribed streams, including those that the worker has yet to
	// add to streams; guarded by topic.mu.
	subscribers int
	// streams holds the subscribed streams. Only the worker uses it.
	streams []*Stream
	// spare is the slice that pending is swapped with, so that neither is allocated again. Only the
	// worker uses it.
	spare []*Frame
}

func newTopic(h *Hub, logID room.LogID, ofRoom bool) *topic {
	now := time.Now()
	t := &topic{
		hub: h, logID: logID, ofRoom: ofRoom, shards: make([]shard, len(h.workers)),
		recent: recentFrames{agedAt: now}, idleSince: now,
	}
	for i := range t.shards {
		t.shards[i].topic, t.shards[i].worker = t, i
	}
	return t
}

// publish fans out committed events in the order of the log. They may be published in any order,
// and more than once.
func (t *topic) publish(frames []*Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reorder(frames)
	t.advance()
	if t.loaded && len(t.outOfOrder) > 0 {
		t.startCatchUp(t.hub.gapTimeout())
	}
}

// publishEphemeral fans out events that are not stored, at once: they have no order among the
// events of the log.
func (t *topic) publishEphemeral(frames []*Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range frames {
		for i := range t.shards {
			if len(t.shards[i].pending) < maxShardPending {
				t.addToShard(i, f)
			} else {
				t.hub.stats.shed.Add(uint64(t.shards[i].subscribers))
			}
		}
	}
}

// reorder adds frames to outOfOrder, unless they are there or were fanned out before. The caller
// holds mu.
func (t *topic) reorder(frames []*Frame) {
	for _, f := range frames {
		if t.loaded && f.seq <= t.lastSeq {
			continue
		}
		i, found := slices.BinarySearchFunc(t.outOfOrder, f.seq, func(f *Frame, seq room.Seq) int {
			return cmp.Compare(f.seq, seq)
		})
		if !found {
			t.outOfOrder = slices.Insert(t.outOfOrder, i, f)
		}
	}
}

// advance fans out the events of outOfOrder up to the first gap. The caller holds mu.
func (t *topic) advance() {
	if !t.loaded {
		return
	}
	n := 0
	for _, f := range t.outOfOrder {
		if f.seq > t.lastSeq+1 {
			break
		}
		if f.seq == t.lastSeq+1 {
			t.fanOut(f)
		}
		n++
	}
	t.outOfOrder = slices.Delete(t.outOfOrder, 0, n)
	t.knownSeq = max(t.knownSeq, t.lastSeq)
}

// fanOut hands the next event of the log to all shards. The caller holds mu.
func (t *topic) fanOut(f *Frame) {
	t.lastSeq = f.seq
	if f.recalledSeq > 0 {
		t.evictRecalled(f.recalledSeq)
	}
	t.recent.add(f)
	for i := range t.shards {
		t.addToShard(i, f)
	}
}

// addToShard adds a frame to what a worker has to deliver, if the worker has subscribed streams.
// The caller holds mu.
func (t *topic) addToShard(i int, f *Frame) {
	s := &t.shards[i]
	if s.subscribers == 0 {
		return
	}
	s.pending = append(s.pending, f)
	s.added++
	s.schedule(f.seq > 0)
}

// evictRecalled evicts every frame in memory that may have the content of a recalled message: the
// recent frames up to the message, and all segments. Replays then read the log, which no longer has
// the content. The recall is after the message in the order of the log, so the message itself was
// fanned out before. A segment that is being read may have the content as well; the streams that
// wait for it will not find it in segments, and ask for a new one. The caller holds mu.
func (t *topic) evictRecalled(seq room.Seq) {
	t.recent.evictUpTo(seq)
	clear(t.segments)
}

// acquire counts a new subscriber among a worker's streams. The worker adds the stream to the
// shard.
func (t *topic) acquire(worker int) { t.addSubscribers(worker, +1) }

// release undoes acquire.
func (t *topic) release(worker int) { t.addSubscribers(worker, -1) }

func (t *topic) addSubscribers(worker, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shards[worker].subscribers += n
	t.subscribers += n
	t.idleSince = time.Now()
}

// added returns how many frames were ever added to what a worker has to deliver.
func (t *topic) added(worker int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shards[worker].added
}

// evictExpired evicts old frames and unused segments, and reports whether the topic itself is
// unused and can be evicted. It is called once a second.
func (t *topic) evictExpired(now time.Time) (unused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recent.evictAged(now)
	for start, seg := range t.segments {
		if seg.loaded && now.Sub(seg.usedAt) >= segmentIdle {
			delete(t.segments, start)
		}
	}
	return t.subscribers == 0 && !t.catchingUp && now.Sub(t.idleSince) >= topicIdle
}
