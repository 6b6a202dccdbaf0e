package main

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"parlor/bench"
	"parlor/store/storetest"
)

// TestBench loads a server and compares the report with what the server counts.
func TestBench(t *testing.T) {
	t.Parallel()
	// The saturating run sends as fast as the machine can, which may exceed the rate limits.
	p := startParlor(t, storetest.Folder(t), "--barrage-rate", "0", "--barrage-bytes", "0")
	for name, test := range map[string]struct {
		args     []string
		whole    bool  // every message must reach every stream
		messages int64 // at least; as many as the machine can send if there is no rate
	}{
		"text":      {[]string{"--rate", "100"}, true, 90},
		"custom":    {[]string{"--rate", "100", "--kind", "custom", "--as", "admin", "--retry"}, true, 90},
		"barrage":   {[]string{"--saturate", "--kind", "barrage", "--size", "200"}, false, 1},
		"command":   {[]string{"--rate", "100", "--kind", "command"}, true, 90},
		"churn":     {[]string{"--rate", "100", "--churn", "20%"}, true, 90},
		"herd":      {[]string{"--rate", "50", "--herd"}, true, 90},
		"stopped":   {[]string{"--rate", "100", "--stopped", "2"}, true, 90},
		"only open": {[]string{"--idle"}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{
				"bench", "--url", p.url, "--data", p.data, "--streams", "50", "--rooms", "5", "--duration", "1s", "--warmup", "0s",
				"--pid", strconv.Itoa(p.cmd.Process.Pid), "--metrics", p.ops + "/metrics", "--json",
			}, test.args...)
			got := parlor(t.Context(), t, nil, args...)
			var report bench.Report
			if err := json.Unmarshal([]byte(got.out), &report); err != nil || got.code != exitOK {
				t.Fatalf("exit code %d, %v: %s", got.code, err, got.err)
			}
			if !report.Complete() || report.Expected != 10*report.Messages || report.Messages < test.messages ||
				test.whole && report.Deliveries != report.Expected || report.Deliveries+report.Missed != report.Expected {
				t.Errorf("%+v", report)
			}
			if report.CPU == nil || report.Memory == nil || report.Memory.AfterBytes == 0 {
				t.Errorf("the server was not measured: %+v", report)
			}
		})
	}
}

func TestBenchReportsRateLimit(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--message-rate", "1")
	got := parlor(t.Context(), t, []string{"PARLOR_DATA=" + p.data}, "bench", "--url", p.url, "--streams", "2", "--rate", "50")
	if got.code != exitError || !strings.Contains(got.err, "429") || !strings.Contains(got.err, "PARLOR_MESSAGE_RATE=0") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
}

func TestBenchOptions(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`^parlor: --streams: 0 [^\n]*\nparlor: --rooms: [^\n]*\n$`: {"--streams", "0", "--rooms", "3"},
		`^parlor: --churn: "1" is not a percentage such as 1%\n$`:  {"--churn", "1"},
		`^parlor: --rate: 0 must be greater than 0\n$`:             {"--rate", "0"},
	} {
		got := parlor(t.Context(), t, []string{"PARLOR_SECRET=" + string(goodSecret)}, append([]string{"bench"}, args...)...)
		if got.code != exitUsage || !regexp.MustCompile(want).MatchString(got.err) {
			t.Errorf("%q: exit code %d: %s", args, got.code, got.err)
		}
	}
	got := parlor(t.Context(), t, nil, "bench")
	if got.code != exitError || !strings.Contains(got.err, "no secret: set PARLOR_DATA") {
		t.Errorf("without a secret: exit code %d: %s", got.code, got.err)
	}
}
