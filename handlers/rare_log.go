package handlers

import (
	"sync"
	"time"
)

// rareLog limits log lines that every request can cause, such as while the database is away.
type rareLog struct {
	interval time.Duration // at least, between two lines

	mu         sync.Mutex // guards the fields below
	nextAt     time.Time
	suppressed int // since the last line
}

// allow reports whether a line may be written, and how many were suppressed since the last one.
func (l *rareLog) allow(now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.nextAt) {
		l.suppressed++
		return false, 0
	}
	suppressed, l.suppressed = l.suppressed, 0
	l.nextAt = now.Add(l.interval)
	return true, suppressed
}
