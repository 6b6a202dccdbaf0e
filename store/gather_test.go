package store

import (
	"testing"
	"time"
)

// TestCrowd checks that a lane waits for half of the callers that there were lately.
func TestCrowd(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		callers []int64       // at once, each recorded one after the other
		age     time.Duration // of the last record but one when the last is made
		want    int
	}{
		{"one caller", []int64{1}, 0, 1},
		{"two callers", []int64{2}, 0, 1},
		{"three callers", []int64{3}, 0, 2},
		{"the most callers count", []int64{1, 9, 2}, 0, 5},
		{"in the window before", []int64{9, 1}, crowdWindow, 5},
		{"but not two windows ago", []int64{9, 1}, 2 * crowdWindow, 1},
	} {
		var c crowd
		now := start
		for i, n := range test.callers {
			if i == len(test.callers)-1 {
				now = now.Add(test.age)
			}
			c.callers.Store(n)
			c.record(now)
		}
		if got := c.half(); got != test.want {
			t.Errorf("%s: waits for %d messages, want %d", test.name, got, test.want)
		}
	}
}
