package handlers

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parlor/room"
)

// limiter bounds how many messages a session sends in a second. It counts on
// this node alone: a session talks to one node at a time.
type limiter struct {
	perSecond int    // 0: no limit
	policy    string // tells senders so

	mu       sync.Mutex // guards all below
	sessions map[room.SessionID]*rate.Limiter
	sweepAt  time.Time
}

// limiterSweep is how often senders are forgotten who could send at full speed
// again anyway.
const limiterSweep = time.Minute

func newLimiter(perSecond int) *limiter {
	return &limiter{
		perSecond: perSecond,
		policy:    fmt.Sprintf(`"messages";q=%d;w=1`, perSecond),
		sessions:  make(map[room.SessionID]*rate.Limiter),
	}
}

// allow counts a message of a session and reports whether it may be sent. The
// reply's headers tell how many more may be (draft-ietf-httpapi-ratelimit-headers).
func (l *limiter) allow(w http.ResponseWriter, session room.SessionID) bool {
	if l.perSecond == 0 {
		return true
	}
	now := time.Now()
	left := l.count(session, now)
	w.Header().Set("Ratelimit-Policy", l.policy) // spelt as sent, as X-Request-Id is
	w.Header().Set("Ratelimit", `"messages";r=`+strconv.Itoa(int(max(left, 0)))+`;t=1`)
	if left < 0 {
		w.Header().Set("Retry-After", "1")
	}
	return left >= 0
}

// count takes one from what a session may send, and returns how many are left;
// it takes nothing and returns -1 where there is none.
func (l *limiter) count(session room.SessionID, now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.sweepAt) {
		l.sweepAt = now.Add(limiterSweep)
		for id, s := range l.sessions {
			if s.TokensAt(now) >= float64(l.perSecond) {
				delete(l.sessions, id)
			}
		}
	}
	s := l.sessions[session]
	if s == nil {
		s = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		l.sessions[session] = s
	}
	if !s.AllowN(now, 1) {
		return -1
	}
	return math.Floor(s.TokensAt(now))
}
