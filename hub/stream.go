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
	left     bool // it is out of its logs and of the hub
	dropped  bool
	// reason is why the stream ends, once it does; began and requestID are for the log.
	reason    string
	began     time.Time
	requestID string
	// inbox is the topic of the user's inbox, which Open made sure of and Start
	// lets go when it follows it; nil afterwards.
	inbox *topic
	// early is what happened to the session's rooms before Start.
	early []func()

	// epoch is what the cursors of the stream belong to.
	epoch string
	// cursor is what was handed to the sink so far, in each log that the stream
	// follows; follows is the rest of what is to know of each, at the same index.
	cursor  Cursor
	follows []follow
	// stays is the last few stays that ended, the newest last.
	stays []endedStay

	// rest is what the sink did not take; queue is what comes after it.
	rest         []byte
	queue        []*Frame
	queuedBytes  int
	blockedSince time.Time

	beatAt    time.Time // when a heartbeat is due
	warnAt    time.Time // when the token's end is announced; zero: it was
	expiresAt time.Time // the token's end
}

// follow is a stream's relation to a log.
type follow struct {
	topic *topic
	stay  room.PresenceID
	// taken is the newest event that was written or queued.
	taken room.Seq
	// live says that the stream gets events as they come. Until then it catches
	// up, and what comes is not lost, because it is in the log.
	live bool
	// waiting says that the topic will call when it has what is missing.
	waiting bool
}

// endedStay is a stay in a log's room that is over.
type endedStay struct {
	log  room.LogID
	stay room.PresenceID
}

// maxEndedStays bounds how many ends of stays a stream remembers. They matter
// only while a beginning may still be on its way from a transaction that was
// committed before: some microseconds.
const maxEndedStays = 16

// end remembers that a stay is over.
func (s *Stream) end(log room.LogID, stay room.PresenceID) {
	if len(s.stays) == maxEndedStays {
		s.stays = slices.Delete(s.stays, 0, 1)
	}
	s.stays = append(s.stays, endedStay{log, stay})
}

// over reports whether a stay in a room is no more. Stays are told of in any
// order: one that has ended, or has a later one, changes nothing. A stream that
// has left stays away: nothing would take it out again.
func (s *Stream) over(log room.LogID, stay room.PresenceID) bool {
	ended := func(e endedStay) bool { return e.log == log && e.stay >= stay }
	if s.left || slices.ContainsFunc(s.stays, ended) {
		return true
	}
	i, known := s.cursor.find(log)
	return known && s.follows[i].stay > stay
}

// offer gives a stream what a log brings: runs of events in order, and between
// them what is not stored.
func (s *Stream) offer(log room.LogID, frames []*Frame) {
	for len(frames) > 0 {
		n := 1
		if frames[0].Seq == 0 {
			s.hear(log, frames[0])
		} else {
			for n < len(frames) && frames[n].Seq > 0 {
				n++
			}
			s.take(log, frames[:n])
		}
		frames = frames[n:]
	}
}

// take delivers events to a live stream, each only if it is the next one: this
// is where order, and each event once, are kept.
func (s *Stream) take(log room.LogID, frames []*Frame) {
	i, ok := s.cursor.find(log)
	if !ok || !s.follows[i].live {
		return
	}
	for len(frames) > 0 && frames[0].Seq <= s.follows[i].taken {
		frames = frames[1:]
	}
	if len(frames) == 0 {
		return
	}
	if frames[0].Seq > s.follows[i].taken+1 {
		s.follows[i].live = false
		s.catchUp(log)
		return
	}
	s.follows[i].taken = frames[len(frames)-1].Seq
	s.push(frames...)
	if len(s.queue) > maxQueued || s.queuedBytes > maxQueuedBytes {
		s.closeSlow()
	}
}

// hear delivers a frame that is not stored, or sheds it where the reader is
// behind.
func (s *Stream) hear(log room.LogID, f *Frame) {
	if _, ok := s.cursor.find(log); !ok || s.closing || !s.started {
		return
	}
	if s.blocked() && (len(s.queue) > maxQueued/8*f.patience || s.queuedBytes > maxQueuedBytes/8*f.patience) {
		s.hub.stats.shed.Add(1)
		return
	}
	s.push(f)
}

// catchUp delivers what a log has after what the stream has taken, a piece at a
// time, and makes the stream live when it has all.
func (s *Stream) catchUp(log room.LogID) {
	for !s.blocked() && !s.closing && s.started {
		i, ok := s.cursor.find(log)
		if !ok || s.follows[i].live || s.follows[i].waiting {
			return
		}
		f := &s.follows[i]
		m := f.topic.after(f.taken, func() {
			s.worker.do(func() { s.lookAgain(log) })
		})
		switch {
		case m.wait:
			f.waiting = true
			return
		case m.oldest > 0:
			s.reset(log, m.oldest)
			return
		}
		f.live = m.live
		if len(m.frames) > 0 {
			f.taken = m.frames[len(m.frames)-1].Seq
			s.push(m.frames...)
		}
	}
}

// lookAgain goes on when the topic has read what the stream waits for, or has
// found that its log was trimmed.
func (s *Stream) lookAgain(log room.LogID) {
	if i, ok := s.cursor.find(log); ok {
		s.follows[i].live, s.follows[i].waiting = false, false
		s.catchUp(log)
	}
}

// reset gives up on a log whose next events were trimmed while the stream
// caught up: the stream ends, and the cursor that its client comes back with
// gets its roomReset with a fresh snapshot.
func (s *Stream) reset(log room.LogID, oldest room.Seq) {
	s.hub.o.Logger.Debug("the log was trimmed under a stream", "log", log, "oldestSeq", oldest)
	s.because(endLogTrimmed)
	s.closeWith(room.Reconnect{})
}

// sendAway ends the stream, on its worker, with the request to come back after a
// random time of up to atMost, and of half of that at least.
func (s *Stream) sendAway(atMost time.Duration) {
	after := atMost/2 + rand.N(atMost/2)
	s.worker.do(func() { s.closeWith(room.Reconnect{AfterMs: after.Milliseconds()}) })
}

// push writes frames, or queues them where the sink is full.
func (s *Stream) push(frames ...*Frame) {
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
func (s *Stream) appendFrame(b []byte, f *Frame) []byte {
	if f.Seq > 0 {
		if i, ok := s.cursor.find(f.Log); ok {
			s.cursor[i].Seq = max(s.cursor[i].Seq, f.Seq)
		}
	}
	if f.id {
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
		s.drop()
		return false
	}
	// The tick that looks comes once a second: a second early is in time.
	s.beatAt = s.worker.now.Add(s.hub.o.Heartbeat - time.Second)
	if n < len(b) {
		s.rest = append(s.rest[:0], b[n:]...)
		s.blockedSince = s.worker.now
	}
	return true
}

func (s *Stream) blocked() bool { return len(s.rest) > 0 || s.dropped }

// writable goes on after the sink was full.
func (s *Stream) writable() {
	if s.dropped || !s.started {
		return
	}
	if len(s.rest) > 0 {
		rest := s.rest
		n, err := s.sink.write(rest)
		if err != nil {
			s.drop()
			return
		}
		if n > 0 {
			s.blockedSince = s.worker.now
		}
		if n < len(rest) {
			s.rest = rest[:copy(rest, rest[n:])]
			return
		}
		s.rest = nil // a stream that keeps up holds no buffer
	}
	s.unqueue()
	if s.blocked() {
		return
	}
	if s.closing {
		s.drop()
		return
	}
	for i := 0; i < len(s.follows) && !s.blocked(); i++ {
		s.catchUp(s.cursor[i].Log)
	}
}

// unqueue writes what waits.
func (s *Stream) unqueue() {
	queue := s.queue
	s.queue, s.queuedBytes = nil, 0
	s.push(queue...)
}

// notify sends an event of this stream alone.
func (s *Stream) notify(b room.Body) {
	if !s.closing {
		s.push(encodeBody(b))
	}
}

// closeSlow ends the stream of a reader who does not keep up.
func (s *Stream) closeSlow() {
	s.hub.stats.slow.Add(1)
	s.closeWith(room.ConnectionStateChanged{State: "disconnected", Event: room.ConnectionSlowConsumer})
}

// closeWith ends the stream with a last event that says why. What was queued is
// not delivered: the client's cursor does not have it either. A reader who takes
// nothing at the moment has WriteTimeout to go on and be told.
func (s *Stream) closeWith(last room.Body) {
	if s.closing || s.dropped {
		return
	}
	s.because(reasonOf(last))
	s.closing = true
	s.leave()
	s.queue, s.queuedBytes = nil, 0
	s.blockedSince = s.worker.now
	if !s.started {
		s.drop()
		return
	}
	s.push(encodeBody(last))
	if !s.blocked() {
		s.drop()
	}
}

// drop ends the stream where it is.
func (s *Stream) drop() {
	if s.dropped {
		return
	}
	s.because(endClientGone)
	if s.started {
		s.logEnd()
	}
	s.dropped = true
	s.closing = true
	s.leave()
	s.queue, s.rest = nil, nil
	delete(s.worker.streams, s)
	if s.sink != nil {
		s.sink.close()
	}
}

// leave takes the stream out of its logs and out of the hub. From this instant
// its session is detached.
func (s *Stream) leave() {
	if s.left {
		return
	}
	s.left = true
	for len(s.cursor) > 0 {
		s.worker.remove(s, 0)
	}
	s.letGo()
	s.hub.forget(s)
	if s.streamNo > 0 {
		s.hub.o.OnStreamEnd(s.session, s.streamNo, s.hub.now())
	}
}

// letGo ends what Open made sure of.
func (s *Stream) letGo() {
	if s.inbox != nil {
		s.inbox.subscribe(s.worker.index, -1)
		s.inbox = nil
	}
}

// tick does what is due: a heartbeat, the end of a reader that takes nothing,
// the token's warning and its end.
func (s *Stream) tick(now time.Time) {
	switch {
	case s.blocked() && now.Sub(s.blockedSince) >= s.hub.o.WriteTimeout:
		if s.closing {
			s.drop()
		} else {
			s.closeSlow()
		}
		return
	case s.closing || !s.started:
		return
	case !now.Before(s.expiresAt):
		s.closeWith(room.EndedSession{Session: s.session, Reason: room.EndTokenExpired}.StateChange())
		return
	case s.blocked():
		return
	}
	if !s.warnAt.IsZero() && !now.Before(s.warnAt) {
		s.warnAt = time.Time{}
		s.notify(room.TokenWillExpire{SecondsLeft: int(s.expiresAt.Sub(now).Round(time.Second) / time.Second)})
	}
	if !now.Before(s.beatAt) {
		s.write([]byte(heartbeat))
	}
}

// renewed tells the stream of its session's newer token.
func (s *Stream) renewed(expiresAt time.Time) {
	// By the steady clock from here on: a wall clock that is set must not end
	// streams.
	now := s.hub.now()
	s.expiresAt = now.Add(expiresAt.Sub(now))
	s.warnAt = s.expiresAt.Add(-room.TokenWarning)
}

// begin is the head of every stream: how long to wait before reconnecting,
// different for each, so that those who were cut off together do not come back
// together.
func begin(retry time.Duration) []byte {
	spread := retry/2 + rand.N(retry)
	b := append([]byte(nil), "retry: "...)
	b = strconv.AppendInt(b, spread.Milliseconds(), 10)
	return append(b, "\n\n"...)
}
