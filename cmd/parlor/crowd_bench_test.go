package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parlor/hub"
	"parlor/room"
)

const (
	// crowdCallers is how many of a crowd call at the same time.
	crowdCallers  = 64
	crowdPatience = 3 * time.Minute
)

// BenchmarkCrowd lets people with open streams enter one room of the real program, all at once, and waits until the
// streams have told them of each other. Setting up and checking what came out is not measured.
func BenchmarkCrowd(b *testing.B) {
	for _, people := range []int{500, 5000} {
		b.Run(fmt.Sprintf("members=%d", people), func(b *testing.B) {
			var all crowdResult
			for b.Loop() {
				b.StopTimer()
				c := gather(b, people)
				b.StartTimer()
				c.enter()
				c.hear()
				b.StopTimer()
				all.add(c.check())
				c.disperse()
				b.StartTimer()
			}
			all.report(b)
		})
	}
}

// crowd is the people of one run, and the server they meet at.
type crowd struct {
	*testing.B
	ctx    context.Context
	cancel context.CancelFunc
	server *process
	http   *http.Client
	people []*person
	// calls is how long each one's enterRoom took.
	calls             []time.Duration
	readers           sync.WaitGroup
	logReads          float64 // of the server before anybody entered
	began             time.Time
	entering, hearing time.Duration
	// room is the room when everything has been told.
	room room.Room
}

// gather starts a server and logs everybody in.
func gather(b *testing.B, people int) *crowd {
	b.Helper()
	c := &crowd{
		B:      b,
		server: startParlor(b, reachableFolder(b), "--log-level", "error", "--member-timeout", "120s"),
		http:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: crowdCallers}},
		people: make([]*person, people),
		calls:  make([]time.Duration, people),
	}
	c.ctx, c.cancel = context.WithTimeout(b.Context(), crowdPatience)
	for i := range c.people {
		c.people[i] = &person{client: &client{http: c.http, base: c.server.url, user: fmt.Sprintf("user%05d", i)}}
	}
	c.people[0].told = make(map[room.UserID]int)
	c.each(c.people, func(_ int, p *person) error {
		if err := p.login(c.ctx); err != nil {
			return err
		}
		return p.listen(c.ctx, &c.readers)
	})
	c.await("the streams", func(p *person) bool { return p.events.Load() == 1 }) // sessionReady
	for _, p := range c.people {
		p.events.Store(0)
		p.bytes.Store(0)
	}
	c.logReads = c.metric("parlor_log_reads_total")
	return c
}

// enter gets everybody into the room. The first one creates it.
func (c *crowd) enter() {
	c.Helper()
	c.began = time.Now()
	enter := func(i int, p *person) error {
		began := time.Now()
		var reply struct{ Room room.Room }
		body := map[string]any{"config": map[string]any{"maxMembers": 2 * len(c.people)}}
		if err := p.succeed(c.ctx, "POST", "/v1/rooms/hall/enter", body, &reply); err != nil {
			return err
		}
		c.calls[i] = time.Since(began)
		p.from = reply.Room.LastSeq
		return nil
	}
	c.each(c.people[:1], enter)
	c.each(c.people[1:], func(i int, p *person) error { return enter(i+1, p) })
	c.entering = time.Since(c.began)
}

// hear waits until every stream has brought the room's log to its end, which is where everybody has been told of.
func (c *crowd) hear() {
	c.Helper()
	c.await("the news", func(p *person) bool { return p.told == nil || int(p.heardOf.Load()) == len(c.people)-1 })
	var reply struct{ Room room.Room }
	if err := c.people[0].succeed(c.ctx, "GET", "/v1/rooms/hall", nil, &reply); err != nil {
		c.Fatal(err)
	}
	c.room = reply.Room
	c.await("the end of the log", func(p *person) bool { return max(p.from, room.Seq(p.last.Load())) == c.room.LastSeq })
	c.hearing = time.Since(c.began)
}

// check holds what everybody got against what was to come, and counts it.
func (c *crowd) check() crowdResult {
	c.Helper()
	r := crowdResult{
		runs: 1, people: len(c.people), calls: c.calls, entering: c.entering, hearing: c.hearing,
		logReads: c.metric("parlor_log_reads_total") - c.logReads,
	}
	for _, p := range c.people {
		r.events += p.events.Load()
		r.bytes += p.bytes.Load()
		_ = p.conn.Close()
	}
	c.readers.Wait()
	for i, p := range c.people {
		switch {
		case p.fault != nil:
			c.Errorf("%s: %v", p.user, p.fault)
		case !p.inside:
			c.Errorf("%s was not told of entering", p.user)
		case p.first != p.from+1 && p.from != c.room.LastSeq:
			c.Errorf("%s entered at %d, and the stream went on with %d", p.user, p.from, p.first)
		case i > 0 && c.people[0].told[room.UserID(p.user)] != 1:
			c.Errorf("%s came, and that was told %d times", p.user, c.people[0].told[room.UserID(p.user)])
		}
	}
	if from := c.people[0].from; from != 1 {
		c.Errorf("the room began with event %d", from)
	}
	for _, p := range []*person{c.people[0], c.people[len(c.people)/2], c.people[len(c.people)-1]} {
		c.checkMembers(p)
	}
	if slow := c.metric("parlor_slow_consumers_total"); slow != 0 {
		c.Errorf("%v streams were given up as too slow", slow)
	}
	if log := c.server.logged(); log != "" || c.Failed() {
		c.Fatalf("the server's log: %s", log)
	}
	return r
}

// checkMembers requires that somebody sees everybody.
func (c *crowd) checkMembers(by *person) {
	c.Helper()
	seen := make(map[room.UserID]bool)
	for cursor, more := "", true; more; more = cursor != "" {
		path := "/v1/rooms/hall/members?limit=500"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		var page struct {
			MemberList []room.Member
			NextCursor string
		}
		if err := by.succeed(c.ctx, "GET", path, nil, &page); err != nil {
			c.Fatal(err)
		}
		for _, m := range page.MemberList {
			if seen[m.ID] {
				c.Errorf("%s sees %s twice", by.user, m.ID)
			}
			seen[m.ID] = true
		}
		cursor = page.NextCursor
	}
	var reply struct{ Count int }
	if err := by.succeed(c.ctx, "GET", "/v1/rooms/hall/members/count", nil, &reply); err != nil {
		c.Fatal(err)
	}
	if len(seen) != len(c.people) || reply.Count != len(c.people) {
		c.Errorf("%s sees %d members, and the count is %d", by.user, len(seen), reply.Count)
	}
}

// disperse ends the run.
func (c *crowd) disperse() {
	c.cancel()
	c.http.CloseIdleConnections()
	c.server.signal(syscall.SIGTERM)
}

// each does something for each of some people, for crowdCallers of them at the same time.
func (c *crowd) each(people []*person, do func(i int, p *person) error) {
	c.Helper()
	var (
		callers sync.WaitGroup
		next    atomic.Int64
		failed  atomic.Pointer[error]
	)
	for range crowdCallers {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(people) && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i, people[i]); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	callers.Wait()
	if err := failed.Load(); err != nil {
		c.Fatal(*err)
	}
}

// await waits until something is true of everybody.
func (c *crowd) await(what string, of func(*person) bool) {
	c.Helper()
	for _, p := range c.people {
		for !of(p) {
			if c.ctx.Err() != nil || p.over.Load() {
				c.Fatalf("%s has not got %s: %s", p.user, what, c.server.logged())
			}
			wait(c.ctx, time.Millisecond)
		}
	}
}

// metric reads one of the server's counters.
func (c *crowd) metric(name string) float64 {
	c.Helper()
	for line := range strings.Lines(get(c.B, c.server.ops+"/metrics")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.Fatal(err)
			}
			return n
		}
	}
	c.Fatalf("the server does not count %s", name)
	return 0
}

// person is somebody in a crowd, with a stream that costs little to read: thousands are read here, beside the server.
type person struct {
	*client
	conn net.Conn
	// from is the room's last event when this person came in.
	from room.Seq

	events, bytes atomic.Int64
	last          atomic.Int64 // the newest event of the room's log
	heardOf       atomic.Int64 // the size of told
	over          atomic.Bool  // the stream has ended
	// The reader's own until the stream has ended:
	id     string   // of the event that is being read
	first  room.Seq // the first event of the room's log
	inside bool     // was told of entering
	fault  error
	// told is how often the log told of each one's coming. Only the first person reads that, the others would read the same.
	told map[room.UserID]int
}

// listen opens the stream, over a connection without anything between.
func (p *person) listen(ctx context.Context, readers *sync.WaitGroup) error {
	host := strings.TrimPrefix(p.base, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	p.conn = conn
	if _, err := fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", host, p.key); err != nil {
		return err
	}
	readers.Go(func() {
		defer p.over.Store(true)
		// Ends when the connection does; whether all had come by then is for the crowd to see.
		for lines := bufio.NewReaderSize(conn, 1<<10); p.fault == nil; {
			line, err := p.readLine(lines)
			if err != nil {
				return
			}
			p.fault = p.take(line)
		}
	})
	return nil
}

// readLine reads a line, of which it keeps the beginning: all that is needed of most.
func (p *person) readLine(lines *bufio.Reader) ([]byte, error) {
	line, err := lines.ReadSlice('\n')
	p.bytes.Add(int64(len(line)))
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	line = slices.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		var rest []byte
		rest, err = lines.ReadSlice('\n')
		p.bytes.Add(int64(len(rest)))
		if p.told != nil {
			line = append(line, rest...)
		}
	}
	return line, err
}

// take reads a line of the stream. What an event is shows in its data, before anything else in it.
func (p *person) take(line []byte) error {
	name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
	switch string(name) {
	case "id":
		p.id = string(value)
	case "event":
		p.events.Add(1)
		switch room.EventType(value) {
		case room.TypeSessionReady, room.TypeRoomStateChanged:
		case room.TypeMembersJoined:
			return p.takeEvent()
		default:
			return fmt.Errorf("the stream brought %s", value)
		}
	case "data":
		if bytes.Contains(value, []byte(`"state":"connected"`)) {
			p.inside = true
		}
		if p.told != nil {
			return p.takeNews(value)
		}
	}
	return nil
}

// takeEvent requires that the log comes without holes.
func (p *person) takeEvent() error {
	_, cursor, err := hub.ParseID(p.id)
	if err != nil || len(cursor) != 2 {
		return fmt.Errorf("an event of the room with the id %q: %w", p.id, err)
	}
	// The first log is the user's inbox, which is older than the room.
	seq, last := cursor[1].Seq, room.Seq(p.last.Load())
	if last == 0 {
		p.first = seq
	} else if seq != last+1 {
		return fmt.Errorf("event %d came after %d", seq, last)
	}
	p.last.Store(int64(seq))
	return nil
}

func (p *person) takeNews(data []byte) error {
	var joined struct {
		Seq        room.Seq
		MemberList []room.Member
	}
	if err := json.Unmarshal(data, &joined); err != nil {
		return err
	}
	for _, m := range joined.MemberList {
		p.told[m.ID]++
	}
	p.heardOf.Store(int64(len(p.told)))
	return nil
}

// crowdResult is what the runs of one size came to.
type crowdResult struct {
	runs, people      int
	calls             []time.Duration
	entering, hearing time.Duration
	events, bytes     int64
	logReads          float64
}

func (r *crowdResult) add(o crowdResult) {
	r.runs += o.runs
	r.people += o.people
	r.calls = append(r.calls, o.calls...)
	r.entering += o.entering
	r.hearing += o.hearing
	r.events += o.events
	r.bytes += o.bytes
	r.logReads += o.logReads
}

func (r *crowdResult) report(b *testing.B) {
	slices.Sort(r.calls)
	b.ReportMetric(float64(r.people)/r.entering.Seconds(), "joins/s")
	b.ReportMetric(float64(r.calls[len(r.calls)*99/100].Milliseconds()), "ms/join-p99")
	b.ReportMetric(r.entering.Seconds()/float64(r.runs), "s/entered")
	b.ReportMetric(r.hearing.Seconds()/float64(r.runs), "s/told")
	b.ReportMetric(float64(r.events)/float64(r.people), "events/stream")
	b.ReportMetric(float64(r.bytes)/float64(r.people), "bytes/stream")
	b.ReportMetric(r.logReads/float64(r.runs), "log-reads")
	b.ReportMetric(0, "ns/op")
}
