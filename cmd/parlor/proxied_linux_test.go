package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"parlor/handlers"
	"parlor/store/storetest"
)

const (
	proxyAddress = "127.0.0.2"
	viaV1        = "PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\n"
)

// viaV2 returns a header of version 2 for a client.
func viaV2(t *testing.T, client string) string {
	t.Helper()
	b, err := proxyproto.HeaderProxyFromAddrs(2,
		net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(client), 4711)),
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::99]:443"))).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// behindProxy makes a port expect the PROXY protocol.
func behindProxy(cs *connections) *connections {
	cs.trusted = handlers.TrustedProxies{netip.MustParsePrefix(proxyAddress + "/32")}
	return cs
}

// dialVia does the same as dial, for a connection that begins with a PROXY protocol header.
func (p *port) dialVia(t *testing.T, address, via string) net.Conn {
	t.Helper()
	c, err := from(address).DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, via); err != nil {
		t.Fatal(err)
	}
	if p.secured {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // its certificate is the test's
	}
	return c
}

// TestProxyProtocol checks that a trusted proxy, and no other client, sets the address that a
// connection counts for.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for _, secured := range []bool{false, true} {
		p := servePort(t, secured, behindProxy(&connections{most: 8, mostPerAddress: 1, mostRejected: 1}), func(w http.ResponseWriter, r *http.Request) {
			if err := rejection(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, r.RemoteAddr)
		})
		for via, want := range map[string]string{
			viaV1:                       "192.0.2.9:4711",
			viaV2(t, "2001:db8:1::1"):   "[2001:db8:1::1]:4711",
			viaV2(t, "2001:db8:1:1::1"): "[2001:db8:1:1::1]:4711",
		} {
			if got, err := ask(p.dialVia(t, proxyAddress, via)); err != nil || got.text != want {
				t.Errorf("TLS %t: a client at %s is seen at %q, %v", secured, want, got.text, err)
			}
		}
		if got, err := ask(p.dialVia(t, proxyAddress, viaV2(t, "2001:db8:1::2"))); err != nil || !strings.HasPrefix(got.text, "too_many_connections") {
			t.Errorf("TLS %t: a second one from the same /64: %+v, %v", secured, got, err)
		}
		// A health check of the proxy has no client.
		local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := ask(p.dialVia(t, proxyAddress, string(local))); err != nil || !strings.HasPrefix(got.text, proxyAddress+":") {
				t.Errorf("TLS %t: the proxy itself is seen at %q, %v", secured, got.text, err)
			}
		}
		if got, err := ask(p.dial(t, "127.0.0.3")); err != nil || !strings.HasPrefix(got.text, "127.0.0.3:") {
			t.Errorf("TLS %t: a client without a proxy is seen at %q, %v", secured, got.text, err)
		}
		if got, err := ask(p.dialVia(t, "127.0.0.4", viaV1)); err == nil && got.status == http.StatusOK {
			t.Errorf("TLS %t: another client is believed to be at %q", secured, got.text)
		}
		if got, err := ask(p.dial(t, proxyAddress)); err == nil {
			t.Errorf("TLS %t: a proxy without the header is seen at %q", secured, got.text)
		}
	}
}

// TestProxiedSockets checks that the interfaces that the hub and net/http look for are available
// through the PROXY protocol too.
func TestProxiedSockets(t *testing.T) {
	t.Parallel()
	taken := make(chan net.Conn, 1)
	p := servePort(t, false, behindProxy(&connections{most: 1, mostPerAddress: 1}), func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		taken <- c
	})
	near := p.dialVia(t, proxyAddress, viaV1)
	if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: parlor\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	c := <-taken
	if socket, ok := c.(syscall.Conn); !ok {
		t.Errorf("a %T has no socket", c)
	} else if _, err := socket.SyscallConn(); err != nil {
		t.Error(err)
	}
	done := c.(interface{ HandOver() func() }).HandOver()
	_ = c.Close()
	if p.Open() != 1 || p.byAddress[netip.MustParsePrefix("192.0.2.9/32")] != 1 {
		t.Errorf("%d connections count, by address: %v", p.Open(), p.byAddress)
	}
	done()
	if p.Open() != 0 || len(p.byAddress) != 0 {
		t.Errorf("%d connections count afterwards, by address: %v", p.Open(), p.byAddress)
	}
}

// TestServeBehindProxy follows a room through a proxy. The log contains the addresses of the
// clients.
func TestServeBehindProxy(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--trusted-proxies", proxyAddress, "--proxy-protocol", "--log-level", "debug")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	env := []string{"PARLOR_DATA=" + p.data}
	token := strings.TrimSpace(parlor(ctx, t, env, "token", "--user", "alice").out)
	c := &client{base: p.url, user: "alice", http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := from(proxyAddress).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			_, err = io.WriteString(c, viaV1)
			return c, err
		},
	}}}
	var session struct{ SessionKey string }
	c.mustCall(ctx, t, http.MethodPost, "/v1/sessions", map[string]string{"token": token}, &session)
	c.key = session.SessionKey
	c.enter(ctx, t, "hall")
	opened := make(chan struct{})
	follower := &reader{client: c, opened: opened, enough: func(r *reader) bool { return len(r.texts) == 1 }}
	var reading sync.WaitGroup
	reading.Go(func() { follower.connect(ctx) })
	<-opened
	if err := c.sendText(ctx, "hall", "hello"); err != nil {
		t.Error(err)
	}
	reading.Wait()
	if len(follower.texts) != 1 {
		t.Errorf("the stream delivered %q %s", follower.texts, follower.fault)
	}
	if !strings.Contains(p.logged(), "client=192.0.2.9") {
		t.Errorf("the log does not name the client's address: %s", p.logged())
	}
	if _, err := ask(mustDial(ctx, t, proxyAddress, strings.TrimPrefix(p.url, "http://"))); err == nil {
		t.Error("a proxy without the header is served")
	}
	if n := strings.Count(p.logged(), "connection closed: a trusted proxy sent no PROXY header"); n != 1 {
		t.Errorf("the log says %d times that a proxy sends no header", n)
	}
	p.signal(unix.SIGTERM)
}

func mustDial(ctx context.Context, t *testing.T, address, to string) net.Conn {
	t.Helper()
	c, err := from(address).DialContext(ctx, "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
