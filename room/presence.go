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

// PresenceMode says how the joins and leaves of members are published.
type PresenceMode string

const (
	PresenceFull    PresenceMode = "full"    // one by one, and from PresenceBatchThreshold on in batches
	PresenceBatched PresenceMode = "batched" // in batches, about once a second
	PresenceCounts  PresenceMode = "counts"  // as the number of members, about once a second
	PresenceNone    PresenceMode = "none"    // not at all
)

// MemberEvents is what a room's log says about its members at a point in the log. It changes with
// the settings and with the size of the room, and each change is an event of the log.
type MemberEvents string

const (
	MemberEventsNames  MemberEvents = "names"  // who joins and leaves
	MemberEventsCounts MemberEvents = "counts" // how many members there are
	MemberEventsNone   MemberEvents = "none"
)

// memberEvents returns what the log of a room should say, which says something now. A room that is
// too large for names gets them back when it has at most half as many members as may be named:
// whenever they come back, each client has to read the list of members again.
func (c Config) memberEvents(now MemberEvents, members int) MemberEvents {
	named := c.NamesUpTo
	if now != MemberEventsNames {
		named /= 2
	}
	switch {
	case c.Presence == PresenceNone:
		return MemberEventsNone
	case c.Presence == PresenceCounts, members > named:
		return MemberEventsCounts
	}
	return MemberEventsNames
}

// FirstMemberEvents returns what the log of a new room says about members.
func (c Config) FirstMemberEvents() MemberEvents { return c.memberEvents(MemberEventsNames, 0) }

// changesMemberEvents reports whether the log is about to say something else about members.
func (r Room) changesMemberEvents() bool {
	return r.Config.memberEvents(r.MemberEvents, r.MemberCount) != r.MemberEvents
}

// publishesNames reports whether each join and leave is published, at once or in a batch.
func (r Room) publishesNames() bool { return r.MemberEvents == MemberEventsNames }

// BatchesJoin reports whether the next join is published in a batch: because the room is large, or
// its settings say so, or others are pending, which must not be published after it.
func (r Room) BatchesJoin() bool {
	return r.publishesNames() && (r.Config.Presence == PresenceBatched || r.MemberCount >= PresenceBatchThreshold ||
		r.PresencePending || r.changesMemberEvents())
}

// BatchesLeave is BatchesJoin for members who leave. If none stays, nothing is left to a batch.
func (r Room) BatchesLeave(requests []LeaveRequest) bool {
	return r.BatchesJoin() && !r.emptiedBy(requests)
}

// withPending returns a room whose members or settings have changed, with PresencePending set if the
// next flush has anything to publish. batched says that joins or leaves are left to a batch.
func (r Room) withPending(batched bool) Room {
	r.PresencePending = r.PresencePending || batched || r.MemberEvents == MemberEventsCounts || r.changesMemberEvents()
	return r
}

// FlushesBeforeLeave reports whether the pending joins and leaves are published before members
// leave: because the room may then be empty, and none may be pending when a room ends; or because
// the join of one of them is pending. Each join and each leave is published, even of users who stay
// for a moment: a client may have read the list of members in between.
func (r Room) FlushesBeforeLeave(requests []LeaveRequest) bool {
	if !r.publishesNames() {
		return false
	}
	if slices.ContainsFunc(requests, func(l LeaveRequest) bool { return l.Last && l.JoinPending }) {
		return true
	}
	return r.PresencePending && r.emptiedBy(requests)
}

// emptiedBy reports whether no member stays after members leave.
func (r Room) emptiedBy(requests []LeaveRequest) bool {
	leaving := 0
	for _, request := range requests {
		if request.Last {
			leaving++
		}
	}
	return leaving > 0 && leaving >= r.MemberCount
}

// FlushPresence publishes what is pending: a batch of joins, in the order of joining, and leaves; or
// the number of members, if the log of the room has no names or is about to have none.
func (r Room) FlushPresence(joined []Member, left []LeftMember, now time.Time) (Room, []Event) {
	if n := len(joined); n > 0 {
		r.LastAt = max(r.LastAt, joined[n-1].JoinedAt)
	}
	r.PresencePending = false
	if !r.publishesNames() || r.changesMemberEvents() {
		return r.publishCount(nil, now)
	}
	var events []Event
	count := r.MemberCount - len(joined) + len(left) // according to the log
	for len(joined) > 0 {
		n := fitting(joined)
		count += n
		r, events = r.append(events, now, MembersJoined{MemberList: joined[:n:n], MemberCount: new(count)})
		joined = joined[n:]
	}
	return r.publishLeft(events, left, count, now)
}

// publishLeft publishes leaves. count is the number of members according to the log.
func (r Room) publishLeft(events []Event, left []LeftMember, count int, now time.Time) (Room, []Event) {
	for list := range slices.Chunk(left, MaxMembersPerEvent) {
		count -= len(list)
		r, events = r.append(events, now, MembersLeft{MemberList: list, MemberCount: new(count)})
	}
	return r, events
}

// publishCount publishes the number of members, unless nothing is published about members, and sets
// what the log says about members from here on.
func (r Room) publishCount(events []Event, now time.Time) (Room, []Event) {
	before := r.MemberEvents
	r.MemberEvents = r.Config.memberEvents(before, r.MemberCount)
	if r.MemberEvents == MemberEventsNone && before == MemberEventsNone {
		return r, events
	}
	return r.append(events, now, MembersCounted{MemberCount: r.MemberCount, MemberEvents: r.MemberEvents})
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
