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

// TestTables checks that everything is measured and that nothing is left behind.
func TestTables(t *testing.T) {
	t.Parallel()
	program := buildParlor(t)
	for _, tt := range []struct {
		command string
		args    []string
		row     string // a row with all of its figures
		rows    int
	}{
		// The memory of so few streams is smaller than the usual changes of the process, so the
		// figure may be negative.
		{"table", []string{"--loads", "1,4"}, `(?:[^|]+ \| -?\d[^|]* |logins/s \|  )\| [^|]* \| [^|]* \| [^|]* \| -?\d[^|]* \|`, 6},
		{"nodes", []string{"--loads", "1,4", "--rounds", "1"}, `(?:[^|]+ \| \d[^|]* \| \d[^|]* \| |p50 through another[^|]+ \|  \| -?\d[^|]* \|  \|  \| ≤ 3 \|)`, 9},
		{"nodes", []string{"--loads", "4", "--rounds", "1", "--other", program}, `server CPU[^|]+ \| \d[^|]* \| \d[^|]* \| \d[^|]* \| \d[^|]* \|  \|`, 1},
	} {
		folder := storetest.Folder(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{tt.command, "--parlor", program, "--scale", "0.01", "--duration", "400ms"}, tt.args...)...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+folder)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %v: %v: %s", tt.command, tt.args, err, errs.String())
		}
		if lines := regexp.MustCompile(`(?m)^\| [^|]+, times 0.01 \| `+tt.row).FindAllString(out.String(), -1); len(lines) != tt.rows {
			t.Errorf("%d of %d figures: %s", len(lines), tt.rows, out.String())
		}
		if strings.Contains(out.String(), " lost, ") {
			t.Error(out.String())
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("%v, %v are left", left, err)
		}
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
	(&table{to: &b}).figures("load", p99Figure, [][]*bench.Report{of(1, 2, 9), nil, nil, of(2), of(8, 4), of(3)})
	if want := "| load | p99 latency, ms | 2.0 |  |  | 2.0 | 4.0 | 3.0 |  | 2.00 | 2.00 |  |\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestRatios(t *testing.T) {
	t.Parallel()
	of := func(p50 ...float64) (all []*bench.Report) {
		for _, ms := range p50 {
			all = append(all, &bench.Report{LatencyMS: bench.Latency{P50: ms}})
		}
		return all
	}
	var b bytes.Buffer
	to := &table{to: &b}
	to.compared("load", p50Figure, of(1, 2, 4), of(3, 2, 2), "≤ 1") // the ratios are 3, 1 and 0.5
	to.compared("load", crossFigure, of(1), of(3), "")              // only one server
	want := "| load | p50 latency, ms | 2.00 | 2.00 | 1.00 | 0.50, 3.00 | ≤ 1 |\n| load | " + crossFigure.name + " |  |  |  |  |  |\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
