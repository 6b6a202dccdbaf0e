// Package hub delivers events to open streams. Every log that a stream follows
// is a topic, which keeps the order; a few workers own the streams and write to
// them. Nothing here is the truth: the log in the database is, and whatever the
// hub does not have it reads there.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parlor/room"
)

// LogReader is where topics read what they do not have. Reads return
// room.ErrRoomNotFound for a log that is gone; any other error is tried again.
type LogReader interface {
	Tail(ctx context.Context, log room.LogID, n int) (room.LogPage, error)
	EventsAfter(ctx context.Context, log room.LogID, after room.Seq, n int) (room.LogPage, error)
}

const (
	// drainStep is how often Drain looks which streams are due.
	drainStep = 10 * time.Millisecond
	// maxDrainPause keeps the streams that Drain ends in the same instant from
	// coming back in the same instant.
	maxDrainDelay = 100 * time.Millisecond
	// maxRestartPause spreads streams that all end together over about the time
	// that a restart takes: a client that finds nobody waits longer the next time.
	maxRestartDelay = 800 * time.Millisecond
)

// Options are a hub's settings. Only OnStreamEnd has no default.
type Options struct {
	// OnStreamEnd is called when a session's stream has ended. It must not block.
	OnStreamEnd func(session room.SessionID, streamNo int64, at time.Time)
	// Heartbeat is the longest silence on a stream.
	Heartbeat time.Duration
	// WriteTimeout is how long a reader may take nothing at all.
	WriteTimeout time.Duration
	// Retry is about how long clients wait before they reconnect.
	Retry time.Duration
	// Workers is how many goroutines write.
	Workers int
	Logger  *slog.Logger
}

// ErrClosed says that the hub takes no more streams.
var ErrClosed = errors.New("the hub is closed")

// Hub is the live side of one node.
type Hub struct {
	logs    LogReader
	opts    Options
	workers []*worker
	poller  poller
	stats   stats
	endLog  endLogLimiter

	ctx  context.Context // of background work; ends with Close
	stop context.CancelFunc
	done sync.WaitGroup

	mu         sync.RWMutex // guards all below
	streams    map[room.SessionID]*Stream
	topics     map[room.LogID]*topic
	nextWorker int // the worker of the next stream
	closed     bool
	// empty is closed when the last stream of a closed hub has left.
	drained chan struct{}
}

type stats struct {
	delivered     atomic.Uint64
	reads         atomic.Uint64
	slowConsumers atomic.Uint64
	shed          atomic.Uint64
}

// Stats is what a hub has done and holds.
type Stats struct {
	Streams       int    // open now
	Topics        int    // logs that are followed now
	Delivered     uint64 // frames written
	LogReads      uint64 // reads of the database
	SlowConsumers uint64 // streams closed because their reader was too slow
	Shed          uint64 // frames that were not stored and not delivered, because their reader was behind
}

// New starts a hub. Close ends it.
func New(log LogReader, o Options) *Hub {
	if o.Heartbeat == 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = defaultWriteTimeout
	}
	if o.Retry == 0 {
		o.Retry = 2 * time.Second
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{
		logs: log, opts: o,
		streams: make(map[room.SessionID]*Stream),
		topics:  make(map[room.LogID]*topic),
		drained: make(chan struct{}),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	for i := range o.Workers {
		w := newWorker(h, i)
		h.workers = append(h.workers, w)
		h.done.Go(w.run)
	}
	h.done.Go(h.runTicker)
	return h
}

// Apply takes what a committed transaction made happen. It never blocks. Changes
// may come in another order than they were committed in.
func (h *Hub) Apply(c room.Change) {
	for _, a := range c.Joined {
		h.with(a.Session, func(s *Stream) { s.change(func() { s.arrive(a) }) })
	}
	for _, d := range c.Left {
		h.with(d.Session, func(s *Stream) { s.change(func() { s.depart(d) }) })
	}
	for _, e := range c.Ended {
		h.with(e.Session, func(s *Stream) { s.closeWith(e.StateChange()) })
	}
	h.publish(c.Events)
}

// publish gives events to the topics of their logs. Events of logs that nobody
// follows here cost nothing.
func (h *Hub) publish(events []room.Event) {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Log == events[0].Log && (events[n].Seq == 0) == (events[0].Seq == 0) {
			n++
		}
		h.publishTo(events[0].Log, events[:n])
		events = events[n:]
	}
}

// publishTo gives events, all stored or none of them, to a log's topic. It holds mu, so that the topic
// starts no reading of its log after Close has begun to wait for those.
func (h *Hub) publishTo(log room.LogID, events []room.Event) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t := h.topics[log]
	switch {
	case t == nil:
	case events[0].Seq == 0:
		t.publishEphemeral(h.encode(events))
	default:
		t.publish(h.encode(events))
	}
}

// encode makes the frames of events: once, for all their readers.
func (h *Hub) encode(events []room.Event) []*frame {
	frames := make([]*frame, 0, len(events))
	for _, e := range events {
		f, err := encodeEvent(e)
		if err != nil {
			h.opts.Logger.Error("an event could not be encoded", "log", e.Log, "seq", e.Seq, "error", err)
			continue
		}
		frames = append(frames, f)
	}
	return frames
}

// Resync makes every topic look for events that it was not told of.
func (h *Hub) Resync() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, t := range h.topics {
		t.resync()
	}
}

// Notify sends an event to a session's stream, if it is open here.
func (h *Hub) Notify(session room.SessionID, b room.Body) {
	h.with(session, func(s *Stream) { s.notify(b) })
}

// Renewed tells a session's stream of its newer token.
func (h *Hub) Renewed(session room.SessionID, expiresAt time.Time) {
	h.with(session, func(s *Stream) { s.renewed(expiresAt) })
}

// HasStream reports whether the session has a stream here, or is about to.
func (h *Hub) HasStream(session room.SessionID) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.streams[session] != nil
}

// with does something with a session's stream, on its worker.
func (h *Hub) with(session room.SessionID, do func(*Stream)) {
	h.mu.RLock()
	s := h.streams[session]
	h.mu.RUnlock()
	if s != nil {
		s.worker.do(func() { do(s) })
	}
}

// Open registers a session's stream. What happens to the session's rooms from
// now on is not missed; Start lets the stream begin. inbox is the log of its
// user's inbox, 0 where there is none. An older stream of the session is
// superseded. Errors: ErrClosed.
func (h *Hub) OpenStream(session room.SessionID, inbox room.LogID) (*Stream, error) {
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
	s := &Stream{hub: h, worker: h.workers[h.nextWorker], session: session}
	if inbox != 0 {
		s.inboxTopic = h.subscribeLocked(inbox, s.worker.index)
	}
	h.nextWorker = (h.nextWorker + 1) % len(h.workers)
	h.streams[session] = s
	return s, nil
}

// forget takes a stream out of the hub, unless a newer one took its place.
func (h *Hub) unregister(s *Stream) {
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

// subscribe counts a reader of a worker in at the topic of a log, which is made
// where there is none. It does so under mu: between finding a topic and
// subscribing to it, the topic could be dropped.
func (h *Hub) subscribe(log room.LogID, worker int) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.subscribeLocked(log, worker)
}

// reach is subscribe for a caller who holds mu.
func (h *Hub) subscribeLocked(log room.LogID, worker int) *topic {
	t := h.topics[log]
	if t == nil {
		t = newTopic(h, log)
		h.topics[log] = t
	}
	t.addSubscribers(worker, +1)
	return t
}

// ticks looks after time, once a second: that is as fine as any of it needs to
// be, and one timer serves all streams.
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
		case <-h.ctx.Done():
			return
		}
	}
}

func (h *Hub) evictTopics() {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for log, t := range h.topics {
		if t.evictExpired(now) {
			delete(h.topics, log)
		}
	}
}

// background runs something that ends with the hub.
func (h *Hub) background(do func(context.Context)) {
	h.done.Go(func() { do(h.ctx) })
}

func (h *Hub) now() time.Time { return time.Now() }

// Stats counts.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Stats{
		Streams: len(h.streams), Topics: len(h.topics),
		Delivered: h.stats.delivered.Load(), LogReads: h.stats.reads.Load(), SlowConsumers: h.stats.slowConsumers.Load(), Shed: h.stats.shed.Load(),
	}
}

// startOverSpread is how long ReconnectAll lets streams stay away at most. It is below
// half of the shortest memberTimeout, so that nobody is seen leaving for it.
const reconnectSpread = 2 * time.Second

// ReconnectAll asks all open streams to reconnect, each after a random time of at most
// startOverSpread, and forgets what was read of the logs. It is for when what this
// process heard may not be what the database has.
func (h *Hub) ReconnectAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		t.discard()
	}
	clear(h.topics)
	for _, s := range h.streams {
		after := rand.N(reconnectSpread)
		s.worker.do(func() { s.closeWith(room.Reconnect{AfterMs: after.Milliseconds()}) })
	}
}

// Drain ends the streams that are open now, each at a moment of its own within
// spread, and asks them to come back at once. The server waits and not the
// clients, so that each is away for an instant only. Streams that are opened
// meanwhile are taken, and stay until Shutdown: there may be no other server to go to.
// Drain returns when it has asked all, or ctx ends.
func (h *Hub) Drain(ctx context.Context, spread time.Duration) {
	h.mu.RLock()
	streams := slices.Collect(maps.Values(h.streams))
	h.mu.RUnlock()
	rand.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	ticker := time.NewTicker(drainStep)
	defer ticker.Stop()
	for began, asked := h.now(), 0; ; {
		due := len(streams)
		if since := h.now().Sub(began); since < spread {
			due = int(float64(len(streams)) * since.Seconds() / spread.Seconds())
		}
		for ; asked < due; asked++ {
			streams[asked].reconnectWithin(maxDrainDelay)
		}
		if asked == len(streams) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown takes no more streams, and ends those that are open with the request to
// come back after the moment that a restart takes. It returns when all have left
// or ctx ends.
func (h *Hub) Shutdown(ctx context.Context) {
	h.mu.Lock()
	h.stopAccepting()
	for _, s := range h.streams {
		s.reconnectWithin(maxRestartDelay)
	}
	h.mu.Unlock()
	select {
	case <-h.drained:
	case <-ctx.Done():
	}
}

// Close ends what is still open and waits for all that the hub started.
func (h *Hub) Close() {
	h.mu.Lock()
	h.stopAccepting()
	clear(h.topics) // what is committed from now on has no readers here
	h.mu.Unlock()
	h.stop()
	for _, w := range h.workers {
		w.close()
	}
	h.poller.close()
	h.done.Wait()
}

// refuse takes no more streams. The caller holds mu.
func (h *Hub) stopAccepting() {
	if h.closed {
		return
	}
	h.closed = true
	if len(h.streams) == 0 {
		close(h.drained)
	}
}
