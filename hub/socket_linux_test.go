package hub

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

// TestTakeOverRejectsPipe checks that TakeOver fails for a connection that is not a socket, and
// that it reports the end of the stream, which already has a number.
func TestTakeOverRejectsPipe(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	s := newTestHub(t, overSocket, Options{})
	if err := s.open(alice).TakeOver(s.streamStart(alice, ""), far, nil); err == nil {
		t.Error("TakeOver accepted a pipe")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	s.awaitDetached(alice, 1)
	if n := s.Stats().Streams; n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

func TestTakeOverClosedConnection(t *testing.T) {
	t.Parallel()
	s := newTestHub(t, overSocket, Options{})
	near, far := socketPair(t)
	defer near.Close()
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.open(alice).TakeOver(s.streamStart(alice, ""), far, nil); err == nil {
		t.Error("TakeOver accepted a closed connection")
	}
	s.awaitDetached(alice, 1)
}

// TestTakeOverAfterPeerClosed checks that a stream ends if its client closed the connection before
// the socket was registered.
func TestTakeOverAfterPeerClosed(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"closed", "reset"} {
		s := newTestHub(t, overSocket, Options{Heartbeat: 2 * waitLimit})
		near, far := socketPair(t)
		if how == "reset" {
			if err := near.SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.open(alice).TakeOver(s.streamStart(alice, ""), far, nil); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		s.awaitDetached(alice, 1)
	}
}

// TestTakeOverIgnoresInput checks that a client that sends something on its stream still gets its
// events.
func TestTakeOverIgnoresInput(t *testing.T) {
	t.Parallel()
	s := newTestHub(t, overSocket, Options{})
	s.store.join(alice, 1)
	near, far := socketPair(t)
	defer near.Close()
	if err := s.open(alice).TakeOver(s.streamStart(alice, ""), far, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 100))); err != nil {
		t.Fatal(err)
	}
	s.appendAndPublish(1, 1)
	if err := near.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(near)
	for lines.Scan() {
		if lines.Text() == "id: 1:1" {
			return
		}
	}
	t.Errorf("the event was not received: %v", lines.Err())
}

func TestTakeOverOnAClosedHub(t *testing.T) {
	t.Parallel()
	s := newTestHub(t, overSocket, Options{})
	stream := s.open(alice)
	s.Close()
	near, far := socketPair(t)
	defer near.Close()
	if err := stream.TakeOver(s.streamStart(alice, ""), far, nil); err == nil {
		t.Error("TakeOver succeeded on a closed hub")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	s.awaitDetached(alice, 1)
}

// TestTakeOverWhileTheHubCloses checks that a stream that was taken over before the hub closed is
// registered and ended as any other: the poller is open for as long as the workers work.
func TestTakeOverWhileTheHubCloses(t *testing.T) {
	t.Parallel()
	for range 20 {
		var log bytes.Buffer
		s := newTestHub(t, overSocket, Options{Workers: 1, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		near, far := socketPair(t)
		stream, proceed := s.open(alice), make(chan struct{})
		stream.worker.do(func() { <-proceed })
		if err := stream.TakeOver(s.streamStart(alice, ""), far, nil); err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		go func() {
			s.Close()
			close(closed)
		}()
		for stream.worker.do(func() {}) { // until Close has closed the worker
			runtime.Gosched()
		}
		close(proceed)
		<-closed
		s.awaitDetached(alice, 1)
		if _, err := io.ReadAll(near); err != nil {
			t.Error(err)
		}
		if err := near.Close(); err != nil {
			t.Error(err)
		}
		if log.String() != "" {
			t.Fatalf("logged: %s", log.String())
		}
	}
}

// TestTakeOverClosesDescriptors is not parallel, because it counts the descriptors of the process.
func TestTakeOverClosesDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	s := newTestHub(t, overSocket, Options{})
	ids := joinedSessions(s, 50)
	for round := range 3 {
		clients := make([]*client, len(ids))
		for i, id := range ids {
			clients[i] = s.connectReady(id, "")
		}
		for i, c := range clients {
			switch i % 3 {
			case 0:
				c.close()
			case 1:
				s.Apply(room.Change{Ended: []room.EndedSession{{Session: ids[i], Reason: room.EndLoggedOut}}})
			}
			if i%3 < 2 {
				s.awaitDetached(ids[i], int64(round+1))
			}
			c.close()
		}
	}
	s.Close()
	if n := len(s.poller.sockets); n != 0 {
		t.Errorf("the poller has %d sockets", n)
	}
	s.eventually("as many descriptors as before", func() bool { return count() <= before })
}

// TestTLSSendsCloseNotify checks that a client can tell the end of its stream from a truncated
// connection (RFC 8446, section 6.1).
func TestTLSSendsCloseNotify(t *testing.T) {
	t.Parallel()
	s := newTestHub(t, overTLS, Options{})
	near, far := socketPair(t)
	below := &capturable{TCPConn: far}
	// TLS 1.2, because an alert is visible there as a record type.
	server := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{testCertificate()}, MaxVersion: tls.VersionTLS12})
	var raw bytes.Buffer
	reader := tls.Client(recordedConn{near, &raw}, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nothing is secret here
	shaken := make(chan error, 1)
	go func() { shaken <- reader.Handshake() }()
	if err := errors.Join(server.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	if err := s.open(alice).TakeOver(s.streamStart(alice, ""), below, server); err != nil {
		t.Fatal(err)
	}
	s.eventually("the stream has started", func() bool { return s.Stats().Delivered > 0 })
	s.Shutdown(t.Context())
	text, err := io.ReadAll(reader)
	if err != nil || !strings.Contains(string(text), "event: reconnect\n") {
		t.Errorf("read %q, %v", text, err)
	}
	var last byte
	for records := raw.Bytes(); len(records) >= 5; {
		last = records[0]
		records = records[5+(int(records[3])<<8|int(records[4])):]
	}
	if last != 21 {
		t.Errorf("the last record has type %d, want an alert", last)
	}
}

// recordedConn records what was read.
type recordedConn struct {
	net.Conn
	raw *bytes.Buffer
}

func (c recordedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.raw.Write(p[:n])
	return n, err
}
