package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"parlor/bench"
	"parlor/store/storetest"
)

// TestTable checks that every installed server is measured and that none leaves anything behind.
func TestTable(t *testing.T) {
	t.Parallel()
	folder := storetest.Folder(t)
	program := buildParlor(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "table", "--parlor", program, "--scale", "0.01", "--duration", "400ms", "--loads", "1,4")
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+folder)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	// The memory of so few streams is smaller than the usual changes of the process, so the figure
	// may be negative.
	if lines := regexp.MustCompile(`(?m)^\| [^|]+, times 0.01 \| [^|]+ \| -?\d[^|]* \| [^|]* \| -?\d[^|]* \|`).FindAllString(out.String(), -1); len(lines) != 3 {
		t.Errorf("%d figures: %s", len(lines), out.String())
	}
	if strings.Contains(out.String(), " lost, ") {
		t.Error(out.String())
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

// buildParlor builds parlor without the race detector and returns its path. Most packages are in
// the build cache already, because go vet runs before the tests.
func buildParlor(t *testing.T) string {
	t.Helper()
	program := filepath.Join(storetest.Folder(t), "parlor")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "parlor/cmd/parlor").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, output)
	}
	return program
}

func TestFigures(t *testing.T) {
	t.Parallel()
	of := func(p99 ...float64) (all []*bench.Report) {
		for _, ms := range p99 {
			all = append(all, &bench.Report{LatencyMS: bench.Latency{P99: ms}})
		}
		return all
	}
	var b bytes.Buffer
	(&table{to: &b}).figures("load", p99Figure, [][]*bench.Report{of(1, 2, 9), nil, of(8, 4), of(3)})
	if want := "| load | p99 latency, ms | 2.0 |  | 4.0 | 3.0 |  | 2.00 |  |\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
