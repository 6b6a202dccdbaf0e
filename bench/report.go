package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Report is the result of a run. Rates and costs are those of the measured time, counts and losses
// those of the whole run.
type Report struct {
	Target  string `json:"target"`
	Streams int    `json:"streams"`
	Rooms   int    `json:"rooms"`
	// OpenSeconds is how long it took to open all streams.
	OpenSeconds       float64 `json:"openSeconds"`
	ConnectsPerSecond float64 `json:"connectsPerSecond"`
	// OpenCost is what that took for each stream.
	OpenCost *Cost `json:"openCost,omitempty"`
	// LoginsPerSecond and LoginCost are those of the sessions, with Parlor.
	LoginsPerSecond float64 `json:"loginsPerSecond,omitempty"`
	LoginCost       *Cost   `json:"loginCost,omitempty"`

	MeasuredSeconds     float64 `json:"measuredSeconds"`
	MessagesPerSecond   float64 `json:"messagesPerSecond"`
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"`
	BytesPerSecond      float64 `json:"bytesPerSecond"`
	LatencyMS           Latency `json:"latencyMs"`
	// LocalMS and CrossMS are, with several servers, the latencies of messages that were sent
	// through the stream's own server, and through another one.
	LocalMS *Latency `json:"localMs,omitempty"`
	CrossMS *Latency `json:"crossMs,omitempty"`
	// BehindMS is the maximum delay with which a message was sent, compared with the wanted rate.
	BehindMS float64 `json:"behindMs"`

	Messages   int64 `json:"messages"`
	Deliveries int64 `json:"deliveries"`
	// Expected is the number of deliveries if nothing is lost.
	Expected int64 `json:"expected"`
	// Lost counts deliveries that did not arrive and gaps in the logs. Twice counts duplicates.
	// Missed counts deliveries that were allowed not to arrive: messages that are not stored may be
	// shed, and do not reach streams that are disconnected.
	Lost   int64 `json:"lost"`
	Twice  int64 `json:"twice"`
	Missed int64 `json:"missed"`
	Resets int64 `json:"resets"`

	Reconnects  int64 `json:"reconnects"`
	CutByServer int64 `json:"cutByServer"`
	Refused     int64 `json:"refused"`
	// BackSeconds is the time from the cut of a herd until all streams were open again,
	// CompleteSeconds until they had received everything.
	BackSeconds     float64 `json:"backSeconds,omitempty"`
	CompleteSeconds float64 `json:"completeSeconds,omitempty"`

	// CPU time of the server, of the processes beside it, and of the load generator.
	CPU       *CPU `json:"cpu,omitempty"`
	BesideCPU *CPU `json:"besideCPU,omitempty"`
	SelfCPU   *CPU `json:"selfCPU,omitempty"`
	// OtherCores is the number of cores that other processes used, which disturbs the measurement.
	OtherCores float64         `json:"otherCores,omitempty"`
	Memory     *Memory         `json:"memory,omitempty"`
	Server     *ServerCounters `json:"server,omitempty"`
	// Samples has one sample per second of the run.
	Samples []Sample `json:"samples,omitempty"`
}

// Sample is one second of a run.
type Sample struct {
	Seconds             float64 `json:"seconds"` // since the run began
	Phase               string  `json:"phase"`
	Streams             int     `json:"streams"` // open
	MessagesPerSecond   float64 `json:"messagesPerSecond"`
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"`
	ServerCores         float64 `json:"serverCores"`
	ServerBytes         int64   `json:"serverBytes"` // RSS
}

// CPU is the CPU time of processes in the measured time.
type CPU struct {
	// MicrosPerDelivery is user and system time, or 0 without deliveries. UserShare is only as
	// precise as the kernel's ticks.
	MicrosPerDelivery float64 `json:"microsPerDelivery"`
	UserShare         float64 `json:"userShare"`
	Cores             float64 `json:"cores"`
}

// Cost is the CPU time of each call in microseconds: of the server, of the processes beside it, and
// of the load generator.
type Cost struct {
	ServerMicros float64 `json:"serverMicros"`
	BesideMicros float64 `json:"besideMicros"`
	SelfMicros   float64 `json:"selfMicros"`
}

// costOf returns the cost of each of n calls, or nil if the server is not measured.
func costOf(n int, from, to reading) *Cost {
	if to.server.cpu == 0 {
		return nil
	}
	each := func(from, to usage) float64 { return float64((to.cpu - from.cpu).Nanoseconds()) / 1000 / float64(n) }
	return &Cost{ServerMicros: each(from.server, to.server), BesideMicros: each(from.beside, to.beside), SelfMicros: each(from.self, to.self)}
}

// String returns the cost for the end of a line of a report.
func (c *Cost) String() string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("; µs CPU for each: %.0f server, %.0f beside it, %.0f generator", c.ServerMicros, c.BesideMicros, c.SelfMicros)
}

// Memory is the growth of the server per open stream in bytes, without the kernel memory of
// sockets.
type Memory struct {
	// RSSPerStream, PSSPerStream and PrivatePerStream are the growth since just before the streams
	// connected.
	RSSPerStream     float64 `json:"rssPerStream"`
	PSSPerStream     float64 `json:"pssPerStream"`
	PrivatePerStream float64 `json:"privatePerStream"`
	// WithSessions is the growth of the PSS since before the sessions logged in and entered their
	// rooms.
	WithSessions float64 `json:"withSessions"`
	BeforeBytes  int64   `json:"beforeBytes"`
	AfterBytes   int64   `json:"afterBytes"`
}

// ServerCounters are taken from the server's metrics.
type ServerCounters struct {
	Shed          int64 `json:"shed"`
	LogReads      int64 `json:"logReads"`
	SlowConsumers int64 `json:"slowConsumers"`
}

func newReport(o Options) *Report {
	return &Report{Target: o.Target.describe(), Streams: o.Streams, Rooms: o.Rooms}
}

// Complete reports whether everything that had to arrive did so, exactly once.
func (r *Report) Complete() bool { return r.Lost == 0 && r.Twice == 0 && r.Resets == 0 }

func (r *Report) setLogins(n int, took time.Duration, cost *Cost) {
	r.LoginsPerSecond, r.LoginCost = float64(n)/took.Seconds(), cost
}

func (r *Report) setOpened(streams int, took time.Duration, cost *Cost) {
	r.OpenSeconds = took.Seconds()
	r.ConnectsPerSecond, r.OpenCost = float64(streams)/took.Seconds(), cost
}

// setLatencies sets the latencies of messages that were sent through a stream's own server, and
// through another one.
func (r *Report) setLatencies(local, cross histogram) {
	if cross.TotalCount() > 0 {
		l, c := local.summary(), cross.summary()
		r.LocalMS, r.CrossMS = &l, &c
	}
	local.Merge(cross.Histogram)
	r.LatencyMS = local.summary()
}

func (r *Report) setBack(took time.Duration)     { r.BackSeconds = took.Seconds() }
func (r *Report) setComplete(took time.Duration) { r.CompleteSeconds = took.Seconds() }

func (r *Report) setMemory(first, before, after memory, streams int) {
	if after.rss == 0 {
		return
	}
	growth := func(from, to int64) float64 { return float64(to-from) / float64(streams) }
	r.Memory = &Memory{
		RSSPerStream: growth(before.rss, after.rss), PSSPerStream: growth(before.pss, after.pss), PrivatePerStream: growth(before.private, after.private),
		WithSessions: growth(first.pss, after.pss), BeforeBytes: before.rss, AfterBytes: after.rss,
	}
}

func (r *Report) setWindow(from, to mark) {
	seconds := time.Duration(to.at - from.at).Seconds()
	deliveries := to.tally.messages - from.tally.messages
	r.MeasuredSeconds = seconds
	r.MessagesPerSecond = float64(to.messages-from.messages) / seconds
	r.DeliveriesPerSecond = float64(deliveries) / seconds
	r.BytesPerSecond = float64(to.tally.bytes-from.tally.bytes) / seconds
	cost := func(from, to usage) *CPU {
		used := to.cpu - from.cpu
		if to.cpu == 0 {
			return nil
		}
		c := &CPU{Cores: used.Seconds() / seconds}
		if deliveries > 0 {
			c.MicrosPerDelivery = float64(used.Nanoseconds()) / 1000 / float64(deliveries)
		}
		if split := to.user - from.user + to.system - from.system; split > 0 {
			c.UserShare = float64(to.user-from.user) / float64(split)
		}
		return c
	}
	r.CPU = cost(from.reading.server, to.reading.server)
	r.BesideCPU = cost(from.reading.beside, to.reading.beside)
	r.SelfCPU = cost(from.reading.self, to.reading.self)
	ours := to.reading.ours() - from.reading.ours()
	r.OtherCores = max((to.reading.machine-from.reading.machine-ours).Seconds()/seconds, 0)
}

// addLosses compares the messages that a stream received with those that were sent to its room. If
// the counts are equal but the sums of the numbers differ, one message was lost and one duplicated.
func (r *Report) addLosses(s *stream, t Target, reconnected bool) {
	want, sum := s.room.sent.messages.Load(), s.room.sent.sum.Load()
	r.Expected += want
	missing, more := max(want-s.received, 0), max(s.received-want, 0)
	if missing == 0 && more == 0 && sum != s.sum {
		missing, more = 1, 1
	}
	if t.stored() || t.mustDeliver() && !s.away && !reconnected {
		// A gap that was not filled is a missing message too.
		r.Lost += max(missing, s.lost)
	} else {
		r.Lost += s.lost
		r.Missed += missing
	}
	r.Twice += max(more, s.twice)
}

func (r *Report) addTally(t *tally) {
	r.Deliveries += t.messages
	r.Reconnects += t.reconnects
	r.CutByServer += t.cut
	r.Refused += t.refused
	r.Resets += t.resets
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// tolerableMS is the delay up to which late messages are not reported, because timers on a busy
// machine are that late.
const tolerableMS = 20

// WriteText writes the report as text.
func (r *Report) WriteText(w io.Writer) error {
	t := &table{to: w}
	t.row("target", "%s", r.Target)
	if r.LoginsPerSecond > 0 {
		t.row("logins", "%.0f/s%s", r.LoginsPerSecond, r.LoginCost)
	}
	t.row("streams", "%d in %d rooms, all open after %.2f s: %.0f connects/s%s", r.Streams, r.Rooms, r.OpenSeconds, r.ConnectsPerSecond, r.OpenCost)
	if r.Messages > 0 {
		t.row("messages", "%.0f/s for %.1f s, %d in total", r.MessagesPerSecond, r.MeasuredSeconds, r.Messages)
		t.row("deliveries", "%.0f/s, %.1f MB/s, %d of %d in total", r.DeliveriesPerSecond, r.BytesPerSecond/1e6, r.Deliveries, r.Expected)
		lost := fmt.Sprintf("%d lost, %d duplicated", r.Lost, r.Twice)
		if r.Missed > 0 {
			lost += fmt.Sprintf("; %d ephemeral messages missed: shed, or sent while a stream was disconnected", r.Missed)
		}
		t.row("losses", "%s", lost)
		t.latency("latency", &r.LatencyMS)
		t.latency("same server", r.LocalMS)
		t.latency("other one", r.CrossMS)
	}
	if r.BehindMS > tolerableMS {
		t.row("", "messages were sent up to %s ms late: the machine or the server did not keep up", millis(r.BehindMS))
	}
	if r.Reconnects > 0 || r.Refused > 0 || r.Resets > 0 {
		t.row("reconnects", "%d, %d of them because the server ended the stream; %d attempts rejected; %d resets", r.Reconnects, r.CutByServer, r.Refused, r.Resets)
	}
	if r.BackSeconds > 0 {
		t.row("herd", "all reconnected after %.2f s, caught up after %.2f s", r.BackSeconds, r.CompleteSeconds)
	}
	t.cpu("server", r.CPU)
	t.cpu("beside it", r.BesideCPU)
	t.cpu("generator", r.SelfCPU)
	if r.CPU != nil && r.OtherCores > 0.1 {
		t.row("", "other processes used %.1f cores, which distorts the measurement", r.OtherCores)
	}
	if m := r.Memory; m != nil {
		t.row("memory", "%.2f KiB per stream (PSS; RSS %.2f, private %.2f), with its session and room %.2f;", m.PSSPerStream/1024, m.RSSPerStream/1024, m.PrivatePerStream/1024, m.WithSessions/1024)
		t.row("", "from %.1f to %.1f MiB, without the kernel's memory for sockets", float64(m.BeforeBytes)/(1<<20), float64(m.AfterBytes)/(1<<20))
	}
	if s := r.Server; s != nil {
		t.row("counters", "%d shed, %d reads of logs, %d slow consumers", s.Shed, s.LogReads, s.SlowConsumers)
	}
	return t.err
}

// table writes rows until one fails.
type table struct {
	to  io.Writer
	err error
}

func (t *table) row(name, format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.to, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
}

func (t *table) latency(name string, l *Latency) {
	if l != nil {
		t.row(name, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s ms", millis(l.P50), millis(l.P90), millis(l.P99), millis(l.P999), millis(l.Max))
	}
}

func (t *table) cpu(name string, c *CPU) {
	switch {
	case c == nil:
	case c.MicrosPerDelivery == 0:
		t.row(name, "%.3f cores", c.Cores)
	default:
		t.row(name, "%.2f µs CPU per delivery (%.0f %% user), %.2f cores", c.MicrosPerDelivery, c.UserShare*100, c.Cores)
	}
}

// millis formats milliseconds with about three digits.
func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}
