//go:build contract

package contracttest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestContractClientIsFresh generates the client once more, elsewhere. It has a
// build tag because it downloads and builds the generator.
func TestContractClientIsFresh(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "handlers", "contracttest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"../../openapi.yaml": filepath.Join(root, "openapi.yaml"), "client.yaml": filepath.Join(dir, "client.yaml"),
	} {
		if err := os.WriteFile(to, read(t, from), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, directive, found := strings.Cut(string(read(t, "doc.go")), "//go:generate ")
	if !found {
		t.Fatal("doc.go does not say how the client is generated")
	}
	args := strings.Fields(directive)
	generate := exec.CommandContext(t.Context(), args[0], args[1:]...)
	generate.Dir = dir
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", directive, err, output)
	}
	if !bytes.Equal(read(t, "client.gen.go"), read(t, filepath.Join(dir, "client.gen.go"))) {
		t.Error("client.gen.go is not what openapi.yaml makes today: go generate ./handlers/contracttest")
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
