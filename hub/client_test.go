package hub

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

// testingT is what the tests' parts need of *testing.T and *rapid.T.
type testingT interface {
	Helper()
	Cleanup(do func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// patience is how long a test waits for what should come at once; in a bubble,
// where it is fake time, it has to outlast the hub's own timeouts.
const waitLimit = 30 * time.Second

// way is how streams are served.
type transport struct {
	name string
	// run runs a test where this way works: Serve needs no network, so its tests
	// run in a bubble.
	run func(t *testing.T, test func(*testing.T))
	// serve starts a stream whose far end is the client.
	serve func(t testingT, s *Stream, o StreamStart, c *client)
}

var (
	overServe = transport{"Serve", synctest.Test, func(_ testingT, s *Stream, o StreamStart, c *client) {
		ctx, cancel := context.WithCancel(context.Background())
		c.closeConn = cancel
		go func() {
			if err := s.Serve(ctx, o, &wire{client: c}); err != nil {
				c.failed(err)
			}
			c.end()
		}()
	}}
	overSocket = transport{"TakeOver", func(t *testing.T, test func(*testing.T)) { test(t) }, func(t testingT, s *Stream, o StreamStart, c *client) {
		t.Helper()
		near, far := socketPair(t)
		c.closeConn = func() { _ = near.Close() }
		if err := s.TakeOver(o, far, nil); err != nil {
			t.Fatalf("TakeOver: %v", err)
		}
		go c.readFrom(near)
	}}
	overTLS = transport{"TakeOver of TLS", func(t *testing.T, test func(*testing.T)) { test(t) }, func(t testingT, s *Stream, o StreamStart, c *client) {
		t.Helper()
		near, far := socketPair(t)
		c.closeConn = func() { _ = near.Close() }
		below := &capturable{TCPConn: far}
		server := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{testCertificate()}, MinVersion: tls.VersionTLS12})
		reader := tls.Client(near, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nothing is secret here
		shaken := make(chan error, 1)
		go func() { shaken <- reader.Handshake() }()
		if err := errors.Join(server.Handshake(), <-shaken); err != nil {
			t.Fatalf("handshake: %v", err)
		}
		if err := s.TakeOver(o, below, server); err != nil {
			t.Fatalf("TakeOver: %v", err)
		}
		go c.readFrom(reader)
	}}
)

// capturable is a connection below TLS as the program's listener accepts it.
type capturable struct {
	*net.TCPConn
	to io.Writer
}

func (c *capturable) RedirectWrites(to io.Writer) { c.to = to }

func (c *capturable) Write(p []byte) (int, error) {
	if c.to != nil {
		return c.to.Write(p)
	}
	return c.TCPConn.Write(p)
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// ways is the ways that the platform has.
func transports() []transport {
	if CanTakeOver {
		return []transport{overServe, overSocket, overTLS}
	}
	return []transport{overServe}
}

// everyWay runs a test once for each way, each where it works.
func eachTransport(t *testing.T, test func(*testing.T, transport)) {
	t.Parallel()
	for _, w := range transports() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.run(t, func(t *testing.T) { test(t, w) })
		})
	}
}

// everyWayInRealTime is for tests that keep the processors busy, so that a
// bubble's time would stand still.
func eachTransportInRealTime(t *testing.T, test func(*testing.T, transport)) {
	t.Parallel()
	for _, w := range transports() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// bubble runs a test in fake time.
func inFakeTime(t *testing.T, test func(*testing.T)) {
	t.Parallel()
	synctest.Test(t, test)
}

// elapse lets fake time pass, and all that it brings about happen.
func advanceTime(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// socketPair is a loopback TCP connection with small buffers, so that a reader
// that does not read is felt soon.
func socketPair(t testingT) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer l.Close()
	near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	far, err = l.AcceptTCP()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	if err := near.SetReadBuffer(64 << 10); err != nil {
		t.Fatalf("set the buffer: %v", err)
	}
	if err := far.SetWriteBuffer(64 << 10); err != nil {
		t.Fatalf("set the buffer: %v", err)
	}
	return near, far
}

// client is the far end of a stream. Whatever the test is about, it checks that
// what it gets is well formed: sessionReady comes first, each log's events come
// in order and without holes, and each id is the position in all the logs.
type client struct {
	t         testingT
	closeConn func()

	mu      sync.Mutex // guards all below
	window  int        // how many bytes it takes
	gone    bool       // it hung up
	ended   bool       // the server ended the stream
	err     error      // what Serve returned, or what was wrong with what came
	sse     sseReader
	seqs    map[room.LogID][]room.Seq // what came, by log
	cursor  Cursor                    // of the last id
	changed chan struct{}             // closed, and replaced, when any of this changes
}

func newClient(t testingT) *client {
	c := &client{
		t: t, closeConn: func() {}, window: math.MaxInt,
		seqs: make(map[room.LogID][]room.Seq), changed: make(chan struct{}),
	}
	t.Cleanup(c.hangUp)
	return c
}

// update changes the client's state and wakes who waits for it.
func (c *client) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// take is the client's taking of bytes from the network, up to its window.
func (c *client) take(p []byte) (n int) {
	c.update(func() {
		n = min(len(p), c.window)
		if c.window != math.MaxInt {
			c.window -= n
		}
		known := len(c.sse.messages)
		c.sse.write(p[:n])
		for i, m := range c.sse.messages[known:] {
			if err := c.check(m, known+i == 0); err != nil && c.err == nil {
				c.err = fmt.Errorf("message %d, %.300s: %w", known+i, fmt.Sprint(m), err)
			}
		}
		if len(c.sse.invalid) > 0 && c.err == nil {
			c.err = fmt.Errorf("a line of no event stream: %q", c.sse.invalid[0])
		}
	})
	return n
}

// check looks at a message as it comes. The caller holds mu.
func (c *client) check(m sseMessage, first bool) error {
	if first != (m.Event == string(room.TypeSessionReady)) {
		return fmt.Errorf("sessionReady comes first and only first")
	}
	place, err := positionOf(m)
	if err != nil {
		return err
	}
	if g := place.Generation; place.Seq > 0 {
		if before, known := c.cursor.Seq(g); known && place.Seq != before+1 {
			return fmt.Errorf("seq %d follows %d", place.Seq, before)
		}
		c.seqs[g] = append(c.seqs[g], place.Seq)
	}
	if place.State == room.RoomDisconnected { // it may come again, further on
		if i, known := c.cursor.find(place.Generation); known {
			c.cursor = slices.Delete(c.cursor, i, i+1)
		}
	}
	if m.ID == "" {
		if place.Seq > 0 {
			return fmt.Errorf("an event of a log has no id")
		}
		return nil
	}
	_, cursor, err := ParseID(m.ID)
	if err != nil {
		return err
	}
	for _, p := range cursor {
		want, known := c.cursor.Seq(p.Log)
		if p.Log == place.Generation && place.Seq > 0 {
			want, known = place.Seq, true
		}
		if known && p.Seq != want {
			return fmt.Errorf("the id is at %d in log %d, not at %d", p.Seq, p.Log, want)
		}
	}
	if _, ok := cursor.Seq(place.Generation); place.Seq > 0 && !ok {
		return fmt.Errorf("the id lacks log %d", place.Generation)
	}
	c.cursor = cursor
	return nil
}

// place is what events say of their place; Seq is 0 for those of one stream.
type eventPosition struct {
	Generation room.LogID     `json:"generation"`
	Seq        room.Seq       `json:"seq"`
	State      room.RoomState `json:"state"`
}

func positionOf(m sseMessage) (p eventPosition, err error) {
	err = json.Unmarshal([]byte(m.Data), &p)
	return p, err
}

func (c *client) end() { c.update(func() { c.ended = true }) }

func (c *client) failed(err error) { c.update(func() { c.err = err }) }

// pause makes the client take nothing any more; allow, n more bytes; resume, all.
func (c *client) pause()      { c.allow(0) }
func (c *client) resume()     { c.allow(math.MaxInt) }
func (c *client) allow(n int) { c.update(func() { c.window = n }) }

// hangUp closes the client's end.
func (c *client) hangUp() {
	c.update(func() { c.gone = true })
	c.closeConn()
}

// await waits until the client has got what the test wants. The condition is
// asked under the client's lock.
func (c *client) await(what string, ok func() bool) {
	c.t.Helper()
	timeout := time.NewTimer(waitLimit)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		done, err, changed := ok(), c.err, c.changed
		c.mu.Unlock()
		switch {
		case err != nil:
			c.t.Fatalf("waiting for %s: %v", what, err)
		case done:
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			c.t.Fatalf("%s did not come; got %s", what, c.summary())
		}
	}
}

// awaitSeq waits until the client has got a log up to a seq.
func (c *client) awaitSeq(g room.LogID, seq room.Seq) {
	c.t.Helper()
	c.await(fmt.Sprintf("event %d of log %d", seq, g), func() bool {
		seen := c.seqs[g]
		return len(seen) > 0 && seen[len(seen)-1] >= seq
	})
}

// awaitEvent waits for the n-th event of a type, counted from 1.
func (c *client) awaitEvent(e room.EventType, n int) sseMessage {
	c.t.Helper()
	var found sseMessage
	c.await(string(e), func() bool {
		count := 0
		for _, m := range c.sse.messages {
			if m.Event == string(e) {
				if count++; count == n {
					found = m
					return true
				}
			}
		}
		return false
	})
	return found
}

// awaitEnd waits until the server has ended the stream, and returns its last
// event.
func (c *client) awaitEnd() sseMessage {
	c.t.Helper()
	var last sseMessage
	c.await("the end of the stream", func() bool {
		if n := len(c.sse.messages); n > 0 {
			last = c.sse.messages[n-1]
		}
		return c.ended
	})
	return last
}

// wantSeqs waits for a log's events up to a seq and says whether the client got
// exactly those after from.
func (c *client) wantSeqs(g room.LogID, from, to room.Seq) {
	c.t.Helper()
	if from < to {
		c.awaitSeq(g, to)
	}
	want := make([]room.Seq, 0, to-from)
	for seq := from + 1; seq <= to; seq++ {
		want = append(want, seq)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(want, c.seqs[g]) {
		c.t.Errorf("log %d (-want +got):\n%s", g, cmp.Diff(want, c.seqs[g]))
	}
}

// received is what came so far.
func (c *client) received() []sseMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sse.messages)
}

func (c *client) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (c *client) lastID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sse.lastID
}

// comments counts the heartbeats so far.
func (c *client) comments() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sse.comments
}

func (c *client) retry() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.sse.retry) * time.Millisecond
}

func (c *client) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last sseMessage
	if n := len(c.sse.messages); n > 0 {
		last = c.sse.messages[n-1]
	}
	return fmt.Sprintf("%d messages, last id %q, ended %t, at the end %.300s", len(c.sse.messages), c.sse.lastID, c.ended, fmt.Sprint(last))
}

// readFrom takes what comes over a socket until it is closed.
func (c *client) readFrom(conn net.Conn) {
	defer c.end()
	buf := make([]byte, 32<<10)
	for {
		c.mu.Lock()
		n, gone, changed := min(c.window, len(buf)), c.gone, c.changed
		c.mu.Unlock()
		if n == 0 && !gone {
			<-changed
			continue
		}
		n, err := conn.Read(buf[:n])
		for p := buf[:n]; len(p) > 0 && !gone; {
			taken := c.take(p)
			p = p[taken:]
			if taken == 0 { // paused meanwhile
				c.mu.Lock()
				gone, changed = c.gone, c.changed
				c.mu.Unlock()
				if !gone {
					<-changed
				}
			}
		}
		if err != nil || gone {
			return
		}
	}
}

// wire is the Conn of a client in the same process.
type wire struct {
	client *client
}

func (w *wire) Send(p []byte, within time.Duration) error {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for len(p) > 0 {
		p = p[w.client.take(p):]
		w.client.mu.Lock()
		blocked, gone, changed := w.client.window == 0 && len(p) > 0, w.client.gone, w.client.changed
		w.client.mu.Unlock()
		switch {
		case gone:
			return io.ErrClosedPipe
		case !blocked:
			continue
		}
		select {
		case <-changed:
		case <-timeout.C:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}
