package hub

import (
	"math/rand/v2"
	"strconv"
	"time"

	"parlor/room"
)

const (
	// maxQueued and maxQueuedBytes bound the queue of a stream whose client is slow. Beyond either
	// the stream is closed. Its client resumes from its cursor, so nothing is lost.
	maxQueued      = 1024
	maxQueuedBytes = 1 << 20
	// defaultWriteTimeout is how long a client may read nothing at all, unless Options set it.
	defaultWriteTimeout = 10 * time.Second
	// maxRun is how many frames are taken at once, unless they fill a write before. If the client
	// blocks in the middle, no more than these are queued before ephemeral events are shed.
	maxRun = 128
	// chunkBytes is about how much is sent in one write.
	chunkBytes = 64 << 10
)

// sink is the connection that a stream writes to.
type sink interface {
	// write takes as much as it can without blocking. If it takes less than all of p, it makes the
	// stream's worker call Stream.writable when it can take more.
	write(p []byte) (int, error)
	// close closes the connection.
	close()
}

// Stream is an open event stream of a session. Once it has started, only its worker uses its
// fields.
//
// stream_start.go and stream_end.go contain the start and the end of a stream, and subscription.go
// the logs that it is subscribed to.
type Stream struct {
	hub     *Hub
	worker  *worker
	session room.SessionID
	user    room.UserID

	sink      sink
	streamNo  int64
	startedAt time.Time
	requestID string // of the request that opened the stream, for log lines
	started   bool
	closing   bool // the last frame is queued or written
	detached  bool // unsubscribed from all logs, and no longer in the hub
	closed    bool
	// endReason is why the stream ends; empty while it is open.
	endReason string
	// endedBefore is the last event of a stream that ended before it started, otherwise nil.
	endedBefore room.Body
	// inboxTopic is the topic of the user's inbox from OpenStream until the stream is subscribed to
	// it, otherwise nil. It is acquired early so that it sees everything that is committed after
	// the inbox was read from the database.
	inboxTopic *topic
	// beforeStart holds the changes to the session's rooms that were applied before the stream
	// started.
	beforeStart []func()

	// epoch is the database's epoch, which is part of each SSE id.
	epoch string
	// cursor contains the newest event of each log that was handed to the sink. subscriptions has
	// one element for each element of cursor.
	cursor        Cursor
	subscriptions []subscription
	// lastPresence is not less than any presence that began before the stream.
	lastPresence room.PresenceID
	// endedPresences holds the presences that ended last, the latest at the end.
	endedPresences []endedPresence

	// gzip is nil unless the stream is compressed.
	gzip *gzipMember
	// unsent holds the bytes that the sink has not taken; queue holds the frames that follow them.
	unsent       []byte
	queue        []*Frame
	queuedBytes  int
	blockedSince time.Time // when the sink last took anything, while unsent is not empty

	heartbeatAt    time.Time // when the next heartbeat is due
	warnTokenAt    time.Time // when the client is warned that its token expires; zero after the warning
	tokenExpiresAt time.Time // by this process's clock
	tokenExpiry    time.Time // the same by the clock of Options.Now
}

// deliverAdded delivers those frames of a log that were added to the stream's shard since it
// subscribed. added is the number of frames that had been added when they were taken.
func (s *Stream) deliverAdded(logID room.LogID, frames []*Frame, added int) {
	if i, ok := s.cursor.find(logID); ok {
		n := max(0, added-s.subscriptions[i].since)
		s.deliver(logID, frames[max(0, len(frames)-n):])
	}
}

// deliver delivers frames of a log, as many as possible in one write.
func (s *Stream) deliver(logID room.LogID, frames []*Frame) {
	var take []*Frame
	for len(frames) > 0 && !s.closing {
		take, frames = s.next(logID, frames)
		s.send(take...)
	}
	if len(s.queue) > maxQueued || s.queuedBytes > maxQueuedBytes {
		s.closeSlow()
	}
}

// next returns the frames at the beginning that the stream takes, and those that follow. The caller
// sends the former before it calls next again, because frames are shed according to the queue.
func (s *Stream) next(logID room.LogID, frames []*Frame) (take, rest []*Frame) {
	i, ok := s.cursor.find(logID)
	if !ok || !s.started {
		return nil, nil
	}
	sub := &s.subscriptions[i]
	bytes := 0 // of the frames before f
	for n, f := range frames {
		switch {
		case n == maxRun, bytes >= chunkBytes, n > 0 && f.seq == 0 && s.blocked():
			return frames[:n], frames[n:]
		case f.seq == 0 && s.takesEphemeral(f), f.seq > 0 && sub.live && f.seq == sub.sentSeq+1:
			bytes += len(f.data)
			if f.seq > 0 {
				sub.sentSeq = f.seq
			}
		case n > 0:
			return frames[:n], frames[n:]
		case f.seq > 0 && sub.live && f.seq > sub.sentSeq+1:
			sub.live = false
			s.catchUp(logID)
			return nil, frames[1:]
		default:
			return nil, frames[1:]
		}
	}
	return frames, nil
}

// takesEphemeral reports whether the stream takes an event that is not stored: not if it is for
// others, or is shed because the client is behind.
func (s *Stream) takesEphemeral(f *Frame) bool {
	if f.dataFor(s.user) == nil {
		return false
	}
	if s.blocked() && (len(s.queue) > maxQueued/8*f.shedAbove || s.queuedBytes > maxQueuedBytes/8*f.shedAbove) {
		s.hub.stats.shed.Add(1)
		return false
	}
	return true
}

// catchUp delivers the events of a log that the stream lacks, as many at a time as the sink takes,
// and makes the stream live when it lacks none.
func (s *Stream) catchUp(logID room.LogID) {
	for !s.blocked() && !s.closing && s.started {
		i, ok := s.cursor.find(logID)
		if !ok || s.subscriptions[i].live || s.subscriptions[i].waiting {
			return
		}
		sub := &s.subscriptions[i]
		next := sub.topic.replayAfter(sub.sentSeq, func() {
			s.worker.do(func() { s.resumeCatchUp(logID) })
		})
		switch {
		case next.pending:
			sub.waiting = true
			return
		case next.oldestSeq > 0:
			s.closeTrimmed(logID, next.oldestSeq)
			return
		}
		sub.live = next.live
		if n := len(next.frames); n > 0 {
			sub.sentSeq = next.frames[n-1].seq
			s.send(next.frames...)
		}
	}
}

// resumeCatchUp continues catchUp when the topic has read the events that the stream waits for, or
// has found that the log was trimmed.
func (s *Stream) resumeCatchUp(logID room.LogID) {
	if i, ok := s.cursor.find(logID); ok {
		s.subscriptions[i].live, s.subscriptions[i].waiting = false, false
		s.catchUp(logID)
	}
}

// catchUpAll calls catchUp for all logs of the stream.
func (s *Stream) catchUpAll() {
	for i := 0; i < len(s.cursor) && !s.blocked(); i++ {
		s.catchUp(s.cursor[i].Log)
	}
}

// notify sends an event to this stream alone.
func (s *Stream) notify(b room.Body) {
	if !s.closing {
		s.send(encodeBody(b))
	}
}

// send writes frames, and queues those that the sink does not take.
func (s *Stream) send(frames ...*Frame) {
	for s.started && !s.blocked() && len(frames) > 0 {
		buf := s.worker.buf[:0]
		for len(frames) > 0 && len(buf) < chunkBytes {
			buf = s.appendFrame(buf, frames[0])
			frames = frames[1:]
		}
		s.worker.buf = buf
		if !s.write(buf) {
			return
		}
	}
	for _, f := range frames {
		s.queuedBytes += len(f.dataFor(s.user))
	}
	s.queue = append(s.queue, frames...)
}

// appendFrame appends a frame as this stream sends it, with the id that its client resumes from.
func (s *Stream) appendFrame(b []byte, f *Frame) []byte {
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
	from := len(b)
	b = append(b, f.dataFor(s.user)...)
	if s.gzip != nil && f.log != 0 {
		s.share(f, from, len(b))
	}
	return b
}

// share records that a part of the next write is an event of a log, which others get as well. Events
// for some users, or of an inbox, are not compressed together with others: see deflateOwn.
func (s *Stream) share(f *Frame, from, to int) {
	log := f.log
	if i, ok := s.cursor.find(f.log); !ok || f.audience != nil || s.subscriptions[i].presence == 0 {
		log = 0
	}
	s.worker.shared = appendSpan(s.worker.shared, span{from, to, log})
}

// write writes events. It reports false if the stream is closed because of an error.
func (s *Stream) write(b []byte) bool { return s.output(s.compress(b)) }

// output hands bytes to the sink and stores those that it does not take in unsent. It reports false
// if the stream is closed because of an error.
func (s *Stream) output(b []byte) bool {
	n, err := s.sink.write(b)
	if err != nil {
		s.close()
		return false
	}
	// The heartbeat is due a second early, because tick runs only once a second.
	s.heartbeatAt = s.worker.now.Add(s.hub.opts.Heartbeat - time.Second)
	if n < len(b) {
		s.unsent = append(s.unsent[:0], b[n:]...)
		s.blockedSince = s.worker.now
	}
	return true
}

// compress returns events as they are written, which is compressed if the stream is. A stream that
// is closing writes nothing after its last event.
func (s *Stream) compress(b []byte) []byte {
	if s.gzip == nil {
		return b
	}
	w := s.worker
	w.compressed = s.gzip.appendTo(w.compressed[:0], b, w.shared, w.compressor)
	if s.closing {
		w.compressed = s.gzip.appendEnd(w.compressed)
	}
	w.shared = w.shared[:0]
	return w.compressed
}

// blocked reports whether the sink takes nothing at the moment.
func (s *Stream) blocked() bool { return len(s.unsent) > 0 || s.closed }

// writable continues to write when the sink can take more.
func (s *Stream) writable() {
	if s.closed || !s.started {
		return
	}
	if !s.writeUnsent() {
		return
	}
	s.flushQueue()
	switch {
	case s.blocked():
	case s.closing:
		s.close()
	default:
		s.catchUpAll()
	}
}

// writeUnsent writes what the sink did not take before, and reports whether it has taken it all
// now.
func (s *Stream) writeUnsent() bool {
	if len(s.unsent) == 0 {
		return true
	}
	n, err := s.sink.write(s.unsent)
	if err != nil {
		s.close()
		return false
	}
	if n > 0 {
		s.blockedSince = s.worker.now
	}
	if n < len(s.unsent) {
		s.unsent = s.unsent[:copy(s.unsent, s.unsent[n:])]
		return false
	}
	s.unsent = nil // a stream without a backlog holds no buffer
	return true
}

// flushQueue writes the queued frames.
func (s *Stream) flushQueue() {
	queue := s.queue
	s.queue, s.queuedBytes = nil, 0
	s.send(queue...)
}

// tick does what is due: it closes the stream if its client reads nothing or its token has expired,
// warns the client that its token will expire, and sends heartbeats. It is called once a second.
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

// setTokenExpiry sets when the session's token expires, by the clock of Options.Now.
func (s *Stream) setTokenExpiry(expiresAt time.Time) {
	if expiresAt.Equal(s.tokenExpiry) {
		return // its client may have been warned already
	}
	s.tokenExpiry = expiresAt
	// time.Now has a monotonic clock reading, and so has the sum: setting the wall clock does not
	// close streams.
	s.tokenExpiresAt = time.Now().Add(expiresAt.Sub(s.hub.opts.Now()))
	s.warnTokenAt = s.tokenExpiresAt.Add(-room.TokenWarning)
}

// streamHead returns the first bytes of a stream: how long its client waits before it reconnects.
// The time is different for each stream, so that clients that lost their streams together do not
// reconnect together.
func streamHead(retry time.Duration) []byte {
	spread := retry/2 + rand.N(retry)
	b := append([]byte(nil), "retry: "...)
	b = strconv.AppendInt(b, spread.Milliseconds(), 10)
	return append(b, "\n\n"...)
}
