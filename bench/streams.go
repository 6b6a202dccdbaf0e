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
	// readBuffer is the size of the buffer into which a loop reads all its streams. Half of it must
	// hold the longest frame: a message of 32 KiB in which each byte is escaped with six.
	readBuffer = 512 << 10
	// openWindow is how many streams are opened concurrently at the beginning. A herd has no such
	// limit.
	openWindow = 256
	// churnTick is the interval at which Options.Churn reconnects streams.
	churnTick = 100 * time.Millisecond
	// keepTail is the maximum buffer that a stream keeps between reads for incomplete frames.
	keepTail = 4 << 10
)

// stream is one event stream. Its link is the part that depends on the platform.
type stream struct {
	number int
	room   *runRoom
	server int    // that it connects to, an index of run.servers
	key    string // session key, with Parlor

	// The loop's lock guards all fields below.
	link
	state   streamState
	chunked bool
	chunks  chunks
	gunzip  *gunzip // nil unless the stream is compressed
	due     int64   // time at which to open it again
	tail    []byte
	// cursor is the id of the last frame that had one.
	cursor []byte
	// opened is set once the stream has been open.
	opened bool
	// greeted is set once the server's first frame has arrived on this connection.
	greeted bool
	seq     int64 // of the last event of the room's log; 0 if unknown

	stopped bool // does not read

	received, sum int64 // messages, and the sum of their numbers
	lost, twice   int64 // gaps and duplicates in the log
	away          bool  // was disconnected while messages were sent
}

type streamState uint8

const (
	streamClosed     streamState = iota
	streamConnecting             // before the request is sent
	streamRequested              // before the head of the reply
	streamGreeting               // before the first frame
	streamLive
)

// tally contains the counts of the streams of a loop, or of all streams.
type tally struct {
	live       int // open streams
	messages   int64
	frames     int64
	bytes      int64
	reconnects int64
	cut        int64 // closed by the server
	refused    int64 // failed attempts to reconnect
	resets     int64 // roomReset events
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
	// from and until limit the measured time. Latencies are those of messages sent in it.
	from, until atomic.Int64
	failure     atomic.Pointer[error]
	failed      chan struct{} // closed at the first failure
	once        sync.Once
}

// loop reads some of the streams.
type loop struct {
	*readers
	engine
	mu      sync.Mutex // guards all below, and the loop's streams
	streams []*stream
	waiting []*stream // to be opened when due
	resumed []*stream // read again after a stop
	opening int       // number of streams being opened
	window  int       // limit of opening
	closed  bool
	tally   tally
	// local and cross are the latencies of messages that were sent through the stream's own server,
	// and through another one.
	local, cross histogram
	scratch      []byte
	plain        []byte // the bytes of a compressed stream, decompressed
}

func newReaders(r *run) (*readers, error) {
	all := &readers{run: r, failed: make(chan struct{})}
	all.from.Store(1<<63 - 1)
	all.until.Store(1<<63 - 1)
	for range min(runtime.GOMAXPROCS(0), len(r.streams)) {
		l := &loop{readers: all, local: newHistogram(), cross: newHistogram()}
		if err := l.engine.open(r.servers, r.Streams, r.SourceAddresses); err != nil {
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

// tally returns the counts of all streams until now.
func (r *readers) tally() *tally {
	var all tally
	r.inspect(func(t *tally, _ []*stream) { all.add(*t) })
	return &all
}

// inspect calls look with the streams of each loop while the loop is locked.
func (r *readers) inspect(look func(*tally, []*stream)) {
	for _, l := range r.loops {
		l.mu.Lock()
		look(&l.tally, l.streams)
		l.mu.Unlock()
	}
}

func (r *readers) latencies() (local, cross histogram) {
	local, cross = newHistogram(), newHistogram()
	for _, l := range r.loops {
		l.mu.Lock()
		local.Merge(l.local.Histogram)
		cross.Merge(l.cross.Histogram)
		l.mu.Unlock()
	}
	return local, cross
}

func (r *readers) measureFrom(at int64)  { r.until.Store(1<<63 - 1); r.from.Store(at) }
func (r *readers) measureUntil(at int64) { r.until.Store(at) }

// fail ends the run with an error.
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

// churn reconnects a share of the streams each second, one after the other, until the returned
// function is called.
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

// stop makes the streams counted by Options.Stopped stop reading, or resume.
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

// cutAll cuts all streams at once. They reconnect at random times within the given time.
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

// cut does the same as reconnect while the lock is held. It ignores a stream that is not open,
// because that is reconnecting already.
func (l *loop) cut(s *stream, after time.Duration) {
	if s.state != streamLive || l.closed {
		return
	}
	l.tally.reconnects++
	l.disconnect(s)
	l.connectAfter(s, after)
}

// disconnect closes the connection of a stream and discards incomplete frames.
func (l *loop) disconnect(s *stream) {
	switch s.state {
	case streamClosed:
		return
	case streamLive:
		l.tally.live--
	default:
		l.opening--
	}
	s.closeSocket()
	if s.gunzip != nil {
		s.gunzip.stop()
		s.gunzip = nil
	}
	s.state, s.chunked, s.chunks, s.tail = streamClosed, false, chunks{}, nil
	s.away, s.greeted = s.opened, false
}

// connectAfter opens a stream again after a time.
func (l *loop) connectAfter(s *stream, after time.Duration) {
	s.due = l.clock.now() + int64(after)
	l.waiting = append(l.waiting, s)
}

// openDue opens the streams that are due.
func (l *loop) openDue() {
	now := l.clock.now()
	for i := 0; i < len(l.waiting) && l.opening < l.window; {
		s := l.waiting[i]
		if s.due > now {
			i++
			continue
		}
		last := len(l.waiting) - 1
		l.waiting[i] = l.waiting[last]
		l.waiting = l.waiting[:last]
		s.state = streamConnecting
		l.opening++
		if err := l.dial(l, s); err != nil {
			l.connectionLost(s, err)
		}
	}
}

// connectionLost handles the end of a connection that the run did not cut. If the stream was open
// before, it reconnects as a client does. Otherwise the run fails.
func (l *loop) connectionLost(s *stream, err error) {
	switch {
	case s.state == streamLive:
		l.tally.cut++
		l.tally.reconnects++
	case s.opened:
		l.tally.refused++
	}
	l.disconnect(s)
	if !s.opened || errors.Is(err, errStream) {
		l.fail(fmt.Errorf("stream %d: %w", s.number, err))
		return
	}
	l.connectAfter(s, 50*time.Millisecond+rand.N(time.Second))
}

var (
	// errStream is an error that a reconnect would not fix.
	errStream = errors.New("invalid stream")
	errEnded  = errors.New("the server ended the stream")
	errBusy   = errors.New("the server is too busy to open a stream")
)

// received handles data of a stream. The first kept bytes of b are the incomplete frame that the
// previous call has stored with keep.
func (l *loop) received(s *stream, b []byte, kept int) error {
	l.tally.bytes += int64(len(b) - kept)
	if s.state == streamRequested {
		body, err := l.takeHead(s, b)
		if err != nil {
			return err
		}
		if s.state == streamRequested {
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
	if s.gunzip != nil {
		text, err := s.gunzip.write(b[kept:])
		if err != nil {
			return fmt.Errorf("%w: %w", errStream, err)
		}
		l.plain = append(append(l.plain[:0], b[:kept]...), text...)
		b = l.plain
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
				latency := l.local
				if s.room.serverOf(n, len(l.servers)) != s.server {
					latency = l.cross
				}
				latency.add(time.Duration(now - sent))
			}
		}
		return l.Target.handleFrame(s, f, &l.tally)
	})
	if err != nil {
		return err
	}
	if s.state == streamGreeting && (s.greeted || l.Target.opensOnHead()) {
		s.state, s.opened = streamLive, true
		l.opening--
		l.tally.live++
	}
	if s.chunks.phase == chunkTrailer {
		return errEnded // although the server may keep the connection open
	}
	return s.keep(b[done:])
}

// keep stores an incomplete frame until the rest arrives.
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

// takeHead parses the head of the reply if it is complete, and returns the data after it.
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
	if bytes.Contains(rest, []byte("content-encoding: gzip")) {
		s.gunzip = newGunzip()
	}
	s.state = streamGreeting
	return body, nil
}

// firstLine returns the beginning of a body, for an error message.
func firstLine(body []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	return line[:min(len(line), 300)]
}
