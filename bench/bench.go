// Package bench loads a server with event streams and messages, and measures deliveries, losses,
// latency, and the load on the server.
//
// It often runs on the same machine as the server, so it uses few resources: a few loops read all
// sockets, with one buffer each, and a stream is a small struct (streams.go, streams_linux.go).
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

const (
	// settleTime is the pause between opening the last stream and sending the first message. A
	// server with several processes may publish a new subscription to them a moment after it has
	// replied.
	settleTime = 500 * time.Millisecond
	// settleTimeout is how long a run waits for messages in flight after the senders have stopped,
	// and for streams to reconnect after a herd.
	settleTimeout = 20 * time.Second
	// openTimeout is how long it may take to open all streams.
	openTimeout = 3 * time.Minute
	// lossTimeout is how long no stream may receive anything until missing messages count as lost.
	// shedTimeout is the same if messages may be shed.
	lossTimeout  = 5 * time.Second
	shedTimeout  = time.Second
	pollInterval = 5 * time.Millisecond
)

// ErrInterrupted means that the run was interrupted. Its report covers the time until then.
var ErrInterrupted = errors.New("interrupted")

// Options describe a run.
type Options struct {
	// Target is the server, a Parlor or a Plain.
	Target Target
	// Streams is the number of streams, which are spread evenly over Rooms.
	Streams, Rooms int
	// SourceAddresses is the number of loopback addresses that the streams come from, because one
	// address has only about 28,000 ports. 0 means as many as needed if the server is on the
	// loopback network, and one otherwise.
	SourceAddresses int
	// Rate is the number of messages per second over all rooms. 0 means that each sender sends
	// again as soon as it gets a reply.
	Rate float64
	// Senders is the maximum number of messages in flight.
	Senders int
	// Undelivered is how many messages may be on their way to the streams, on average over the
	// streams, before the senders wait. 0 means any number. One that is shed or lost counts for a
	// second.
	Undelivered int
	// Warmup is how long the load is applied before it is measured for Duration.
	Warmup, Duration time.Duration
	// Idle means that no messages are sent, and only open streams are measured.
	Idle bool
	// Churn is the share of the streams that reconnect each second, from 0 to 1.
	Churn float64
	// Stopped is the number of streams that stop reading during the measurement and resume
	// afterwards. Their latencies are not counted.
	Stopped int
	// Herd cuts all streams after the measurement, reconnects them within a second, and measures
	// how long it takes until they are complete.
	Herd bool
	// PIDs are the server's processes. BesidePIDs are processes that work for it, such as its
	// database. They are reported separately, with their children.
	PIDs, BesidePIDs []int
	// Metrics are the URLs of the servers' metrics, for their counters of shed messages and of log
	// reads. Without any, these are not reported.
	Metrics []string
	// Progress receives a line per second. nil means none.
	Progress io.Writer
}

// Check returns all errors in the options.
func (o *Options) Check() error {
	var faults []error
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(o.Streams < 1 || o.Streams > maxStreams, "--streams: %d is outside 1 to %d", o.Streams, maxStreams)
	fault(o.Rooms < 1 || o.Rooms > o.Streams, "--rooms: %d is outside 1 to the number of streams", o.Rooms)
	fault(o.SourceAddresses < 0 || o.SourceAddresses > maxSourceAddresses, "--source-addresses: %d is outside 0 to %d", o.SourceAddresses, maxSourceAddresses)
	fault(o.Rate < 0 || math.IsNaN(o.Rate) || o.Rate > maxRate, "--rate: %v is outside 0 to %v", o.Rate, float64(maxRate))
	fault(o.Senders < 1 || o.Senders > maxSenders, "--senders: %d is outside 1 to %d", o.Senders, maxSenders)
	fault(o.Undelivered < 0 || o.Undelivered > maxSenders, "--undelivered: %d is outside 0 to %d", o.Undelivered, maxSenders)
	fault(o.Warmup < 0 || o.Warmup > maxDuration, "--warmup: %s is outside 0s to %s", o.Warmup, maxDuration)
	fault(o.Duration <= 0 || o.Duration > maxDuration, "--duration: %s is outside 0s to %s", o.Duration, maxDuration)
	fault(o.Stopped < 0 || o.Stopped >= max(o.Streams, 1), "--stopped: %d is outside 0 to the number of streams minus one", o.Stopped)
	fault(o.Churn < 0 || o.Churn > 1 || math.IsNaN(o.Churn), "--churn: %v is outside 0%% to 100%%", o.Churn)
	return errors.Join(append(faults, o.Target.check())...)
}

// Limits of a run. Larger numbers are likely to be mistakes.
const (
	maxStreams         = 1_000_000
	maxSourceAddresses = 250
	maxRate            = 1_000_000
	maxSenders         = 4096
	maxDuration        = 24 * time.Hour
)

// Target is a kind of server: how to subscribe and publish.
type Target interface {
	check() error
	// addresses returns host:port of each server. Streams and messages are spread evenly over them.
	addresses() ([]string, error)
	// prepare makes the server ready for the streams.
	prepare(ctx context.Context, r *run) error
	// appendRequest appends the request that opens a stream.
	appendRequest(b []byte, s *stream) []byte
	// handleFrame handles a frame of a stream.
	handleFrame(s *stream, f frame, t *tally) error
	// opensOnHead reports whether a stream is open once the head of the reply has arrived.
	// Otherwise its first frame opens it.
	opensOnHead() bool
	// appendMessage appends the request that sends a message to a room through a server.
	appendMessage(b []byte, rm *runRoom, server, turn int, stamp []byte) []byte
	// mustDeliver reports whether each message must reach every stream that was open all the time.
	// stored reports whether it must also reach streams that were disconnected.
	mustDeliver() bool
	stored() bool
	// rejected returns an error for a reply other than success.
	rejected(status int, reply []byte) error
	// canRetry reports whether a message can be sent again if the reply is missing.
	canRetry() bool
	// cleanUp undoes prepare.
	cleanUp(ctx context.Context, streams []*stream)
	describe() string
}

// Run loads the server and returns a report. If the context ends, it returns a report and
// ErrInterrupted.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r, err := newRun(o)
	if err != nil {
		return nil, err
	}
	return r.do(ctx)
}

// run is the state of one run.
type run struct {
	Options
	servers  []string // addresses
	clock    clock
	rooms    []*runRoom
	streams  []*stream
	readers  *readers
	senders  *senders
	progress *progress
	meter    meter
	report   *Report
}

// runRoom is a room of the run.
type runRoom struct {
	number  int
	id      string
	log     int64     // the room's generation, with Parlor
	streams []*stream // they send in turn
	sent    sent
}

// serverOf returns the server that a message is sent through. The messages of each member go
// through all servers in turn, as its calls do behind a load balancer.
func (rm *runRoom) serverOf(message int64, servers int) int {
	return int((message + message/int64(len(rm.streams))) % int64(servers))
}

func newRun(o Options) (*run, error) {
	r := &run{
		Options: o, clock: newClock(), rooms: make([]*runRoom, o.Rooms), streams: make([]*stream, o.Streams),
		meter: meter{pids: o.PIDs, beside: o.BesidePIDs}, report: newReport(o),
	}
	var err error
	if r.servers, err = o.Target.addresses(); err != nil {
		return nil, err
	}
	for i := range r.rooms {
		r.rooms[i] = &runRoom{number: i, id: fmt.Sprintf("bench-%s-%d", r.clock.name(), i)}
	}
	for i := range r.streams {
		rm := r.rooms[i%len(r.rooms)]
		r.streams[i] = &stream{number: i, room: rm, server: (i/len(r.rooms) + rm.number) % len(r.servers)}
		rm.streams = append(rm.streams, r.streams[i])
	}
	if err := r.meter.check(); err != nil {
		return nil, err
	}
	if r.readers, err = newReaders(r); err != nil {
		return nil, err
	}
	r.senders = newSenders(r)
	r.progress = &progress{run: r, to: o.Progress}
	return r, nil
}

// do runs the phases. After an interruption it reports what has been measured until then.
func (r *run) do(ctx context.Context) (*Report, error) {
	stopProgress := r.progress.start()
	err := r.phases(ctx)
	if ctx.Err() != nil {
		err = ErrInterrupted
	}
	r.finish()
	stopProgress()
	r.readers.close()
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	r.Target.cleanUp(cleaning, r.streams)
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	return r.report, err
}

func (r *run) phases(ctx context.Context) error {
	first := r.meter.readMemory()
	if err := r.Target.prepare(ctx, r); err != nil {
		return err
	}
	before := r.meter.readMemory()
	if err := r.open(ctx); err != nil {
		return err
	}
	if err := r.wait(ctx, settleTime); err != nil {
		return err
	}
	if r.Idle {
		err := r.measure(ctx)
		r.report.setMemory(first, before, r.meter.readMemory(), r.Streams)
		return err
	}
	r.report.setMemory(first, before, r.meter.readMemory(), r.Streams)
	counted, err := r.readCounters(ctx)
	if err != nil {
		return err
	}
	if err := r.send(ctx); err != nil {
		return err
	}
	if r.Herd {
		if err := r.herd(ctx); err != nil {
			return err
		}
	}
	return r.reportCounters(ctx, counted)
}

// open opens all streams.
func (r *run) open(ctx context.Context) error {
	r.progress.setPhase("opening the streams")
	began, from := time.Now(), r.meter.read()
	r.readers.open()
	if err := r.await(ctx, openTimeout, "not all streams are open", func(t *tally) bool { return t.live == r.Streams }); err != nil {
		return err
	}
	r.report.setOpened(r.Streams, time.Since(began), costOf(r.Streams, from, r.meter.read()))
	return nil
}

// send runs the senders for the warm-up and the measured time, and waits for the last deliveries.
func (r *run) send(ctx context.Context) error {
	r.progress.setPhase("warming up")
	stop := r.senders.start(ctx)
	churned := r.readers.churn(r.Churn)
	err := r.wait(ctx, r.Warmup)
	if err == nil {
		r.readers.stop(true)
		err = r.measure(ctx)
		r.readers.stop(false)
	}
	churned()
	return errors.Join(err, stop(), r.complete(ctx))
}

// measure waits for Duration, and reports what happened meanwhile.
func (r *run) measure(ctx context.Context) error {
	r.progress.setPhase("measuring")
	r.senders.behind.Store(0)
	from := r.mark()
	r.readers.measureFrom(from.at)
	err := r.wait(ctx, r.Duration)
	to := r.mark()
	r.readers.measureUntil(to.at)
	r.report.setWindow(from, to)
	r.report.BehindMS = float64(r.senders.behind.Load()) / 1e6
	return err
}

// mark contains the values of all counters at one time.
type mark struct {
	at       int64
	messages int64
	tally    tally
	reading  reading
}

func (r *run) mark() mark { return r.markWith(r.meter.read()) }

func (r *run) markWith(read reading) mark {
	m := mark{at: r.clock.now(), tally: *r.readers.tally(), reading: read}
	for _, rm := range r.rooms {
		m.messages += rm.sent.messages.Load()
	}
	return m
}

// complete waits until every stream has received everything that was sent. If messages may be shed,
// it waits until nothing arrives any more. It waits after an interruption too, because messages in
// flight are not lost.
func (r *run) complete(ctx context.Context) error {
	r.progress.setPhase("waiting for the last deliveries")
	ctx = context.WithoutCancel(ctx)
	timeout := shedTimeout
	if r.Target.stored() || r.Target.mustDeliver() && r.Churn == 0 && !r.Herd {
		timeout = lossTimeout
	}
	want := r.expected()
	last, lastAt := int64(-1), time.Now()
	for deadline := time.Now().Add(settleTimeout); time.Now().Before(deadline); {
		t := r.readers.tally()
		if r.readers.fault() != nil {
			return r.readers.fault()
		}
		if t.live == r.Streams && t.messages >= want {
			return nil
		}
		if t.messages != last || t.live != r.Streams {
			last, lastAt = t.messages, time.Now()
		} else if time.Since(lastAt) > timeout {
			return nil
		}
		if err := r.wait(ctx, pollInterval); err != nil {
			return err
		}
	}
	return nil // the report says what is missing
}

// expected returns how many messages all streams should have received by now.
func (r *run) expected() int64 {
	var n int64
	for _, rm := range r.rooms {
		n += rm.sent.messages.Load() * int64(len(rm.streams))
	}
	return n
}

// herd cuts all streams, and measures the time until all have reconnected and received everything.
// If messages are sent at a fixed rate, they are sent meanwhile.
func (r *run) herd(ctx context.Context) error {
	r.progress.setPhase("herd")
	stop := func() error { return nil }
	if r.Rate > 0 {
		stop = r.senders.start(ctx)
	}
	began := time.Now()
	r.readers.cutAll(time.Second)
	err := r.await(ctx, settleTimeout, "not all streams have reconnected", func(t *tally) bool { return t.live == r.Streams })
	r.report.setBack(time.Since(began))
	if err == nil && r.Target.stored() {
		want := r.expected()
		err = r.await(ctx, settleTimeout, "not all streams are complete", func(t *tally) bool { return t.messages >= want })
		r.report.setComplete(time.Since(began))
	}
	return errors.Join(err, stop(), r.complete(ctx))
}

// await waits until a condition holds for the counts of all streams.
func (r *run) await(ctx context.Context, timeout time.Duration, problem string, holds func(*tally) bool) error {
	for deadline := time.Now().Add(timeout); ; {
		t := r.readers.tally()
		switch {
		case r.readers.fault() != nil:
			return r.readers.fault()
		case holds(t):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s after %s: %d of %d are open", problem, timeout, t.live, r.Streams)
		}
		if err := r.wait(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// wait waits for a time. It returns the error of the context, or one of the senders or readers.
func (r *run) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case err := <-r.senders.failed:
		return err
	case <-r.readers.failed:
		return r.readers.fault()
	}
}

// finish adds the counts and losses of all streams to the report.
func (r *run) finish() {
	r.readers.inspect(func(t *tally, streams []*stream) {
		for _, s := range streams {
			r.report.addLosses(s, r.Target, r.Churn > 0 || r.Herd)
		}
		r.report.addTally(t)
	})
	for _, rm := range r.rooms {
		r.report.Messages += rm.sent.messages.Load()
	}
	r.report.setLatencies(r.readers.latencies())
}

// clock counts nanoseconds since the run began, so that times in messages have few digits.
type clock struct{ began time.Time }

func newClock() clock { return clock{time.Now()} }

// name returns a string that no other run has.
func (c clock) name() string { return strconv.FormatInt(c.began.UnixNano(), 36) }

func (c clock) now() int64 { return int64(time.Since(c.began)) }
