package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
}

// figure is a row of the table: a value of each report, with a number of digits.
type figure struct {
	name   string
	of     func(*bench.Report) float64
	digits int
}

var (
	cpuFigure = figure{"server CPU per delivery, µs", func(r *bench.Report) float64 { return r.CPU.MicrosPerDelivery }, 1}
	p99Figure = figure{"p99 latency, ms", func(r *bench.Report) float64 { return r.LatencyMS.P99 }, 1}
)

// scenarios returns the loads, scaled by Scale.
func (c *TableCmd) scenarios() []scenario {
	loads := []scenario{
		{
			name:    "10,000 idle streams",
			options: bench.Options{Streams: 10_000, Rooms: 100, Idle: true, Senders: 1, Duration: c.Duration / 2},
			figures: []figure{{"server memory per stream, KiB", func(r *bench.Report) float64 { return r.Memory.WithSessions / 1024 }, 1}},
		},
		{
			name:    "1 room, 5,000 streams, 10 messages/s",
			options: bench.Options{Streams: 5000, Rooms: 1, Rate: 10, Senders: 64, Warmup: c.Duration / 4, Duration: c.Duration},
			figures: []figure{cpuFigure, p99Figure},
		},
		{
			name:    "1 room, 1,000 streams, saturated",
			options: bench.Options{Streams: 1000, Rooms: 1, Senders: 2, Warmup: c.Duration / 4, Duration: c.Duration / 2},
			figures: []figure{{"deliveries/s", func(r *bench.Report) float64 { return r.DeliveriesPerSecond }, 0}, cpuFigure},
		},
		{
			name:    "500 rooms of 10, 2,000 messages/s",
			options: bench.Options{Streams: 5000, Rooms: 500, Rate: 2000, Senders: 64, Warmup: c.Duration / 4, Duration: c.Duration},
			figures: []figure{cpuFigure, p99Figure},
		},
	}
	for i := range loads {
		c.scale(&loads[i])
	}
	return loads
}

// minRate is the rate that a short run needs to have something to measure.
const minRate = 10

func (c *TableCmd) scale(s *scenario) {
	if c.Scale == 1 {
		return
	}
	scaled := func(n int) int { return max(int(float64(n)*c.Scale), 1) }
	s.name += fmt.Sprintf(", times %v", c.Scale)
	s.options.Streams, s.options.Rooms = scaled(s.options.Streams), scaled(s.options.Rooms)
	if s.options.Rate > 0 {
		s.options.Rate = max(s.options.Rate*c.Scale, minRate)
	}
}

// TableCmd measures servers on this machine, one after the other, under the same loads.
type TableCmd struct {
	Parlor       string        `placeholder:"FILE" help:"The program parlor. Default: the one in the folder of this program."`
	Duration     time.Duration `default:"10s" help:"How long to measure each load."`
	Scale        float64       `default:"1" help:"Factor for all loads. Example: 0.1."`
	Rounds       int           `default:"1" help:"How often to measure everything. The table shows the medians."`
	Loads        []int         `placeholder:"N,…" help:"Measure only these loads, 1 to 4."`
	NginxWorkers int           `default:"2" help:"Number of nginx worker processes."`

	self   string // path of this program, which runs the floor
	secret string // PARLOR_SECRET of the Parlor servers
	folder string // contains all files, and is removed at the end
}

// Run measures all servers under all loads, and prints a Markdown table of the medians of all
// rounds. A round takes a few minutes. Run stops all servers that it starts. It writes the report
// of each run to standard error.
func (c *TableCmd) Run(ctx context.Context) (err error) {
	if c.Scale <= 0 || c.Scale > 100 || c.Duration <= 0 || c.NginxWorkers < 1 || c.Rounds < 1 {
		return errors.New("--scale (up to 100), --duration, --rounds and --nginx-workers must be greater than 0")
	}
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	if c.Parlor == "" {
		c.Parlor = filepath.Join(filepath.Dir(c.self), "parlor")
	}
	c.secret = rand.Text() + rand.Text()
	if c.folder, err = newFolder(""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.folder)) }()
	return c.measureAll(ctx, os.Stdout, os.Stderr)
}

// measureAll writes the table to out, and the reports to progress.
func (c *TableCmd) measureAll(ctx context.Context, out, progress io.Writer) error {
	t := &table{to: out}
	t.line("| Load | Figure | floor | nchan | Parlor, barrage | Parlor, text | barrage to nchan | barrage to floor | text to nchan |")
	t.line("|---|---|---|---|---|---|---|---|---|")
	var notes []string
	for i, s := range c.scenarios() {
		if len(c.Loads) > 0 && !slices.Contains(c.Loads, i+1) {
			continue
		}
		reports := make([][]*bench.Report, len(c.contenders()))
		for range c.Rounds {
			added, err := c.round(ctx, s, reports, progress)
			if err != nil {
				return err
			}
			notes = append(notes, added...)
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
	return t.err
}

// round measures each server once under a load, appends its report to its reports, and returns
// notes for the table. The servers take turns within a round, so that a temporary disturbance of
// the machine affects all of them.
func (c *TableCmd) round(ctx context.Context, s scenario, reports [][]*bench.Report, progress io.Writer) (notes []string, err error) {
	for i, contender := range c.contenders() {
		if s.options.Idle && contender.kind == room.KindText {
			continue // the same as barrage: nothing is sent
		}
		name := s.name + ", " + contender.name + ": "
		_, _ = fmt.Fprintln(progress, name)
		r, err := c.measure(ctx, contender, s.options)
		switch {
		case errors.Is(err, errAbsent):
			notes = append(notes, err.Error())
			continue
		case err != nil:
			return nil, fmt.Errorf("%s%w", name, err)
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
	return notes, nil
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
		if len(reports) > 0 {
			cell = fmt.Sprintf("%.*f", f.digits, f.median(reports))
		}
		cells = append(cells, cell)
	}
	for _, pair := range [][2]int{{2, 1}, {2, 0}, {3, 1}} {
		cell := ""
		if a, b := of[pair[0]], of[pair[1]]; len(a) > 0 && len(b) > 0 && f.median(b) != 0 {
			cell = fmt.Sprintf("%.2f", f.median(a)/f.median(b))
		}
		cells = append(cells, cell)
	}
	t.line("| " + strings.Join(cells, " | ") + " |")
}

// median returns the median of a figure, or the lower one of two.
func (f figure) median(reports []*bench.Report) float64 {
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

// messageSize is the size of a message in bytes.
const messageSize = 100

// measure starts a server, measures it under one load, and stops it.
func (c *TableCmd) measure(ctx context.Context, contender contender, o bench.Options) (report *bench.Report, err error) {
	folder, err := newFolder(c.folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	server, err := contender.start(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	o.PIDs, o.BesidePIDs, o.Metrics = server.pids, server.beside, server.metrics
	o.Target = server.target
	if p, ok := o.Target.(*bench.Parlor); ok {
		p.Kind, p.KeepSessions = contender.kind, true
	}
	return bench.Run(ctx, o)
}

// newFolder creates a temporary folder in parent, or in the system's own if parent is empty.
func newFolder(parent string) (string, error) {
	folder, err := os.MkdirTemp(parent, "parlor-bench")
	if err != nil {
		return "", err
	}
	return folder, os.Chmod(folder, 0o711) // PostgreSQL, which does not run as root, must reach its folder
}
