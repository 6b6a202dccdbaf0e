package hub

import (
	"context"
	"errors"
	"time"

	"parlor/room"
)

const (
	// minReadRetry and maxReadRetry bound the delay before a failed read of a log is retried, for
	// example while PostgreSQL is down.
	minReadRetry = 100 * time.Millisecond
	maxReadRetry = 2 * time.Second
	// readTimeout ends a read that gets no answer, for example over a connection whose peer has
	// vanished. TCP alone would wait for a quarter of an hour.
	readTimeout = 10 * time.Second
)

// resync reads the events that were committed but not published to this hub, if there are any.
func (t *topic) resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = true
	t.startCatchUp(0)
}

// expect records that the log has reached a seq. The topic reads the events up to it if they are
// not published soon: another process may have committed them, and without a read the streams would
// miss them until the next event of the log. Events that were committed by this process are usually
// published within the hub's gap timeout. It reports whether the topic had not heard of the seq.
func (t *topic) expect(seq room.Seq) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq <= t.knownSeq {
		return false
	}
	t.knownSeq = seq
	if t.loaded && seq > t.lastSeq {
		t.startCatchUp(t.hub.gapTimeout())
	}
	return true
}

// seed loads the topic without a read of its log, whose newest event the caller has just read. The
// topic must have existed before that read, so that every later event was published to it.
func (t *topic) seed(lastSeq room.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded {
		return
	}
	t.loaded, t.lastSeq = true, lastSeq
	t.advance()
	if len(t.outOfOrder) > 0 {
		t.startCatchUp(t.hub.gapTimeout())
	}
}

// discard stops catchUp for good. After a restore of the database, the events that it looks for may
// be in no log, and it would read for ever.
func (t *topic) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.discarded = true
}

// startCatchUp starts catchUp unless it is running. The caller holds mu.
func (t *topic) startCatchUp(delay time.Duration) {
	if t.catchingUp {
		return
	}
	t.catchingUp = true
	t.hub.background(func(ctx context.Context) { t.catchUp(ctx, delay) })
}

// catchUp waits for the delay and then reads the log until the topic is up to date. A read that
// fails or returns nothing new is retried after a growing delay.
func (t *topic) catchUp(ctx context.Context, delay time.Duration) {
	retryDelay := minReadRetry
	for sleep(ctx, delay) {
		loaded, lastSeq, upToDate := t.beginRead()
		if upToDate {
			return
		}
		var (
			page room.LogPage
			err  error
		)
		if loaded {
			page, err = t.readAfter(ctx, lastSeq)
		} else {
			page, err = t.readNewest(ctx)
		}
		if t.endRead(page, err) {
			delay, retryDelay = 0, minReadRetry
		} else {
			delay, retryDelay = retryDelay, min(2*retryDelay, maxReadRetry)
		}
	}
}

// beginRead returns what catchUp needs to read next: the events after lastSeq, or the newest ones
// if the topic is not loaded. If nothing is missing it reports that the topic is up to date, and
// catchUp must return.
func (t *topic) beginRead() (loaded bool, lastSeq room.Seq, upToDate bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	missing := !t.loaded || t.stale || len(t.outOfOrder) > 0 || t.knownSeq > t.lastSeq
	if t.discarded || !missing {
		t.catchingUp = false
		return t.loaded, t.lastSeq, true
	}
	t.stale = false
	return t.loaded, t.lastSeq, false
}

// endRead fans out the events that were read. It reports false if the read failed or returned
// nothing new although the log should contain more, for example on a replica that lags behind.
func (t *topic) endRead(page room.LogPage, err error) bool {
	frames := t.hub.Encode(page.Events)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, room.ErrRoomNotFound): // the log was deleted, so there are no more events
		t.loaded, t.knownSeq, t.outOfOrder = true, t.lastSeq, nil
		return true
	case err != nil:
		t.stale = true
		return false
	}
	t.knownSeq = max(t.knownSeq, page.LastSeq)
	if !t.loaded {
		t.loaded, t.lastSeq = true, page.LastSeq
		for _, f := range frames {
			t.recent.add(f)
		}
		t.advance()
		t.catchUpStreams()
		return true
	}
	before := t.lastSeq
	t.skipTrimmed(page.OldestSeq)
	t.reorder(frames)
	t.advance()
	return t.lastSeq > before || t.lastSeq == t.knownSeq && len(t.outOfOrder) == 0
}

// skipTrimmed skips the events that were trimmed before the topic read them, and continues with the
// oldest one in the log. All streams catch up now, so that those that lack the trimmed events close
// at once: the next event may be a long time away. The caller holds mu.
func (t *topic) skipTrimmed(oldestSeq room.Seq) {
	if oldestSeq <= t.lastSeq+1 {
		return
	}
	t.lastSeq = oldestSeq - 1
	t.recent.evictAll()
	t.catchUpStreams()
}

// catchUpStreams makes all subscribed streams catch up. The caller holds mu.
func (t *topic) catchUpStreams() {
	for _, w := range t.hub.workers {
		w.do(func() { w.catchUp(t) })
	}
}

// readNewest reads the newest events of the log.
func (t *topic) readNewest(ctx context.Context) (room.LogPage, error) {
	return t.read(ctx, func(ctx context.Context) (room.LogPage, error) {
		return t.hub.logs.Tail(ctx, t.logID, maxRecentFrames)
	})
}

// readAfter reads the events of the log after a seq.
func (t *topic) readAfter(ctx context.Context, seq room.Seq) (room.LogPage, error) {
	return t.read(ctx, func(ctx context.Context) (room.LogPage, error) {
		return t.hub.logs.EventsAfter(ctx, t.logID, seq, segmentFrames)
	})
}

// read reads the log, with a timeout. Errors: room.ErrRoomNotFound if the log was deleted; any
// other error is logged and can be retried.
func (t *topic) read(ctx context.Context, read func(context.Context) (room.LogPage, error)) (room.LogPage, error) {
	t.hub.stats.logReads.Add(1)
	withTimeout, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	page, err := read(withTimeout)
	if err != nil && !errors.Is(err, room.ErrRoomNotFound) && ctx.Err() == nil {
		t.hub.opts.Logger.Warn("log read failed", "log", t.logID, "error", err)
	}
	return page, err
}

// sleep waits, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
