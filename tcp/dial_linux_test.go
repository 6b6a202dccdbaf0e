package tcp

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDialSetsTimeouts(t *testing.T) {
	t.Parallel()
	conn := dial(t, "tcp", "127.0.0.1:0")
	socket, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = socket.Control(func(fd uintptr) {
		for _, option := range []struct {
			name        string
			level, code int
			want        int
		}{
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 2},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000},
		} {
			if got, err := unix.GetsockoptInt(int(fd), option.level, option.code); err != nil || got != option.want {
				t.Errorf("%s is %d, not %d (error %v)", option.name, got, option.want, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
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
