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

// A PostgreSQL that an earlier run left behind is asked to shut down. It may not do so, for example
// because it is recovering from a crash. After quitAfter it gets an immediate shutdown, and after
// killAfter it is killed. That loses nothing, because the next start replays the write-ahead log.
// The times are short because nothing else uses it, and Parlor is waiting.
const (
	quitAfter = 5 * time.Second
	killAfter = 10 * time.Second
)

// leftovers stops the processes that are still running on a cluster's folder.
type leftovers struct {
	quitAfter, killAfter time.Duration
	log                  *slog.Logger
}

// stopLeftover stops the PostgreSQL that a killed parent left on the folder, and waits until it has
// ended.
func stopLeftover(ctx context.Context, c cluster, socket socketDir, log *slog.Logger) error {
	return leftovers{quitAfter, killAfter, log}.stop(ctx, c, socket)
}

func (l leftovers) stop(ctx context.Context, c cluster, socket socketDir) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	began := time.Now()
	var sent syscall.Signal // the last signal that was sent; 0 means none
	for {
		left, err := clusterProcesses(ctx, c)
		if err != nil {
			return fmt.Errorf("look for a PostgreSQL that is still running on %s: %w", c.dir, err)
		}
		if len(left) == 0 {
			return removeStaleLocks(c, socket.path, l.log)
		}
		// Without a postmaster the remaining processes end by themselves, the next time they check
		// for their parent.
		postmaster := filePID(filepath.Join(c.dir, pidFile))
		runs := slices.Contains(left, postmaster)
		switch waited := time.Since(began); {
		case waited > l.killAfter:
			if sent != syscall.SIGKILL {
				l.log.Warn("killing a PostgreSQL that an earlier run left behind", "pids", left)
			}
			sent = syscall.SIGKILL
			for _, pid := range left {
				_ = syscall.Kill(pid, sent) // it may have ended already
			}
		case waited > l.quitAfter && runs && sent != syscall.SIGQUIT:
			l.log.Warn("a PostgreSQL that an earlier run left behind does not stop, shutting it down immediately", "pid", postmaster)
			sent = syscall.SIGQUIT
			_ = syscall.Kill(postmaster, sent)
		case runs && sent == 0:
			l.log.Warn("stopping a PostgreSQL that an earlier run left behind", "pid", postmaster)
			sent = syscall.SIGINT
			if err := syscall.Kill(postmaster, sent); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the PostgreSQL that an earlier run left behind (pid %d): %w", postmaster, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of a PostgreSQL that an earlier run left behind: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// removeStaleLocks removes the lock files that would prevent PostgreSQL from starting although
// nothing serves the folder. It leaves them if that cannot be determined. PostgreSQL itself removes
// the lock file of a dead process, but not one
//
//   - without a process ID: a full disk or a crash of the machine left it empty;
//   - with the process ID of another program that is running: a container was restarted;
//   - that the database user may not read: root restored it from a backup.
func removeStaleLocks(c cluster, socket string, log *slog.Logger) error {
	if !seesAllProcesses {
		return nil
	}
	for _, path := range []string{filepath.Join(c.dir, pidFile), filepath.Join(socket, socketName+".lock")} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at a lock file: %w", err)
		}
		uid, _ := ownerOf(info)
		if pid := filePID(path); pid != 0 && syscall.Kill(pid, 0) != nil && uid == c.account.uid {
			continue
		}
		log.Info("removing a stale lock file: nothing serves the folder", "file", path)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a stale lock file: %w", err)
		}
	}
	return nil
}

// filePID returns the process ID on the first line of a lock file, or 0. PostgreSQL writes it
// negative in single-user mode.
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
