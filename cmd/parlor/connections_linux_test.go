package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"parlor/handlers"
	"parlor/store/storetest"
)

// from dials from an address of this machine, such as any of 127.0.0.0/8.
func from(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
}

// clientFrom returns a client at an address, which opens a connection for each call.
func clientFrom(address string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: from(address).DialContext, DisableKeepAlives: true}}
}

// waitFor waits until a condition holds for a running server.
func waitFor(ctx context.Context, t *testing.T, what string, condition func() bool) {
	t.Helper()
	for !condition() {
		if ctx.Err() != nil {
			t.Fatalf("timed out waiting until %s", what)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// TestSilentSocketsDoNotBlockServer attacks a server of 256 open files with 300 sockets that
// announce a body and send nothing, or send nothing at all. From one address they affect no other
// client. From many addresses they use up all connections: new clients get an error, open streams
// continue, health checks are answered, a warning is logged, and after the deadlines all clients
// are served again.
func TestSilentSocketsDoNotBlockServer(t *testing.T) {
	t.Parallel()
	p := &process{data: storetest.Folder(t), url: "http://" + freeAddress(t), ops: "http://" + freeAddress(t), openFiles: 256}
	p.start(t, "--dev")
	t.Cleanup(func() { p.signal(unix.SIGTERM) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alice := login(ctx, t, p, "alice")
	alice.http = clientFrom("127.0.0.2")
	alice.enter(ctx, t, "hall")
	opened := make(chan struct{})
	follower := &reader{client: alice, opened: opened, enough: func(r *reader) bool { return len(r.texts) == 2 }}
	var reading sync.WaitGroup
	reading.Go(func() { follower.connect(ctx) })
	<-opened

	begins := []string{
		"POST /v1/sessions HTTP/1.1\r\nHost: parlor\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: parlor\r\nContent-Length: 4096\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: par",
		"PRI * HT",
		"",
	}
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	attack := func(address string, n int) {
		for i := range n {
			c, err := from(address).DialContext(ctx, "tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			_, _ = io.WriteString(c, begins[i%len(begins)])
		}
	}
	attack("127.0.0.3", 300)
	if err := alice.sendText(ctx, "hall", "one"); err != nil {
		t.Errorf("beside 300 sockets from another address: %v", err)
	}
	attackers := 0
	waitFor(ctx, t, "a client gets the error that the server is full", func() bool {
		reply, err := alice.http.Get(p.url + "/")
		if err != nil {
			return false // too many connections are being rejected
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			return false
		}
		if reply.StatusCode == http.StatusOK { // the server still, or again, accepts connections
			attackers++
			attack(fmt.Sprintf("127.0.1.%d", attackers), 60)
		}
		return reply.StatusCode == http.StatusServiceUnavailable && reply.Header.Get("Retry-After") != "" && strings.Contains(string(text), `"code":"server_full"`)
	})
	for _, path := range []string{"/livez", "/readyz"} {
		if got := get(t, p.ops+path); got != "ok\n" {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := get(t, p.ops+"/metrics"); !strings.Contains(got, `parlor_limited_total{limit="connections"} `) || strings.Contains(got, `parlor_limited_total{limit="connections"} 0`) {
		t.Error("the metrics do not count rejected connections")
	}
	// This must happen before any of the clients gives up: the deadlines of the server end silent
	// connections.
	began := time.Now()
	waitFor(ctx, t, "clients are served again", func() bool {
		status, err := alice.call(ctx, "POST", "/v1/rooms/hall/messages", map[string]string{"kind": "text", "text": "two"}, nil)
		return err == nil && status == http.StatusCreated
	})
	t.Logf("served again after %s", time.Since(began))
	reading.Wait()
	if follower.fault != "" || len(follower.texts) != 2 {
		t.Errorf("the stream delivered %q, %s", follower.texts, follower.fault)
	}
	for _, warning := range []string{"limit=connections ", "limit=connectionsPerAddress "} {
		if n := strings.Count(p.logged(), warning); n < 1 || n > 3 { // one a minute
			t.Errorf("the log warns %d times of %s: %s", n, warning, p.logged())
		}
	}
}

// port is a counted port that serves over every transport.
type port struct {
	*connections
	address string
	secured bool
	limited chan handlers.Limit // limits that rejected a connection
}

// servePort serves a handler on a counted port.
func servePort(t *testing.T, secured bool, cs *connections, h http.HandlerFunc) *port {
	t.Helper()
	p := &port{connections: cs, secured: secured, limited: make(chan handlers.Limit, 1000)}
	cs.limit, cs.limited = handlers.LimitConnections, func(l handlers.Limit, _ netip.Prefix) { p.limited <- l }
	l, err := listen(t.Context(), "127.0.0.1:0", cs)
	if err != nil {
		t.Fatal(err)
	}
	l.proxyProtocol, l.log = len(cs.trusted) > 0, slog.New(slog.DiscardHandler)
	p.address = l.Addr().String()
	server := httptest.NewUnstartedServer(nil)
	_ = server.Listener.Close()
	server.Listener = l
	server.Config = newServer(slog.New(slog.DiscardHandler), h)
	server.EnableHTTP2 = true
	if secured {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return p
}

// dial opens a connection from an address, with TLS if the port has it.
func (p *port) dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := from(address).DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if p.secured {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // its certificate is the test's
	}
	return c
}

// answer is a reply with its whole body.
type answer struct {
	status int
	text   string
	last   bool // the server closes the connection after it
}

// ask sends a request over a connection.
func ask(c net.Conn) (answer, error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: parlor\r\n\r\n"); err != nil {
		return answer{}, err
	}
	reply, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return answer{}, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	return answer{reply.StatusCode, string(text), reply.Close}, err
}

// answerRejection replies with the reason why the connection was rejected.
func answerRejection(w http.ResponseWriter, r *http.Request) {
	if err := rejection(r.Context()); err != nil {
		w.Header().Set("Connection", "close")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func TestConnectionsOverLimitGetReply(t *testing.T) {
	t.Parallel()
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", secured), func(t *testing.T) {
			t.Parallel()
			p := servePort(t, secured, &connections{most: 3, mostPerAddress: 2, mostRejected: 1}, answerRejection)
			first, second := p.dial(t, "127.0.0.1"), p.dial(t, "127.0.0.1")
			for _, c := range []net.Conn{first, second} {
				if reply, err := ask(c); err != nil || reply.status != http.StatusOK {
					t.Fatalf("within the limits: %v, %v", reply, err)
				}
			}
			rejected := func(address string, want handlers.Limit, status string) {
				t.Helper()
				reply, err := ask(p.dial(t, address))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(reply.text, status) || !reply.last {
					t.Errorf("over a limit: %+v", reply)
				}
				if got := <-p.limited; got != want {
					t.Errorf("the limit is %s, want %s", got, want)
				}
			}
			rejected("127.0.0.1", handlers.LimitConnectionsPerAddress, "too_many_connections")
			if reply, err := ask(p.dial(t, "127.0.0.2")); err != nil || reply.status != http.StatusOK {
				t.Fatalf("from another address: %v, %v", reply, err)
			}
			eventuallyOpen(t, p, 3)
			rejected("127.0.0.3", handlers.LimitConnections, "server_full")
			eventuallyOpen(t, p, 3) // the server closes a connection after its reply was read

			_ = p.dial(t, "127.0.0.3") // sends nothing, and is the only connection that may be rejected at a time
			<-p.limited
			if _, err := ask(p.dial(t, "127.0.0.3")); err == nil {
				t.Error("a connection over the limit of rejected ones was answered")
			}
			<-p.limited
			_ = first.Close()
			eventuallyOpen(t, p, 2)
			if reply, err := ask(p.dial(t, "127.0.0.1")); err != nil || reply.status != http.StatusOK {
				t.Errorf("after another connection was closed: %v, %v", reply, err)
			}
			if reply, err := ask(second); err != nil || reply.status != http.StatusOK {
				t.Errorf("a connection that was open before: %v, %v", reply, err)
			}
		})
	}
}

func eventuallyOpen(t *testing.T, p *port, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	waitFor(ctx, t, fmt.Sprintf("%d connections are open", n), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.open == n && p.rejected == 0
	})
}

// TestSilentConnectionsEnd checks that a connection that sends nothing is closed, although net/http
// looks for HTTP/2 without a deadline. The same holds for a rejected connection that sends no
// request.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	p := servePort(t, false, &connections{most: 1, mostRejected: 1}, answerRejection)
	accepted, rejected := p.dial(t, "127.0.0.1"), p.dial(t, "127.0.0.1")
	began := time.Now()
	for _, c := range []struct {
		net.Conn
		within time.Duration
	}{{rejected, rejectionTime}, {accepted, 2 * headerTimeout}} {
		if err := c.SetReadDeadline(began.Add(c.within + 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	}
	eventuallyOpen(t, p, 0)
}

// TestHandedOverConnectionsCount checks that a socket that was taken over is counted until it is
// closed, which may be after its connection is.
func TestHandedOverConnectionsCount(t *testing.T) {
	t.Parallel()
	taken := make(chan func(), 1)
	p := servePort(t, false, &connections{most: 1, mostPerAddress: 1}, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		done := c.(interface{ HandOver() func() }).HandOver()
		_ = c.Close()
		taken <- done
	})
	_, _ = ask(p.dial(t, "127.0.0.1")) //nolint:errcheck // its connection is closed without an answer
	done := <-taken
	if n := p.Open(); n != 1 {
		t.Errorf("%d connections are open while the socket is held", n)
	}
	done()
	if n := p.Open(); n != 0 || len(p.byAddress) != 0 {
		t.Errorf("%d connections are open afterwards, from %v", n, p.byAddress)
	}
}

func TestShareFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ServeCmd
		files int
		want  capacity
	}{
		{ServeCmd{}, 256, capacity{connections: 144, perAddress: 72, rejected: 16, operators: 16, transfers: 32}},
		{ServeCmd{}, 1024, capacity{connections: 720, perAddress: 360, rejected: 64, operators: 64, transfers: 128}},
		{ServeCmd{}, 1 << 20, capacity{connections: 100_000, perAddress: 50_000, rejected: 64, operators: 64, transfers: 4096}},
		{ServeCmd{MaxConnections: 100, ConnectionsPerAddress: 100}, 256, capacity{connections: 100, perAddress: 100, rejected: 16, operators: 16, transfers: 32}},
		{ServeCmd{MaxConnections: 200_000}, 1 << 20, capacity{connections: 200_000, perAddress: 100_000, rejected: 64, operators: 64, transfers: 4096}},
	} {
		if got, err := c.shareFiles(c.files, 16); err != nil || got != c.want {
			t.Errorf("%d files: %+v, %v; want %+v", c.files, got, err, c.want)
		}
	}
	for _, c := range []struct {
		ServeCmd
		files int
		want  string
	}{
		{ServeCmd{}, 64, "the limit of 64 open files (ulimit -n) is too low"},
		{ServeCmd{MaxConnections: 200}, 256, "PARLOR_MAX_CONNECTIONS: 200 connections need 312 open files, but ulimit -n is 256"},
	} {
		if _, err := c.shareFiles(c.files, 16); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%d files: %v; want %s", c.files, err, c.want)
		}
	}
}
