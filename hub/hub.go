// Package hub delivers events to the open event streams of one node. Each log that a stream is
// subscribed to is a topic, which puts its events into order; a few workers own the streams and
// write to them. The hub only holds copies: whatever it lacks, it reads from the log in the
// database.
package hub

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"parlor/room"
)

// LogReader reads logs from the database. Its methods return room.ErrRoomNotFound for a log that
// does not exist any more; after any other error the read is retried.
type LogReader interface {
	Tail(ctx context.Context, log room.LogID, n int) (room.LogPage, error)
	EventsAfter(ctx context.Context, log room.LogID, after room.Seq, n int) (room.LogPage, error)
}

// Options are a hub's settings. All but OnStreamEnd have a default.
type Options struct {
	// OnStreamEnd is called when a session's stream has ended. It must not block.
	OnStreamEnd func(session room.SessionID, streamNo int64, at time.Time)
	// Follow is called when the log of a room gets a topic, and Unfollow when it has none any more.
	// The topic lacks what other nodes publish until they know that this one follows the log. The
	// calls are in order, and must not block. CommandsLog is followed while commands are watched.
	Follow, Unfollow func(log room.LogID)
	// Heartbeat is the longest time without a byte on a stream.
	Heartbeat time.Duration
	// Now is the clock by which tokens expire. It may differ from that of this process; nil means
	// time.Now.
	Now func() time.Time
	// WriteTimeout is how long a client may read nothing before its stream is closed.
	WriteTimeout time.Duration
	// Retry is about how long clients wait before they reconnect.
	Retry time.Duration
	// Window is how long events of a room may be gathered before they are delivered together, while
	// single deliveries would take too much time. A negative one means that they never are.
	Window time.Duration
	// pacedStreams is how many streams of a worker a room has at least for that. Tests set it.
	pacedStreams int
	// Workers is the number of goroutines that write to streams; 0 means GOMAXPROCS.
	Workers int
	Logger  *slog.Logger
}

// ErrClosed is returned when the hub does not accept streams any more.
var ErrClosed = errors.New("the hub is closed")

// Hub delivers events to the open streams of one node.
type Hub struct {
	logs    LogReader
	opts    Options
	workers []*worker
	poller  poller
	pieces  *pieces
	stats   stats
	endLog  endLogLimiter
	gap     atomic.Int64 // the gap timeout, in nanoseconds

	commands commands

	ctx  context.Context // of background goroutines; canceled by Close
	stop context.CancelFunc
	done sync.WaitGroup

	mu         sync.RWMutex // guards all below
	streams    map[room.SessionID]*Stream
	topics     map[room.LogID]*topic
	nextWorker int // the index of the next stream's worker
	closed     bool
	// drained is closed when the hub is closed and has no streams.
	drained chan struct{}
}

// stats holds the counters of Stats.
type stats struct {
	delivered     atomic.Uint64
	logReads      atomic.Uint64
	slowConsumers atomic.Uint64
	shed          atomic.Uint64
	outdated      atomic.Uint64
}

// Stats describes the work and the state of a hub.
type Stats struct {
	Streams       int    // open streams
	Topics        int    // logs with a topic
	Delivered     uint64 // frames written
	LogReads      uint64 // reads of logs from the database
	SlowConsumers uint64 // streams closed because their client was too slow
	Shed          uint64 // ephemeral frames not delivered because the client was behind
	Outdated      uint64 // streams asked to reconnect because they differed from the database
}

// New starts a hub, which runs until Close.
func New(logs LogReader, opts Options) *Hub {
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 10 * time.Second
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = defaultWriteTimeout
	}
	if opts.Retry == 0 {
		opts.Retry = 2 * time.Second
	}
	if opts.Window == 0 {
		opts.Window = DefaultWindow
	}
	if opts.pacedStreams == 0 {
		opts.pacedStreams = defaultPacedStreams
	}
	if opts.Workers == 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Follow == nil {
		opts.Follow, opts.Unfollow = func(room.LogID) {}, func(room.LogID) {}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{
		logs: logs, opts: opts, pieces: newPieces(),
		streams: make(map[room.SessionID]*Stream),
		topics:  make(map[room.LogID]*topic),
		drained: make(chan struct{}),
	}
	h.SetGapTimeout(0)
	h.ctx, h.stop = context.WithCancel(context.Background())
	for i := range opts.Workers {
		w := newWorker(h, i)
		h.workers = append(h.workers, w)
		h.done.Go(w.run)
	}
	h.done.Go(h.runTicker)
	return h
}

// Apply delivers the effects of a change to the streams of this node. It never blocks. Changes may
// be applied in another order than they were committed in. Events whose log has no subscribers here
// are not even encoded.
func (h *Hub) Apply(c room.Change) {
	h.notify(c)
	for log, events := range runs(c.Events, func(e room.Event) (room.LogID, room.Seq) { return e.Log, e.Seq }) {
		if events[0].Seq == 0 && h.commands.watched.Load() > 0 {
			frames := h.Encode(events)
			h.ShowCommands(frames)
			h.publishTo(log, 0, func() []*Frame { return frames })
			continue
		}
		h.publishTo(log, events[0].Seq, func() []*Frame { return h.Encode(events) })
	}
}

// ApplyEncoded is Apply for a change whose events are encoded, because other nodes receive them
// too. frames are those of c.Events.
func (h *Hub) ApplyEncoded(c room.Change, frames []*Frame) {
	h.notify(c)
	h.ShowCommands(frames)
	h.publish(frames, func(run []*Frame) []*Frame { return run })
}

// Hear delivers the effects of a change that another node has committed, or of a part of it. It may
// arrive late, or never. The frames are copied if they are kept. Commands are not shown to watchers.
func (h *Hub) Hear(c room.Change, frames []*Frame) {
	for _, j := range c.Joined {
		h.withStream(j.Session, func(s *Stream) { s.whenStarted(func() { s.applyHeardJoined(j) }) })
	}
	c.Joined = nil
	h.notify(c)
	// The streams of this node are ordered by OpenStream. A newer one may even have a lower number.
	for _, o := range c.Opened {
		h.withStream(o.Session, func(s *Stream) { s.whenStarted(func() { s.applyOpened(o) }) })
	}
	h.publish(frames, cloneFrames)
}

// notify applies a change to the streams of its sessions.
func (h *Hub) notify(c room.Change) {
	for _, j := range c.Joined {
		h.withStream(j.Session, func(s *Stream) { s.whenStarted(func() { s.applyJoined(j) }) })
	}
	for _, l := range c.Left {
		h.withStream(l.Session, func(s *Stream) { s.whenStarted(func() { s.applyLeft(l) }) })
	}
	for _, r := range c.Renewed {
		h.withStream(r.Session, func(s *Stream) { s.setTokenExpiry(r.ExpiresAt) })
	}
	for _, r := range c.Refused {
		h.withStream(r.Session, func(s *Stream) {
			for _, changed := range r.StateChanges() {
				s.notify(changed)
			}
		})
	}
	for _, e := range c.Ended {
		h.withStream(e.Session, func(s *Stream) { s.closeWith(e.StateChange()) })
	}
}

// publish publishes frames to the topics of their logs. take returns what the topic keeps of them.
func (h *Hub) publish(frames []*Frame, take func([]*Frame) []*Frame) {
	for log, run := range runs(frames, func(f *Frame) (room.LogID, room.Seq) { return f.log, f.seq }) {
		h.publishTo(log, run[0].seq, func() []*Frame { return take(run) })
	}
}

// publishTo publishes frames of a log, either all stored or, if the first seq is 0, all ephemeral.
// It calls frames only if the log has a topic. It holds mu so that the topic starts no goroutine
// after Close has begun to wait for them.
func (h *Hub) publishTo(log room.LogID, first room.Seq, frames func() []*Frame) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t := h.topics[log]
	switch {
	case t == nil:
	case first == 0:
		t.publishEphemeral(frames())
	default:
		t.publish(frames())
	}
}

// runs yields the longest runs of elements that have the same log and are either all stored or all
// ephemeral.
func runs[E any](all []E, position func(E) (room.LogID, room.Seq)) iter.Seq2[room.LogID, []E] {
	return func(yield func(room.LogID, []E) bool) {
		for len(all) > 0 {
			log, seq := position(all[0])
			n := 1
			for ; n < len(all); n++ {
				if l, s := position(all[n]); l != log || (s == 0) != (seq == 0) {
					break
				}
			}
			if !yield(log, all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// Encode returns the frames of events. Each event is encoded once, for all streams of all nodes.
func (h *Hub) Encode(events []room.Event) []*Frame {
	frames := make([]*Frame, 0, len(events))
	for _, e := range events {
		f, err := encodeEvent(e)
		if err != nil {
			h.opts.Logger.Error("event encoding failed", "log", e.Log, "seq", e.Seq, "error", err)
			continue
		}
		frames = append(frames, f)
	}
	return frames
}

// SetGapTimeout sets how long topics wait for the missing event of a gap before they read their
// logs, at least 10 ms. Events of other nodes take longer to arrive than those of this one.
func (h *Hub) SetGapTimeout(d time.Duration) { h.gap.Store(int64(max(d, minGapTimeout))) }

func (h *Hub) gapTimeout() time.Duration { return time.Duration(h.gap.Load()) }

// HasStream reports whether the session has a stream here, including one that has not started yet.
func (h *Hub) HasStream(session room.SessionID) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.streams[session] != nil
}

// withStream runs do for a session's stream, if it is open here, on the stream's worker.
func (h *Hub) withStream(session room.SessionID, do func(*Stream)) {
	h.mu.RLock()
	s := h.streams[session]
	h.mu.RUnlock()
	if s != nil {
		s.worker.do(func() { do(s) })
	}
}

// OpenStream registers a new stream of a session and closes an older one. No change to the
// session's rooms is missed from now on. The caller starts the stream with Serve or TakeOver, or
// closes it with Abort. user is the session's user, and inbox the log of the user's inbox, or 0.
// Errors: ErrClosed.
func (h *Hub) OpenStream(session room.SessionID, user room.UserID, inbox room.LogID) (*Stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if old := h.streams[session]; old != nil {
		old.worker.do(func() {
			old.closeWith(room.ConnectionStateChanged{State: "disconnected", Event: room.ConnectionSuperseded})
		})
	}
	s := &Stream{hub: h, worker: h.workers[h.nextWorker], session: session, user: user}
	if inbox != 0 {
		s.inboxTopic = h.acquireTopicLocked(inbox, s.worker.index, false)
	}
	h.nextWorker = (h.nextWorker + 1) % len(h.workers)
	h.streams[session] = s
	return s, nil
}

// removeStream removes a stream from the hub, unless a newer one of its session has replaced it.
func (h *Hub) removeStream(s *Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.session] != s {
		return
	}
	delete(h.streams, s.session)
	if h.closed && len(h.streams) == 0 {
		close(h.drained)
	}
}

// acquireTopic returns the topic of a log, and counts one more subscriber among the streams of a
// worker. topic.release undoes that. The topic is created if there is none. mu is held all the
// time, so that the topic is not evicted before the subscriber is counted.
func (h *Hub) acquireTopic(log room.LogID, worker int, ofRoom bool) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acquireTopicLocked(log, worker, ofRoom)
}

// acquireTopicLocked is acquireTopic for a caller that holds mu.
func (h *Hub) acquireTopicLocked(log room.LogID, worker int, ofRoom bool) *topic {
	t := h.topics[log]
	if t == nil {
		t = newTopic(h, log, ofRoom)
		h.topics[log] = t
		if ofRoom {
			h.opts.Follow(log)
		}
	}
	t.acquire(worker)
	return t
}

// runTicker does once a second what is due: nothing needs to be more precise, and one timer serves
// all streams.
func (h *Hub) runTicker() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, w := range h.workers {
				w.do(w.tick)
			}
			h.evictTopics()
			h.pieces.age()
		case <-h.ctx.Done():
			return
		}
	}
}

// evictTopics evicts the topics that are unused, and what has expired in the others.
func (h *Hub) evictTopics() {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		if t.evictExpired(now) {
			h.dropTopicLocked(t)
		}
	}
}

// dropTopicLocked removes a topic. The caller holds mu.
func (h *Hub) dropTopicLocked(t *topic) {
	delete(h.topics, t.logID)
	if t.ofRoom {
		h.opts.Unfollow(t.logID)
	}
}

// background runs do in a goroutine, with a context that Close cancels. Close waits for it.
func (h *Hub) background(do func(context.Context)) {
	h.done.Go(func() { do(h.ctx) })
}

// Stats returns the current statistics.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Stats{
		Streams:       len(h.streams),
		Topics:        len(h.topics),
		Delivered:     h.stats.delivered.Load(),
		LogReads:      h.stats.logReads.Load(),
		SlowConsumers: h.stats.slowConsumers.Load(),
		Shed:          h.stats.shed.Load(),
		Outdated:      h.stats.outdated.Load(),
	}
}
