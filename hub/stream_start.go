package hub

import (
	"cmp"
	"context"
	"math"
	"time"

	"parlor/room"
)

// StreamStart is what a new stream begins with.
type StreamStart struct {
	room.OpenedStream
	// Cursor is the cursor that the client sent; nil if it sent none.
	Cursor Cursor
	// CursorInvalid reports that the client sent something that is not a cursor.
	CursorInvalid  bool
	TokenExpiresAt time.Time
	// Missed returns what the client may have missed that was not stored. It is called once the
	// stream has subscribed, so that nothing is missed in between. It may be nil.
	Missed func(context.Context) ([]room.Body, error)
	// Head is the head of the HTTP reply if the hub has to write it, in one write with the first
	// events. It is not compressed.
	Head []byte
	// Gzip compresses the stream.
	Gzip bool
	// RequestID is the ID of the request that opened the stream, for log lines.
	RequestID string
}

// whenStarted applies a change to the session's rooms, or queues it until the stream starts.
func (s *Stream) whenStarted(apply func()) {
	if s.started {
		apply()
		return
	}
	s.beforeStart = append(s.beforeStart, apply)
}

// applyJoined subscribes the stream to a room that the session has joined, and notifies the client.
// The ids of these events include the room, so that a client that reconnects with one of them is
// notified if the session has left the room in the meantime.
func (s *Stream) applyJoined(j room.Joined) {
	if s.isStale(j.Generation, j.Presence) {
		return
	}
	s.subscribe(j.Generation, j.From, j.Presence)
	for _, changed := range j.StateChanges() {
		s.notify(changed)
	}
	s.catchUp(j.Generation)
}

// applyHeardJoined is applyJoined for a join through another node, which may arrive late. If the
// presence began before the stream, it may also have ended before: then the client reconnects, and
// gets the rooms that the session is in.
func (s *Stream) applyHeardJoined(j room.Joined) {
	i, subscribed := s.cursor.find(j.Generation)
	switch {
	case subscribed && s.subscriptions[i].presence >= j.Presence, s.isStale(j.Generation, j.Presence):
	case j.Presence <= s.lastPresence:
		s.hub.stats.outdated.Add(1)
		s.closeWith(room.Reconnect{})
	default:
		s.applyJoined(j)
	}
}

// applyLeft unsubscribes the stream from a room that the session has left, and notifies the client.
func (s *Stream) applyLeft(l room.Left) {
	if s.unsubscribe(l.Generation, l.Presence) {
		s.notify(l.StateChange())
	}
}

// applyOpened ends the stream if another node has opened a newer one of its session.
func (s *Stream) applyOpened(o room.NewStream) {
	if s.streamNo < o.StreamNo {
		s.closeWith(room.ConnectionStateChanged{State: "disconnected", Event: room.ConnectionSuperseded})
	}
}

// start starts the stream: it subscribes to the logs of the session, and writes sessionReady, a
// reset for each log that could not be resumed, and what has happened since the stream was opened.
// It runs on the worker.
func (s *Stream) start(st *StreamStart, to sink) {
	s.sink = to
	if st.Gzip {
		s.gzip = &gzipMember{}
	}
	if s.closing {
		s.writeEndedBefore(st.Head)
		to.close()
		s.passStreamNo(st.StreamNo)
		return
	}
	s.started = true
	s.worker.streams[s] = struct{}{}
	s.streamNo = max(s.streamNo, st.StreamNo)
	s.epoch = st.Epoch
	s.startedAt, s.requestID = s.worker.now, st.RequestID
	s.lastPresence = st.LastPresence
	if s.tokenExpiresAt.IsZero() { // otherwise the token was renewed after the session was read
		s.setTokenExpiry(st.TokenExpiresAt)
	}
	queued := s.queue
	s.queue, s.queuedBytes = nil, 0

	// The stream subscribes before anything is written, because the id of sessionReady is the
	// cursor at which the stream begins.
	rooms, resets := s.subscribeRooms(st)
	resets = append(resets, s.subscribeInbox(st)...)
	first := []room.Body{room.SessionReady{
		SessionID: s.session,
		Resumed:   st.Cursor != nil && !st.CursorInvalid && !st.Foreign && len(resets) == 0,
		Rooms:     rooms,

		HeartbeatSeconds: int(math.Ceil(s.hub.opts.Heartbeat.Seconds())),
	}}
	first = append(first, resets...)
	for _, l := range st.Left { // the rooms of the client's cursor that the session is no longer in
		first = append(first, l.StateChange())
	}
	if !s.writeFirst(st.Head, first) {
		return
	}
	for _, apply := range s.beforeStart {
		apply()
	}
	s.beforeStart = nil
	if !s.closing {
		s.send(queued...)
	}
	s.catchUpAll()
	if st.Missed != nil {
		s.hub.background(func(ctx context.Context) { s.deliverMissed(ctx, st.Missed) })
	}
}

// missedTimeout bounds the time in which a stream finds out what its client has missed.
const missedTimeout = 10 * time.Second

// deliverMissed delivers what the client has missed. If that cannot be found out, the client
// reconnects.
func (s *Stream) deliverMissed(ctx context.Context, missed func(context.Context) ([]room.Body, error)) {
	ctx, cancel := context.WithTimeout(ctx, missedTimeout)
	defer cancel()
	bodies, err := missed(ctx)
	s.worker.do(func() {
		if err != nil {
			s.closeWith(room.Reconnect{})
		}
		for _, b := range bodies {
			s.notify(b)
		}
	})
}

// writeFirst writes the first events of the stream, all at once: the id of sessionReady already says
// what those after it explain, so a client must not get it without them. It reports false if the
// stream is closed because of an error.
func (s *Stream) writeFirst(head []byte, first []room.Body) bool {
	buf := append(s.worker.buf[:0], streamHead(s.hub.opts.Retry)...)
	for _, b := range first {
		buf = s.appendFrame(buf, encodeBody(b))
	}
	return s.writeBeginning(head, buf)
}

// writeEndedBefore writes to a stream that ended before it started: only the event that says why.
// Without it, the client of a stream that was superseded would reconnect, and supersede the newer
// one. The event has no id, because the stream has no cursor; the client keeps its own.
func (s *Stream) writeEndedBefore(head []byte) {
	buf := append(s.worker.buf[:0], streamHead(s.hub.opts.Retry)...)
	if s.endedBefore != nil {
		buf = append(buf, encodeBody(s.endedBefore).data...)
	}
	s.writeBeginning(head, buf)
}

// writeBeginning writes the head of the reply and events, which are in the worker's buffer, at once.
// It reports false if the stream is closed because of an error.
func (s *Stream) writeBeginning(head, events []byte) bool {
	s.worker.buf = events
	return s.output(append(head, s.compress(events)...))
}

// subscribeRooms subscribes the stream to the session's rooms. It returns them, and a roomReset for
// each whose events do not continue at the client's cursor.
func (s *Stream) subscribeRooms(st *StreamStart) (rooms []room.Room, resets []room.Body) {
	rooms = make([]room.Room, 0, len(st.Presences))
	for _, p := range st.Presences {
		rooms = append(rooms, p.Room)
		sent, hasSent := st.Cursor.Seq(p.Room.Generation)
		from := max(p.From, sent)
		var reason room.ResetReason
		switch {
		case st.Foreign:
			reason = room.ResetEpochChanged
		case st.CursorInvalid:
			reason = room.ResetCursorInvalid
		case hasSent && sent > p.Room.LastSeq:
			reason = room.ResetCursorAhead
		case from+1 < p.Room.OldestSeq:
			reason = room.ResetLogTrimmed
		}
		if reason != "" {
			from = p.Room.LastSeq
			resets = append(resets, room.RoomReset{
				RoomID: p.Room.ID, Generation: p.Room.Generation, Reason: reason,
				Room: p.Room, OldestSeq: p.Room.OldestSeq,
			})
		}
		s.subscribe(p.Room.Generation, from, p.ID)
		s.expect(p.Room.Generation, p.Room.LastSeq)
	}
	return rooms, resets
}

// subscribeInbox subscribes the stream to the user's inbox: from the client's cursor, or else from
// what was delivered to the user's other sessions. It returns an inboxReset if the events do not
// continue at the client's cursor. The client then gets all stored events that were perhaps not
// delivered, because an event that is delivered twice is better than one that is lost.
func (s *Stream) subscribeInbox(st *StreamStart) (resets []room.Body) {
	in := st.Inbox
	if in.Log == 0 {
		return nil
	}
	var reason room.ResetReason
	from, hasSent := st.Cursor.Seq(in.Log)
	switch {
	case st.Foreign:
		reason = room.ResetEpochChanged
	case st.CursorInvalid:
		reason = room.ResetCursorInvalid
	case hasSent && from > in.LastSeq:
		reason = room.ResetCursorAhead
	}
	if !hasSent || reason != "" {
		from = in.DeliveredSeq
	}
	if from+1 < in.OldestSeq {
		reason = cmp.Or(reason, room.ResetLogTrimmed)
		from = in.OldestSeq - 1
	}
	if reason != "" {
		resets = append(resets, room.InboxReset{Reason: reason, OldestSeq: in.OldestSeq})
	}
	s.subscribe(in.Log, from, 0)
	if s.inboxTopic != nil {
		s.inboxTopic.seed(in.LastSeq)
		s.releaseInbox()
	}
	s.expect(in.Log, in.LastSeq)
	return resets
}

// releaseInbox releases the topic that OpenStream acquired.
func (s *Stream) releaseInbox() {
	if s.inboxTopic != nil {
		s.inboxTopic.release(s.worker.index)
		s.inboxTopic = nil
	}
}

// expect makes the topic of a log read the events up to a seq, unless they are published soon.
func (s *Stream) expect(logID room.LogID, seq room.Seq) {
	if i, ok := s.cursor.find(logID); ok {
		s.subscriptions[i].topic.expect(seq)
	}
}

// Abort closes a stream that was opened and will not start.
func (s *Stream) Abort() {
	s.worker.do(s.close)
}

// abortStart closes a stream whose connection turned out to be unusable. It runs on the worker.
func (s *Stream) abortStart(st *StreamStart) {
	s.close()
	s.passStreamNo(st.StreamNo)
}

// refuseStart ends a stream that cannot start because the hub is closed.
func (s *Stream) refuseStart(st *StreamStart) error {
	s.hub.opts.OnStreamEnd(s.session, st.StreamNo, time.Now())
	return ErrClosed
}

// passStreamNo reports the end of a stream that was closed before it started. If the session has a
// newer stream, that one takes over the number: the database only accepts the end of the stream
// whose number it gave out last, and the newer stream may have a lower one.
func (s *Stream) passStreamNo(streamNo int64) {
	h := s.hub
	h.mu.RLock()
	successor := h.streams[s.session]
	h.mu.RUnlock()
	if successor == nil {
		h.opts.OnStreamEnd(s.session, streamNo, time.Now())
		return
	}
	successor.worker.do(func() {
		successor.streamNo = max(successor.streamNo, streamNo)
		if successor.detached {
			h.opts.OnStreamEnd(s.session, streamNo, time.Now())
		}
	})
}
