package hub

import (
	"cmp"
	"time"

	"parlor/room"
)

// StreamStart is what a new stream begins with.
type StreamStart struct {
	room.OpenedStream
	// Cursor is what the client sent; nil means that it sent none.
	Cursor Cursor
	// CursorInvalid reports that the client sent something that is not a cursor.
	CursorInvalid  bool
	TokenExpiresAt time.Time
	// RequestID names the request that opened the stream, in the log.
	RequestID string
}

// change does something to the stream's rooms, or after Start if that has yet
// to come.
func (s *Stream) change(do func()) {
	if s.started {
		do()
		return
	}
	s.beforeStart = append(s.beforeStart, do)
}

// arrive follows the log of a room that the session came into. What tells of that
// carries the log in its cursor: a client that loses the stream before the log
// brings anything is still told why it is out, if it is when it comes back.
func (s *Stream) arrive(a room.Joined) {
	if s.isStale(a.Generation, a.Presence) {
		return
	}
	s.worker.follow(s, a.Generation, a.From, a.Presence)
	for _, changed := range a.StateChanges() {
		s.notify(changed)
	}
	s.catchUp(a.Generation)
}

// depart stops following the log of a room that the session went out of.
func (s *Stream) depart(d room.Left) {
	if s.worker.unfollow(s, d.Generation, d.Presence) {
		s.notify(d.StateChange())
	}
}

// Abort ends a stream that will not start.
func (s *Stream) Abort() {
	s.worker.do(s.close)
}

// cancel ends a stream that was given its number and cannot start. It runs on
// the worker.
func (s *Stream) cancelStart(o StreamStart) {
	s.close()
	s.passStreamNo(o.StreamNo)
}

// tooLate is for a stream that was given its number when its worker had ended.
func (s *Stream) rejectStart(o StreamStart) error {
	s.hub.opts.OnStreamEnd(s.session, o.StreamNo, s.hub.now())
	return ErrClosed
}

// start begins to write. It runs on the worker.
func (s *Stream) start(o StreamStart, to sink) {
	s.sink = to
	if s.closing {
		to.close()
		s.passStreamNo(o.StreamNo)
		return
	}
	w := s.worker
	w.streams[s] = struct{}{}
	s.streamNo = max(s.streamNo, o.StreamNo)
	s.epoch = o.Epoch
	if s.tokenExpiresAt.IsZero() { // not renewed meanwhile
		s.renewed(o.TokenExpiresAt)
	}
	early := s.queue
	s.queue, s.queuedBytes = nil, 0
	s.started = true
	s.startedAt, s.requestID = w.now, o.RequestID

	rooms := make([]room.Room, 0, len(o.Presences))
	resets := append(s.resumeRooms(o, &rooms), s.resumeInbox(o)...)
	if !s.write(streamHead(s.hub.opts.Retry)) {
		return
	}
	s.send(encodeBody(room.SessionReady{
		SessionID: s.session,
		Resumed:   o.Cursor != nil && !o.CursorInvalid && !o.Foreign && len(resets) == 0,
		Rooms:     rooms,
	}))
	for _, r := range resets {
		s.send(encodeBody(r))
	}
	s.sendLeft(o)
	for _, do := range s.beforeStart {
		do()
	}
	s.beforeStart = nil
	s.send(early...)
	for i := 0; i < len(s.subscriptions) && !s.blocked(); i++ {
		s.catchUp(s.cursor[i].Log)
	}
}

// passOn gives the number of a stream that ended before it began to its
// successor, if it has one: the database knows the session by the number it gave out last.
func (s *Stream) passStreamNo(streamNo int64) {
	h := s.hub
	h.mu.RLock()
	successor := h.streams[s.session]
	h.mu.RUnlock()
	if successor == nil {
		h.opts.OnStreamEnd(s.session, streamNo, h.now())
		return
	}
	successor.worker.do(func() {
		successor.streamNo = max(successor.streamNo, streamNo)
		if successor.detached {
			h.opts.OnStreamEnd(s.session, streamNo, h.now())
		}
	})
}

// place finds where the stream goes on in each room's log, and what cannot be
// continued. Nothing is written yet, so that sessionReady carries the cursor
// the stream begins at.
func (s *Stream) resumeRooms(o StreamStart, rooms *[]room.Room) (resets []room.Body) {
	for _, a := range o.Presences {
		from := a.From
		sent, known := o.Cursor.Seq(a.Room.Generation)
		from = max(from, sent)
		var reason room.ResetReason
		switch {
		case o.Foreign:
			reason = room.ResetEpochChanged
		case o.CursorInvalid:
			reason = room.ResetCursorInvalid
		case known && sent > a.Room.LastSeq:
			reason = room.ResetCursorAhead
		case from+1 < a.Room.OldestSeq:
			reason = room.ResetLogTrimmed
		}
		if reason != "" {
			from = a.Room.LastSeq
			resets = append(resets, room.RoomReset{
				RoomID: a.Room.ID, Generation: a.Room.Generation, Reason: reason,
				Room: a.Room, OldestSeq: a.Room.OldestSeq,
			})
		}
		s.worker.follow(s, a.Room.Generation, from, a.ID)
		s.expect(a.Room.Generation, a.Room.LastSeq)
		*rooms = append(*rooms, a.Room)
	}
	return resets
}

// placeInbox finds where the stream goes on in the user's inbox: at its own
// cursor, or else where the user's other sessions have come to. Where the cursor
// is of no use, what is still kept and not known to be delivered comes: twice is
// better than never.
func (s *Stream) resumeInbox(o StreamStart) (resets []room.Body) {
	in := o.Inbox
	if in.Log == 0 {
		return nil
	}
	var reason room.ResetReason
	from, known := o.Cursor.Seq(in.Log)
	switch {
	case o.Foreign:
		reason = room.ResetEpochChanged
	case o.CursorInvalid:
		reason = room.ResetCursorInvalid
	case known && from > in.LastSeq:
		reason = room.ResetCursorAhead
	}
	if !known || reason != "" {
		from = in.DeliveredSeq
	}
	if from+1 < in.OldestSeq {
		reason = cmp.Or(reason, room.ResetLogTrimmed)
		from = in.OldestSeq - 1
	}
	if reason != "" {
		resets = append(resets, room.InboxReset{Reason: reason, OldestSeq: in.OldestSeq})
	}
	s.worker.follow(s, in.Log, from, 0)
	if s.inboxTopic != nil {
		s.inboxTopic.seed(in.LastSeq)
		s.releaseInbox()
	}
	s.expect(in.Log, in.LastSeq)
	return resets
}

// expect tells the topic of a log that the stream follows what the log has.
func (s *Stream) expect(log room.LogID, last room.Seq) {
	if i, ok := s.cursor.find(log); ok {
		s.subscriptions[i].topic.expect(last)
	}
}

// tellDepartures tells a client that comes back of the rooms of its cursor that
// it is no longer in, and why.
func (s *Stream) sendLeft(o StreamStart) {
	for _, d := range o.Left {
		s.send(encodeBody(d.StateChange()))
	}
}
