package room

import (
	"slices"
	"time"
)

const (
	// PresenceBatchThreshold is the number of members from which joins and leaves are published in
	// batches, about once a second, instead of one by one: otherwise ten thousand people who join a
	// room would send ten thousand events to each other. The member list and the member count are
	// always exact.
	PresenceBatchThreshold = 100
	// MaxMembersPerEvent and MaxMembersEventBytes bound the number of members in one event, and
	// about how many bytes they have together. A stream that is behind by more than a few such
	// events is closed.
	MaxMembersPerEvent   = 500
	MaxMembersEventBytes = 128 << 10
)

// BatchesPresence reports whether the next join or leave is published in a batch: because the room
// is large, or because others are pending, which must not be published after it.
func (r Room) BatchesPresence() bool {
	return r.MemberCount >= PresenceBatchThreshold || r.PresencePending
}

// FlushesBeforeLeave reports whether the pending joins and leaves are published before members
// leave: because the room may then be empty, and none may be pending when a room ends; or because
// the join of one of them is pending. Each join and each leave is published, even of users who stay
// for a moment: a client may have read the list of members in between.
func (r Room) FlushesBeforeLeave(requests []LeaveRequest) bool {
	leaving := 0
	for _, request := range requests {
		if request.Last && request.JoinPending {
			return true
		}
		if request.Last {
			leaving++
		}
	}
	return r.PresencePending && leaving > 0 && leaving >= r.MemberCount
}

// FlushPresence publishes a batch of joins, in the order of joining, and leaves.
func (r Room) FlushPresence(joined []Member, left []LeftMember, now time.Time) (Room, []Event) {
	var events []Event
	if n := len(joined); n > 0 {
		r.LastAt = max(r.LastAt, joined[n-1].JoinedAt)
	}
	for len(joined) > 0 {
		n := fitting(joined)
		r, events = r.append(events, now, MembersJoined{MemberList: joined[:n:n]})
		joined = joined[n:]
	}
	for list := range slices.Chunk(left, MaxMembersPerEvent) {
		r, events = r.append(events, now, MembersLeft{MemberList: list})
	}
	r.PresencePending = false
	return r, events
}

// fitting returns how many members, at least one, are in the next event.
func fitting(joined []Member) int {
	size := 0
	for n, m := range joined {
		if size += m.sizeJSON(); n > 0 && (n == MaxMembersPerEvent || size > MaxMembersEventBytes) {
			return n
		}
	}
	return len(joined)
}
