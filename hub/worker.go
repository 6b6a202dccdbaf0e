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
	parts  []*part
	closed bool

	// The goroutine's own:
	streams map[*Stream]struct{}
	now     time.Time // of this round
	buf     []byte    // what is being written; one is enough for all streams
	sealed  []byte    // the same, encrypted
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
func (w *worker) deliver(p *part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, p)
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
		parts []*part
	)
	for {
		w.mu.Lock()
		for len(w.tasks) == 0 && len(w.parts) == 0 && !w.closed {
			w.wake.Wait()
		}
		if len(w.tasks) == 0 && len(w.parts) == 0 {
			w.mu.Unlock()
			break
		}
		// The slices change hands, so that neither side allocates.
		tasks, w.tasks = w.tasks, tasks[:0]
		parts, w.parts = w.parts, parts[:0]
		w.mu.Unlock()

		w.now = w.hub.now()
		for _, task := range tasks {
			task()
		}
		clear(tasks)
		for _, p := range parts {
			w.flush(p)
		}
		clear(parts)
		if w.delivered > 0 {
			w.hub.stats.delivered.Add(w.delivered)
			w.delivered = 0
		}
	}
	for s := range w.streams {
		s.because(endServerClosed)
		s.drop()
	}
}

// flush delivers what a part has pending to each of its readers.
func (w *worker) flush(p *part) {
	t := p.topic
	t.mu.Lock()
	frames := p.pending
	p.pending = p.spare[:0]
	p.queued = false
	t.mu.Unlock()
	// A reader may be closed while it is written to, which takes it out of
	// p.readers: going backwards, that moves only readers already served.
	for i := len(p.readers) - 1; i >= 0; i-- {
		p.readers[i].offer(t.log, frames)
	}
	clear(frames)
	p.spare = frames[:0]
}

// follow makes the stream a reader of a log, from after a seq, for one stay in
// its room; what the log has, the stream gets when it catches up. Doing so twice
// changes nothing.
func (w *worker) follow(s *Stream, log room.LogID, from room.Seq, stay room.PresenceID) {
	if s.over(log, stay) {
		return
	}
	i, known := s.cursor.find(log)
	if known {
		// The stay before it has ended, which has yet to be told. What it brought
		// is not brought again.
		f := &s.follows[i]
		f.stay = stay
		f.taken = max(f.taken, from)
		s.cursor[i].Seq = max(s.cursor[i].Seq, from)
		return
	}
	t := w.hub.subscribe(log, w.index)
	p := &t.parts[w.index]
	p.readers = append(p.readers, s)
	s.cursor = slices.Insert(s.cursor, i, room.Position{Log: log, Seq: from})
	s.follows = slices.Insert(s.follows, i, follow{topic: t, stay: stay, taken: from})
}

// unfollow ends a stay in a log's room, and reports whether the stream is out
// of it now: it may have come in again meanwhile.
func (w *worker) unfollow(s *Stream, log room.LogID, stay room.PresenceID) bool {
	s.end(log, stay)
	i, known := s.cursor.find(log)
	if known && s.follows[i].stay > stay {
		return false
	}
	if known {
		w.remove(s, i)
	}
	return true
}

// remove makes the stream no reader of a log any more.
func (w *worker) remove(s *Stream, i int) {
	t := s.follows[i].topic
	s.cursor = slices.Delete(s.cursor, i, i+1)
	s.follows = slices.Delete(s.follows, i, i+1)
	p := &t.parts[w.index]
	at := slices.Index(p.readers, s)
	last := len(p.readers) - 1
	p.readers[at], p.readers[last] = p.readers[last], nil
	p.readers = p.readers[:last]
	t.subscribe(w.index, -1)
}

// resume makes a topic's readers look again.
func (w *worker) resume(t *topic) {
	readers := t.parts[w.index].readers
	for i := len(readers) - 1; i >= 0; i-- {
		readers[i].lookAgain(t.log)
	}
}

// tick looks after what time does to streams.
func (w *worker) tick() {
	for s := range w.streams {
		s.tick(w.now)
	}
}
