package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"parlor/store/storetest"
)

// TestReadmeWorks runs the README's commands, unchanged, against a server.
func TestReadmeWorks(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, found := strings.Cut(string(readme), "readme_test.go runs exactly these lines -->\n```sh\n")
	lines, _, closed := strings.Cut(lines, "```\n")
	if !found || !closed {
		t.Fatal("the README has no session with curl")
	}
	p := startParlor(t, storetest.Folder(t))
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	program := "#!/bin/sh\n" + asProgram + "=1 exec '" + os.Args[0] + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(folder, "bin", "parlor"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	// The stream, and wait with it, ends with the session.
	shell := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n"+lines+"wait\n")
	shell.Dir = folder
	shell.Env = append(os.Environ(), "PARLOR="+p.url, "PARLOR_DATA="+p.data)
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	stream := string(output)
	for _, want := range []string{
		"event: sessionReady\n",
		"event: roomMessageReceived\ndata: {\"roomID\":\"lobby\"",
		`"text":"Hello, room"`,
		`{"state":"disconnected","event":"loggedOut"}`,
	} {
		if !strings.Contains(stream, want) {
			t.Errorf("no %q in\n%s", want, stream)
		}
	}
}
