package handlers

import (
	"net/http/httptest"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLimiterRate checks that a caller never gets more tokens than the bucket held and
// gained, and that a caller who waits as long as the limiter says gets its tokens.
func TestLimiterRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{rapid.IntRange(1, 50).Draw(t, "count"), rapid.SampledFrom([]time.Duration{time.Second, time.Minute}).Draw(t, "window")}
		l := newLimiter[int](LimitMessages, r, "")
		begun := time.Unix(1_800_000_000, 0)
		now, taken := begun, 0.0
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(r.Window)/4).Draw(t, "pause")))
			n := float64(rapid.IntRange(1, r.Count).Draw(t, "tokens"))
			left, wait := l.take(1, n, now)
			if wait > 0 {
				now = now.Add(wait)
				if left, wait = l.take(1, n, now); wait > time.Microsecond {
					t.Fatalf("after the wait: got another wait of %s", wait)
				}
				if wait > 0 { // rounding
					continue
				}
			}
			taken += n
			if most := float64(r.Count) * (1 + float64(now.Sub(begun))/float64(r.Window)); taken > most+1e-6 {
				t.Fatalf("%v tokens were taken, want at most %v", taken, most)
			}
			if left < 0 || left > float64(r.Count) {
				t.Fatalf("%v tokens are left", left)
			}
		}
		if left, wait := l.take(2, 1, now); wait > 0 || left != float64(r.Count-1) {
			t.Fatalf("another caller: %v tokens are left, wait %s", left, wait)
		}
	})
}

// TestLimiterIsBounded checks that the number of buckets is bounded, and that full buckets are
// deleted.
func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter[int](LimitLogins, Rate{10, time.Hour}, "")
	now := time.Unix(1_800_000_000, 0)
	for key := range 2 * maxBuckets {
		l.take(key, 1, now)
	}
	if n := len(l.buckets); n > maxBuckets {
		t.Errorf("there are %d buckets", n)
	}
	l.take(-1, 1, now.Add(2*time.Hour))
	if n := len(l.buckets); n != 1 {
		t.Errorf("after two hours: %d buckets, want 1", n)
	}
}

// TestLimiterHeaders checks the headers of draft-ietf-httpapi-ratelimit-headers.
func TestLimiterHeaders(t *testing.T) {
	t.Parallel()
	l := newLimiter[string](LimitBarrageBytes, Rate{1000, time.Minute}, "content-bytes")
	for _, want := range []struct {
		n         int
		allowed   bool
		left, try string
	}{
		{400, true, `"barrageBytes";r=600;t=24`, ""},
		{601, false, `"barrageBytes";r=600;t=24`, "1"},
		{600, true, `"barrageBytes";r=0;t=60`, ""},
		{500, false, `"barrageBytes";r=0;t=60`, "30"},
	} {
		w := httptest.NewRecorder()
		allowed := l.allow(w, "alice", want.n)
		h := w.Header()
		if allowed != want.allowed || h.Get("Ratelimit") != want.left || h.Get("Retry-After") != want.try ||
			h.Get("Ratelimit-Policy") != `"barrageBytes";q=1000;w=60;qu="content-bytes"` {
			t.Errorf("%d tokens: allowed %t, headers %v", want.n, allowed, h)
		}
	}
	off := newLimiter[string](LimitMessages, Rate{}, "")
	if w := httptest.NewRecorder(); !off.allow(w, "alice", 1) || len(w.Header()) != 0 || len(off.buckets) != 0 {
		t.Error("a limiter with Count 0 rejects a call")
	}
}
