package tcp

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"parlor/tcp/tcptest"
)

func TestDialSetsTimeouts(t *testing.T) {
	t.Parallel()
	conn := dial(t, "tcp", "127.0.0.1:0")
	tcptest.Check(t, conn.(syscall.Conn), append(tcptest.KeepAlive(5, 5, 2),
		tcptest.Option{Name: "TCP_USER_TIMEOUT", Level: unix.IPPROTO_TCP, Code: unix.TCP_USER_TIMEOUT, Want: 10_000})...)
}

// TestDialUnixSocket checks that a socket without these options can be used.
func TestDialUnixSocket(t *testing.T) {
	t.Parallel()
	dial(t, "unix", filepath.Join(t.TempDir(), "socket"))
}

// dial connects to a listener until the end of the test.
func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conn, err := Dial(context.Background(), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
