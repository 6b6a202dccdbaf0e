// Package tcptest checks the options of sockets.
package tcptest

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Option is a socket option with its value.
type Option struct {
	Name              string
	Level, Code, Want int
}

// KeepAlive returns the options of a connection that is probed after idle seconds, count times, with
// interval seconds between two probes.
func KeepAlive(idle, interval, count int) []Option {
	return []Option{
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count},
	}
}

// Check requires that a connection has options.
func Check(t *testing.T, conn syscall.Conn, options ...Option) {
	t.Helper()
	socket, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = socket.Control(func(fd uintptr) {
		for _, o := range options {
			if got, err := unix.GetsockoptInt(int(fd), o.Level, o.Code); err != nil || got != o.Want {
				t.Errorf("%s is %d, not %d (error %v)", o.Name, got, o.Want, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
