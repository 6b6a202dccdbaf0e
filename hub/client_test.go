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

// testingT is the part of *testing.T and *rapid.T that the helpers need.
type testingT interface {
	Helper()
	Cleanup(do func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// waitLimit is how long a test waits for something that should happen at once. In fake time it has
// to be longer than the hub's own timeouts.
const waitLimit = 30 * time.Second

// transport is a way in which streams are served.
type transport struct {
	name string
	// gathers reports that all events of rooms are gathered for delivery windows.
	gathers bool
	// run runs a test, in fake time if the transport needs no network.
	run func(t *testing.T, test func(*testing.T))
	// serve starts a stream and connects the client to it.
	serve func(t testingT, s *Stream, o *StreamStart, c *client)
}

var (
	overServe = transport{"Serve", false, synctest.Test, func(_ testingT, s *Stream, o *StreamStart, c *client) {
		ctx, cancel := context.WithCancel(context.Background())
		c.closeConn = cancel
		go func() {
			if err := s.Serve(ctx, o, &wire{client: c}); err != nil {
				c.fail(err)
			}
			c.serverClosed()
		}()
	}}
	overSocket = transport{"TakeOver", false, func(t *testing.T, test func(*testing.T)) { test(t) }, func(t testingT, s *Stream, o *StreamStart, c *client) {
		t.Helper()
		near, far := socketPair(t)
		c.closeConn = func() { _ = near.Close() }
		if err := s.TakeOver(o, far, nil); err != nil {
			t.Fatalf("TakeOver: %v", err)
		}
		go c.readFrom(near)
	}}
	overTLS = transport{"TakeOver of TLS", false, func(t *testing.T, test func(*testing.T)) { test(t) }, func(t testingT, s *Stream, o *StreamStart, c *client) {
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

// capturable is a connection below TLS like those that the program's listener accepts.
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

// gathering is a transport with delivery windows.
func gathering(w transport) transport {
	w.name += ", gathering"
	w.gathers = true
	return w
}

// transports returns the transports that the platform has, with and without delivery windows and
// compression. TLS makes no difference to them.
func transports() []transport {
	if CanTakeOver {
		return []transport{overServe, overSocket, gzipped(gathering(overSocket)), overTLS}
	}
	return windows()
}

// windows returns the transport of tests in fake time, without and with delivery windows, and with
// compression.
func windows() []transport {
	return []transport{overServe, gathering(overServe), gzipped(gathering(overServe))}
}

// eachTransport runs a test once for each transport.
func eachTransport(t *testing.T, test func(*testing.T, transport)) {
	t.Helper()
	runEach(t, transports(), test)
}

// eachWindow runs a test in fake time, without and with delivery windows.
func eachWindow(t *testing.T, test func(*testing.T, transport)) {
	t.Helper()
	runEach(t, windows(), test)
}

func runEach(t *testing.T, transports []transport, test func(*testing.T, transport)) {
	t.Helper()
	t.Parallel()
	for _, w := range transports {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.run(t, func(t *testing.T) { test(t, w) })
		})
	}
}

// eachTransportInRealTime is eachTransport for tests that keep the processors busy: fake time would
// never advance.
func eachTransportInRealTime(t *testing.T, test func(*testing.T, transport)) {
	t.Parallel()
	for _, w := range transports() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// inFakeTime runs a test in fake time.
func inFakeTime(t *testing.T, test func(*testing.T)) {
	t.Parallel()
	synctest.Test(t, test)
}

// advanceTime advances fake time and waits until everything that is due has happened.
func advanceTime(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// socketPair returns a loopback TCP connection with small buffers, so that the server soon notices
// a client that does not read.
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

// client reads a stream. In every test it also checks that the stream is well formed: sessionReady
// comes first, the events of each log come in order and without gaps, and each id has the position
// in every log.
type client struct {
	t         testingT
	closeConn func()

	mu           sync.Mutex // guards all below
	window       int        // how many more bytes it reads
	disconnected bool       // the client has closed the connection
	ended        bool       // the server has ended the stream
	err          error      // what Serve returned, or how the stream was malformed
	gunzip       *gunzip    // nil unless the stream is compressed
	sse          sseReader
	seqs         map[room.LogID][]room.Seq // the seqs received, by log
	cursor       Cursor                    // the last id
	changed      chan struct{}             // closed and replaced when a field above changes
}

func newClient(t testingT) *client {
	c := &client{
		t: t, closeConn: func() {}, window: math.MaxInt,
		seqs: make(map[room.LogID][]room.Seq), changed: make(chan struct{}),
	}
	t.Cleanup(c.close)
	return c
}

// update changes the client's state and wakes everything that waits for a change.
func (c *client) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// receive reads bytes from the network, up to the client's window.
func (c *client) receive(p []byte) (n int) {
	c.update(func() {
		n = min(len(p), c.window)
		if c.window != math.MaxInt {
			c.window -= n
		}
		known := len(c.sse.messages)
		if c.gunzip != nil {
			c.sse.write(c.gunzip.write(p[:n]))
		} else {
			c.sse.write(p[:n])
		}
		for i, m := range c.sse.messages[known:] {
			if err := c.check(m, known+i == 0); err != nil && c.err == nil {
				c.err = fmt.Errorf("message %d, %.300s: %w", known+i, fmt.Sprint(m), err)
			}
		}
		if len(c.sse.invalid) > 0 && c.err == nil {
			c.err = fmt.Errorf("not a line of an event stream: %q", c.sse.invalid[0])
		}
	})
	return n
}

// check checks the next message. The caller holds mu.
func (c *client) check(m sseMessage, first bool) error {
	if first && m.ID == "" { // the stream ended before it started
		switch m.Event {
		case string(room.TypeConnectionStateChanged), string(room.TypeReconnect):
			return nil
		}
	}
	if first != (m.Event == string(room.TypeSessionReady)) {
		return fmt.Errorf("sessionReady must be the first event, and no other")
	}
	pos, err := positionOf(m)
	if err != nil {
		return err
	}
	if g := pos.Generation; pos.Seq > 0 {
		if before, known := c.cursor.Seq(g); known && pos.Seq != before+1 {
			return fmt.Errorf("seq %d follows %d", pos.Seq, before)
		}
		c.seqs[g] = append(c.seqs[g], pos.Seq)
	}
	if pos.State == room.RoomDisconnected { // the session may join again, at a later position
		if i, known := c.cursor.find(pos.Generation); known {
			c.cursor = slices.Delete(c.cursor, i, i+1)
		}
	}
	if m.ID == "" {
		if pos.Seq > 0 {
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
		if p.Log == pos.Generation && pos.Seq > 0 {
			want, known = pos.Seq, true
		}
		if known && p.Seq != want {
			return fmt.Errorf("the id is at %d in log %d, want %d", p.Seq, p.Log, want)
		}
	}
	if _, ok := cursor.Seq(pos.Generation); pos.Seq > 0 && !ok {
		return fmt.Errorf("the id lacks log %d", pos.Generation)
	}
	c.cursor = cursor
	return nil
}

// eventPosition is the position that an event contains; Seq is 0 for events of one stream.
type eventPosition struct {
	Generation room.LogID     `json:"generation"`
	Seq        room.Seq       `json:"seq"`
	State      room.RoomState `json:"state"`
}

func positionOf(m sseMessage) (p eventPosition, err error) {
	err = json.Unmarshal([]byte(m.Data), &p)
	return p, err
}

func (c *client) serverClosed() {
	c.update(func() {
		c.ended = true
		if c.gunzip == nil || c.disconnected {
			return
		}
		err, n := c.gunzip.close(), len(c.sse.messages)
		var last room.EventType
		if n > 0 {
			last = room.EventType(c.sse.messages[n-1].Event)
		}
		orderly := last == room.TypeReconnect || last == room.TypeConnectionStateChanged
		if err != nil && (orderly || !errors.Is(err, io.ErrUnexpectedEOF)) && c.err == nil {
			c.err = fmt.Errorf("the end of a compressed stream, after %s: %w", last, err)
		}
	})
}

func (c *client) fail(err error) { c.update(func() { c.err = err }) }

// stopReading makes the client read nothing more, readMore another n bytes, readAll everything.
func (c *client) stopReading()   { c.readMore(0) }
func (c *client) readAll()       { c.readMore(math.MaxInt) }
func (c *client) readMore(n int) { c.update(func() { c.window = n }) }

// close closes the client's end of the connection.
func (c *client) close() {
	c.update(func() { c.disconnected = true })
	c.closeConn()
}

// await waits for a condition, which is called with the client's lock held.
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
			c.t.Fatalf("timeout waiting for %s; got %s", what, c.summary())
		}
	}
}

// awaitSeq waits until the client has received a log up to a seq.
func (c *client) awaitSeq(logID room.LogID, seq room.Seq) {
	c.t.Helper()
	c.await(fmt.Sprintf("event %d of log %d", seq, logID), func() bool {
		seen := c.seqs[logID]
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

// awaitEnd waits until the server has ended the stream, and returns the last event.
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

// wantSeqs waits for the events of a log up to a seq, and fails unless the client received exactly
// those after from.
func (c *client) wantSeqs(logID room.LogID, from, to room.Seq) {
	c.t.Helper()
	if from < to {
		c.awaitSeq(logID, to)
	}
	want := make([]room.Seq, 0, to-from)
	for seq := from + 1; seq <= to; seq++ {
		want = append(want, seq)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(want, c.seqs[logID]) {
		c.t.Errorf("log %d (-want +got):\n%s", logID, cmp.Diff(want, c.seqs[logID]))
	}
}

// received returns the messages so far.
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

// comments returns the number of heartbeats so far.
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
	return fmt.Sprintf("%d messages, last id %q, ended %t, last message %.300s", len(c.sse.messages), c.sse.lastID, c.ended, fmt.Sprint(last))
}

// readFrom reads from a socket until it is closed.
func (c *client) readFrom(conn net.Conn) {
	defer c.serverClosed()
	buf := make([]byte, 32<<10)
	for {
		c.mu.Lock()
		n, disconnected, changed := min(c.window, len(buf)), c.disconnected, c.changed
		c.mu.Unlock()
		if n == 0 && !disconnected {
			<-changed
			continue
		}
		n, err := conn.Read(buf[:n])
		for p := buf[:n]; len(p) > 0 && !disconnected; {
			taken := c.receive(p)
			p = p[taken:]
			if taken == 0 { // the test has stopped the client
				c.mu.Lock()
				disconnected, changed = c.disconnected, c.changed
				c.mu.Unlock()
				if !disconnected {
					<-changed
				}
			}
		}
		if err != nil || disconnected {
			return
		}
	}
}

// wire is a Conn to a client in the same process.
type wire struct {
	client *client
}

func (w *wire) Send(p []byte, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for len(p) > 0 {
		p = p[w.client.receive(p):]
		w.client.mu.Lock()
		blocked, disconnected, changed := w.client.window == 0 && len(p) > 0, w.client.disconnected, w.client.changed
		w.client.mu.Unlock()
		switch {
		case disconnected:
			return io.ErrClosedPipe
		case !blocked:
			continue
		}
		select {
		case <-changed:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}
