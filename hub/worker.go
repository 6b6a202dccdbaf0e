package hub

import (
	"slices"
	"sync"
	"time"

	"parlor/room"
)

// worker owns a share of the streams: only its goroutine touches them, so they
// need no locks. Whatever concerns a stream reaches its worker as a task, and
// what a log brings as parts with something pending.
type worker struct {
	hub   *Hub
	index int

	mu     sync.Mutex // guards tasks, parts and closed
	wake   *sync.Cond
	tasks  []func()
	shards []*shard
	closed bool

	// The goroutine's own:
	streams    map[*Stream]struct{}
	now        time.Time // of this round
	buf        []byte    // what is being written; one is enough for all streams
	ciphertext []byte    // the same, encrypted
	// delivered counts the frames of this round.
	delivered uint64
}

func newWorker(h *Hub, index int) *worker {
	w := &worker{hub: h, index: index, streams: make(map[*Stream]struct{})}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// do hands the worker a task. It never blocks, and reports false when the worker
// is closed and takes no more.
func (w *worker) do(task func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.tasks = append(w.tasks, task)
	w.wake.Signal()
	return true
}

// deliver tells the worker that a part has something pending.
func (w *worker) schedule(p *shard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shards = append(w.shards, p)
	w.wake.Signal()
}

func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wake.Signal()
}

// run works until the worker is closed and has nothing left to do, and then
// closes its streams.
func (w *worker) run() {
	var (
		tasks []func()
		parts []*shard
	)
	for {
		w.mu.Lock()
		for len(w.tasks) == 0 && len(w.shards) == 0 && !w.closed {
			w.wake.Wait()
		}
		if len(w.tasks) == 0 && len(w.shards) == 0 {
			w.mu.Unlock()
			break
		}
		// The slices change hands, so that neither side allocates.
		tasks, w.tasks = w.tasks, tasks[:0]
		parts, w.shards = w.shards, parts[:0]
		w.mu.Unlock()

		w.now = w.hub.now()
		for _, task := range tasks {
			task()
		}
		clear(tasks)
		for _, p := range parts {
			w.fanOut(p)
		}
		clear(parts)
		if w.delivered > 0 {
			w.hub.stats.delivered.Add(w.delivered)
			w.delivered = 0
		}
	}
	for s := range w.streams {
		s.setEndReason(endServerClosed)
		s.close()
	}
}

// flush delivers what a part has pending to each of its readers.
func (w *worker) fanOut(p *shard) {
	t := p.topic
	t.mu.Lock()
	frames := p.pending
	p.pending = p.spare[:0]
	p.scheduled = false
	t.mu.Unlock()
	// A reader may be closed while it is written to, which takes it out of
	// p.readers: going backwards, that moves only readers already served.
	for i := len(p.streams) - 1; i >= 0; i-- {
		p.streams[i].deliver(t.logID, frames)
	}
	clear(frames)
	p.spare = frames[:0]
}

// follow makes the stream a reader of a log, from after a seq, for one stay in
// its room; what the log has, the stream gets when it catches up. Doing so twice
// changes nothing.
func (w *worker) follow(s *Stream, log room.LogID, from room.Seq, stay room.PresenceID) {
	if s.isStale(log, stay) {
		return
	}
	i, known := s.cursor.find(log)
	if known {
		// The stay before it has ended, which has yet to be told. What it brought
		// is not brought again.
		f := &s.subscriptions[i]
		f.presence = stay
		f.sentSeq = max(f.sentSeq, from)
		s.cursor[i].Seq = max(s.cursor[i].Seq, from)
		return
	}
	t := w.hub.subscribe(log, w.index)
	p := &t.shards[w.index]
	p.streams = append(p.streams, s)
	s.cursor = slices.Insert(s.cursor, i, room.Position{Log: log, Seq: from})
	s.subscriptions = slices.Insert(s.subscriptions, i, subscription{topic: t, presence: stay, sentSeq: from})
}

// unfollow ends a stay in a log's room, and reports whether the stream is out
// of it now: it may have come in again meanwhile.
func (w *worker) unfollow(s *Stream, log room.LogID, stay room.PresenceID) bool {
	s.recordEnded(log, stay)
	i, known := s.cursor.find(log)
	if known && s.subscriptions[i].presence > stay {
		return false
	}
	if known {
		w.remove(s, i)
	}
	return true
}

// remove makes the stream no reader of a log any more.
func (w *worker) remove(s *Stream, i int) {
	t := s.subscriptions[i].topic
	s.cursor = slices.Delete(s.cursor, i, i+1)
	s.subscriptions = slices.Delete(s.subscriptions, i, i+1)
	p := &t.shards[w.index]
	at := slices.Index(p.streams, s)
	last := len(p.streams) - 1
	p.streams[at], p.streams[last] = p.streams[last], nil
	p.streams = p.streams[:last]
	t.addSubscribers(w.index, -1)
}

// resume makes a topic's readers look again.
func (w *worker) catchUp(t *topic) {
	readers := t.shards[w.index].streams
	for i := len(readers) - 1; i >= 0; i-- {
		readers[i].resumeCatchUp(t.logID)
	}
}

// tick looks after what time does to streams.
func (w *worker) tick() {
	for s := range w.streams {
		s.tick(w.now)
	}
}
