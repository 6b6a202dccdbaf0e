package servicetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/hub"
	"parlor/room"
)

// rapidTB makes a rapid.T a testing.TB, as the harness needs. It uses the testing.T for methods
// that rapid.T does not have.
type rapidTB struct {
	*rapid.T
	restOfTB
}

type restOfTB struct{ testing.TB }

func (t *rapidTB) Helper()      { t.T.Helper() }
func (t *rapidTB) Name() string { return t.T.Name() }

// replyBody has the fields of all replies.
type replyBody struct {
	Code                      string
	Room                      *room.Room
	Created                   bool
	RoomID                    room.RoomID
	RoomIDs                   []room.RoomID
	Message                   *room.Message
	KickedList, ErrorUserList []room.UserID
}

// rest formats everything in a reply except its room.
func (h replyBody) rest() string {
	switch {
	case h.RoomIDs != nil:
		return fmt.Sprint(h.RoomIDs)
	case h.KickedList != nil:
		return fmt.Sprint(h.KickedList, h.ErrorUserList)
	case h.Message != nil:
		return fmt.Sprintf("seq %d", h.Message.Seq)
	}
	return string(h.RoomID)
}

// compare compares a reply with the expected one. The reference model learns the number of a new
// generation from the reply.
func (m *model) compare(call string, want verdict, got reply) {
	var h replyBody
	if len(got.body) > 0 {
		h = as[replyBody](got)
	}
	var in *room.Room
	if want.generation != nil {
		in = &want.generation.Room
		if in.Generation == 0 && h.Room != nil {
			in.Generation = h.Room.Generation
			if m.generations[in.Generation] {
				m.t.Fatalf("%s: generation %d was used before", call, in.Generation)
			}
			m.generations[in.Generation] = true
		}
	}
	say := func(status int, code string, r *room.Room, created bool, rest string) string {
		text := fmt.Sprintf("%d %s%s", status, code, rest)
		if r != nil {
			text += fmt.Sprintf("%s, created %t", describe(*r, m.reference.began), created)
		}
		return text
	}
	said := say(got.StatusCode, h.Code, h.Room, h.Created, h.rest())
	m.t.Logf("%s: %s", call, said)
	m.same(call, say(want.status, want.code, in, want.created, want.rest), said)
}

func (m *model) same(what string, want, got any) {
	if w, g := fmt.Sprint(want), fmt.Sprint(got); w != g {
		m.t.Fatalf("%s:\n\twant %s\n\tgot  %s", what, w, g)
	}
}

// compareStreams compares the events that the last action caused on open streams with the reference
// model.
func (m *model) compareStreams() {
	for _, name := range slotNames {
		s := m.slots[name]
		if s.stream == nil {
			continue
		}
		if m.checkStream(s); s.ends {
			s.stream, s.ends = nil, false
		}
	}
}

// checkStream reads all events that a stream must deliver, and requires that there are no others. A
// fence is sent after them: the session's own events come before the first fence event, and events
// of its logs before the second, unless they must be read from the database.
func (m *model) checkStream(s *slot) {
	fences := 2
	if s.ends {
		fences = 0
	} else {
		s.client.fence()
	}
	for fences > 0 || s.missing() != "" {
		e, ok := m.next(s)
		switch {
		case !ok:
			m.t.Fatalf("the stream of %s ended, missing events: %s", s.name, s.missing())
		case fenceBegins(e):
			continue
		case fenceEnds(e):
			s.skipOptional("")
			if len(s.pending) > 0 {
				m.t.Fatalf("missing events of %s: %s", s.name, s.missing())
			}
			if fences--; fences > 0 {
				s.client.fence()
			}
			continue // the reference model has no fences, so a stream never resumes from one
		case slices.Contains([]string{string(room.TypeMembersJoined), string(room.TypeMembersLeft), string(room.TypeMembersCounted), string(room.TypeReconnecting), string(room.TypeReconnected), string(room.TypeMemberAttributesUpdated), string(room.TypeMessagesReceived), string(room.TypeRoomSeqAdvanced), string(room.TypeRoomUpdated), string(room.TypePeerMessagesReceived)}, e.Type):
			s.skipOptional("")
			m.checkLogEvent(s, e)
		default:
			text := m.textOf(e)
			m.t.Logf("\t%s: %s", s.name, text)
			s.skipOptional(text)
			if len(s.pending) == 0 {
				m.t.Fatalf("unexpected event of %s: %s", s.name, text)
			}
			m.same(s.name, s.pending[0], text)
			if l := s.pending[0].generation; s.leaving[l] {
				delete(s.leaving, l)
				delete(s.at, l)
			}
			s.pending = s.pending[1:]
		}
		m.checkCursor(s, e)
	}
	if !s.ends {
		return
	}
	if e, ok := m.next(s); ok {
		m.t.Fatalf("the stream of %s did not end, unexpected event: %s", s.name, m.textOf(e))
	}
}

// skipOptional skips pending events that are optional, if another event was received.
func (s *slot) skipOptional(text string) {
	for len(s.pending) > 0 && s.pending[0].maybe && s.pending[0].String() != text {
		s.pending = s.pending[1:]
	}
}

// missing returns the events that a stream has not delivered yet.
func (s *slot) missing() string {
	var lacking []string
	for _, t := range s.pending {
		if !t.maybe {
			lacking = append(lacking, t.String())
		}
	}
	for _, l := range sortedGenerations(s.at) {
		for i := s.at[l]; i < len(l.log) && !s.leaving[l]; i++ {
			lacking = append(lacking, fmt.Sprintf("%s/%d %d %s", l.ID, l.Generation, i+1, l.log[i].text))
		}
	}
	return strings.Join(lacking, "; ")
}

// next returns the next event of a stream, and false at its end.
func (m *model) next(s *slot) (event, bool) {
	select {
	case e, ok := <-s.stream.events:
		if !ok {
			return event{}, false
		}
		return *e, true
	case <-time.After(m.waitTimeout):
		m.t.Fatalf("timed out waiting for an event of %s, missing events: %s", s.name, s.missing())
		panic("unreachable")
	}
}

// checkLogEvent checks that an event is the next one in its log. A stream delivers the session's
// own events before it continues with the logs.
func (m *model) checkLogEvent(s *slot, e event) {
	place := bodyOf[struct {
		Generation room.LogID
		Seq        int
	}](m, e)
	if place.Generation == 0 {
		place.Generation = m.reference.inboxes[s.user].Generation
	}
	text := m.textOf(e)
	m.t.Logf("\t%s: %d/%d %s", s.name, place.Generation, place.Seq, text)
	for l, at := range s.at {
		inTurn := len(s.pending) == 0 || s.leaving[l]
		if l.Generation == place.Generation && inTurn && place.Seq == at+1 && l.read(place.Seq, s.user, text) {
			s.at[l] = place.Seq
			return
		}
	}
	m.t.Fatalf("unexpected event of %s in log %d: %d %s\n\tmissing events: %s", s.name, place.Generation, place.Seq, text, s.missing())
}

// checkCursor compares the cursor of an event with the positions of the stream.
func (m *model) checkCursor(s *slot, e event) {
	if e.ID == "" {
		return
	}
	cursor := hub.Cursor{}
	for _, l := range sortedGenerations(s.at) {
		cursor = append(cursor, room.Position{Log: l.Generation, Seq: room.Seq(s.at[l])})
	}
	_, at, _ := strings.Cut(e.ID, ".") // the part after the epoch
	m.same(s.name+"'s cursor", string(cursor.AppendTo(nil)), at)
	s.cursors = append(s.cursors, knownCursor{e.ID, maps.Clone(s.at)})
}

func bodyOf[T any](m *model, e event) T {
	var body T
	if err := json.Unmarshal(e.Data, &body); err != nil {
		m.t.Fatalf("%s: %v", e.Type, err)
	}
	return body
}

// textOf formats an event as the reference model does.
func (m *model) textOf(e event) string {
	var list []string
	switch room.EventType(e.Type) {
	case room.TypeMembersJoined:
		joined := bodyOf[room.MembersJoined](m, e)
		return "joined: " + m.names(joined.MemberList) + now(joined.MemberCount)
	case room.TypeMembersLeft:
		left := bodyOf[room.MembersLeft](m, e)
		for _, member := range left.MemberList {
			list = append(list, fmt.Sprintf("%s %s", member.ID, member.Reason))
		}
		return "left: " + sorted(list) + now(left.MemberCount)
	case room.TypeReconnecting, room.TypeReconnected:
		for _, u := range bodyOf[room.MembersReconnecting](m, e).MemberList {
			list = append(list, string(u.ID))
		}
		return map[room.EventType]string{room.TypeReconnecting: "reconnecting: ", room.TypeReconnected: "reconnected: "}[room.EventType(e.Type)] + strings.Join(list, " ")
	case room.TypeMembersCounted:
		counted := bodyOf[room.MembersCounted](m, e)
		return fmt.Sprintf("counted: %d, %s", counted.MemberCount, counted.MemberEvents)
	case room.TypeMemberAttributesUpdated:
		for _, info := range bodyOf[room.MemberAttributesUpdated](m, e).Infos {
			list = append(list, fmt.Sprintf("%s is now %q", info.UserID, *info.UserData))
		}
		return strings.Join(list, ", ")
	case room.TypeMessagesReceived:
		for _, message := range bodyOf[room.MessagesReceived](m, e).MessageList {
			list = append(list, fmt.Sprintf("%s says to %v: %s", message.Sender.ID, message.To, message.Text))
		}
		return strings.Join(list, ", ")
	case room.TypePeerMessagesReceived:
		for _, message := range bodyOf[room.PeerMessagesReceived](m, e).MessageList {
			list = append(list, fmt.Sprintf("with %s, %s writes: %s", message.Peer, message.Sender.ID, message.Text))
		}
		return strings.Join(list, ", ")
	case room.TypeRoomUpdated:
		return fmt.Sprintf("settings: %+v", bodyOf[room.RoomUpdated](m, e).Config)
	case room.TypeInboxReset:
		return fmt.Sprintf("inbox reset %s", bodyOf[room.InboxReset](m, e).Reason)
	case room.TypeSessionReady:
		ready := bodyOf[room.SessionReady](m, e)
		for _, r := range ready.Rooms {
			list = append(list, describe(r, m.reference.began))
		}
		return fmt.Sprintf("ready, resumed %t: %s", ready.Resumed, strings.Join(list, "; "))
	case room.TypeRoomReset:
		reset := bodyOf[room.RoomReset](m, e)
		return fmt.Sprintf("reset %s: %s", reset.Reason, describe(reset.Room, m.reference.began))
	case room.TypeConnectionStateChanged:
		changed := bodyOf[room.ConnectionStateChanged](m, e)
		return strings.TrimSpace(fmt.Sprintf("connection %s %s %s", changed.State, changed.Event, changed.Reason))
	case room.TypeRoomStateChanged:
		changed := bodyOf[room.RoomStateChanged](m, e)
		name := string(changed.RoomID)
		if changed.Generation != 0 {
			name = fmt.Sprintf("%s/%d", name, changed.Generation)
		}
		code := ""
		if changed.Error != nil {
			code = changed.Error.Code
		}
		return strings.TrimSpace(fmt.Sprintf("%s %s %s %s%s", name, changed.State, changed.Event, changed.Reason, code))
	default:
		return e.Type
	}
}

func (m *model) names(members []room.Member) string {
	var names []string
	for _, member := range members {
		names = append(names, fmt.Sprintf("%s@%v %s %s", member.ID, member.JoinedAt.Time().Sub(m.reference.began), member.UserData, member.State))
	}
	return strings.Join(names, " ")
}

// compareAll reads everything from the API, and compares it with the reference model.
func (m *model) compareAll() {
	get := func(c *client, path string) reply { return c.call("GET", path, nil).is(http.StatusOK) }
	list := func(rooms []room.Room) string {
		var list []string
		for _, r := range rooms {
			list = append(list, describe(r, m.reference.began))
		}
		return strings.Join(list, "; ")
	}
	known := func(in []*generation) string {
		var rooms []room.Room
		for _, l := range in {
			rooms = append(rooms, l.Room)
		}
		return list(rooms)
	}
	type roomList struct{ Rooms []room.Room }

	var living []*generation
	for _, id := range slices.Sorted(maps.Keys(m.reference.rooms)) {
		l := m.reference.rooms[id]
		living = append(living, l)
		members := as[memberPage](get(m.adminClient, adminPath(id, "/members"))).MemberList
		m.same(fmt.Sprint("the members of ", id), l.members(), m.names(members))
	}
	m.same("the rooms", known(living), list(as[roomList](get(m.adminClient, "/v1/admin/rooms")).Rooms))
	for _, id := range modelRoomIDs {
		var want, got []string
		for _, user := range modelUsers {
			if until := m.reference.bans[ban{id, user}]; until > m.reference.now {
				want = append(want, fmt.Sprint(user, " until ", until))
			}
		}
		for _, b := range as[struct{ Bans []room.Ban }](get(m.adminClient, adminPath(id, "/bans"))).Bans {
			got = append(got, fmt.Sprint(b.UserID, " until ", b.Until.Time().Sub(m.reference.began)))
		}
		m.same(fmt.Sprint("the banned of ", id), want, got)
	}
	for _, user := range modelUsers {
		path := fmt.Sprintf("/v1/admin/users/%s/rooms", user)
		m.same(fmt.Sprint("the rooms of ", user), known(m.reference.roomsOf(user)), list(as[roomList](get(m.adminClient, path)).Rooms))
	}
	m.compareStatuses(false)
	for _, s := range m.liveSlots() {
		m.same("the rooms of "+s.name, known(sortedGenerations(s.from)), list(as[roomList](get(s.client, "/v1/sessions/current/rooms")).Rooms))
		m.same("the state of "+s.name, map[bool]string{true: "online", false: "detached"}[s.online], s.client.state())
	}
}

// liveSlots returns the slots whose session has not ended.
func (m *model) liveSlots() (slots []*slot) {
	for _, name := range slotNames {
		if s := m.slots[name]; s.modelSession != nil && !s.ended {
			slots = append(slots, s)
		}
	}
	return slots
}

// finish compares everything, ends all sessions, requires that no stream has events left, and
// compares again.
func (m *model) finish() {
	m.compareAll()
	for _, s := range m.liveSlots() {
		m.logOut(s)
		m.compareStreams()
	}
	m.compareAll()
	m.log.check(m, false) // a cleanup would run too late for rapid
}
