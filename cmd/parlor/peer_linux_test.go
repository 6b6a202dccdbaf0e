package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"parlor/auth"
	"parlor/store/storetest"
)

// TestVanishedPeersAreNoticed checks that clients that lost their network, and neither answer nor
// close the connection, are noticed within PARLOR_PEER_TIMEOUT on every transport.
func TestVanishedPeersAreNoticed(t *testing.T) {
	t.Parallel()
	const peerTimeout = 10 * time.Second
	for name, c := range map[string]struct {
		tls     bool
		clients []vanishing
	}{
		"plain": {false, []vanishing{{path: "/v1/events"}, {path: "/v1/events", http2: true}, {path: "/v1/admin/events"}}},
		"TLS":   {true, []vanishing{{path: "/v1/events"}, {path: "/v1/events", http2: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args, trust := []string{"--heartbeat", "5s", "--peer-timeout", peerTimeout.String(), "--log-level", "warn"}, (*tls.Config)(nil)
			if c.tls {
				certificate := selfSigned(t)
				args = append(args, "--tls-cert", certificate.chain, "--tls-key", certificate.key)
				trust = &tls.Config{RootCAs: certificate.trust, ServerName: publicHost, MinVersion: tls.VersionTLS12}
			}
			p := startParlorWith(t, storetest.Folder(t), nil, args...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for i, v := range c.clients {
				v.open(ctx, t, p, trust, string(rune('a'+i)))
			}
			began := time.Now()
			for !strings.Contains(get(t, p.ops+"/metrics"), "\nparlor_connections 0\n") {
				if ctx.Err() != nil {
					t.Fatalf("connections are still open: %s", p.logged())
				}
				wait(ctx, 20*time.Millisecond)
			}
			took := time.Since(began)
			t.Logf("the last one was noticed after %s", took.Round(time.Millisecond))
			if took > peerTimeout+3*time.Second { // a second less on a machine that is not busy
				t.Errorf("clients that vanished were noticed after %s", took)
			}
		})
	}
}

// vanishing is a client that opens a stream and then loses its network.
type vanishing struct {
	path  string
	http2 bool
}

func (v vanishing) open(ctx context.Context, t *testing.T, p *process, trust *tls.Config, user string) {
	t.Helper()
	var conn *net.TCPConn
	dialer := net.Dialer{KeepAlive: -1}
	transport := &http.Transport{
		Protocols: only(v.http2, trust != nil), TLSClientConfig: trust,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, strings.TrimPrefix(p.url, "http://"))
			if err == nil {
				conn = c.(*net.TCPConn)
			}
			return c, err
		},
	}
	scheme := "http://"
	if trust != nil {
		scheme = "https://"
	}
	c := &client{http: &http.Client{Transport: transport}, base: scheme + publicHost, user: user}
	secret, err := auth.FolderSecret(p.data, auth.UserSecretFile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(v.path, "admin") {
		c.key = strings.TrimSpace(parlor(ctx, t, []string{"PARLOR_DATA=" + p.data}, "token", "--admin").out)
	} else if err := c.loginWith(ctx, &auth.Tokens{Secret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	if err := c.openStream(t.Context(), v.path, v.http2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	vanish(t, conn)
}

// vanish drops all incoming packets of a connection, so that nothing is acknowledged.
func vanish(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	socket, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}} // take no byte of any packet
	var set error
	err = socket.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	if err != nil || set != nil {
		t.Fatal(err, set)
	}
}
