package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBuffer is what a loop reads into, for all its streams. The longest frame must fit in: a message of 32 KiB whose
	// bytes are all escaped, six for one.
	readBuffer = 512 << 10
	// openWindow is how many streams are being opened at a time at the beginning. A herd has no such limit.
	openWindow = 256
	// churnTick is how often streams are chosen that reconnect.
	churnTick = 100 * time.Millisecond
	// keepTail is how large a buffer a stream may keep for the beginning of a frame between reads.
	keepTail = 4 << 10
)

// stream is one event stream. All but its link is the same on every platform.
type stream struct {
	number int
	hall   *hall
	key    string // Parlor's of the session

	// Guarded by the loop's lock from here on.
	link
	state   streamState
	chunked bool
	chunks  chunks
	due     int64 // when it is to be opened again
	tail    []byte
	// cursor is the id of the last frame that had one.
	cursor []byte
	// opened says that the stream was open once.
	opened bool
	// greeted says that the server's first frame came on this connection.
	greeted bool
	seq     int64 // the last event of the room's log; 0: not known yet

	stopped bool // reads nothing

	received, sum int64 // messages, and the sum of their numbers
	lost, twice   int64 // holes and repetitions in the log
	away          bool  // was closed while messages were sent
}

type streamState uint8

const (
	streamClosed     streamState = iota
	streamConnecting             // the request has not been sent
	streamAsking                 // the reply's head has not come
	streamGreeting               // the first frame has not come
	streamLive
)

// tally is what the streams of a loop came to, or all streams.
type tally struct {
	live       int // open streams
	messages   int64
	frames     int64
	bytes      int64
	reconnects int64
	cut        int64 // closed by the server
	refused    int64 // attempts to come back that failed
	resets     int64 // streams that were told that something is lost
}

func (t *tally) add(o tally) {
	t.live += o.live
	t.messages += o.messages
	t.frames += o.frames
	t.bytes += o.bytes
	t.reconnects += o.reconnects
	t.cut += o.cut
	t.refused += o.refused
	t.resets += o.resets
}

// readers reads all streams.
type readers struct {
	*run
	loops []*loop
	done  sync.WaitGroup
	// from and until are the measured time. Latency is that of messages sent in it.
	from, until atomic.Int64
	failure     atomic.Pointer[error]
	failed      chan struct{} // closed with the first failure
	once        sync.Once
}

// loop reads some of the streams.
type loop struct {
	*readers
	engine
	mu      sync.Mutex // guards all below, and the loop's streams
	streams []*stream
	waiting []*stream // to be opened when they are due
	resumed []*stream // have stopped, and read on
	flying  int       // being opened
	window  int       // how many may be
	closed  bool
	tally   tally
	latency histogram
	scratch []byte
}

func newReaders(r *run) (*readers, error) {
	all := &readers{run: r, failed: make(chan struct{})}
	all.from.Store(1<<63 - 1)
	all.until.Store(1<<63 - 1)
	address, err := r.Target.address()
	if err != nil {
		return nil, err
	}
	for range min(runtime.GOMAXPROCS(0), len(r.streams)) {
		l := &loop{readers: all, latency: newHistogram()}
		if err := l.engine.open(address, r.Streams, r.SourceAddresses); err != nil {
			return nil, errors.Join(err, all.release())
		}
		all.loops = append(all.loops, l)
	}
	for i, s := range r.streams {
		l := all.loops[i%len(all.loops)]
		l.streams = append(l.streams, s)
	}
	return all, nil
}

func (r *readers) release() error {
	var err error
	for _, l := range r.loops {
		err = errors.Join(err, l.engine.release())
	}
	return err
}

// open starts the loops, which open their streams.
func (r *readers) open() {
	for _, l := range r.loops {
		l.window = max(openWindow/len(r.loops), 1)
		l.waiting = slices.Clone(l.streams)
		r.done.Go(func() { l.run() })
	}
}

// close closes all streams and waits for the loops.
func (r *readers) close() {
	for _, l := range r.loops {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
	}
	r.done.Wait()
	_ = r.release()
}

// tally is what all streams came to until now.
func (r *readers) tally() *tally {
	var all tally
	r.inspect(func(t *tally, _ []*stream) { all.add(*t) })
	return &all
}

// inspect shows the streams of each loop while it stands still.
func (r *readers) inspect(look func(*tally, []*stream)) {
	for _, l := range r.loops {
		l.mu.Lock()
		look(&l.tally, l.streams)
		l.mu.Unlock()
	}
}

func (r *readers) latencies() histogram {
	all := newHistogram()
	for _, l := range r.loops {
		l.mu.Lock()
		all.Merge(l.latency.Histogram)
		l.mu.Unlock()
	}
	return all
}

func (r *readers) measureFrom(at int64)  { r.until.Store(1<<63 - 1); r.from.Store(at) }
func (r *readers) measureUntil(at int64) { r.until.Store(at) }

// fail ends the run.
func (r *readers) fail(err error) {
	r.once.Do(func() {
		r.failure.Store(&err)
		close(r.failed)
	})
}

func (r *readers) fault() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// churn lets a share of the streams reconnect each second, one after the other, until the returned function is called.
func (r *readers) churn(share float64) (stop func()) {
	if share == 0 {
		return func() {}
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(churnTick)
		defer ticker.Stop()
		began, next := r.clock.now(), 0
		for {
			select {
			case <-stopping:
				return
			case <-ticker.C:
			}
			want := int(share * float64(len(r.streams)) * float64(r.clock.now()-began) / float64(time.Second))
			for ; next < want; next++ {
				number := next % len(r.streams)
				r.loops[number%len(r.loops)].reconnect(r.streams[number], 0)
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// stop lets the streams that Options.Stopped counts stop reading, or read on.
func (r *readers) stop(stopped bool) {
	for _, s := range r.streams[:r.Stopped] {
		l := r.loops[s.number%len(r.loops)]
		l.mu.Lock()
		if s.stopped = stopped; !stopped {
			l.resumed = append(l.resumed, s)
		}
		l.mu.Unlock()
	}
}

// cutAll cuts all streams at once. They come back at random instants within a time.
func (r *readers) cutAll(within time.Duration) {
	for _, l := range r.loops {
		l.mu.Lock()
		l.window = len(l.streams) + 1
		for _, s := range l.streams {
			l.cut(s, rand.N(within))
		}
		l.mu.Unlock()
	}
}

// reconnect cuts a stream and opens it again after a time.
func (l *loop) reconnect(s *stream, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(s, after)
}

// cut is reconnect for who holds the lock. A stream that is not open is left alone: it is on its way back.
func (l *loop) cut(s *stream, after time.Duration) {
	if s.state != streamLive || l.closed {
		return
	}
	l.tally.reconnects++
	l.drop(s)
	l.later(s, after)
}

// drop closes a stream's connection. The beginning of a frame was not received.
func (l *loop) drop(s *stream) {
	switch s.state {
	case streamClosed:
		return
	case streamLive:
		l.tally.live--
	default:
		l.flying--
	}
	s.hangUp()
	s.state, s.chunked, s.chunks, s.tail = streamClosed, false, chunks{}, nil
	s.away, s.greeted = s.opened, false
}

// later opens a stream again after a time.
func (l *loop) later(s *stream, after time.Duration) {
	s.due = l.clock.now() + int64(after)
	l.waiting = append(l.waiting, s)
}

// openDue opens the streams that are due.
func (l *loop) openDue() {
	now := l.clock.now()
	for i := 0; i < len(l.waiting) && l.flying < l.window; {
		s := l.waiting[i]
		if s.due > now {
			i++
			continue
		}
		last := len(l.waiting) - 1
		l.waiting[i] = l.waiting[last]
		l.waiting = l.waiting[:last]
		s.state = streamConnecting
		l.flying++
		if err := l.dial(l, s); err != nil {
			l.lost(s, err)
		}
	}
}

// lost handles the end of a stream that nobody here wanted. One that was open once comes back, as clients do.
func (l *loop) lost(s *stream, err error) {
	switch {
	case s.state == streamLive:
		l.tally.cut++
		l.tally.reconnects++
	case s.opened:
		l.tally.refused++
	}
	l.drop(s)
	if !s.opened || errors.Is(err, errStream) {
		l.fail(fmt.Errorf("stream %d: %w", s.number, err))
		return
	}
	l.later(s, 50*time.Millisecond+rand.N(time.Second))
}

var (
	// errStream is a fault that coming back would not mend.
	errStream = errors.New("invalid stream")
	errEnded  = errors.New("the server ended the stream")
	errBusy   = errors.New("the server is too busy to open a stream")
)

// received handles what was read from a stream: all of b, behind what was kept of the last read. It keeps what is not
// complete yet.
func (l *loop) received(s *stream, b []byte, kept int) error {
	l.tally.bytes += int64(len(b) - kept)
	if s.state == streamAsking {
		body, err := l.takeHead(s, b)
		if err != nil {
			return err
		}
		if s.state == streamAsking {
			return s.keep(b)
		}
		b, kept = body, 0
	}
	if s.chunked {
		n, err := s.chunks.unwrap(b[kept:])
		if err != nil {
			return fmt.Errorf("%w: %w", errStream, err)
		}
		b = b[:kept+n]
	}
	now := l.clock.now()
	from, until := l.from.Load(), l.until.Load()
	done, err := scan(b, func(f frame) error {
		l.tally.frames++
		if n, sent, ok := readStamp(f.data); ok {
			s.received++
			s.sum += n
			l.tally.messages++
			if sent >= from && sent < until && s.number >= l.Stopped {
				l.latency.add(time.Duration(now - sent))
			}
		}
		return l.Target.take(s, f, &l.tally)
	})
	if err != nil {
		return err
	}
	if s.state == streamGreeting && (s.greeted || l.Target.opens()) {
		s.state, s.opened = streamLive, true
		l.flying--
		l.tally.live++
	}
	if s.chunks.phase == chunkOver {
		return errEnded // the connection would stay for the next request
	}
	return s.keep(b[done:])
}

// keep stores the beginning of a frame until the rest comes.
func (s *stream) keep(b []byte) error {
	if len(b) >= readBuffer/2 {
		return fmt.Errorf("%w: a frame has more than %d bytes", errStream, readBuffer/2)
	}
	if len(b) == 0 && cap(s.tail) > keepTail {
		s.tail = nil
	}
	s.tail = append(s.tail[:0], b...)
	return nil
}

// takeHead reads the head of the reply, if it is there, and returns what follows.
func (l *loop) takeHead(s *stream, b []byte) ([]byte, error) {
	head, body, complete := bytes.Cut(b, []byte("\r\n\r\n"))
	if !complete {
		return nil, nil
	}
	status, rest, _ := bytes.Cut(head, []byte("\r\n"))
	switch code := bytes.Fields(status); {
	case len(code) < 2:
		return nil, fmt.Errorf("%w: the reply begins with %q", errStream, status)
	case string(code[1]) == "503":
		return nil, errBusy
	case string(code[1]) != "200":
		return nil, fmt.Errorf("%w: %s: %s", errStream, status, firstLine(body))
	}
	rest = bytes.ToLower(rest)
	s.chunked = bytes.Contains(rest, []byte("transfer-encoding: chunked"))
	s.state = streamGreeting
	return body, nil
}

// firstLine is the beginning of a reply's body, for an error message.
func firstLine(body []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	return line[:min(len(line), 300)]
}
