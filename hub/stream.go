package hub

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"parlor/room"
)

const (
	// maxQueued and maxQueuedBytes bound what waits for a stream whose reader
	// is slow. Past either the stream is closed; its client resumes from its
	// cursor, so nothing is lost.
	maxQueued      = 1024
	maxQueuedBytes = 1 << 20
	// defaultWriteTimeout is how long a reader may take nothing at all where the
	// options do not say.
	defaultWriteTimeout = 10 * time.Second
	// chunkBytes is how much is put into one write.
	chunkBytes = 64 << 10
)

// sink is where a stream's bytes go.
type sink interface {
	// write takes what it can without waiting. When it takes less than all, the
	// stream's worker gets the task Stream.writable as soon as it can take more.
	write(p []byte) (int, error)
	// close ends the connection and frees what belongs to it.
	close()
}

// Stream is one open event stream of a session. After Start all its fields
// belong to its worker.
type Stream struct {
	hub     *Hub
	worker  *worker
	session room.SessionID

	sink     sink
	streamNo int64
	started  bool
	closing  bool // the last frame is on its way; nothing follows it
	detached bool // it is out of its logs and of the hub
	closed   bool
	// reason is why the stream ends, once it does; began and requestID are for the log.
	endReason string
	startedAt time.Time
	requestID string
	// inbox is the topic of the user's inbox, which Open made sure of and Start
	// lets go when it follows it; nil afterwards.
	inboxTopic *topic
	// early is what happened to the session's rooms before Start.
	beforeStart []func()

	// epoch is what the cursors of the stream belong to.
	epoch string
	// cursor is what was handed to the sink so far, in each log that the stream
	// follows; follows is the rest of what is to know of each, at the same index.
	cursor        Cursor
	subscriptions []subscription
	// stays is the last few stays that ended, the newest last.
	endedPresences []endedPresence

	// rest is what the sink did not take; queue is what comes after it.
	unsent       []byte
	queue        []*frame
	queuedBytes  int
	blockedSince time.Time

	heartbeatAt    time.Time // when a heartbeat is due
	warnTokenAt    time.Time // when the token's end is announced; zero: it was
	tokenExpiresAt time.Time // the token's end
}

// follow is a stream's relation to a log.
type subscription struct {
	topic    *topic
	presence room.PresenceID
	// taken is the newest event that was written or queued.
	sentSeq room.Seq
	// live says that the stream gets events as they come. Until then it catches
	// up, and what comes is not lost, because it is in the log.
	live bool
	// waiting says that the topic will call when it has what is missing.
	waiting bool
}

// endedStay is a stay in a log's room that is over.
type endedPresence struct {
	log      room.LogID
	presence room.PresenceID
}

// maxEndedStays bounds how many ends of stays a stream remembers. They matter
// only while a beginning may still be on its way from a transaction that was
// committed before: some microseconds.
const maxEndedPresences = 16

// end remembers that a stay is over.
func (s *Stream) recordEnded(log room.LogID, stay room.PresenceID) {
	if len(s.endedPresences) == maxEndedPresences {
		s.endedPresences = slices.Delete(s.endedPresences, 0, 1)
	}
	s.endedPresences = append(s.endedPresences, endedPresence{log, stay})
}

// over reports whether a stay in a room is no more. Stays are told of in any
// order: one that has ended, or has a later one, changes nothing. A stream that
// has left stays away: nothing would take it out again.
func (s *Stream) isStale(log room.LogID, stay room.PresenceID) bool {
	ended := func(e endedPresence) bool { return e.log == log && e.presence >= stay }
	if s.detached || slices.ContainsFunc(s.endedPresences, ended) {
		return true
	}
	i, known := s.cursor.find(log)
	return known && s.subscriptions[i].presence > stay
}

// offer gives a stream what a log brings: runs of events in order, and between
// them what is not stored.
func (s *Stream) deliver(log room.LogID, frames []*frame) {
	for len(frames) > 0 {
		n := 1
		if frames[0].seq == 0 {
			s.deliverEphemeral(log, frames[0])
		} else {
			for n < len(frames) && frames[n].seq > 0 {
				n++
			}
			s.deliverStored(log, frames[:n])
		}
		frames = frames[n:]
	}
}

// take delivers events to a live stream, each only if it is the next one: this
// is where order, and each event once, are kept.
func (s *Stream) deliverStored(log room.LogID, frames []*frame) {
	i, ok := s.cursor.find(log)
	if !ok || !s.subscriptions[i].live {
		return
	}
	for len(frames) > 0 && frames[0].seq <= s.subscriptions[i].sentSeq {
		frames = frames[1:]
	}
	if len(frames) == 0 {
		return
	}
	if frames[0].seq > s.subscriptions[i].sentSeq+1 {
		s.subscriptions[i].live = false
		s.catchUp(log)
		return
	}
	s.subscriptions[i].sentSeq = frames[len(frames)-1].seq
	s.send(frames...)
	if len(s.queue) > maxQueued || s.queuedBytes > maxQueuedBytes {
		s.closeSlow()
	}
}

// hear delivers a frame that is not stored, or sheds it where the reader is
// behind.
func (s *Stream) deliverEphemeral(log room.LogID, f *frame) {
	if _, ok := s.cursor.find(log); !ok || s.closing || !s.started {
		return
	}
	if s.blocked() && (len(s.queue) > maxQueued/8*f.shedAbove || s.queuedBytes > maxQueuedBytes/8*f.shedAbove) {
		s.hub.stats.shed.Add(1)
		return
	}
	s.send(f)
}

// catchUp delivers what a log has after what the stream has taken, a piece at a
// time, and makes the stream live when it has all.
func (s *Stream) catchUp(log room.LogID) {
	for !s.blocked() && !s.closing && s.started {
		i, ok := s.cursor.find(log)
		if !ok || s.subscriptions[i].live || s.subscriptions[i].waiting {
			return
		}
		f := &s.subscriptions[i]
		m := f.topic.replayAfter(f.sentSeq, func() {
			s.worker.do(func() { s.resumeCatchUp(log) })
		})
		switch {
		case m.wait:
			f.waiting = true
			return
		case m.oldestSeq > 0:
			s.closeTrimmed(log, m.oldestSeq)
			return
		}
		f.live = m.live
		if len(m.frames) > 0 {
			f.sentSeq = m.frames[len(m.frames)-1].seq
			s.send(m.frames...)
		}
	}
}

// lookAgain goes on when the topic has read what the stream waits for, or has
// found that its log was trimmed.
func (s *Stream) resumeCatchUp(log room.LogID) {
	if i, ok := s.cursor.find(log); ok {
		s.subscriptions[i].live, s.subscriptions[i].waiting = false, false
		s.catchUp(log)
	}
}

// reset gives up on a log whose next events were trimmed while the stream
// caught up: the stream ends, and the cursor that its client comes back with
// gets its roomReset with a fresh snapshot.
func (s *Stream) closeTrimmed(log room.LogID, oldest room.Seq) {
	s.hub.opts.Logger.Debug("the log was trimmed under a stream", "log", log, "oldestSeq", oldest)
	s.setEndReason(endLogTrimmed)
	s.closeWith(room.Reconnect{})
}

// sendAway ends the stream, on its worker, with the request to come back after a
// random time of up to atMost, and of half of that at least.
func (s *Stream) reconnectWithin(atMost time.Duration) {
	after := atMost/2 + rand.N(atMost/2)
	s.worker.do(func() { s.closeWith(room.Reconnect{AfterMs: after.Milliseconds()}) })
}

// push writes frames, or queues them where the sink is full.
func (s *Stream) send(frames ...*frame) {
	if s.blocked() || !s.started {
		for _, f := range frames {
			s.queuedBytes += len(f.data)
		}
		s.queue = append(s.queue, frames...)
		return
	}
	w := s.worker
	for len(frames) > 0 && !s.blocked() {
		w.buf = w.buf[:0]
		for len(frames) > 0 && len(w.buf) < chunkBytes {
			w.buf = s.appendFrame(w.buf, frames[0])
			frames = frames[1:]
		}
		if !s.write(w.buf) {
			return
		}
	}
	for _, f := range frames {
		s.queuedBytes += len(f.data)
	}
	s.queue = append(s.queue, frames...)
}

// appendFrame writes a frame for this stream, moving its cursor on.
func (s *Stream) appendFrame(b []byte, f *frame) []byte {
	if f.seq > 0 {
		if i, ok := s.cursor.find(f.log); ok {
			s.cursor[i].Seq = max(s.cursor[i].Seq, f.seq)
		}
	}
	if f.carriesID {
		b = append(b, "id: "...)
		b = appendID(b, s.epoch, s.cursor)
		b = append(b, '\n')
	}
	s.worker.delivered++
	return append(b, f.data...)
}

// write hands bytes to the sink and keeps what it does not take. It returns
// false when the stream is gone.
func (s *Stream) write(b []byte) bool {
	n, err := s.sink.write(b)
	if err != nil {
		s.close()
		return false
	}
	// The tick that looks comes once a second: a second early is in time.
	s.heartbeatAt = s.worker.now.Add(s.hub.opts.Heartbeat - time.Second)
	if n < len(b) {
		s.unsent = append(s.unsent[:0], b[n:]...)
		s.blockedSince = s.worker.now
	}
	return true
}

func (s *Stream) blocked() bool { return len(s.unsent) > 0 || s.closed }

// writable goes on after the sink was full.
func (s *Stream) writable() {
	if s.closed || !s.started {
		return
	}
	if len(s.unsent) > 0 {
		rest := s.unsent
		n, err := s.sink.write(rest)
		if err != nil {
			s.close()
			return
		}
		if n > 0 {
			s.blockedSince = s.worker.now
		}
		if n < len(rest) {
			s.unsent = rest[:copy(rest, rest[n:])]
			return
		}
		s.unsent = nil // a stream that keeps up holds no buffer
	}
	s.flushQueue()
	if s.blocked() {
		return
	}
	if s.closing {
		s.close()
		return
	}
	for i := 0; i < len(s.subscriptions) && !s.blocked(); i++ {
		s.catchUp(s.cursor[i].Log)
	}
}

// unqueue writes what waits.
func (s *Stream) flushQueue() {
	queue := s.queue
	s.queue, s.queuedBytes = nil, 0
	s.send(queue...)
}

// notify sends an event of this stream alone.
func (s *Stream) notify(b room.Body) {
	if !s.closing {
		s.send(encodeBody(b))
	}
}

// closeSlow ends the stream of a reader who does not keep up.
func (s *Stream) closeSlow() {
	s.hub.stats.slowConsumers.Add(1)
	s.closeWith(room.ConnectionStateChanged{State: "disconnected", Event: room.ConnectionSlowConsumer})
}

// closeWith ends the stream with a last event that says why. What was queued is
// not delivered: the client's cursor does not have it either. A reader who takes
// nothing at the moment has WriteTimeout to go on and be told.
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
		s.close()
		return
	}
	s.send(encodeBody(last))
	if !s.blocked() {
		s.close()
	}
}

// drop ends the stream where it is.
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

// leave takes the stream out of its logs and out of the hub. From this instant
// its session is detached.
func (s *Stream) detach() {
	if s.detached {
		return
	}
	s.detached = true
	for len(s.cursor) > 0 {
		s.worker.remove(s, 0)
	}
	s.releaseInbox()
	s.hub.unregister(s)
	if s.streamNo > 0 {
		s.hub.opts.OnStreamEnd(s.session, s.streamNo, s.hub.now())
	}
}

// letGo ends what Open made sure of.
func (s *Stream) releaseInbox() {
	if s.inboxTopic != nil {
		s.inboxTopic.addSubscribers(s.worker.index, -1)
		s.inboxTopic = nil
	}
}

// tick does what is due: a heartbeat, the end of a reader that takes nothing,
// the token's warning and its end.
func (s *Stream) tick(now time.Time) {
	switch {
	case s.blocked() && now.Sub(s.blockedSince) >= s.hub.opts.WriteTimeout:
		if s.closing {
			s.close()
		} else {
			s.closeSlow()
		}
		return
	case s.closing || !s.started:
		return
	case !now.Before(s.tokenExpiresAt):
		s.closeWith(room.EndedSession{Session: s.session, Reason: room.EndTokenExpired}.StateChange())
		return
	case s.blocked():
		return
	}
	if !s.warnTokenAt.IsZero() && !now.Before(s.warnTokenAt) {
		s.warnTokenAt = time.Time{}
		s.notify(room.TokenWillExpire{SecondsLeft: int(s.tokenExpiresAt.Sub(now).Round(time.Second) / time.Second)})
	}
	if !now.Before(s.heartbeatAt) {
		s.write([]byte(heartbeat))
	}
}

// renewed tells the stream of its session's newer token.
func (s *Stream) renewed(expiresAt time.Time) {
	// By the steady clock from here on: a wall clock that is set must not end
	// streams.
	now := s.hub.now()
	s.tokenExpiresAt = now.Add(expiresAt.Sub(now))
	s.warnTokenAt = s.tokenExpiresAt.Add(-room.TokenWarning)
}

// begin is the head of every stream: how long to wait before reconnecting,
// different for each, so that those who were cut off together do not come back
// together.
func streamHead(retry time.Duration) []byte {
	spread := retry/2 + rand.N(retry)
	b := append([]byte(nil), "retry: "...)
	b = strconv.AppendInt(b, spread.Milliseconds(), 10)
	return append(b, "\n\n"...)
}
