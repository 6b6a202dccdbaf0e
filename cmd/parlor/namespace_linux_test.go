package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hasNamespaces means that servers of chaos have networks of their own.
const hasNamespaces = true

// inNamespace is the environment variable that tells the test program that it is in a network
// namespace of its own.
const inNamespace = "PARLOR_TEST_IN_NAMESPACE"

// namespaceHelp says what to do if namespaces cannot be made.
const namespaceHelp = `This test makes network namespaces. Root may, and other users where the system lets them:
  Ubuntu:     sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0
  Debian:     sudo sysctl kernel.unprivileged_userns_clone=1
  container:  docker run --cap-add NET_ADMIN --cap-add SYS_ADMIN, as root`

// runInNamespace runs the test once more, in another process in a network namespace of its own, and
// returns true. In that process it returns false. Nothing of the machine's own network is changed or
// reached, and everything in the namespace vanishes with the processes in it.
func runInNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return false
	}
	only := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+only, "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		// In a user namespace, other users may change networks too. The user stays the same, because
		// PostgreSQL does not run as root, and keeps the capabilities when another program is run.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN}
	}
	// The kernel sends the signal when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatalf("network namespace: %v\n%s", err, namespaceHelp)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("in a network namespace: %v", err)
	}
	return true
}

// namespace is a network namespace for one server.
type namespace struct{ pid int } // of a process that keeps it

// newNamespace returns a namespace without a network, until the end of the test.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	keeper := exec.Command("cat")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	end, err := keeper.StdinPipe() // closed with this process too
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		t.Fatalf("network namespace: %v\n%s", err, namespaceHelp)
	}
	t.Cleanup(func() {
		_ = end.Close()
		_ = keeper.Wait()
	})
	return &namespace{pid: keeper.Process.Pid}
}

// command returns a command that runs in the namespace, with the process ID of the program itself.
func (n *namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", n.pid), program}, args...)...)
}
