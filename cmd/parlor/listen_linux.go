package main

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds how long sent data may stay unacknowledged before the connection ends, and how much the system
// takes that it cannot send yet.
func limitUnsent(_, _ string, socket syscall.RawConn) error {
	var set error
	err := socket.Control(func(fd uintptr) {
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds())),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent),
		)
	})
	return errors.Join(err, set)
}
