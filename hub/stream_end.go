package hub

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"parlor/room"
)

// Why a stream ended, where its client is not told by an event of that name.
const (
	endClientGone   = "clientGone"   // it hung up, or its connection broke
	endReconnect    = "reconnect"    // it was asked to come back
	endLogTrimmed   = "logTrimmed"   // likewise, as what it needs next was trimmed
	endServerClosed = "serverClosed" // the server closed it without a word
)

// reasonOf is why a stream ends that ends with this event.
func endReasonFor(last room.Body) string {
	if changed, ok := last.(room.ConnectionStateChanged); ok {
		return string(changed.Event)
	}
	return endReconnect
}

// because keeps the first reason for a stream's end.
func (s *Stream) setEndReason(reason string) {
	if s.endReason == "" {
		s.endReason = reason
	}
}

// lost ends a stream whose bytes could not be written.
func (s *Stream) closeOnWriteError(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.setEndReason(string(room.ConnectionSlowConsumer))
	}
	s.close()
}

// logEnd logs the end of a stream that had begun. It is of the level debug, and info where it is the fault of the server or of
// a reader who is too slow: an operator wants to know of those, but not of each when thousands of readers fall behind.
func (s *Stream) logEnd() {
	log, ctx := s.hub.opts.Logger, context.Background()
	level, more := slog.LevelDebug, 0
	switch s.endReason {
	case string(room.ConnectionSlowConsumer), endLogTrimmed, endServerClosed:
		var ok bool
		if ok, more = s.hub.endLog.allow(s.worker.now); ok {
			level = slog.LevelInfo
		}
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 6), slog.String("reason", s.endReason), slog.Duration("lasted", s.worker.now.Sub(s.startedAt)),
		slog.String("session", string(s.session)), slog.String("requestID", s.requestID))
	if more > 0 {
		attrs = append(attrs, slog.Int("endsNotLogged", more))
	}
	log.LogAttrs(ctx, level, "stream ended", attrs...)
}

// maxFaultsTold is how many ends a minute are logged at info.
const maxEndsLogged = 20

// faultLog bounds how much is logged of ends that are somebody's fault.
type endLogLimiter struct {
	mu          sync.Mutex // guards all below
	windowStart time.Time  // when the minute began
	logged      int
	// untold is how many were not logged at info since one was.
	suppressed int
}

// tell reports whether one more end is to be logged, and how many were not since the last one that was.
func (f *endLogLimiter) allow(now time.Time) (ok bool, untold int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.windowStart) >= time.Minute {
		f.windowStart, f.logged = now, 0
	}
	if f.logged == maxEndsLogged {
		f.suppressed++
		return false, 0
	}
	f.logged++
	untold, f.suppressed = f.suppressed, 0
	return true, untold
}
