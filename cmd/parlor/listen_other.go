//go:build !linux

package main

import "syscall"

// limitSending does nothing, because the options exist only on Linux. The deadline of each write has
// to suffice.
func limitSending(_, _ string, _ syscall.RawConn) error { return nil }
