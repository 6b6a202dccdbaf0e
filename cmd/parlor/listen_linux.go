package main

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitSending limits how long sent data may stay unacknowledged before the connection ends, and
// how much data the system buffers that it cannot send yet.
func limitSending(_, _ string, socket syscall.RawConn) error {
	return errors.Join(
		limitUnacked(socket, unackedTimeout),
		setOption(socket, unix.TCP_NOTSENT_LOWAT, maxUnsent),
	)
}

func limitUnacked(socket syscall.RawConn, timeout time.Duration) error {
	return setOption(socket, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
}

func setOption(socket syscall.RawConn, option, value int) error {
	var set error
	err := socket.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value) })
	return errors.Join(err, set)
}
