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
func reasonOf(last room.Body) string {
	if changed, ok := last.(room.ConnectionStateChanged); ok {
		return string(changed.Event)
	}
	return endReconnect
}

// because keeps the first reason for a stream's end.
func (s *Stream) because(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
}

// lost ends a stream whose bytes could not be written.
func (s *Stream) lost(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.because(string(room.ConnectionSlowConsumer))
	}
	s.drop()
}

// logEnd logs the end of a stream that had begun. It is of the level debug, and info where it is the fault of the server or of
// a reader who is too slow: an operator wants to know of those, but not of each when thousands of readers fall behind.
func (s *Stream) logEnd() {
	log, ctx := s.hub.o.Logger, context.Background()
	level, more := slog.LevelDebug, 0
	switch s.reason {
	case string(room.ConnectionSlowConsumer), endLogTrimmed, endServerClosed:
		var ok bool
		if ok, more = s.hub.faults.tell(s.worker.now); ok {
			level = slog.LevelInfo
		}
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 6), slog.String("reason", s.reason), slog.Duration("lasted", s.worker.now.Sub(s.began)),
		slog.String("session", string(s.session)), slog.String("requestID", s.requestID))
	if more > 0 {
		attrs = append(attrs, slog.Int("endsNotLogged", more))
	}
	log.LogAttrs(ctx, level, "stream ended", attrs...)
}

// maxFaultsTold is how many ends a minute are logged at info.
const maxFaultsTold = 20

// faultLog bounds how much is logged of ends that are somebody's fault.
type faultLog struct {
	mu    sync.Mutex // guards all below
	since time.Time  // when the minute began
	told  int
	// untold is how many were not logged at info since one was.
	untold int
}

// tell reports whether one more end is to be logged, and how many were not since the last one that was.
func (f *faultLog) tell(now time.Time) (ok bool, untold int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.since) >= time.Minute {
		f.since, f.told = now, 0
	}
	if f.told == maxFaultsTold {
		f.untold++
		return false, 0
	}
	f.told++
	untold, f.untold = f.untold, 0
	return true, untold
}
