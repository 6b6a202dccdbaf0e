package main

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacked bounds how long sent data may stay unacknowledged before the connection ends.
func limitUnacked(_, _ string, socket syscall.RawConn) error {
	var set error
	err := socket.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds()))
	})
	return errors.Join(err, set)
}
