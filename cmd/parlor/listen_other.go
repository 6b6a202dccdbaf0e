//go:build !linux

package main

import (
	"syscall"
	"time"
)

// limitSending and limitUnacked do nothing, because the options exist only on Linux. The deadline
// of each write has to suffice.
func limitSending(_, _ string, _ syscall.RawConn) error { return nil }

func limitUnacked(syscall.RawConn, time.Duration) error { return nil }
