package handlers

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Rate is how many of something a caller may do: so many at once, and as many again
// in each window.
type Rate struct {
	Count  int // 0: any number
	Window time.Duration
}

// Rates is what one user may do, in all sessions together, and one address. Servers,
// which come with admin tokens, have no limit.
type Rates struct {
	Messages     Rate // barrage apart
	Barrage      Rate
	BarrageBytes Rate // of its text and data
	Logins       Rate // and renewals of tokens
	RoomsCreated Rate
	Joins        Rate // joining, entering, switching and leaving
	Attributes   Rate // changes of a room's or of members'

	LoginsPerAddress Rate
}

// limiter holds a token bucket for each key: a user or an address. It counts in
// this process alone.
type limiter[K comparable] struct {
	limit  Limit // what it is called in headers and metrics
	rate   Rate
	policy string // tells callers of the rate

	mu      sync.Mutex // guards all below
	buckets map[K]bucket
	sweepAt time.Time
}

// bucket is how many tokens a caller had at an instant. A caller without a bucket
// has as many as there may be.
type bucket struct {
	tokens float64
	at     time.Time
}

const (
	// limiterSweep is how often buckets are forgotten that are full again.
	limiterSweep = time.Minute
	// maxBuckets bounds how many are kept. With more callers at a time some of them,
	// whichever, begin anew: that is better than to keep as many as strangers have
	// addresses.
	maxBuckets = 1 << 16
)

// newLimiter makes a limiter. unit is what the rate counts, where that is not
// requests, and a word of the registry of quota units.
func newLimiter[K comparable](limit Limit, r Rate, unit string) *limiter[K] {
	l := &limiter[K]{limit: limit, rate: r, buckets: make(map[K]bucket)}
	l.policy = fmt.Sprintf(`"%s";q=%d;w=%d`, limit, r.Count, int(r.Window.Seconds()))
	if unit != "" {
		l.policy += `;qu="` + unit + `"`
	}
	return l
}

// allow takes tokens for what a caller asks, and reports whether there were enough.
// The reply's headers tell how many are left (draft-ietf-httpapi-ratelimit-headers),
// and after how long there are enough.
func (l *limiter[K]) allow(w http.ResponseWriter, key K, n int) bool {
	if l.rate.Count == 0 {
		return true
	}
	left, wait := l.take(key, float64(n), time.Now())
	full := l.duration(float64(l.rate.Count) - left)
	w.Header().Add("Ratelimit-Policy", l.policy) // spelt as sent, as X-Request-Id is
	w.Header().Add("Ratelimit", `"`+string(l.limit)+`";r=`+strconv.Itoa(int(left))+`;t=`+strconv.Itoa(seconds(full)))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(wait)))
	}
	return wait == 0
}

// seconds rounds up: a caller that comes a moment early is refused again.
func seconds(d time.Duration) int { return max(int(math.Ceil(d.Seconds())), 1) }

// duration is how long it takes until there are so many tokens more.
func (l *limiter[K]) duration(tokens float64) time.Duration {
	return time.Duration(tokens / float64(l.rate.Count) * float64(l.rate.Window))
}

// take takes n tokens, and returns how many are left. Where there are fewer it
// takes none, and wait is how long it is until there are.
func (l *limiter[K]) take(key K, n float64, now time.Time) (left float64, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	tokens := float64(l.rate.Count)
	if known {
		tokens = l.filled(b, now)
	} else {
		l.makeRoom(now)
	}
	if tokens < n {
		wait = max(l.duration(n-tokens), 1)
	} else {
		tokens -= n
	}
	l.buckets[key] = bucket{tokens, now}
	return tokens, wait
}

// give gives a token back that was taken for what did not happen.
func (l *limiter[K]) give(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, known := l.buckets[key]; known {
		l.buckets[key] = bucket{b.tokens + 1, b.at}
	}
}

// filled is how many tokens a bucket has by now.
func (l *limiter[K]) filled(b bucket, now time.Time) float64 {
	gained := float64(now.Sub(b.at)) / float64(l.rate.Window) * float64(l.rate.Count)
	return min(b.tokens+max(gained, 0), float64(l.rate.Count))
}

// makeRoom sees that there are not too many buckets with one more. The caller holds
// mu.
func (l *limiter[K]) makeRoom(now time.Time) {
	crowded := len(l.buckets) >= maxBuckets
	// While it is crowded, sweeping once a second is cheap beside what fills it.
	if now.After(l.sweepAt) || crowded && now.After(l.sweepAt.Add(time.Second-limiterSweep)) {
		l.sweepAt = now.Add(limiterSweep)
		for key, b := range l.buckets {
			if l.filled(b, now) >= float64(l.rate.Count) {
				delete(l.buckets, key)
			}
		}
	}
	for key := range l.buckets {
		if len(l.buckets) < maxBuckets {
			return
		}
		delete(l.buckets, key)
	}
}
