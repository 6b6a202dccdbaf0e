package main

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"parlor/tcp"
)

// limitSending limits how long sent data may stay unacknowledged before the connection ends, and
// how much data the system buffers that it cannot send yet.
func limitSending(_, _ string, socket syscall.RawConn) error {
	return errors.Join(tcp.LimitUnacked(socket, unackedTimeout), limitUnsent(socket))
}

func limitUnsent(socket syscall.RawConn) error {
	var set error
	err := socket.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
	return errors.Join(err, set)
}
