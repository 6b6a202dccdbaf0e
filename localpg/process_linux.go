package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// seesAllProcesses tells that serving also finds orphans, the server processes of a dead postmaster.
const seesAllProcesses = true

// endWithParent asks the kernel to interrupt the child when the thread that forks it ends: a killed Parlor leaves no
// PostgreSQL behind. The caller must be locked to its thread for as long as the child lives.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// serving returns the PostgreSQL processes of the cluster: each has the cluster's folder as its working folder.
//
// Only the owner of a process, or a root with CAP_SYS_PTRACE, which containers take away, may see its working folder. So
// the look at it is done with the database user's file system identity, which on Linux belongs to the thread.
func serving(_ context.Context, c cluster) ([]int, error) {
	folder, err := os.Stat(c.dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	if c.account.switched {
		runtime.LockOSThread()
		if err := lookAs(int(c.account.uid), int(c.account.gid)); err != nil {
			return nil, err // the thread keeps its lock, and so ends with the goroutine, rather than serve others as it is
		}
		defer func() {
			if lookAs(os.Geteuid(), os.Getegid()) == nil {
				runtime.UnlockOSThread()
			}
		}()
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		process := filepath.Join("/proc", entry.Name())
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue
		}
		// A process that has just ended has no working folder; another user's is hidden, and not of this cluster.
		cwd, err := os.Stat(filepath.Join(process, "cwd"))
		if err == nil && os.SameFile(cwd, folder) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// lookAs sets the identity that the calling thread shows to file systems, /proc among them.
func lookAs(uid, gid int) error {
	if err := errors.Join(syscall.Setfsgid(gid), syscall.Setfsuid(uid)); err != nil {
		return fmt.Errorf("look at processes as user %d: %w", uid, err)
	}
	return nil
}
