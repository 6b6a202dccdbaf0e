package parlor

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeShowsTheExample compares the code in README.md with the example, which the compiler
// checks.
func TestReadmeShowsTheExample(t *testing.T) {
	_, shown, _ := strings.Cut(read(t, "README.md"), "```go\n")
	shown, _, _ = strings.Cut(shown, "```")
	_, example, _ := strings.Cut(read(t, "example_test.go"), "func Example() {\n")
	example, _, _ = strings.Cut(example, "\n}")
	example = strings.TrimPrefix(strings.ReplaceAll("\n"+example, "\n\t", "\n"), "\n")
	if strings.TrimSpace(shown) != strings.TrimSpace(example) {
		t.Errorf("README.md shows\n%s\nwant the body of Example:\n%s", shown, example)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
