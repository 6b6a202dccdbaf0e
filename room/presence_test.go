package room_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parlor/room"
)

// presenceModel plays the store and a client for one room. The store keeps the members with whether
// their join was published, and the leaves that were not. The client lists the members at times, and
// applies the events after it.
type presenceModel struct {
	room.Room
	times roomTimes
	in    map[room.UserID]*presenceRow
	gone  map[room.UserID]bool // left, but not yet published

	says   room.MemberEvents         // what the log says about members
	inLog  map[room.UserID]bool      // members according to the log, while it has names
	listed map[room.UserID]bool      // a list and the events since then; nil if it is out of date
	counts map[room.MemberEvents]int // how often each was published
}

type presenceRow struct {
	joinedAt  room.Instant
	announced bool
}

func (m *presenceModel) members() map[room.UserID]bool {
	all := make(map[room.UserID]bool)
	for id := range m.in {
		all[id] = true
	}
	return all
}

func (m *presenceModel) read(t *rapid.T, events []room.Event) {
	for _, e := range events {
		m.times.check(t, e)
		switch b := e.Body.(type) {
		case room.MembersJoined:
			for _, member := range b.MemberList {
				if m.inLog[member.ID] {
					t.Fatalf("%s joined twice", member.ID)
				}
				m.inLog[member.ID] = true
				if m.listed != nil {
					m.listed[member.ID] = true
				}
			}
			m.checkCount(t, *b.MemberCount)
		case room.MembersLeft:
			for _, member := range b.MemberList {
				if !m.inLog[member.ID] {
					t.Fatalf("%s left without having joined", member.ID)
				}
				delete(m.inLog, member.ID)
				delete(m.listed, member.ID)
			}
			m.checkCount(t, *b.MemberCount)
		case room.MembersCounted:
			if b.MemberCount != len(m.in) {
				t.Fatalf("%d members were counted, want %d", b.MemberCount, len(m.in))
			}
			if m.says == room.MemberEventsNames && b.MemberEvents == room.MemberEventsNames {
				t.Fatal("a log that has names said so")
			}
			m.says, m.listed, m.inLog = b.MemberEvents, nil, nil
			if m.says == room.MemberEventsNames { // the client lists them again
				m.inLog, m.listed = m.members(), m.members()
			}
		}
		m.counts[m.says]++
	}
	if m.says != m.MemberEvents {
		t.Fatalf("the log has %s, but the room %s", m.says, m.MemberEvents)
	}
}

// checkCount compares the number in an event with the members according to the log.
func (m *presenceModel) checkCount(t *rapid.T, count int) {
	if m.says != room.MemberEventsNames || count != len(m.inLog) {
		t.Fatalf("an event with names says %d members in a log with %s of %d", count, m.says, len(m.inLog))
	}
}

func (m *presenceModel) flush(t *rapid.T) {
	var joined []room.Member
	var left []room.LeftMember
	for id, row := range m.in {
		if !row.announced {
			joined = append(joined, room.Member{User: room.User{ID: id}, JoinedAt: row.joinedAt})
			row.announced = true
		}
	}
	slices.SortFunc(joined, func(a, b room.Member) int { return int(a.JoinedAt - b.JoinedAt) })
	for id := range m.gone {
		left = append(left, room.LeftMember{User: room.User{ID: id}})
	}
	clear(m.gone)
	if (len(joined)+len(left) > 0) && !m.PresencePending {
		t.Fatalf("%d joined and %d left, but PresencePending is false", len(joined), len(left))
	}
	var events []room.Event
	m.Room, events = m.FlushPresence(joined, left, m.times.now(t))
	m.read(t, events)
	if m.PresencePending || (m.says == room.MemberEventsNames && (!maps.Equal(m.members(), m.inLog) || !maps.Equal(m.members(), m.listed))) {
		t.Fatalf("members %v according to the log, %v according to a list and events, but %v in the room", m.inLog, m.listed, m.members())
	}
	// What the log says is what the settings and the size want, with a margin when names return.
	var want []room.MemberEvents
	switch c := m.Config; {
	case c.Presence == room.PresenceNone:
		want = append(want, room.MemberEventsNone)
	case c.Presence == room.PresenceCounts || len(m.in) > c.NamesUpTo:
		want = append(want, room.MemberEventsCounts)
	case len(m.in) <= c.NamesUpTo/2:
		want = append(want, room.MemberEventsNames)
	default:
		want = append(want, room.MemberEventsNames, room.MemberEventsCounts)
	}
	if !slices.Contains(want, m.says) {
		t.Fatalf("the log has %s with %d members and %+v", m.says, len(m.in), m.Config)
	}
}

func (m *presenceModel) join(t *rapid.T, id room.UserID) {
	if m.gone[id] {
		m.flush(t)
	}
	batched := m.BatchesJoin()
	var c room.Change
	var err error
	m.Room, c, err = m.Join(room.JoinRequest{Session: room.SessionID(id), User: room.User{ID: id}, MaxRooms: 1}, m.times.now(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := m.says == room.MemberEventsNames && !batched; len(c.Events) > 0 != want {
		t.Fatalf("%d events for a join, want one: %t, with %d members", len(c.Events), want, len(m.in))
	}
	m.in[id] = &presenceRow{m.LastAt, !batched}
	m.read(t, c.Events)
}

func (m *presenceModel) leave(t *rapid.T, ids []room.UserID) {
	var requests []room.LeaveRequest
	for _, id := range ids {
		if row := m.in[id]; row != nil {
			requests = append(requests, room.LeaveRequest{User: room.User{ID: id}, Last: true, JoinPending: !row.announced})
		}
	}
	if len(requests) == 0 {
		return
	}
	if m.FlushesBeforeLeave(requests) {
		m.flush(t)
	}
	batched := m.BatchesLeave(requests)
	for _, request := range requests {
		delete(m.in, request.User.ID)
		if batched {
			m.gone[request.User.ID] = true
		}
	}
	var c room.Change
	m.Room, c = m.Leave(requests, room.ReasonLeft, "", m.times.now(t))
	m.read(t, c.Events)
	if len(c.Events) > 1 {
		t.Fatalf("%d events for %d leave requests", len(c.Events), len(requests))
	}
	if len(m.in) == 0 && (len(m.gone) > 0 || m.says == room.MemberEventsNames && len(m.inLog) > 0) {
		t.Fatalf("the room is empty, but %v are pending and %v are in the log", m.gone, m.inLog)
	}
}

// TestPresenceMatchesMembers makes users join and leave around PresenceBatchThreshold while the
// settings change, and compares the members according to the log with those in the room whenever the
// room has flushed. A client that lists the members at any time, and applies the events after it,
// must come to the same result, or be told that it cannot.
func TestPresenceMatchesMembers(t *testing.T) {
	t.Parallel()
	published := make(map[room.MemberEvents]int)
	rapid.Check(t, func(t *rapid.T) {
		early := rapid.SampledFrom([]int{room.PresenceBatchThreshold - 3, 0, 3}).Draw(t, "early")
		mode := rapid.SampledFrom([]room.PresenceMode{room.PresenceFull, room.PresenceBatched, room.PresenceCounts, room.PresenceNone})
		namesUpTo := rapid.SampledFrom([]int{room.MaxMaxMembers, early + 2, early + 4, 2*early + 2, 1})
		config := roomConfig(func(c *room.Config) {
			c.MaxMembers, c.DestroyDelay = room.MaxMaxMembers, 10
			c.Presence, c.NamesUpTo = mode.Draw(t, "presence"), namesUpTo.Draw(t, "namesUpTo")
		})
		m := &presenceModel{
			Room: room.Room{ID: "r", Generation: 1, Config: config, MemberEvents: config.FirstMemberEvents()},
			in:   map[room.UserID]*presenceRow{}, gone: map[room.UserID]bool{}, inLog: map[room.UserID]bool{}, listed: map[room.UserID]bool{},
			says: config.FirstMemberEvents(), counts: published,
		}
		for i := range early {
			m.join(t, room.UserID(fmt.Sprint("early", i)))
		}
		user := rapid.Map(rapid.IntRange(1, 8), func(n int) room.UserID { return room.UserID(fmt.Sprint("u", n)) })
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				if id := user.Draw(t, "who"); m.in[id] == nil {
					m.join(t, id)
				}
			},
			"leave": func(t *rapid.T) { m.leave(t, rapid.SliceOfDistinct(user, rapid.ID).Draw(t, "who")) },
			"everybody leaves": func(t *rapid.T) {
				if early < 10 || rapid.IntRange(1, 10).Draw(t, "dice") == 10 {
					m.leave(t, slices.Collect(maps.Keys(m.in)))
				}
			},
			"configure": func(t *rapid.T) {
				var c room.Change
				var err error
				m.Room, c, err = m.Update(room.RoomUpdate{Settings: room.Settings{
					Presence: new(mode.Draw(t, "presence")), NamesUpTo: new(namesUpTo.Draw(t, "namesUpTo")),
				}}, m.times.now(t))
				if err != nil {
					t.Fatal(err)
				}
				m.read(t, c.Events)
			},
			"flush": m.flush,
			"list": func(*rapid.T) {
				if m.says == room.MemberEventsNames {
					m.listed = m.members()
				}
			},
			"": func(t *rapid.T) {
				if m.MemberCount != len(m.in) {
					t.Fatalf("%d members, want %d", m.MemberCount, len(m.in))
				}
			},
		})
		m.flush(t)
	})
	for _, events := range []room.MemberEvents{room.MemberEventsNames, room.MemberEventsCounts, room.MemberEventsNone} {
		if published[events] == 0 {
			t.Errorf("no room published %s", events)
		}
	}
}

func TestFlushPresenceBoundsEvents(t *testing.T) {
	t.Parallel()
	const most = room.MaxMembersPerEvent
	r := room.Room{ID: "r", Generation: 1, LastSeq: 7, MemberCount: most + 1, PresencePending: true, Config: room.DefaultConfig(), MemberEvents: room.MemberEventsNames}
	r, events := r.FlushPresence(make([]room.Member, most+1), make([]room.LeftMember, most), noon)
	var sizes, counts []int
	for i, e := range events {
		if want := room.Seq(8 + i); e.Seq != want {
			t.Errorf("seq %d, want %d", e.Seq, want)
		}
		switch b := e.Body.(type) {
		case room.MembersJoined:
			sizes, counts = append(sizes, len(b.MemberList)), append(counts, *b.MemberCount)
		case room.MembersLeft:
			sizes, counts = append(sizes, -len(b.MemberList)), append(counts, *b.MemberCount)
		}
	}
	if want := []int{most, 1, -most}; !slices.Equal(sizes, want) || r.LastSeq != 10 || r.PresencePending {
		t.Errorf("events of %v members, want %v; the room is %+v", sizes, want, r)
	}
	if want := []int{2 * most, 2*most + 1, most + 1}; !slices.Equal(counts, want) {
		t.Errorf("%v members after the events, want %v", counts, want)
	}
}

func TestPublishStatesBoundsEvents(t *testing.T) {
	t.Parallel()
	const most = room.MaxMembersPerEvent
	r := room.Room{ID: "r", LastSeq: 7, MemberEvents: room.MemberEventsNames}
	after, events := r.PublishStates(make([]room.User, most+1), make([]room.User, most), noon)
	var sizes []int
	for _, e := range events {
		switch b := e.Body.(type) {
		case room.MembersReconnecting:
			sizes = append(sizes, len(b.MemberList))
		case room.MembersReconnected:
			sizes = append(sizes, -len(b.MemberList))
		}
	}
	if want := []int{most, 1, -most}; !slices.Equal(sizes, want) || after.LastSeq != 10 {
		t.Errorf("events of %v members, want %v; the log ends at %d", sizes, want, after.LastSeq)
	}
	r.MemberEvents = room.MemberEventsCounts
	if _, events := r.PublishStates(make([]room.User, 1), nil, noon); len(events) > 0 {
		t.Errorf("a room that publishes counts published %+v", events)
	}
}

func TestFlushPresenceBoundsBytes(t *testing.T) {
	t.Parallel()
	const most = room.MaxMembersEventBytes
	joined := make([]room.Member, 60)
	for i := range joined {
		joined[i].UserData = strings.Repeat("\x01", room.MaxUserDataBytes) // each byte needs six in JSON
	}
	_, events := room.Room{ID: "r", Config: room.DefaultConfig(), MemberEvents: room.MemberEventsNames}.FlushPresence(joined, nil, noon)
	users := 0
	for _, e := range events {
		encoded, err := e.MarshalJSON()
		if n := len(e.Body.(room.MembersJoined).MemberList); err != nil || len(encoded) > most || n == 0 {
			t.Errorf("an event of %d members has %d bytes, %v", n, len(encoded), err)
		}
		users += len(e.Body.(room.MembersJoined).MemberList)
	}
	if users != len(joined) || len(events) != 3 {
		t.Errorf("%d members in %d events, want %d in 3", users, len(events), len(joined))
	}
}
