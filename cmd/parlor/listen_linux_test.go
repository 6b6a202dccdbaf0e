package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketTimeoutsAreSet(t *testing.T) {
	t.Parallel()
	server, _ := accept(t)
	socket, err := server.SyscallConn()
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
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000},
			{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 128 << 10},
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
