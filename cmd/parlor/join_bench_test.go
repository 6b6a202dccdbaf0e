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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parlor/hub"
	"parlor/room"
	"parlor/store/storetest"
)

const (
	// joinCallers is the number of concurrent calls.
	joinCallers = 64
	joinTimeout = 3 * time.Minute
)

// BenchmarkJoin makes users with open streams enter one room of the real program concurrently, and
// waits until all streams have received all joins. Setting up and checking the result is not
// measured.
func BenchmarkJoin(b *testing.B) {
	for _, users := range []int{500, 5000} {
		b.Run(fmt.Sprintf("members=%d", users), func(b *testing.B) {
			var all joinResult
			for b.Loop() {
				b.StopTimer()
				c := startJoinBench(b, users)
				b.StartTimer()
				c.enter()
				c.awaitEvents()
				b.StopTimer()
				all.add(c.check())
				c.close()
				b.StartTimer()
			}
			all.report(b)
		})
	}
}

// joinBench is one run: the users and their server.
type joinBench struct {
	*testing.B
	ctx    context.Context
	cancel context.CancelFunc
	server *process
	http   *http.Client
	users  []*joiner
	// calls is the duration of each enterRoom.
	calls                []time.Duration
	readers              sync.WaitGroup
	logReads             float64 // of the server before the first user entered
	began                time.Time
	entering, delivering time.Duration
	// room is the room after all events have been received.
	room room.Room
}

// startJoinBench starts a server and logs all users in.
func startJoinBench(b *testing.B, users int) *joinBench {
	b.Helper()
	c := &joinBench{
		B:      b,
		server: startParlor(b, storetest.Folder(b), "--log-level", "error", "--member-timeout", "120s"),
		http:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: joinCallers}},
		users:  make([]*joiner, users),
		calls:  make([]time.Duration, users),
	}
	c.ctx, c.cancel = context.WithTimeout(b.Context(), joinTimeout)
	for i := range c.users {
		c.users[i] = &joiner{client: &client{http: c.http, base: c.server.url, user: fmt.Sprintf("user%05d", i)}}
	}
	c.users[0].joins = make(map[room.UserID]int)
	c.each(c.users, func(_ int, p *joiner) error {
		if err := p.login(c.ctx); err != nil {
			return err
		}
		return p.listen(c.ctx, &c.readers)
	})
	c.await("the streams", func(p *joiner) bool { return p.events.Load() == 1 }) // sessionReady
	for _, p := range c.users {
		p.events.Store(0)
		p.bytes.Store(0)
	}
	c.logReads = metric(c.B, c.server, "parlor_log_reads_total")
	return c
}

// enter makes all users enter the room. The first one creates it.
func (c *joinBench) enter() {
	c.Helper()
	c.began = time.Now()
	enter := func(i int, p *joiner) error {
		began := time.Now()
		var reply struct{ Room room.Room }
		body := map[string]any{"config": map[string]any{"maxMembers": 2 * len(c.users)}}
		if err := p.succeed(c.ctx, "POST", "/v1/rooms/hall/enter", body, &reply); err != nil {
			return err
		}
		c.calls[i] = time.Since(began)
		p.from = reply.Room.LastSeq
		return nil
	}
	c.each(c.users[:1], enter)
	c.each(c.users[1:], func(i int, p *joiner) error { return enter(i+1, p) })
	c.entering = time.Since(c.began)
}

// awaitEvents waits until every stream has received the room's whole log, which contains all joins.
func (c *joinBench) awaitEvents() {
	c.Helper()
	c.await("the joins", func(p *joiner) bool { return p.joins == nil || int(p.joined.Load()) == len(c.users)-1 })
	var reply struct{ Room room.Room }
	if err := c.users[0].succeed(c.ctx, "GET", "/v1/rooms/hall", nil, &reply); err != nil {
		c.Fatal(err)
	}
	c.room = reply.Room
	c.await("the end of the log", func(p *joiner) bool { return max(p.from, room.Seq(p.last.Load())) == c.room.LastSeq })
	c.delivering = time.Since(c.began)
}

// check compares what every user received with what was expected, and returns the counts.
func (c *joinBench) check() joinResult {
	c.Helper()
	r := joinResult{
		runs: 1, users: len(c.users), calls: c.calls, entering: c.entering, delivering: c.delivering,
		logReads: metric(c.B, c.server, "parlor_log_reads_total") - c.logReads,
	}
	for _, p := range c.users {
		r.events += p.events.Load()
		r.bytes += p.bytes.Load()
		_ = p.conn.Close()
	}
	c.readers.Wait()
	for i, p := range c.users {
		switch {
		case p.fault != nil:
			c.Errorf("%s: %v", p.user, p.fault)
		case !p.sawOwnJoin:
			c.Errorf("%s did not receive its own join", p.user)
		case p.first != p.from+1 && p.from != c.room.LastSeq:
			c.Errorf("%s entered at %d, and the stream continued with %d", p.user, p.from, p.first)
		case i > 0 && c.users[0].joins[room.UserID(p.user)] != 1:
			c.Errorf("the join of %s was received %d times", p.user, c.users[0].joins[room.UserID(p.user)])
		}
	}
	if from := c.users[0].from; from != 1 {
		c.Errorf("the room began with event %d", from)
	}
	for _, p := range []*joiner{c.users[0], c.users[len(c.users)/2], c.users[len(c.users)-1]} {
		c.checkMembers(p)
	}
	if slow := metric(c.B, c.server, "parlor_slow_consumers_total"); slow != 0 {
		c.Errorf("%v streams were closed as slow consumers", slow)
	}
	if log := c.server.logged(); log != "" || c.Failed() {
		c.Fatalf("the server's log: %s", log)
	}
	return r
}

// checkMembers checks that a user sees all members.
func (c *joinBench) checkMembers(by *joiner) {
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
	if len(seen) != len(c.users) || reply.Count != len(c.users) {
		c.Errorf("%s sees %d members, and the count is %d", by.user, len(seen), reply.Count)
	}
}

// close ends the run.
func (c *joinBench) close() {
	c.cancel()
	c.http.CloseIdleConnections()
	c.server.signal(syscall.SIGTERM)
}

// each calls do for some of the users, joinCallers of them concurrently.
func (c *joinBench) each(users []*joiner, do func(i int, p *joiner) error) {
	c.Helper()
	var (
		callers sync.WaitGroup
		next    atomic.Int64
		failed  atomic.Pointer[error]
	)
	for range joinCallers {
		callers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(users) && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i, users[i]); err != nil {
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

// await waits until a condition holds for all users.
func (c *joinBench) await(what string, of func(*joiner) bool) {
	c.Helper()
	for _, p := range c.users {
		for !of(p) {
			if c.ctx.Err() != nil || p.ended.Load() {
				c.Fatalf("%s did not receive %s: %s", p.user, what, c.server.logged())
			}
			wait(c.ctx, time.Millisecond)
		}
	}
}

// joiner is a user with a stream. Reading it is cheap, because thousands are read on the same
// machine as the server.
type joiner struct {
	*client
	conn net.Conn
	// from is the last event of the room when the user entered.
	from room.Seq

	events, bytes atomic.Int64
	last          atomic.Int64 // the newest event of the room's log
	joined        atomic.Int64 // number of entries in joins
	ended         atomic.Bool  // the stream has ended
	// Used only by the reader until the stream has ended:
	id         string   // of the current event
	first      room.Seq // the first event of the room's log
	sawOwnJoin bool     // received its own join
	fault      error
	// joins counts the joins of each user in the log. Only the first user records them, because the
	// others receive the same.
	joins map[room.UserID]int
}

// listen opens the stream over a plain connection.
func (p *joiner) listen(ctx context.Context, readers *sync.WaitGroup) error {
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
		defer p.ended.Store(true)
		// This ends with the connection. check finds out whether everything had arrived by then.
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

// readLine reads a line. It returns only the beginning of a long one, unless joins are recorded.
func (p *joiner) readLine(lines *bufio.Reader) ([]byte, error) {
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
		if p.joins != nil {
			line = append(line, rest...)
		}
	}
	return line, err
}

// take handles a line of the stream. The data of an event begins with its kind.
func (p *joiner) take(line []byte) error {
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
			return fmt.Errorf("unexpected event %s", value)
		}
	case "data":
		if bytes.Contains(value, []byte(`"state":"connected"`)) {
			p.sawOwnJoin = true
		}
		if p.joins != nil {
			return p.countJoins(value)
		}
	}
	return nil
}

// takeEvent checks that the log has no gaps.
func (p *joiner) takeEvent() error {
	_, cursor, err := hub.ParseID(p.id)
	if err != nil || len(cursor) != 2 {
		return fmt.Errorf("an event of the room with the id %q: %w", p.id, err)
	}
	// The first log is that of the user's inbox, which is older than the room.
	seq, last := cursor[1].Seq, room.Seq(p.last.Load())
	if last == 0 {
		p.first = seq
	} else if seq != last+1 {
		return fmt.Errorf("event %d arrived after %d", seq, last)
	}
	p.last.Store(int64(seq))
	return nil
}

func (p *joiner) countJoins(data []byte) error {
	var joined struct {
		Seq        room.Seq
		MemberList []room.Member
	}
	if err := json.Unmarshal(data, &joined); err != nil {
		return err
	}
	for _, m := range joined.MemberList {
		p.joins[m.ID]++
	}
	p.joined.Store(int64(len(p.joins)))
	return nil
}

// joinResult is the result of the runs of one size.
type joinResult struct {
	runs, users          int
	calls                []time.Duration
	entering, delivering time.Duration
	events, bytes        int64
	logReads             float64
}

func (r *joinResult) add(o joinResult) {
	r.runs += o.runs
	r.users += o.users
	r.calls = append(r.calls, o.calls...)
	r.entering += o.entering
	r.delivering += o.delivering
	r.events += o.events
	r.bytes += o.bytes
	r.logReads += o.logReads
}

func (r *joinResult) report(b *testing.B) {
	slices.Sort(r.calls)
	b.ReportMetric(float64(r.users)/r.entering.Seconds(), "joins/s")
	b.ReportMetric(float64(r.calls[len(r.calls)*99/100].Milliseconds()), "ms/join-p99")
	b.ReportMetric(r.entering.Seconds()/float64(r.runs), "s/entered")
	b.ReportMetric(r.delivering.Seconds()/float64(r.runs), "s/delivered")
	b.ReportMetric(float64(r.events)/float64(r.users), "events/stream")
	b.ReportMetric(float64(r.bytes)/float64(r.users), "bytes/stream")
	b.ReportMetric(r.logReads/float64(r.runs), "log-reads")
	b.ReportMetric(0, "ns/op")
}
