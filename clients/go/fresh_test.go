//go:build contract

package parlor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestContractClientIsFresh generates the client again, in a temporary folder. It has a build tag
// because it downloads and builds the generator.
func TestContractClientIsFresh(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "clients", "go")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"../../openapi.yaml": filepath.Join(root, "openapi.yaml"), "client.yaml": filepath.Join(dir, "client.yaml"),
	} {
		if err := os.WriteFile(to, []byte(read(t, from)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, directive, found := strings.Cut(read(t, "doc.go"), "//go:generate ")
	if !found {
		t.Fatal("doc.go has no go:generate directive")
	}
	args := strings.Fields(directive)
	generate := exec.CommandContext(t.Context(), args[0], args[1:]...)
	generate.Dir = dir
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", directive, err, output)
	}
	if read(t, "client.gen.go") != read(t, filepath.Join(dir, "client.gen.go")) {
		t.Error("client.gen.go does not match openapi.yaml: run go generate in clients/go")
	}
}
