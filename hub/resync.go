package hub

import (
	"maps"
	"slices"

	"parlor/room"
)

// Resync makes every topic read its log for events that were committed but not published to this
// hub.
func (h *Hub) Resync() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, t := range h.topics {
		t.resync()
	}
}

// Logs returns the logs that have a topic.
func (h *Hub) Logs() []room.LogID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Keys(h.topics))
}

// Expect tells the hub that logs have reached certain seqs. Their topics read the events up to
// there unless they are published soon, because another node may have committed them. It returns
// how many topics lacked events.
func (h *Hub) Expect(ends ...room.Position) (behind int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, end := range ends {
		if t := h.topics[end.Log]; t != nil && t.expect(end.Seq) {
			behind++
		}
	}
	return behind
}

// Sessions returns the sessions that have a stream here.
func (h *Hub) Sessions() []room.SessionID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Keys(h.streams))
}

// Compare compares streams with what the database says about their sessions, for the case that
// changes were not published to this hub. A stream that differs is asked to reconnect, and its
// successor starts from the database. A stream that has changed since the standings were read may
// reconnect without need.
func (h *Hub) Compare(standings []room.Standing) {
	for _, st := range standings {
		h.withStream(st.Session, func(s *Stream) { s.compare(st) })
	}
}

// compare is Hub.Compare for one stream. One that has not started is based on a newer read.
func (s *Stream) compare(st room.Standing) {
	switch {
	case s.closing || !s.started:
	case st.StreamNo > s.streamNo:
		s.applyOpened(room.NewStream{Session: st.Session, StreamNo: st.StreamNo})
	case st.Ended || !slices.Equal(st.Presences, s.presences()):
		s.hub.stats.outdated.Add(1)
		s.closeWith(room.Reconnect{})
	default:
		s.setTokenExpiry(st.TokenExpiresAt)
	}
}

// presences returns the presences of the session as the stream knows them, in ascending order.
func (s *Stream) presences() (all []room.PresenceID) {
	for _, sub := range s.subscriptions {
		if sub.presence != 0 {
			all = append(all, sub.presence)
		}
	}
	slices.Sort(all)
	return all
}
