//go:build !linux

package localpg

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// seesAllProcesses means that clusterProcesses also finds orphans. Here it finds only the
// postmaster.
const seesAllProcesses = false

// endWithParent does nothing, because the system has no parent-death signal. The next Start stops
// what was left behind.
func endWithParent(*syscall.SysProcAttr) {}

// clusterProcesses returns the cluster's postmaster if it runs: its command line contains the
// program and the folder.
func clusterProcesses(ctx context.Context, c cluster) ([]int, error) {
	pid := filePID(filepath.Join(c.dir, pidFile))
	if pid == 0 {
		return nil, nil
	}
	output, err := exec.CommandContext(ctx, "ps", "-p", strconv.Itoa(pid), "-o", "command=").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, nil // no such process
	}
	if err != nil {
		return nil, err
	}
	if line := string(output); strings.Contains(line, "postgres") && strings.Contains(line, c.dir) {
		return []int{pid}, nil
	}
	return nil, nil
}
