package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"parlor/bench"
	"parlor/room"
)

// scenario is a load, and the figures that are taken from its reports.
type scenario struct {
	name    string
	options bench.Options
	figures []figure
	calls   bool // that calls cost much of it, so that net/http is measured too
}

// figure is a row of the table: a value of each report, with a number of digits.
type figure struct {
	name   string
	of     func(*bench.Report) float64
	digits int
}

var (
	cpuFigure        = figure{"server CPU per delivery, µs", func(r *bench.Report) float64 { return r.CPU.MicrosPerDelivery }, 1}
	deliveriesFigure = figure{"deliveries/s", func(r *bench.Report) float64 { return r.DeliveriesPerSecond }, 0}
	p99Figure        = figure{"p99 latency, ms", func(r *bench.Report) float64 { return r.LatencyMS.P99 }, 1}
	shedFigure       = figure{"shed, %", func(r *bench.Report) float64 { return 100 * float64(r.Missed) / float64(r.Expected) }, 1}
	memoryFigure     = figure{"server memory per stream, KiB", func(r *bench.Report) float64 { return r.Memory.WithSessions / 1024 }, 1}
	opensFigure      = figure{"streams opened/s", func(r *bench.Report) float64 { return r.ConnectsPerSecond }, 0}
	openCPUFigure    = figure{"server CPU per stream opened, µs", func(r *bench.Report) float64 { return r.OpenCost.ServerMicros }, 0}
	loginsFigure     = figure{"logins/s", func(r *bench.Report) float64 {
		if r.LoginsPerSecond == 0 {
			return math.NaN() // the server has no sessions
		}
		return r.LoginsPerSecond
	}, 0}
	herdFigure = figure{"all streams complete after, s", func(r *bench.Report) float64 { return max(r.BackSeconds, r.CompleteSeconds) }, 1}
)

// scenarios returns the loads, scaled by Scale.
func (c *TableCmd) scenarios() []scenario {
	loads := []scenario{
		{
			name:    "10,000 idle streams",
			options: bench.Options{Streams: 10_000, Rooms: 100, Idle: true, Senders: 1, Duration: c.Duration / 2},
			figures: []figure{memoryFigure, opensFigure, openCPUFigure, loginsFigure},
		},
		{
			name:    "1 room, 5,000 streams, 10 messages/s",
			options: bench.Options{Streams: 5000, Rooms: 1, Rate: 10, Senders: 64, Warmup: c.Duration / 4, Duration: c.Duration},
			figures: []figure{cpuFigure, p99Figure},
		},
		{
			name:    "1 room, 1,000 streams, saturated",
			options: bench.Options{Streams: 1000, Rooms: 1, Senders: 2, Warmup: c.Duration / 4, Duration: c.Duration / 2},
			figures: []figure{deliveriesFigure, cpuFigure},
		},
		{
			name: "500 rooms of 10, 2,000 messages/s", calls: true,
			options: bench.Options{Streams: 5000, Rooms: 500, Rate: 2000, Senders: 64, Warmup: c.Duration / 4, Duration: c.Duration},
			figures: []figure{cpuFigure, p99Figure},
		},
		{
			name:    "1 room, 5,000 streams, 200 messages/s",
			options: bench.Options{Streams: 5000, Rooms: 1, Rate: 200, Senders: 64, Warmup: c.Duration / 4, Duration: c.Duration},
			figures: []figure{deliveriesFigure, shedFigure, cpuFigure, p99Figure},
		},
		{
			name:    "1 room, 1,000 streams, 32 messages under way",
			options: bench.Options{Streams: 1000, Rooms: 1, Senders: 32, Undelivered: 32, Warmup: c.Duration / 4, Duration: c.Duration / 2},
			figures: []figure{deliveriesFigure, cpuFigure, p99Figure},
		},
		{
			name:    "10,000 streams in 500 rooms cut at once",
			options: bench.Options{Streams: 10_000, Rooms: 500, Rate: 100, Senders: 64, Duration: c.Duration / 2, Herd: true},
			figures: []figure{herdFigure},
		},
	}
	for i := range loads {
		loads[i].scale(c.Scale)
	}
	return loads
}

// minRate is the rate that a short run needs to have something to measure.
const minRate = 10

// scale multiplies the load.
func (s *scenario) scale(factor float64) {
	if factor == 1 {
		return
	}
	scaled := func(n int) int { return max(int(float64(n)*factor), 1) }
	s.name += fmt.Sprintf(", times %v", factor)
	s.options.Streams, s.options.Rooms = scaled(s.options.Streams), scaled(s.options.Rooms)
	if s.options.Rate > 0 {
		s.options.Rate = max(s.options.Rate*factor, minRate)
	}
}

// TableCmd measures servers on this machine, one after the other, under the same loads.
type TableCmd struct {
	testbed

	Duration     time.Duration `default:"6s" help:"How long to measure each load."`
	Scale        float64       `default:"1" help:"Factor for all loads. Example: 0.1."`
	Rounds       int           `default:"1" help:"How often to measure everything. The table shows the medians."`
	Loads        []int         `placeholder:"N,…" help:"Measure only these loads, 1 to 7."`
	Within       time.Duration `default:"8m30s" help:"Leave out the loads that have not begun by then. A load takes up to a minute and a half."`
	NginxWorkers int           `default:"2" help:"Number of nginx worker processes."`
	Centrifugo   string        `default:"centrifugo" placeholder:"FILE" help:"The program centrifugo. It is left out if it is not there."`
}

// Run measures all servers under all loads, and prints a Markdown table of the medians of all
// rounds. A round takes about eight minutes. Run stops all servers that it starts. It writes the report
// of each run to standard error.
func (c *TableCmd) Run(ctx context.Context) (err error) {
	if c.Scale <= 0 || c.Scale > 100 || c.Duration <= 0 || c.NginxWorkers < 1 || c.Rounds < 1 || c.Within <= 0 {
		return errors.New("--scale (up to 100), --duration, --rounds, --within and --nginx-workers must be greater than 0")
	}
	if err := c.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return c.measureAll(ctx, os.Stdout, os.Stderr)
}

// measureAll writes the table to out, and the reports to progress.
func (c *TableCmd) measureAll(ctx context.Context, out, progress io.Writer) error {
	t := &table{to: out}
	t.line("| Load | Figure | floor | net/http floor | nchan | Centrifugo | Parlor, barrage | Parlor, text | barrage to nchan | barrage to Centrifugo | barrage to floor | text to nchan |")
	t.line("|---|---|---|---|---|---|---|---|---|---|---|---|")
	var (
		notes  []string
		failed error
	)
	began := time.Now()
	for i, s := range c.scenarios() {
		if len(c.Loads) > 0 && !slices.Contains(c.Loads, i+1) {
			continue
		}
		if time.Since(began) > c.Within {
			notes = append(notes, s.name+": not measured, because the other loads took "+c.Within.String())
			continue
		}
		reports := make([][]*bench.Report, len(c.contenders()))
		for range c.Rounds {
			added, err := c.round(ctx, s, reports, progress)
			notes, failed = append(notes, added...), errors.Join(failed, err)
			if ctx.Err() != nil {
				return failed
			}
		}
		for _, f := range s.figures {
			t.figures(s.name, f, reports)
		}
	}
	t.line("")
	slices.Sort(notes)
	for _, note := range slices.Compact(notes) {
		t.line("- " + note)
	}
	return errors.Join(t.err, failed)
}

// round measures each server once under a load, appends its report to its reports, and returns
// notes for the table. The servers take turns within a round, so that a temporary disturbance of
// the machine affects all of them. One that fails does not keep the others from being measured.
func (c *TableCmd) round(ctx context.Context, s scenario, reports [][]*bench.Report, progress io.Writer) (notes []string, failed error) {
	for i, contender := range c.contenders() {
		if s.options.Idle && contender.kind == room.KindText || i == netHTTP && !s.calls {
			continue // nothing is sent, so text is the same as barrage; or calls cost little
		}
		name := s.name + ", " + contender.name + ": "
		_, _ = fmt.Fprintln(progress, name)
		r, err := c.measure(ctx, contender, s.options)
		switch {
		case errors.Is(err, errAbsent):
			notes = append(notes, err.Error())
			continue
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s%w", name, err))
			if ctx.Err() != nil {
				return notes, failed
			}
			notes = append(notes, name+"failed")
			continue
		}
		reports[i] = append(reports[i], r)
		_ = r.WriteText(progress) // an error would only affect the progress output
		note := func(worth bool, format string, args ...any) {
			if worth {
				notes = append(notes, name+fmt.Sprintf(format, args...))
			}
		}
		if beside := r.BesideCPU; beside != nil {
			note(r.Deliveries > 0, "PostgreSQL used %.1f µs per delivery, %.2f cores", beside.MicrosPerDelivery, beside.Cores)
		}
		note(r.OtherCores > 0.1, "other processes used %.1f cores", r.OtherCores)
		note(!r.Complete(), "%d lost, %d duplicated, %d resets", r.Lost, r.Twice, r.Resets)
		note(r.Missed > 0, "%d of %d deliveries were shed", r.Missed, r.Expected)
	}
	return notes, failed
}

// table writes lines until one fails.
type table struct {
	to  io.Writer
	err error
}

// figures writes a row of the table, with the ratios.
func (t *table) figures(load string, f figure, of [][]*bench.Report) {
	cells := []string{load, f.name}
	for _, reports := range of {
		cell := ""
		if m := f.median(reports); !math.IsNaN(m) {
			cell = fmt.Sprintf("%.*f", f.digits, m)
		}
		cells = append(cells, cell)
	}
	for _, pair := range [][2]int{{barrage, nchan}, {barrage, centrifugo}, {barrage, bare}, {text, nchan}} {
		cell := ""
		if ratio := f.median(of[pair[0]]) / f.median(of[pair[1]]); !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
			cell = fmt.Sprintf("%.2f", ratio)
		}
		cells = append(cells, cell)
	}
	t.line("| " + strings.Join(cells, " | ") + " |")
}

// median returns the median of a figure, or the lower one of two. It returns NaN if there is none.
func (f figure) median(reports []*bench.Report) float64 {
	if len(reports) == 0 {
		return math.NaN()
	}
	values := make([]float64, 0, len(reports))
	for _, r := range reports {
		values = append(values, f.of(r))
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func (t *table) line(text string) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.to, text)
	}
}
