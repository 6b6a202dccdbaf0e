//go:build !linux

package main

import "syscall"

// limitUnsent does nothing: the system has no TCP_USER_TIMEOUT. The deadline of each write has to do.
func limitUnsent(_, _ string, _ syscall.RawConn) error { return nil }
