package hub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"parlor/room"
)

const (
	// ringFrames and ringBytes bound the recent frames that a topic keeps, so
	// that a stream that was away for a moment costs no read of the log.
	ringFrames = 256
	ringBytes  = 256 << 10
	// ringKept is the least time that they stay, and twice that the most: whoever
	// was away for longer shares a read of the log. Thousands of rooms in which
	// little is said would fill their rings otherwise, and keep them.
	ringMinAge = time.Minute
	// maxPending bounds what waits for a worker that is behind: frames that are
	// not stored are shed beyond it. What is stored comes no faster than the
	// database takes it.
	maxPending = 4096
	// pageFrames is how many events one read of the log brings. Pages begin at
	// fixed places, so that streams that are behind share them.
	segmentFrames = 256
	// pageKept is how long a page that was read stays for the next reader.
	segmentIdle = 10 * time.Second
	// topicKept is how long a topic stays without readers: long enough for
	// everybody of a room to reload the page.
	topicIdle = 30 * time.Second
	// holePatience is how long a hole in the order may last before the log is
	// read. Usually the missing event is already on its way from another
	// transaction that committed in the same moment.
	gapTimeout = 10 * time.Millisecond
	// retryFirst and retryMost bound the wait between reads of a log that
	// fail, as while PostgreSQL is away.
	minReadRetry = 100 * time.Millisecond
	maxReadRetry = 2 * time.Second
	// readTimeout ends a read that gets no answer, as over a connection whose
	// far end is gone; TCP alone would wait a quarter of an hour.
	readTimeout = 10 * time.Second
)

// gone stands for the last seq of a log that does not exist any more.
const gone room.Seq = -1

// topic is a log that streams of this hub follow. It puts what was committed
// into order, remembers the newest of it, and hands it to the workers.
type topic struct {
	hub   *Hub
	logID room.LogID

	mu sync.Mutex // guards all below
	// loaded says that last is known. Until then nothing is delivered.
	loaded bool
	// last is the newest event that was handed out; ring holds the frames up to
	// it, without holes.
	lastSeq   room.Seq
	ring      []*frame
	ringBytes int
	// aged is the newest event that was there at agedAt, when the ring was last
	// looked through.
	aged   room.Seq
	agedAt time.Time
	// ahead holds frames that came before their turn, by seq; heard is the
	// newest event that the log is known to have; doubt says that it may have
	// more.
	outOfOrder []*frame
	knownSeq   room.Seq
	stale      bool
	// reading says that a goroutine is at catchUp.
	catchingUp bool
	// abandoned says that the hub has no use for the topic any more, though streams
	// may read it until they have ended.
	discarded bool
	segments  map[room.Seq]*segment
	// parts is the readers, by worker.
	shards      []shard
	subscribers int
	// idle is since when there are no readers.
	idleSince time.Time
}

// part is a topic's readers that belong to one worker.
type shard struct {
	topic *topic
	// pending is what the worker has yet to deliver; guarded by topic.mu.
	pending []*frame
	// queued says that the part waits in the worker's list; guarded by topic.mu.
	scheduled bool
	// subscribed is how many readers there are; guarded by topic.mu.
	subscribers int
	// readers and spare are the worker's own: nobody else touches them. spare
	// is the slice that pending is swapped with.
	streams []*Stream
	spare   []*frame
}

// page is a run of the log that was read for streams that are far behind.
type segment struct {
	frames    []*frame
	oldestSeq room.Seq
	logGone   bool
	waiters   []func() // called when the page has been read
	loaded    bool
	usedAt    time.Time
}

func newTopic(h *Hub, log room.LogID) *topic {
	t := &topic{hub: h, logID: log, shards: make([]shard, len(h.workers)), idleSince: h.now(), agedAt: h.now()}
	for i := range t.shards {
		t.shards[i].topic = t
	}
	return t
}

// publish takes frames that were committed, in whatever order they come.
func (t *topic) publish(frames []*frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reorder(frames)
	t.advance()
	if t.loaded && len(t.outOfOrder) > 0 {
		t.startCatchUp(gapTimeout)
	}
}

// tell hands out frames that are not stored: to those who listen now, in no
// order with the log.
func (t *topic) publishEphemeral(frames []*frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range frames {
		for i := range t.shards {
			if len(t.shards[i].pending) < maxPending {
				t.addToShard(i, f)
			} else {
				t.hub.stats.shed.Add(uint64(t.shards[i].subscribers))
			}
		}
	}
}

// line queues frames up by seq, each once. The caller holds mu.
func (t *topic) reorder(frames []*frame) {
	for _, f := range frames {
		if t.loaded && f.seq <= t.lastSeq {
			continue
		}
		at, known := slices.BinarySearchFunc(t.outOfOrder, f.seq, func(f *frame, seq room.Seq) int {
			return cmp.Compare(f.seq, seq)
		})
		if !known {
			t.outOfOrder = slices.Insert(t.outOfOrder, at, f)
		}
	}
}

// advance hands out what is next in order. The caller holds mu.
func (t *topic) advance() {
	if !t.loaded {
		return
	}
	n := 0
	for _, f := range t.outOfOrder {
		if f.seq == t.lastSeq+1 {
			t.lastSeq = f.seq
			if f.recalledSeq > 0 {
				t.evictRecalled(f.recalledSeq)
			}
			t.remember(f)
			for i := range t.shards {
				t.addToShard(i, f)
			}
		} else if f.seq > t.lastSeq {
			break
		}
		n++
	}
	t.outOfOrder = slices.Delete(t.outOfOrder, 0, n)
	t.knownSeq = max(t.knownSeq, t.lastSeq)
}

// hand gives a frame to a worker that has readers. The caller holds mu.
func (t *topic) addToShard(i int, f *frame) {
	p := &t.shards[i]
	if p.subscribers == 0 {
		return
	}
	p.pending = append(p.pending, f)
	if !p.scheduled {
		p.scheduled = true
		t.hub.workers[i].schedule(p)
	}
}

// remember adds a frame to the ring. The caller holds mu.
func (t *topic) remember(f *frame) {
	t.ring = append(t.ring, f)
	t.ringBytes += len(f.data)
	drop := 0
	for len(t.ring)-drop > ringFrames || t.ringBytes > ringBytes {
		t.ringBytes -= len(t.ring[drop].data)
		drop++
	}
	t.ring = slices.Delete(t.ring, 0, drop)
}

// forget drops the frames up to one that was recalled, and all pages: the log is
// read anew for who asks for them, and does not have the content any more. It
// comes at the recall's turn in the order, when whatever had the content is in
// the ring, or in a page, or was handed out. A page that is being read may have
// it too; those who wait for it find it gone and ask for a new one. The caller
// holds mu.
func (t *topic) evictRecalled(seq room.Seq) {
	t.dropUpTo(seq)
	clear(t.segments)
}

// dropUpTo takes the frames up to one out of the ring. The caller holds mu.
func (t *topic) dropUpTo(seq room.Seq) {
	drop := 0
	for drop < len(t.ring) && t.ring[drop].seq <= seq {
		t.ringBytes -= len(t.ring[drop].data)
		drop++
	}
	if t.ring = slices.Delete(t.ring, 0, drop); len(t.ring) == 0 {
		t.ring = nil
	}
}

// age drops the frames that are older than ringKept. The caller holds mu.
func (t *topic) age(now time.Time) {
	if now.Sub(t.agedAt) < ringMinAge {
		return
	}
	t.dropUpTo(t.aged)
	t.aged, t.agedAt = t.lastSeq, now
}

// read starts the goroutine that brings the topic up to date with its log,
// unless one is at it. The caller holds mu.
func (t *topic) startCatchUp(patience time.Duration) {
	if t.catchingUp {
		return
	}
	t.catchingUp = true
	t.hub.background(func(ctx context.Context) { t.catchUp(ctx, patience) })
}

// refresh looks for events that the log may have got unseen.
func (t *topic) resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = true
	t.startCatchUp(0)
}

// catchUp reads the log until the topic knows its end and has no hole before
// any event that it has heard of.
func (t *topic) catchUp(ctx context.Context, patience time.Duration) {
	wait := minReadRetry
	for sleep(ctx, patience) {
		t.mu.Lock()
		loaded, last := t.loaded, t.lastSeq
		if t.discarded || loaded && !t.stale && len(t.outOfOrder) == 0 && t.knownSeq <= last {
			t.catchingUp = false
			t.mu.Unlock()
			return
		}
		t.stale = false
		t.mu.Unlock()

		p, err := t.readLog(ctx, loaded, last)
		if err != nil {
			t.mu.Lock()
			t.stale = true
			t.mu.Unlock()
		}
		if err != nil || !t.applyPage(p) {
			patience, wait = wait, min(2*wait, maxReadRetry)
			continue
		}
		patience, wait = 0, minReadRetry
	}
}

// readLog reads the newest events, or once they are known those after them. A
// log that is gone has nothing more to tell.
func (t *topic) readLog(ctx context.Context, loaded bool, last room.Seq) (room.LogPage, error) {
	t.hub.stats.reads.Add(1)
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var (
		p   room.LogPage
		err error
	)
	if loaded {
		p, err = t.hub.logs.EventsAfter(reading, t.logID, last, segmentFrames)
	} else {
		p, err = t.hub.logs.Tail(reading, t.logID, ringFrames)
	}
	if errors.Is(err, room.ErrRoomNotFound) {
		return room.LogPage{LastSeq: gone}, nil
	}
	if err != nil && ctx.Err() == nil {
		t.hub.opts.Logger.Warn("a log could not be read; trying again", "log", t.logID, "error", err)
	}
	return p, err
}

// took puts what was read into the order. It reports false where that did not
// bring what is next, which the log should have: it may lag behind.
func (t *topic) applyPage(p room.LogPage) bool {
	frames := t.hub.encode(p.Events)
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.LastSeq == gone {
		t.loaded, t.knownSeq, t.outOfOrder = true, t.lastSeq, nil
		return true
	}
	t.knownSeq = max(t.knownSeq, p.LastSeq)
	if t.loaded {
		before := t.lastSeq
		t.skipTrimmed(p.OldestSeq)
		t.reorder(frames)
		t.advance()
		return t.lastSeq > before || t.knownSeq == t.lastSeq && len(t.outOfOrder) == 0
	}
	t.loaded, t.lastSeq = true, p.LastSeq
	for _, f := range frames {
		t.remember(f)
	}
	t.advance()
	t.catchUpStreams()
	return true
}

// skipTo goes on from the oldest event that the log still has, if the one that
// is next was trimmed. Readers that lack what was trimmed start afresh, at once:
// there may be no other event for long. The caller holds mu.
func (t *topic) skipTrimmed(oldest room.Seq) {
	if oldest <= t.lastSeq+1 {
		return
	}
	t.lastSeq = oldest - 1
	t.ring, t.ringBytes = nil, 0
	t.catchUpStreams()
}

// resume makes all readers look again. The caller holds mu.
func (t *topic) catchUpStreams() {
	for _, w := range t.hub.workers {
		w.do(func() { w.catchUp(t) })
	}
}

// seed spares the topic the first read of its log, whose last event the caller
// knows. The topic must have been there when the caller read that: what was
// committed since it has heard.
func (t *topic) seed(last room.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded {
		return
	}
	t.loaded, t.lastSeq = true, last
	t.advance()
	if len(t.outOfOrder) > 0 {
		t.startCatchUp(gapTimeout)
	}
}

// abandon ends the topic's reading. What it has heard of may be in no log any more,
// so that it would read for ever.
func (t *topic) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.discarded = true
}

// expect tells the topic of the newest event that its log had when the caller
// looked. An event that this process was not told of, because another one
// committed it, is read: otherwise readers would wait for it until the log
// happens to bring something more. One that was committed here is usually on its
// way already, so the topic waits for it as for a hole.
func (t *topic) expect(last room.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last <= t.knownSeq {
		return
	}
	t.knownSeq = last
	if t.loaded && last > t.lastSeq {
		t.startCatchUp(gapTimeout)
	}
}

// subscribe counts a reader of a worker in or, with n = -1, out.
func (t *topic) addSubscribers(worker, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shards[worker].subscribers += n
	t.subscribers += n
	t.idleSince = t.hub.now()
}

// missing is what a reader needs to go on after a seq.
type replay struct {
	frames []*frame
	// live says that the frames reach up to the newest one: from now on the
	// reader gets what comes.
	live bool
	// wait says that the frames have yet to be read; the reader is called.
	wait bool
	// oldest is set where the log no longer has what is next.
	oldestSeq room.Seq
}

// after looks for the frames next after a seq: in the ring, or else in a page
// of the log. again is called when it is worth asking again.
func (t *topic) replayAfter(seq room.Seq, again func()) replay {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		t.startCatchUp(0)
		return replay{wait: true}
	}
	if seq >= t.lastSeq {
		return replay{live: true}
	}
	if len(t.ring) > 0 && t.ring[0].seq <= seq+1 {
		from := int(seq + 1 - t.ring[0].seq)
		return replay{frames: slices.Clone(t.ring[from:]), live: true}
	}
	return t.replayFromSegment(seq, again)
}

// fromPage serves a reader that is behind the ring. The caller holds mu.
func (t *topic) replayFromSegment(seq room.Seq, again func()) replay {
	start := seq - seq%segmentFrames
	p := t.segments[start]
	if p == nil {
		p = &segment{}
		if t.segments == nil {
			t.segments = make(map[room.Seq]*segment)
		}
		t.segments[start] = p
		t.hub.background(func(ctx context.Context) { t.loadSegment(ctx, start, p) })
	}
	p.usedAt = t.hub.now()
	if !p.loaded {
		p.waiters = append(p.waiters, again)
		return replay{wait: true}
	}
	if seq+1 < p.oldestSeq {
		return replay{oldestSeq: p.oldestSeq}
	}
	if p.logGone {
		return replay{live: true}
	}
	next := slices.IndexFunc(p.frames, func(f *frame) bool { return f.seq > seq })
	if next < 0 {
		// The page was read before its last events were written.
		delete(t.segments, start)
		return t.replayFromSegment(seq, again)
	}
	return replay{frames: firstChunk(p.frames[next:])}
}

// firstChunk is as many of the frames as make one write. What is replayed waits
// in the log, not in the stream's queue: that is for what is new, and one that
// is full ends the stream.
func firstChunk(frames []*frame) []*frame {
	size := 0
	for i, f := range frames {
		if size += len(f.data); size >= chunkBytes {
			return frames[:i+1]
		}
	}
	return frames
}

func (t *topic) loadSegment(ctx context.Context, start room.Seq, p *segment) {
	for wait := minReadRetry; ; wait = min(2*wait, maxReadRetry) {
		read, err := t.readLog(ctx, true, start)
		if err == nil {
			frames := t.hub.encode(read.Events)
			t.mu.Lock()
			p.frames, p.oldestSeq, p.logGone, p.loaded = frames, read.OldestSeq, read.LastSeq == gone, true
			waiting := p.waiters
			p.waiters = nil
			t.mu.Unlock()
			for _, again := range waiting {
				again()
			}
			return
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// tick drops what is old and pages that nobody asked for lately, and reports
// whether the topic itself is not needed any more.
func (t *topic) evictExpired(now time.Time) (unused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.age(now)
	for start, p := range t.segments {
		if p.loaded && now.Sub(p.usedAt) >= segmentIdle {
			delete(t.segments, start)
		}
	}
	return t.subscribers == 0 && !t.catchingUp && now.Sub(t.idleSince) >= topicIdle
}

// pause waits, and reports false when the hub is closed first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
