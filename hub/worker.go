package hub

import (
	"sync"
	"time"
)

// worker owns a share of the streams. Only its goroutine touches them, so they need no locks: other
// goroutines give the worker tasks, and topics give it the shards that have frames to deliver.
type worker struct {
	hub   *Hub
	index int

	mu     sync.Mutex // guards tasks, shards and closed
	wake   *sync.Cond
	tasks  []func()
	shards []*shard
	closed bool

	// Only the goroutine of run uses the fields below.
	streams    map[*Stream]struct{}
	now        time.Time // when the current round began
	buf        []byte    // the bytes being written; shared by all streams
	ciphertext []byte    // the bytes being written, encrypted
	shared     []span    // the parts of buf that are the same for many streams; used if the stream is compressed
	compressed []byte    // buf as it is in a compressed stream
	compressor *compressor
	delivered  uint64 // the number of frames in the current round
}

func newWorker(h *Hub, index int) *worker {
	w := &worker{hub: h, index: index, streams: make(map[*Stream]struct{}), compressor: newCompressor(h.pieces)}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// do queues a task. It never blocks, and reports false if the worker is closed.
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

// schedule queues a shard that has pending frames.
func (w *worker) schedule(s *shard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shards = append(w.shards, s)
	w.wake.Signal()
}

func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wake.Signal()
}

// run works until the worker is closed and its queues are empty, and then closes its streams.
func (w *worker) run() {
	var (
		tasks  []func()
		shards []*shard
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
		// Full slices are swapped for empty ones, so that neither side allocates.
		tasks, w.tasks = w.tasks, tasks[:0]
		shards, w.shards = w.shards, shards[:0]
		w.mu.Unlock()

		w.now = time.Now()
		runTasks(tasks)
		for _, s := range shards {
			w.deliver(s)
		}
		clear(shards)
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

// runTasks runs tasks and removes them from memory.
func runTasks(tasks []func()) {
	for _, task := range tasks {
		task()
	}
	clear(tasks)
}

// runNewTasks runs the tasks that were queued since the round began.
func (w *worker) runNewTasks() {
	w.mu.Lock()
	tasks := w.tasks
	if len(tasks) > 0 { // otherwise the next round uses the slice
		w.tasks = nil
	}
	w.mu.Unlock()
	runTasks(tasks)
}

// deliver delivers the pending frames of a shard to each of its streams. A session that was removed
// before an event was sent must not receive it, so the tasks that were queued before the frames are
// run first. A round can last for many milliseconds.
func (w *worker) deliver(s *shard) {
	t := s.topic
	paced := len(s.streams) >= w.hub.opts.pacedStreams && w.hub.opts.Window > 0
	t.mu.Lock()
	frames, added := s.pending, s.added
	s.pending = s.spare[:0]
	s.scheduled = paced // a paced shard is not scheduled again before its round has ended
	t.mu.Unlock()
	w.runNewTasks()
	var began time.Time
	if paced {
		began = time.Now()
	}
	// Delivery may close a stream, which replaces it in s.streams by the last one. Backwards, that
	// is one to which the frames were delivered already.
	for i := len(s.streams) - 1; i >= 0; i-- {
		s.streams[i].deliverAdded(t.logID, frames, added)
	}
	clear(frames)
	s.spare = frames[:0]
	if paced {
		s.endRound(began, time.Now())
	}
}

// catchUp makes the worker's subscribers of a topic catch up.
func (w *worker) catchUp(t *topic) {
	streams := t.shards[w.index].streams
	for i := len(streams) - 1; i >= 0; i-- {
		streams[i].resumeCatchUp(t.logID)
	}
}

// tick calls tick of all streams.
func (w *worker) tick() {
	w.compressor.forget()
	for s := range w.streams {
		s.tick(w.now)
	}
}
