package handlers

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Rate is a limit on how often a caller may do something: Count times at once, and as many times
// again in each window.
type Rate struct {
	Count  int // 0 means no limit
	Window time.Duration
}

// Rates holds the rate limits of one user, over all sessions, and of one address. Callers with an
// admin token have no limit.
type Rates struct {
	Messages     Rate // of all kinds but barrage
	Barrage      Rate
	BarrageBytes Rate // of the text, data and extendedData of barrage
	Logins       Rate // logins and token renewals
	RoomsCreated Rate
	Joins        Rate // calls that join, enter, switch or leave rooms
	Attributes   Rate // changes of room and member attributes
	InboxChanges Rate // changes of conversations and of the block list
	Statuses     Rate // changes of the custom status and of subscriptions to statuses
	Profiles     Rate // changes of profiles

	LoginsPerAddress Rate
}

// limiter holds a token bucket for each key: a user or an address. It counts only the calls to this
// process.
type limiter[K comparable] struct {
	limit  Limit // its name in headers and metrics
	rate   Rate
	policy string // the RateLimit-Policy header

	mu      sync.Mutex // guards all below
	buckets map[K]bucket
	sweepAt time.Time
}

// bucket is the number of tokens that a caller had at an instant. A caller without a bucket has a
// full one.
type bucket struct {
	tokens float64
	at     time.Time
}

const (
	// limiterSweep is the interval at which full buckets are deleted.
	limiterSweep = time.Minute
	// maxBuckets bounds the memory: attackers may have any number of addresses. With more callers
	// than that, some of them get a full bucket too early.
	maxBuckets = 1 << 16
)

// newLimiter returns a limiter. unit is the quota unit of the rate, a word of the IANA registry; ""
// means requests.
func newLimiter[K comparable](limit Limit, r Rate, unit string) *limiter[K] {
	l := &limiter[K]{limit: limit, rate: r, buckets: make(map[K]bucket)}
	l.policy = fmt.Sprintf(`"%s";q=%d;w=%d`, limit, r.Count, int(r.Window.Seconds()))
	if unit != "" {
		l.policy += `;qu="` + unit + `"`
	}
	return l
}

// allow takes n tokens, and reports whether there were enough. The headers of the reply say how
// many are left (draft-ietf-httpapi-ratelimit-headers), and when there will be enough.
func (l *limiter[K]) allow(w http.ResponseWriter, key K, n int) bool {
	if l.rate.Count == 0 {
		return true
	}
	left, wait := l.take(key, float64(n), time.Now())
	w.Header().Add("Ratelimit-Policy", l.policy) // in canonical form, like X-Request-Id
	w.Header().Add("Ratelimit", l.remaining(left))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(wait)))
	}
	return wait == 0
}

// spend takes a token, and reports whether there was one. The caller is not notified.
func (l *limiter[K]) spend(key K) bool {
	if l.rate.Count == 0 {
		return true
	}
	_, wait := l.take(key, 1, time.Now())
	return wait == 0
}

// remaining returns the RateLimit header for a number of tokens.
func (l *limiter[K]) remaining(left float64) string {
	full := l.duration(float64(l.rate.Count) - left)
	return `"` + string(l.limit) + `";r=` + strconv.Itoa(int(left)) + `;t=` + strconv.Itoa(seconds(full))
}

// seconds returns a duration in whole seconds, rounded up: a caller that retried a moment early
// would be refused again.
func seconds(d time.Duration) int { return max(int(math.Ceil(d.Seconds())), 1) }

// duration returns how long it takes until a bucket has gained that many tokens.
func (l *limiter[K]) duration(tokens float64) time.Duration {
	return time.Duration(tokens / float64(l.rate.Count) * float64(l.rate.Window))
}

// take takes n tokens, and returns how many are left. If there are fewer than n, take takes none,
// and returns how long to wait until there are n.
func (l *limiter[K]) take(key K, n float64, now time.Time) (left float64, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	tokens := float64(l.rate.Count)
	if known {
		tokens = l.filled(b, now)
	} else {
		l.evict(now)
	}
	if tokens < n {
		wait = max(l.duration(n-tokens), 1)
	} else {
		tokens -= n
	}
	l.buckets[key] = bucket{tokens, now}
	return tokens, wait
}

// refund returns a token that was taken for something that did not happen. It returns how many are
// left.
func (l *limiter[K]) refund(key K) (left float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	if !known {
		return float64(l.rate.Count)
	}
	b.tokens++
	l.buckets[key] = b
	return b.tokens
}

// filled returns the number of tokens that a bucket has at an instant.
func (l *limiter[K]) filled(b bucket, now time.Time) float64 {
	gained := float64(now.Sub(b.at)) / float64(l.rate.Window) * float64(l.rate.Count)
	return min(b.tokens+max(gained, 0), float64(l.rate.Count))
}

// evict deletes full buckets from time to time, and any buckets if one more would not fit. The
// caller holds mu.
func (l *limiter[K]) evict(now time.Time) {
	crowded := len(l.buckets) >= maxBuckets
	// A crowded limiter is swept once a second, which costs little beside the calls that fill it.
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
