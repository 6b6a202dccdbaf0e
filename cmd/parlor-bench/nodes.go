package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parlor/bench"
	"parlor/localpg"
	"parlor/room"
)

// NodesCmd compares two servers that share a database with one server, or two programs with each
// other.
type NodesCmd struct {
	testbed

	Duration time.Duration `default:"8s" help:"How long to measure each load."`
	Scale    float64       `default:"1" help:"Factor for all loads. Example: 0.1."`
	Rounds   int           `default:"3" help:"How often to measure everything. The table shows the medians."`
	Loads    []int         `placeholder:"N,…" help:"Measure only these loads, 1 to 4."`
	NATSURL  string        `name:"nats-url" placeholder:"URL" help:"Connect the servers by the NATS server at this URL, which must be running. Its CPU time is not measured."`
	Other    string        `placeholder:"FILE" help:"Another program parlor, such as one of an earlier commit. One server of it is then compared with one of this one."`
}

// nodesLoad is a load for two servers or programs that are compared.
type nodesLoad struct {
	scenario
	kind  room.MessageKind
	goals []string // of the figures
	// idle means that only the first of two servers gets calls and streams. The second only hears
	// what the first publishes.
	idle bool
}

var (
	postgresFigure = figure{"PostgreSQL's CPU per delivery, µs", func(r *bench.Report) float64 { return r.BesideCPU.MicrosPerDelivery }, 1}
	p50Figure      = figure{"p50 latency, ms", func(r *bench.Report) float64 { return r.LatencyMS.P50 }, 2}
	crossFigure    = figure{"p50 through another server minus p50 through the same, ms", func(r *bench.Report) float64 {
		if r.CrossMS == nil {
			return math.NaN() // there is only one server
		}
		return r.CrossMS.P50 - r.LocalMS.P50
	}, 2}
	logReadsFigure = figure{"reads of logs per 1,000 messages", func(r *bench.Report) float64 {
		return 1000 * float64(r.Server.LogReads) / float64(max(r.Messages, 1))
	}, 2}
	sendsFigure = figure{"messages/s", func(r *bench.Report) float64 { return r.MessagesPerSecond }, 0}
)

// nodesWarmup is how long a load is applied before it is measured, relative to its duration. By then,
// the sessions of the small rooms have sent through both servers. One server knows them from the
// login and the join, and two would otherwise be measured while each looks up the half that it has
// not seen, which costs more than the messages.
const nodesWarmup = 1.25

// loads returns the loads, scaled by Scale.
func (c *NodesCmd) loads() []nodesLoad {
	rooms := bench.Options{Streams: 2000, Rooms: 200, Rate: 1000, Senders: 64}
	of := []figure{cpuFigure, postgresFigure, p50Figure, p99Figure, crossFigure, logReadsFigure}
	loads := []nodesLoad{
		{scenario: scenario{name: "200 rooms of 10, 1,000 messages/s, text", options: rooms, figures: of}, kind: room.KindText, goals: []string{"≤ 1.35", "", "", "", "≤ 3"}},
		{scenario: scenario{name: "200 rooms of 10, 1,000 messages/s, barrage", options: rooms, figures: of}, kind: room.KindBarrage, goals: []string{"≤ 1.5", "", "", "", "≤ 3"}},
		{scenario: scenario{name: "1 room, 5,000 streams, 10 messages/s, text", options: bench.Options{Streams: 5000, Rooms: 1, Rate: 10, Senders: 64}, figures: of}, kind: room.KindText, goals: []string{"≤ 1.05"}},
		{scenario: scenario{name: "64 rooms of 1, 64 senders, saturated, text; the second server idle", options: bench.Options{Streams: 64, Rooms: 64, Senders: 64}, figures: []figure{sendsFigure, cpuFigure, postgresFigure}}, kind: room.KindText, goals: []string{"≥ 0.95"}, idle: true},
	}
	for i := range loads {
		loads[i].options.Warmup, loads[i].options.Duration = time.Duration(nodesWarmup*float64(c.Duration)), c.Duration
		loads[i].scale(c.Scale)
	}
	return loads
}

// Run measures all loads in turn, and prints a Markdown table. It writes the report of each run to
// standard error, and fails if messages were lost.
func (c *NodesCmd) Run(ctx context.Context) (err error) {
	if c.Scale <= 0 || c.Scale > 100 || c.Duration <= 0 || c.Rounds < 1 {
		return errors.New("--scale (up to 100), --duration and --rounds must be greater than 0")
	}
	if err := c.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	c.natsURL = c.NATSURL
	return c.measureAll(ctx, os.Stdout, os.Stderr)
}

// measureAll writes the table to out, and the reports to progress.
func (c *NodesCmd) measureAll(ctx context.Context, out, progress io.Writer) error {
	t := &table{to: out}
	t.line("| Load | Figure | " + strings.Join(c.columns(), " | ") + " | ratio | lowest and highest | goal |")
	t.line("|---|---|---|---|---|---|---|")
	lost := false
	for i, load := range c.loads() {
		if len(c.Loads) > 0 && !slices.Contains(c.Loads, i+1) {
			continue
		}
		reports := make([][]*bench.Report, 2)
		for range c.Rounds {
			// The two take turns, so that a disturbance of the machine affects both.
			for i, name := range c.columns() {
				_, _ = fmt.Fprintln(progress, load.name+", "+name+": ") // progress is optional, as below
				r, err := c.measure(ctx, contender{name: name, start: c.starts(load)[i], kind: load.kind}, load.options)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", load.name, name, err)
				}
				_ = r.WriteText(progress)
				reports[i] = append(reports[i], r)
				lost = lost || !r.Complete()
			}
		}
		for i, f := range load.figures {
			goal := ""
			if i < len(load.goals) && c.Other == "" {
				goal = load.goals[i]
			}
			t.compared(load.name, f, reports[0], reports[1], goal)
		}
	}
	if lost {
		return errors.Join(t.err, errors.New("messages were lost or duplicated: see the reports"))
	}
	return t.err
}

// columns returns the names of what is compared.
func (c *NodesCmd) columns() []string {
	if c.Other != "" {
		return []string{"one server, " + c.Other, "one server"}
	}
	return []string{"one server", "two servers"}
}

// starts returns the functions that start what is compared.
func (c *NodesCmd) starts(load nodesLoad) []func(context.Context, string) (*running, error) {
	start := func(b testbed, second bool) func(context.Context, string) (*running, error) {
		return func(ctx context.Context, folder string) (*running, error) {
			return b.startShared(ctx, folder, second, load.idle)
		}
	}
	if c.Other != "" {
		other := c.testbed
		other.Parlor = c.Other
		return []func(context.Context, string) (*running, error){start(other, false), start(c.testbed, false)}
	}
	return []func(context.Context, string) (*running, error){start(c.testbed, false), start(c.testbed, true)}
}

// startShared starts a database and one server on it, or two that hear each other.
func (b *testbed) startShared(ctx context.Context, folder string, second, idle bool) (servers *running, err error) {
	data, err := b.newDataFolder(ctx, folder)
	if err != nil {
		return nil, err
	}
	database, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(data, "postgres")})
	if err != nil {
		return nil, err
	}
	if servers, err = b.startOn(ctx, folder, data, database.URL()); err != nil {
		return nil, errors.Join(err, database.Stop())
	}
	servers.database = database
	if second {
		if err := b.addServer(ctx, folder, servers, idle); err != nil {
			return nil, errors.Join(err, servers.stop())
		}
	}
	return servers, nil
}

// addServer starts the second server on the database of the first.
func (b *testbed) addServer(ctx context.Context, folder string, servers *running, idle bool) error {
	second, err := newFolder(folder)
	if err != nil {
		return err
	}
	process, api, ops, err := b.serve(ctx, second, filepath.Join(second, "data"), servers.database.URL())
	if err != nil {
		return err
	}
	servers.second = process
	servers.pids = append(servers.pids, process.cmd.Process.Pid)
	servers.metrics = append(servers.metrics, ops+"/metrics")
	target, isParlor := servers.target.(*bench.Parlor)
	if isParlor && !idle {
		target.URLs = append(target.URLs, api)
	}
	return process.awaitReady(ctx, func() bool {
		return !slices.ContainsFunc(servers.metrics, func(url string) bool { return !hearsAnother(ctx, url) })
	})
}

// hearsAnother reports whether the metrics of a server say that it hears another one.
func hearsAnother(ctx context.Context, metrics string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, metrics, nil)
	if err != nil {
		return false
	}
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	return err == nil && strings.Contains(string(text), "\nparlor_bus_nodes 1\n")
}

// compared writes a row of the table: the medians of two, and the median of the ratios of the
// reports that were made one after the other.
func (t *table) compared(load string, f figure, base, of []*bench.Report, goal string) {
	cell := func(reports []*bench.Report) string {
		if m := f.median(reports); !math.IsNaN(m) {
			return fmt.Sprintf("%.*f", f.digits, m)
		}
		return ""
	}
	var ratios []float64
	for i := range base {
		if r := f.of(of[i]) / f.of(base[i]); !math.IsNaN(r) && !math.IsInf(r, 0) {
			ratios = append(ratios, r)
		}
	}
	ratio, spread := "", ""
	if len(ratios) > 0 {
		slices.SortFunc(ratios, cmp.Compare)
		ratio = fmt.Sprintf("%.2f", ratios[(len(ratios)-1)/2])
		spread = fmt.Sprintf("%.2f, %.2f", ratios[0], ratios[len(ratios)-1])
	}
	t.line("| " + strings.Join([]string{load, f.name, cell(base), cell(of), ratio, spread, goal}, " | ") + " |")
}
