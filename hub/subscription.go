package hub

import (
	"slices"

	"parlor/room"
)

// subscription is a stream's subscription to a log.
type subscription struct {
	topic *topic
	// presence is the session's presence in the room; 0 for an inbox.
	presence room.PresenceID
	// sentSeq is the newest event that was written or queued.
	sentSeq room.Seq
	// since is shard.added at the time of the subscription. The stream does not get the ephemeral
	// events from before, which may wait for a delivery window: its session was not in the room, or
	// had another stream that got them.
	since int
	// live reports that the stream gets events as they are fanned out. Until then it catches up,
	// and ignores events that are fanned out, because it will read them from the log.
	live bool
	// waiting reports that the topic is reading the next events, and will call resumeCatchUp.
	waiting bool
}

// endedPresence is a presence that has ended.
type endedPresence struct {
	log      room.LogID
	presence room.PresenceID
}

// maxEndedPresences bounds how many ended presences a stream remembers. They matter only if the end
// of a presence is applied before its beginning, which then follows some microseconds later.
const maxEndedPresences = 16

// subscribe subscribes the stream to a log, from a seq on, for a presence in its room. The stream
// gets the events that the log has when it catches up. A second call for the same presence does
// nothing.
func (s *Stream) subscribe(logID room.LogID, from room.Seq, presence room.PresenceID) {
	if s.isStale(logID, presence) {
		return
	}
	i, subscribed := s.cursor.find(logID)
	if subscribed {
		// The session left and joined again, and the join is applied before the leave. Events of
		// the earlier presence that were sent are not sent again.
		sub := &s.subscriptions[i]
		sub.presence = presence
		sub.sentSeq = max(sub.sentSeq, from)
		s.cursor[i].Seq = max(s.cursor[i].Seq, from)
		return
	}
	t := s.hub.acquireTopic(logID, s.worker.index, presence != 0)
	shard := &t.shards[s.worker.index]
	shard.streams = append(shard.streams, s)
	s.cursor = slices.Insert(s.cursor, i, room.Position{Log: logID, Seq: from})
	s.subscriptions = slices.Insert(s.subscriptions, i, subscription{
		topic: t, presence: presence, sentSeq: from, since: t.added(s.worker.index),
	})
}

// unsubscribe ends a presence in the room of a log. It reports false if the stream stays subscribed
// because the session has joined the room again.
func (s *Stream) unsubscribe(logID room.LogID, presence room.PresenceID) bool {
	s.recordEnded(logID, presence)
	i, subscribed := s.cursor.find(logID)
	if !subscribed {
		return true
	}
	if s.subscriptions[i].presence > presence {
		return false
	}
	s.removeSubscription(i)
	return true
}

// unsubscribeAll unsubscribes the stream from all logs.
func (s *Stream) unsubscribeAll() {
	for len(s.cursor) > 0 {
		s.removeSubscription(len(s.cursor) - 1)
	}
}

// removeSubscription removes the i-th subscription.
func (s *Stream) removeSubscription(i int) {
	t := s.subscriptions[i].topic
	s.cursor = slices.Delete(s.cursor, i, i+1)
	s.subscriptions = slices.Delete(s.subscriptions, i, i+1)
	shard := &t.shards[s.worker.index]
	at, last := slices.Index(shard.streams, s), len(shard.streams)-1
	shard.streams[at], shard.streams[last] = shard.streams[last], nil
	shard.streams = shard.streams[:last]
	t.release(s.worker.index)
}

// recordEnded records that a presence has ended.
func (s *Stream) recordEnded(logID room.LogID, presence room.PresenceID) {
	if len(s.endedPresences) == maxEndedPresences {
		s.endedPresences = slices.Delete(s.endedPresences, 0, 1)
	}
	s.endedPresences = append(s.endedPresences, endedPresence{logID, presence})
}

// isStale reports whether a presence has ended, or the session has a later one in the same room.
// Changes are applied in any order, so the beginning of such a presence must have no effect. Every
// presence is stale for a detached stream, which would never be unsubscribed again.
func (s *Stream) isStale(logID room.LogID, presence room.PresenceID) bool {
	ended := func(e endedPresence) bool { return e.log == logID && e.presence >= presence }
	if s.detached || slices.ContainsFunc(s.endedPresences, ended) {
		return true
	}
	i, subscribed := s.cursor.find(logID)
	return subscribed && s.subscriptions[i].presence > presence
}
