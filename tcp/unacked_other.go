//go:build !linux

package tcp

import (
	"syscall"
	"time"
)

// LimitUnacked does nothing, because the option exists only on Linux.
func LimitUnacked(syscall.RawConn, time.Duration) error { return nil }
