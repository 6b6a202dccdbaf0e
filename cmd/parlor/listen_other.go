//go:build !linux

package main

import (
	"syscall"
	"time"
)

// limitSending and limitUnacked do nothing: the options are those of Linux. The deadline of each write has to do.
func limitSending(_, _ string, _ syscall.RawConn) error { return nil }

func limitUnacked(syscall.RawConn, time.Duration) error { return nil }
