package room

import (
	"slices"
	"time"
)

// MemberState says whether a member has a stream, as far as the room has published it.
type MemberState string

const (
	MemberOnline       MemberState = "online"       // at least one of the user's sessions in the room has a stream
	MemberReconnecting MemberState = "reconnecting" // none has
)

// ReconnectingAfter is how long a member has no stream before it is published. Clients that reload a
// page, change the network, or move away from a stopping server are back before.
const ReconnectingAfter = 3 * time.Second

// firstState returns the state of a user who becomes a member.
func (c Config) firstState() MemberState {
	if !c.MemberStates {
		return ""
	}
	return MemberOnline
}

// PublishStates publishes which members are reconnecting now, and which are not any more. A room
// whose log has no names of members publishes nothing.
func (r Room) PublishStates(reconnecting, reconnected []User, now time.Time) (Room, []Event) {
	var events []Event
	if !r.publishesNames() {
		return r, nil
	}
	for list := range slices.Chunk(reconnecting, MaxMembersPerEvent) {
		r, events = r.append(events, now, MembersReconnecting{MemberList: list})
	}
	for list := range slices.Chunk(reconnected, MaxMembersPerEvent) {
		r, events = r.append(events, now, MembersReconnected{MemberList: list})
	}
	return r, events
}
