package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/auth"
	"parlor/room"
)

// TestProgramsOfTokenGuide runs the programs of docs/tokens.md, and verifies the tokens that they
// print as the server does.
func TestProgramsOfTokenGuide(t *testing.T) {
	t.Parallel()
	tokens := &auth.Tokens{Secret: []byte(goodSecret), Lifetime: time.Hour}
	want := &room.Grants{Rooms: []room.Grant{{RoomID: "class-*", Join: true, Send: true}}}
	for _, c := range []struct {
		language, file string
		command        []string
	}{
		{"js", "token.mjs", []string{"node"}},
		{"python", "token.py", []string{"python3"}},
		{"go", "token.go", []string{"go", "run"}},
	} {
		file := filepath.Join(t.TempDir(), c.file)
		if err := os.WriteFile(file, []byte(codeBlock(t, "docs/tokens.md", c.language)), 0o600); err != nil {
			t.Fatal(err)
		}
		program := exec.CommandContext(t.Context(), c.command[0], append(c.command[1:], file)...)
		program.Env = append(os.Environ(), "PARLOR_SECRET="+string(goodSecret))
		program.Stderr = t.Output()
		output, err := program.Output()
		if err != nil {
			t.Errorf("the program in %s: %v", c.language, err)
			continue
		}
		claims, err := tokens.Verify(strings.TrimSpace(string(output)))
		if err != nil || claims.User.ID != "guest-17" || claims.IssuedAt.IsZero() {
			t.Errorf("the token of the program in %s: %+v, %v", c.language, claims, err)
		}
		if diff := cmp.Diff(want, claims.Grants); diff != "" {
			t.Errorf("the grants of the program in %s (-want +got):\n%s", c.language, diff)
		}
	}
}

// TestCommandsOfTokenGuide runs the commands of docs/tokens.md.
func TestCommandsOfTokenGuide(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(codeBlock(t, "docs/tokens.md", "sh")) {
		args := strings.Fields(line)
		got := parlor(t.Context(), t, []string{"PARLOR_SECRET=" + string(goodSecret)}, args[1:]...)
		if args[0] != "parlor" || got.code != exitOK {
			t.Errorf("%s: exit code %d, errors %q", line, got.code, got.err)
		}
	}
}

// TestPageOfClientGuide checks that the code in docs/clients.md is that of the page, which runs in a
// browser test, but for the program at its end.
func TestPageOfClientGuide(t *testing.T) {
	t.Parallel()
	page := readDocument(t, "examples/page/index.html")
	blocks := codeBlocks(t, "docs/clients.md", "js")
	for _, block := range blocks[:len(blocks)-1] {
		if !strings.Contains(page, block) {
			t.Errorf("examples/page/index.html does not contain\n%s", block)
		}
	}
}

// codeBlock returns the block of a language in a document, which has one of each.
func codeBlock(t *testing.T, document, language string) string {
	t.Helper()
	blocks := codeBlocks(t, document, language)
	if len(blocks) != 1 {
		t.Fatalf("%s has %d blocks of %s", document, len(blocks), language)
	}
	return blocks[0]
}

// codeBlocks returns the blocks of a language in a document. There is one at least.
func codeBlocks(t *testing.T, document, language string) (blocks []string) {
	t.Helper()
	for _, found := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(readDocument(t, document), -1) {
		blocks = append(blocks, found[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block of %s", document, language)
	}
	return blocks
}
