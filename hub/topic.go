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
	ringKept = time.Minute
	// maxPending bounds what waits for a worker that is behind: frames that are
	// not stored are shed beyond it. What is stored comes no faster than the
	// database takes it.
	maxPending = 4096
	// pageFrames is how many events one read of the log brings. Pages begin at
	// fixed places, so that streams that are behind share them.
	pageFrames = 256
	// pageKept is how long a page that was read stays for the next reader.
	pageKept = 10 * time.Second
	// topicKept is how long a topic stays without readers: long enough for
	// everybody of a room to reload the page.
	topicKept = 30 * time.Second
	// holePatience is how long a hole in the order may last before the log is
	// read. Usually the missing event is already on its way from another
	// transaction that committed in the same moment.
	holePatience = 10 * time.Millisecond
	// retryFirst and retryMost bound the wait between reads of a log that
	// fail, as while PostgreSQL is away.
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// readTimeout ends a read that gets no answer, as over a connection whose
	// far end is gone; TCP alone would wait a quarter of an hour.
	readTimeout = 10 * time.Second
)

// gone stands for the last seq of a log that does not exist any more.
const gone room.Seq = -1

// topic is a log that streams of this hub follow. It puts what was committed
// into order, remembers the newest of it, and hands it to the workers.
type topic struct {
	hub *Hub
	log room.LogID

	mu sync.Mutex // guards all below
	// loaded says that last is known. Until then nothing is delivered.
	loaded bool
	// last is the newest event that was handed out; ring holds the frames up to
	// it, without holes.
	last      room.Seq
	ring      []*Frame
	ringBytes int
	// aged is the newest event that was there at agedAt, when the ring was last
	// looked through.
	aged   room.Seq
	agedAt time.Time
	// ahead holds frames that came before their turn, by seq; heard is the
	// newest event that the log is known to have; doubt says that it may have
	// more.
	ahead []*Frame
	heard room.Seq
	doubt bool
	// reading says that a goroutine is at catchUp.
	reading bool
	// abandoned says that the hub has no use for the topic any more, though streams
	// may read it until they have ended.
	abandoned bool
	pages     map[room.Seq]*page
	// parts is the readers, by worker.
	parts   []part
	readers int
	// idle is since when there are no readers.
	idle time.Time
}

// part is a topic's readers that belong to one worker.
type part struct {
	topic *topic
	// pending is what the worker has yet to deliver; guarded by topic.mu.
	pending []*Frame
	// queued says that the part waits in the worker's list; guarded by topic.mu.
	queued bool
	// subscribed is how many readers there are; guarded by topic.mu.
	subscribed int
	// readers and spare are the worker's own: nobody else touches them. spare
	// is the slice that pending is swapped with.
	readers []*Stream
	spare   []*Frame
}

// page is a run of the log that was read for streams that are far behind.
type page struct {
	frames  []*Frame
	oldest  room.Seq
	gone    bool
	waiting []func() // called when the page has been read
	ready   bool
	used    time.Time
}

func newTopic(h *Hub, log room.LogID) *topic {
	t := &topic{hub: h, log: log, parts: make([]part, len(h.workers)), idle: h.now(), agedAt: h.now()}
	for i := range t.parts {
		t.parts[i].topic = t
	}
	return t
}

// publish takes frames that were committed, in whatever order they come.
func (t *topic) publish(frames []*Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(frames)
	t.advance()
	if t.loaded && len(t.ahead) > 0 {
		t.read(holePatience)
	}
}

// tell hands out frames that are not stored: to those who listen now, in no
// order with the log.
func (t *topic) tell(frames []*Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range frames {
		for i := range t.parts {
			if len(t.parts[i].pending) < maxPending {
				t.hand(i, f)
			} else {
				t.hub.stats.shed.Add(uint64(t.parts[i].subscribed))
			}
		}
	}
}

// line queues frames up by seq, each once. The caller holds mu.
func (t *topic) line(frames []*Frame) {
	for _, f := range frames {
		if t.loaded && f.Seq <= t.last {
			continue
		}
		at, known := slices.BinarySearchFunc(t.ahead, f.Seq, func(f *Frame, seq room.Seq) int {
			return cmp.Compare(f.Seq, seq)
		})
		if !known {
			t.ahead = slices.Insert(t.ahead, at, f)
		}
	}
}

// advance hands out what is next in order. The caller holds mu.
func (t *topic) advance() {
	if !t.loaded {
		return
	}
	n := 0
	for _, f := range t.ahead {
		if f.Seq == t.last+1 {
			t.last = f.Seq
			if f.recalls > 0 {
				t.forget(f.recalls)
			}
			t.remember(f)
			for i := range t.parts {
				t.hand(i, f)
			}
		} else if f.Seq > t.last {
			break
		}
		n++
	}
	t.ahead = slices.Delete(t.ahead, 0, n)
	t.heard = max(t.heard, t.last)
}

// hand gives a frame to a worker that has readers. The caller holds mu.
func (t *topic) hand(i int, f *Frame) {
	p := &t.parts[i]
	if p.subscribed == 0 {
		return
	}
	p.pending = append(p.pending, f)
	if !p.queued {
		p.queued = true
		t.hub.workers[i].deliver(p)
	}
}

// remember adds a frame to the ring. The caller holds mu.
func (t *topic) remember(f *Frame) {
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
func (t *topic) forget(seq room.Seq) {
	t.dropUpTo(seq)
	clear(t.pages)
}

// dropUpTo takes the frames up to one out of the ring. The caller holds mu.
func (t *topic) dropUpTo(seq room.Seq) {
	drop := 0
	for drop < len(t.ring) && t.ring[drop].Seq <= seq {
		t.ringBytes -= len(t.ring[drop].data)
		drop++
	}
	if t.ring = slices.Delete(t.ring, 0, drop); len(t.ring) == 0 {
		t.ring = nil
	}
}

// age drops the frames that are older than ringKept. The caller holds mu.
func (t *topic) age(now time.Time) {
	if now.Sub(t.agedAt) < ringKept {
		return
	}
	t.dropUpTo(t.aged)
	t.aged, t.agedAt = t.last, now
}

// read starts the goroutine that brings the topic up to date with its log,
// unless one is at it. The caller holds mu.
func (t *topic) read(patience time.Duration) {
	if t.reading {
		return
	}
	t.reading = true
	t.hub.background(func(ctx context.Context) { t.catchUp(ctx, patience) })
}

// refresh looks for events that the log may have got unseen.
func (t *topic) refresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt = true
	t.read(0)
}

// catchUp reads the log until the topic knows its end and has no hole before
// any event that it has heard of.
func (t *topic) catchUp(ctx context.Context, patience time.Duration) {
	wait := retryFirst
	for pause(ctx, patience) {
		t.mu.Lock()
		loaded, last := t.loaded, t.last
		if t.abandoned || loaded && !t.doubt && len(t.ahead) == 0 && t.heard <= last {
			t.reading = false
			t.mu.Unlock()
			return
		}
		t.doubt = false
		t.mu.Unlock()

		p, err := t.readLog(ctx, loaded, last)
		if err != nil {
			t.mu.Lock()
			t.doubt = true
			t.mu.Unlock()
		}
		if err != nil || !t.took(p) {
			patience, wait = wait, min(2*wait, retryMost)
			continue
		}
		patience, wait = 0, retryFirst
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
		p, err = t.hub.log.EventsAfter(reading, t.log, last, pageFrames)
	} else {
		p, err = t.hub.log.Tail(reading, t.log, ringFrames)
	}
	if errors.Is(err, room.ErrRoomNotFound) {
		return room.LogPage{LastSeq: gone}, nil
	}
	if err != nil && ctx.Err() == nil {
		t.hub.o.Logger.Warn("a log could not be read; trying again", "log", t.log, "error", err)
	}
	return p, err
}

// took puts what was read into the order. It reports false where that did not
// bring what is next, which the log should have: it may lag behind.
func (t *topic) took(p room.LogPage) bool {
	frames := t.hub.encode(p.Events)
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.LastSeq == gone {
		t.loaded, t.heard, t.ahead = true, t.last, nil
		return true
	}
	t.heard = max(t.heard, p.LastSeq)
	if t.loaded {
		before := t.last
		t.skipTo(p.OldestSeq)
		t.line(frames)
		t.advance()
		return t.last > before || t.heard == t.last && len(t.ahead) == 0
	}
	t.loaded, t.last = true, p.LastSeq
	for _, f := range frames {
		t.remember(f)
	}
	t.advance()
	t.resume()
	return true
}

// skipTo goes on from the oldest event that the log still has, if the one that
// is next was trimmed. Readers that lack what was trimmed start afresh, at once:
// there may be no other event for long. The caller holds mu.
func (t *topic) skipTo(oldest room.Seq) {
	if oldest <= t.last+1 {
		return
	}
	t.last = oldest - 1
	t.ring, t.ringBytes = nil, 0
	t.resume()
}

// resume makes all readers look again. The caller holds mu.
func (t *topic) resume() {
	for _, w := range t.hub.workers {
		w.do(func() { w.resume(t) })
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
	t.loaded, t.last = true, last
	t.advance()
	if len(t.ahead) > 0 {
		t.read(holePatience)
	}
}

// abandon ends the topic's reading. What it has heard of may be in no log any more,
// so that it would read for ever.
func (t *topic) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.abandoned = true
}

// expect tells the topic of the newest event that its log had when the caller
// looked. An event that this process was not told of, because another one
// committed it, is read: otherwise readers would wait for it until the log
// happens to bring something more. One that was committed here is usually on its
// way already, so the topic waits for it as for a hole.
func (t *topic) expect(last room.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last <= t.heard {
		return
	}
	t.heard = last
	if t.loaded && last > t.last {
		t.read(holePatience)
	}
}

// subscribe counts a reader of a worker in or, with n = -1, out.
func (t *topic) subscribe(worker, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts[worker].subscribed += n
	t.readers += n
	t.idle = t.hub.now()
}

// missing is what a reader needs to go on after a seq.
type missing struct {
	frames []*Frame
	// live says that the frames reach up to the newest one: from now on the
	// reader gets what comes.
	live bool
	// wait says that the frames have yet to be read; the reader is called.
	wait bool
	// oldest is set where the log no longer has what is next.
	oldest room.Seq
}

// after looks for the frames next after a seq: in the ring, or else in a page
// of the log. again is called when it is worth asking again.
func (t *topic) after(seq room.Seq, again func()) missing {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		t.read(0)
		return missing{wait: true}
	}
	if seq >= t.last {
		return missing{live: true}
	}
	if len(t.ring) > 0 && t.ring[0].Seq <= seq+1 {
		from := int(seq + 1 - t.ring[0].Seq)
		return missing{frames: slices.Clone(t.ring[from:]), live: true}
	}
	return t.fromPage(seq, again)
}

// fromPage serves a reader that is behind the ring. The caller holds mu.
func (t *topic) fromPage(seq room.Seq, again func()) missing {
	start := seq - seq%pageFrames
	p := t.pages[start]
	if p == nil {
		p = &page{}
		if t.pages == nil {
			t.pages = make(map[room.Seq]*page)
		}
		t.pages[start] = p
		t.hub.background(func(ctx context.Context) { t.readPage(ctx, start, p) })
	}
	p.used = t.hub.now()
	if !p.ready {
		p.waiting = append(p.waiting, again)
		return missing{wait: true}
	}
	if seq+1 < p.oldest {
		return missing{oldest: p.oldest}
	}
	if p.gone {
		return missing{live: true}
	}
	next := slices.IndexFunc(p.frames, func(f *Frame) bool { return f.Seq > seq })
	if next < 0 {
		// The page was read before its last events were written.
		delete(t.pages, start)
		return t.fromPage(seq, again)
	}
	return missing{frames: firstChunk(p.frames[next:])}
}

// firstChunk is as many of the frames as make one write. What is replayed waits
// in the log, not in the stream's queue: that is for what is new, and one that
// is full ends the stream.
func firstChunk(frames []*Frame) []*Frame {
	size := 0
	for i, f := range frames {
		if size += len(f.data); size >= chunkBytes {
			return frames[:i+1]
		}
	}
	return frames
}

func (t *topic) readPage(ctx context.Context, start room.Seq, p *page) {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		read, err := t.readLog(ctx, true, start)
		if err == nil {
			frames := t.hub.encode(read.Events)
			t.mu.Lock()
			p.frames, p.oldest, p.gone, p.ready = frames, read.OldestSeq, read.LastSeq == gone, true
			waiting := p.waiting
			p.waiting = nil
			t.mu.Unlock()
			for _, again := range waiting {
				again()
			}
			return
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// tick drops what is old and pages that nobody asked for lately, and reports
// whether the topic itself is not needed any more.
func (t *topic) tick(now time.Time) (unused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.age(now)
	for start, p := range t.pages {
		if p.ready && now.Sub(p.used) >= pageKept {
			delete(t.pages, start)
		}
	}
	return t.readers == 0 && !t.reading && now.Sub(t.idle) >= topicKept
}

// pause waits, and reports false when the hub is closed first.
func pause(ctx context.Context, d time.Duration) bool {
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
