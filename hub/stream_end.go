package hub

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"parlor/room"
)

// The reasons for the end of a stream, as they are logged, beside those of room.ConnectionEvent.
const (
	endClientGone   = "clientGone"   // the client closed the connection, or the connection broke
	endReconnect    = "reconnect"    // the client was asked to reconnect
	endEnough       = "enough"       // it has served its purpose
	endLogTrimmed   = "logTrimmed"   // the same, because the events that it lacks were trimmed
	endServerClosed = "serverClosed" // the server closed the connection without a last event
)

// endReasonFor returns why a stream ends, given its last event.
func endReasonFor(last room.Body) string {
	if changed, ok := last.(room.ConnectionStateChanged); ok {
		return string(changed.Event)
	}
	return endReconnect
}

// setEndReason sets why the stream ends, unless that is set already.
func (s *Stream) setEndReason(reason string) {
	if s.endReason == "" {
		s.endReason = reason
	}
}

// reconnectWithin ends the stream, on its worker, and asks its client to reconnect after a random
// time between half of delay and delay.
func (s *Stream) reconnectWithin(delay time.Duration) {
	after := delay/2 + rand.N(delay/2)
	s.worker.do(func() { s.closeWith(room.Reconnect{AfterMs: after.Milliseconds()}) })
}

// closeTrimmed ends a stream that lacks events which were trimmed while it caught up. Its client
// reconnects with its cursor, and gets a roomReset with the current state of the room.
func (s *Stream) closeTrimmed(logID room.LogID, oldestSeq room.Seq) {
	s.hub.opts.Logger.Debug("stream closed: log trimmed", "log", logID, "oldestSeq", oldestSeq)
	s.setEndReason(endLogTrimmed)
	s.closeWith(room.Reconnect{})
}

// closeSlow ends the stream of a slow consumer.
func (s *Stream) closeSlow() {
	s.hub.stats.slowConsumers.Add(1)
	s.closeWith(room.ConnectionStateChanged{State: "disconnected", Event: room.ConnectionSlowConsumer})
}

// closeWith ends the stream with a last event, which says why. Queued frames are discarded; the
// client's cursor does not include them, so it gets them when it resumes. A client that reads
// nothing at the moment has another WriteTimeout to read the last event.
func (s *Stream) closeWith(last room.Body) {
	if s.closing || s.closed {
		return
	}
	s.setEndReason(endReasonFor(last))
	s.closing = true
	s.detach()
	s.queue, s.queuedBytes = nil, 0
	s.blockedSince = s.worker.now
	if !s.started {
		s.endedBefore = last
		s.close()
		return
	}
	s.send(encodeBody(last))
	if !s.blocked() {
		s.close()
	}
}

// closeOnWriteError closes a stream whose connection has failed, or has enough events.
func (s *Stream) closeOnWriteError(err error) {
	switch {
	case errors.Is(err, ErrEnough):
		s.setEndReason(endEnough)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.setEndReason(string(room.ConnectionSlowConsumer))
	}
	s.close()
}

// close closes the stream and its connection at once.
func (s *Stream) close() {
	if s.closed {
		return
	}
	s.setEndReason(endClientGone)
	if s.started {
		s.logEnd()
	}
	s.closed = true
	s.closing = true
	s.detach()
	s.queue, s.unsent = nil, nil
	delete(s.worker.streams, s)
	if s.sink != nil {
		s.sink.close()
	}
}

// detach unsubscribes the stream from its logs and removes it from the hub. Its session counts as
// detached from now on, even if the last event has yet to be written.
func (s *Stream) detach() {
	if s.detached {
		return
	}
	s.detached = true
	s.unsubscribeAll()
	s.releaseInbox()
	s.hub.removeStream(s)
	if s.streamNo > 0 {
		s.hub.opts.OnStreamEnd(s.session, s.streamNo, time.Now())
	}
}

// logEnd logs the end of a stream that has started: at level info if the server or a slow client is
// the cause, otherwise at debug. The number of lines at level info is limited, for the case that
// thousands of clients fall behind together.
func (s *Stream) logEnd() {
	logger, ctx := s.hub.opts.Logger, context.Background()
	level, suppressed := slog.LevelDebug, 0
	switch s.endReason {
	case string(room.ConnectionSlowConsumer), endLogTrimmed, endServerClosed:
		var ok bool
		if ok, suppressed = s.hub.endLog.allow(s.worker.now); ok {
			level = slog.LevelInfo
		}
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 6),
		slog.String("reason", s.endReason), slog.Duration("lasted", s.worker.now.Sub(s.startedAt)),
		slog.String("session", string(s.session)), slog.String("requestID", s.requestID))
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("endsNotLogged", suppressed))
	}
	logger.LogAttrs(ctx, level, "stream ended", attrs...)
}

// maxEndsLogged is how many ends of streams are logged at level info in one minute.
const maxEndsLogged = 20

// endLogLimiter limits how many ends of streams are logged at level info.
type endLogLimiter struct {
	mu          sync.Mutex // guards all below
	windowStart time.Time  // when the current minute began
	logged      int        // in the current minute
	suppressed  int        // since the last one that was logged
}

// allow reports whether one more end may be logged, and how many were suppressed since the last
// one.
func (l *endLogLimiter) allow(now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.windowStart) >= time.Minute {
		l.windowStart, l.logged = now, 0
	}
	if l.logged == maxEndsLogged {
		l.suppressed++
		return false, 0
	}
	l.logged++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}
