// Package bench loads a server with many event streams and with messages, and measures what comes of it: deliveries,
// losses, latency, and what they cost the server.
//
// It shares the machine with the server more often than not, so it is made to cost little: a few loops read all sockets
// through one buffer each, and a stream is a small struct (streams.go, loop_linux.go).
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
	// settleTime is between the last stream's opening and the first message: a server with several processes may tell
	// them of a new subscriber a moment after it has answered.
	settleTime = 500 * time.Millisecond
	// patience is how long a run waits for what is on its way when the senders have stopped, and for streams that come
	// back after a herd.
	patience = 20 * time.Second
	// openPatience is how long opening all streams may take.
	openPatience = 3 * time.Minute
	// lossPatience is how long nothing must have come to any stream until what is missing counts as lost, shedPatience
	// where not everything has to come.
	lossPatience = 5 * time.Second
	shedPatience = time.Second
	pollInterval = 5 * time.Millisecond
)

// ErrInterrupted says that the report covers the part of the run up to the interruption.
var ErrInterrupted = errors.New("interrupted")

// Options say what a run does.
type Options struct {
	// Target is the server: a Parlor or a Plain.
	Target Target
	// Streams are spread evenly over Rooms.
	Streams, Rooms int
	// SourceAddresses is how many addresses of the loopback network the streams come from: one address has some 28,000
	// ports. 0: one, or as many as it takes where the server is on the loopback network.
	SourceAddresses int
	// Rate is the messages per second over all rooms. 0: Senders send as fast as they are answered.
	Rate float64
	// Senders is how many messages may be under way at a time.
	Senders int
	// Warmup is before the measured Duration, under the same load.
	Warmup, Duration time.Duration
	// Idle leaves out the messages: only open streams are measured.
	Idle bool
	// Churn is the share of the streams that reconnect each second.
	Churn float64
	// Stopped is how many of the streams read nothing while it is measured, and read on afterwards. Their latencies do
	// not count.
	Stopped int
	// Herd cuts all streams after the measured time, lets them come back within a second, and measures how long it takes.
	Herd bool
	// PIDs are the server's processes, BesidePIDs others that work for it and are reported apart, with their children:
	// its database.
	PIDs, BesidePIDs []int
	// Metrics is the URL of Parlor's metrics, for what was shed and what was read; empty: not asked.
	Metrics string
	// Progress takes a line each second.
	Progress io.Writer
}

// Check returns all that is wrong with the options.
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
	fault(o.Warmup < 0 || o.Warmup > maxDuration, "--warmup: %s is outside 0s to %s", o.Warmup, maxDuration)
	fault(o.Duration <= 0 || o.Duration > maxDuration, "--duration: %s is outside 0s to %s", o.Duration, maxDuration)
	fault(o.Stopped < 0 || o.Stopped >= max(o.Streams, 1), "--stopped: %d is outside 0 to the number of streams minus one", o.Stopped)
	fault(o.Churn < 0 || o.Churn > 1 || math.IsNaN(o.Churn), "--churn: %v is outside 0%% to 100%%", o.Churn)
	return errors.Join(append(faults, o.Target.check())...)
}

// Bounds of a run: beyond them a number is more likely a slip than a wish.
const (
	maxStreams         = 1_000_000
	maxSourceAddresses = 250
	maxRate            = 1_000_000
	maxSenders         = 4096
	maxDuration        = 24 * time.Hour
)

// Target is a server, and how one subscribes and publishes there.
type Target interface {
	check() error
	// address is host:port of the server.
	address() (string, error)
	// prepare gets ready what the streams need.
	prepare(ctx context.Context, r *run) error
	// appendRequest writes the request that opens a stream.
	appendRequest(b []byte, s *stream) []byte
	// take looks at a frame of a stream.
	take(s *stream, f frame, t *tally) error
	// opens says that a stream is open once the reply's head has come; else a frame says so.
	opens() bool
	// appendMessage writes the request that sends a message to a hall.
	appendMessage(b []byte, h *hall, turn int, stamp []byte) []byte
	// counts says that each message must reach every stream that was open all the time. stored says that it must reach
	// those too that were away.
	counts() bool
	stored() bool
	// refused explains a reply other than success.
	refused(status int, reply []byte) error
	// again says that a message may be sent again whose answer did not come.
	again() bool
	// dismiss undoes prepare.
	dismiss(ctx context.Context, streams []*stream)
	describe() string
}

// Run puts the load on the server and reports. The report is there with ErrInterrupted too, when the context ended.
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

// run is one run's parts.
type run struct {
	Options
	clock   clock
	halls   []*hall
	streams []*stream
	readers *readers
	senders *senders
	said    *progress
	meter   meter
	report  *Report
}

// hall is a room of the run.
type hall struct {
	number int
	id     string
	log    int64     // Parlor's generation of the room
	people []*stream // who takes turns as senders
	sent   sent
}

func newRun(o Options) (*run, error) {
	r := &run{
		Options: o, clock: newClock(), halls: make([]*hall, o.Rooms), streams: make([]*stream, o.Streams),
		meter: meter{pids: o.PIDs, beside: o.BesidePIDs}, report: newReport(o),
	}
	for i := range r.halls {
		r.halls[i] = &hall{number: i, id: fmt.Sprintf("bench-%s-%d", r.clock.name(), i)}
	}
	for i := range r.streams {
		h := r.halls[i%len(r.halls)]
		r.streams[i] = &stream{number: i, hall: h}
		h.people = append(h.people, r.streams[i])
	}
	if err := r.meter.check(); err != nil {
		return nil, err
	}
	var err error
	if r.readers, err = newReaders(r); err != nil {
		return nil, err
	}
	r.senders = newSenders(r)
	r.said = &progress{run: r, to: o.Progress}
	return r, nil
}

// do goes through the phases. An interruption ends the phase; what has been measured until then is reported.
func (r *run) do(ctx context.Context) (*Report, error) {
	stopProgress := r.said.start()
	err := r.phases(ctx)
	if ctx.Err() != nil {
		err = ErrInterrupted
	}
	r.finish()
	stopProgress()
	r.readers.close()
	dismissing, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	r.Target.dismiss(dismissing, r.streams)
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	return r.report, err
}

func (r *run) phases(ctx context.Context) error {
	first := r.meter.weigh()
	if err := r.Target.prepare(ctx, r); err != nil {
		return err
	}
	before := r.meter.weigh()
	if err := r.open(ctx); err != nil {
		return err
	}
	if err := r.wait(ctx, settleTime); err != nil {
		return err
	}
	if r.Idle {
		err := r.measure(ctx)
		r.report.setMemory(first, before, r.meter.weigh(), r.Streams)
		return err
	}
	r.report.setMemory(first, before, r.meter.weigh(), r.Streams)
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
	return r.countFrom(ctx, counted)
}

// open opens all streams.
func (r *run) open(ctx context.Context) error {
	r.said.say("opening the streams")
	began := time.Now()
	r.readers.open()
	if err := r.await(ctx, openPatience, "the streams are not open", func(t *tally) bool { return t.live == r.Streams }); err != nil {
		return err
	}
	r.report.setOpened(r.Streams, time.Since(began))
	return nil
}

// send lets the senders work for the warm-up and the measured time, and waits for the last deliveries.
func (r *run) send(ctx context.Context) error {
	r.said.say("warming up")
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

// measure measures one Duration.
func (r *run) measure(ctx context.Context) error {
	r.said.say("measuring")
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

// mark is what all counters show at one instant.
type mark struct {
	at       int64
	messages int64
	tally    tally
	reading  reading
}

func (r *run) mark() mark { return r.markWith(r.meter.read()) }

func (r *run) markWith(read reading) mark {
	m := mark{at: r.clock.now(), tally: *r.readers.tally(), reading: read}
	for _, h := range r.halls {
		m.messages += h.sent.messages.Load()
	}
	return m
}

// complete waits until every stream has what was sent. Where not everything must come, it waits until nothing comes any
// more. It does so after an interruption too: what is on its way is not lost.
func (r *run) complete(ctx context.Context) error {
	r.said.say("waiting for the last deliveries")
	ctx = context.WithoutCancel(ctx)
	longest := shedPatience
	if r.Target.stored() || r.Target.counts() && r.Churn == 0 && !r.Herd {
		longest = lossPatience
	}
	want := r.expected()
	last, lastAt := int64(-1), time.Now()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		t := r.readers.tally()
		if r.readers.fault() != nil {
			return r.readers.fault()
		}
		if t.live == r.Streams && t.messages >= want {
			return nil
		}
		if t.messages != last || t.live != r.Streams {
			last, lastAt = t.messages, time.Now()
		} else if time.Since(lastAt) > longest {
			return nil
		}
		if err := r.wait(ctx, pollInterval); err != nil {
			return err
		}
	}
	return nil // the report tells what is missing
}

// expected is how many messages all streams should have by now.
func (r *run) expected() int64 {
	var n int64
	for _, h := range r.halls {
		n += h.sent.messages.Load() * int64(len(h.people))
	}
	return n
}

// herd cuts all streams while messages go on, if any are sent at a fixed rate, and measures until all are back and have
// everything.
func (r *run) herd(ctx context.Context) error {
	r.said.say("herd")
	stop := func() error { return nil }
	if r.Rate > 0 {
		stop = r.senders.start(ctx)
	}
	began := time.Now()
	r.readers.cutAll(time.Second)
	err := r.await(ctx, patience, "the streams are not back", func(t *tally) bool { return t.live == r.Streams })
	r.report.setBack(time.Since(began))
	if err == nil && r.Target.stored() {
		want := r.expected()
		err = r.await(ctx, patience, "the streams are not complete", func(t *tally) bool { return t.messages >= want })
		r.report.setComplete(time.Since(began))
	}
	return errors.Join(err, stop(), r.complete(ctx))
}

// await waits until something is true of all that the readers have seen.
func (r *run) await(ctx context.Context, longest time.Duration, otherwise string, holds func(*tally) bool) error {
	for deadline := time.Now().Add(longest); ; {
		t := r.readers.tally()
		switch {
		case r.readers.fault() != nil:
			return r.readers.fault()
		case holds(t):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s after %s: %d of %d are open", otherwise, longest, t.live, r.Streams)
		}
		if err := r.wait(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// wait lets time pass. Errors: the context's, and what the senders or readers stumbled over meanwhile.
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

// finish counts what each stream has, and lacks.
func (r *run) finish() {
	r.readers.inspect(func(t *tally, streams []*stream) {
		for _, s := range streams {
			r.report.addLosses(s, r.Target, r.Churn > 0 || r.Herd)
		}
		r.report.addTally(t)
	})
	for _, h := range r.halls {
		r.report.Messages += h.sent.messages.Load()
	}
	r.report.LatencyMS = r.readers.latencies().summary()
}

// clock counts nanoseconds from its making, which fit a message in few digits.
type clock struct{ began time.Time }

func newClock() clock { return clock{time.Now()} }

// name is a word that no other run has.
func (c clock) name() string { return strconv.FormatInt(c.began.UnixNano(), 36) }

func (c clock) now() int64 { return int64(time.Since(c.began)) }
