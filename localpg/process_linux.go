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

// seesAllProcesses means that clusterProcesses also finds orphans: the server processes of a dead
// postmaster.
const seesAllProcesses = true

// endWithParent makes the kernel interrupt the child when the thread that forks it ends, so that a
// killed Parlor leaves no PostgreSQL behind.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// clusterProcesses returns the PostgreSQL processes of the cluster: those whose working folder is
// the cluster's.
//
// Only the owner of a process may see its working folder, or root with CAP_SYS_PTRACE, which
// containers take away. It is therefore read with the file system identity of the database user. On
// Linux that belongs to the thread.
func clusterProcesses(_ context.Context, c cluster) ([]int, error) {
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
		if err := setFileIdentity(int(c.account.uid), int(c.account.gid)); err != nil {
			// The thread stays locked and so ends with the goroutine: it must not run another one
			// with this identity.
			return nil, err
		}
		defer func() {
			if setFileIdentity(os.Geteuid(), os.Getegid()) == nil {
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
		// A process that has just ended has no working folder. The working folder of another user
		// is hidden, and not of this cluster.
		cwd, err := os.Stat(filepath.Join(process, "cwd"))
		if err == nil && os.SameFile(cwd, folder) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// setFileIdentity sets the identity with which the calling thread accesses file systems, including
// /proc.
func setFileIdentity(uid, gid int) error {
	if err := errors.Join(syscall.Setfsgid(gid), syscall.Setfsuid(uid)); err != nil {
		return fmt.Errorf("access files as user %d: %w", uid, err)
	}
	return nil
}
