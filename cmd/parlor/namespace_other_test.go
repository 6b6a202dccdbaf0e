//go:build !linux

package main

import (
	"os/exec"
	"testing"
)

// hasNamespaces means that servers of chaos have networks of their own. Only Linux has network
// namespaces: elsewhere, no server is cut off.
const hasNamespaces = false

const namespaceHelp = ""

func runInNamespace(*testing.T) bool { return false }

type namespace struct{ pid int }

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	t.Fatal("this system has no network namespaces")
	return nil
}

func (*namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command(program, args...)
}
