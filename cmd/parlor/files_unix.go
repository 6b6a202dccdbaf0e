//go:build unix

package main

import "golang.org/x/sys/unix"

// openFiles returns how many files this process may have open, including sockets. Go has raised the
// limit to the most that the system allows (package os).
func openFiles() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<30)), nil
}
