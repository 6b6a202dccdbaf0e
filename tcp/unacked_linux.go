package tcp

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// LimitUnacked limits how long sent data may stay unacknowledged before a connection ends (RFC
// 5482). The option exists only on Linux.
func LimitUnacked(socket syscall.RawConn, timeout time.Duration) error {
	var set error
	err := socket.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
