package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const pidFile = "postmaster.pid"

// stopLeftover ends the PostgreSQL that a killed parent left on the folder and waits until it is gone.
func stopLeftover(ctx context.Context, c cluster, socket socketDir, log *slog.Logger) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	began := time.Now()
	asked := false
	for {
		left, err := serving(ctx, c)
		if err != nil {
			return fmt.Errorf("look for a PostgreSQL that is still running on %s: %w", c.dir, err)
		}
		if len(left) == 0 {
			return removeForeignLocks(c.dir, socket.path, log)
		}
		switch postmaster := filePID(filepath.Join(c.dir, pidFile)); {
		case time.Since(began) > stopLimit:
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL) // may be gone already
			}
		case !asked && slices.Contains(left, postmaster):
			log.Warn("stopping a PostgreSQL that an earlier run left behind", "pid", postmaster)
			if err := syscall.Kill(postmaster, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the PostgreSQL that an earlier run left behind (pid %d): %w", postmaster, err)
			}
			asked = true
		}
		// Without a postmaster what is left ends by itself, each process when it next looks for its parent.
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of a PostgreSQL that an earlier run left behind: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// removeForeignLocks removes the lock files of a dead postmaster whose process number now belongs to another program, as
// it happens when a container starts again. PostgreSQL would take that program for a postmaster and refuse to start.
// Nothing serves the folder, which is what the lock files protect; where that cannot be seen for sure they stay.
func removeForeignLocks(dir, socket string, log *slog.Logger) error {
	if !seesAllProcesses {
		return nil
	}
	for _, path := range []string{filepath.Join(dir, pidFile), filepath.Join(socket, socketName+".lock")} {
		pid := filePID(path)
		if pid <= 0 || syscall.Kill(pid, 0) != nil {
			continue // PostgreSQL removes the lock file of a dead process itself
		}
		log.Info("removing a lock file whose process number now belongs to another program", "file", path, "pid", pid)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a stale lock file: %w", err)
		}
	}
	return nil
}

// filePID returns the process number on the first line of a lock file, or 0. A postmaster that was started by hand in
// single-user mode writes it negative.
func filePID(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return 0
	}
	return max(pid, -pid)
}
