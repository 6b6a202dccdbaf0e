package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	h := newHistogram()
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	h.add(0)
	h.add(time.Hour)
	got := h.summary()
	for name, pair := range map[string][2]float64{
		"p50": {got.P50, 500}, "p90": {got.P90, 900}, "p99": {got.P99, 990}, "p99.9": {got.P999, 1000}, "max": {got.Max, 60_000},
	} {
		if pair[0] < pair[1]*0.995 || pair[0] > pair[1]*1.005 {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
	if got.Count != 1002 {
		t.Errorf("%d latencies", got.Count)
	}
}

func TestLosses(t *testing.T) {
	t.Parallel()
	stored, barrage, plain := &Parlor{Kind: "text"}, &Parlor{Kind: "barrage"}, &Plain{}
	for name, test := range map[string]struct {
		target              Target
		stream              stream
		reconnected         bool
		lost, twice, missed int64
	}{
		"all":                                    {stored, stream{received: 3, sum: 6}, false, 0, 0, 0},
		"one missing":                            {stored, stream{received: 2, sum: 3}, false, 1, 0, 0},
		"a gap in the log":                       {stored, stream{received: 2, sum: 4, lost: 1}, false, 1, 0, 0},
		"a gap at an event other than a message": {stored, stream{received: 3, sum: 6, lost: 1}, false, 1, 0, 0},
		"one twice":                              {stored, stream{received: 4, sum: 7, twice: 1}, false, 0, 1, 0},
		"one twice and one lost":                 {stored, stream{received: 3, sum: 5}, false, 1, 1, 0},
		"lost across a reconnect":                {stored, stream{received: 2, sum: 3, away: true}, true, 1, 0, 0},
		"barrage shed":                           {barrage, stream{received: 2, sum: 3}, false, 0, 0, 1},
		"plain lost":                             {plain, stream{received: 2, sum: 3}, false, 1, 0, 0},
		"plain lost while disconnected":          {plain, stream{received: 2, sum: 3, away: true}, false, 0, 0, 1},
	} {
		rm := &runRoom{}
		rm.sent.messages.Store(3)
		rm.sent.sum.Store(6)
		test.stream.room = rm
		var r Report
		r.addLosses(&test.stream, test.target, test.reconnected)
		if got, want := [3]int64{r.Lost, r.Twice, r.Missed}, [3]int64{test.lost, test.twice, test.missed}; got != want || r.Expected != 3 {
			t.Errorf("%s: %v lost, twice, missed; want %v", name, got, want)
		}
	}
}

func someReport() *Report {
	r := newReport(Options{Target: &Parlor{Kind: "text"}, Streams: 100, Rooms: 10})
	r.setLogins(100, time.Second, nil)
	var opened reading
	opened.server, opened.beside, opened.self = usage{cpu: 20 * time.Millisecond}, usage{cpu: 10 * time.Millisecond}, usage{cpu: 5 * time.Millisecond}
	r.setOpened(100, 2*time.Second, costOf(100, reading{}, opened))
	from := mark{at: int64(time.Second), messages: 10, tally: tally{messages: 100, bytes: 1000}}
	to := mark{at: int64(3 * time.Second), messages: 30, tally: tally{messages: 300, bytes: 5000}}
	to.reading.server = usage{cpu: 2 * time.Millisecond, user: 10 * time.Millisecond, system: 30 * time.Millisecond}
	to.reading.self = usage{cpu: time.Millisecond}
	to.reading.machine = 2 * time.Second
	r.setWindow(from, to)
	r.Messages, r.Deliveries, r.Expected, r.Missed, r.BehindMS = 30, 300, 301, 1, 33
	at := func(kib int64) memory { return memory{rss: kib << 10, pss: kib << 10, private: kib << 10} }
	r.setMemory(at(1000), at(1200), at(1700), 100)
	r.addTally(&tally{reconnects: 3, cut: 2, refused: 1})
	r.setBack(time.Second)
	r.setComplete(2 * time.Second)
	r.LatencyMS = Latency{P50: 1.234, P90: 12.34, P99: 123.4, P999: 200, Max: 201}
	r.Server = &ServerCounters{Shed: 1, LogReads: 2, SlowConsumers: 3}
	return r
}

func TestTextReport(t *testing.T) {
	t.Parallel()
	const want = `target      Parlor, text
logins      100/s
streams     100 in 10 rooms, all open after 2.00 s: 50 connects/s; µs CPU for each: 200 server, 100 beside it, 50 generator
messages    10/s for 2.0 s, 30 in total
deliveries  100/s, 0.0 MB/s, 600 of 301 in total
losses      0 lost, 0 duplicated; 1 ephemeral messages missed: shed, or sent while a stream was disconnected
latency     p50 1.23  p90 12.3  p99 123  p99.9 200  max 201 ms
            messages were sent up to 33.0 ms late: the machine or the server did not keep up
reconnects  3, 2 of them because the server ended the stream; 1 attempts rejected; 0 resets
herd        all reconnected after 1.00 s, caught up after 2.00 s
server      10.00 µs CPU per delivery (25 % user), 0.00 cores
generator   5.00 µs CPU per delivery (0 % user), 0.00 cores
            other processes used 1.0 cores, which distorts the measurement
memory      5.00 KiB per stream (PSS; RSS 5.00, private 5.00), with its session and room 7.00;
            from 1.2 to 1.7 MiB, without the kernel's memory for sockets
counters    1 shed, 2 reads of logs, 3 slow consumers
`
	r := someReport()
	r.Deliveries = 600
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONReport(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := someReport().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someReport(), &got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(b.String(), `"deliveriesPerSecond": 100`) {
		t.Error(b.String())
	}
}
