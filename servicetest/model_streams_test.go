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

// rapidTB is a rapid.T for the harness, which wants a whole testing.TB. What a
// rapid.T does not have is the test's own.
type rapidTB struct {
	*rapid.T
	restOfTB
}

type restOfTB struct{ testing.TB }

func (t *rapidTB) Helper()      { t.T.Helper() }
func (t *rapidTB) Name() string { return t.T.Name() }

// heard is what replies have to tell.
type heard struct {
	Code                      string
	Room                      *room.Room
	Created                   bool
	RoomID                    room.RoomID
	RoomIDs                   []room.RoomID
	Message                   *room.Message
	KickedList, ErrorUserList []room.UserID
}

// rest is what a reply tells besides its room.
func (h heard) rest() string {
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

// compare holds a reply against the world's. It is from the reply that the world
// learns the number of a new life.
func (m *model) compare(call string, want verdict, got reply) {
	var h heard
	if len(got.body) > 0 {
		h = as[heard](got)
	}
	var in *room.Room
	if want.life != nil {
		in = &want.life.Room
		if in.Generation == 0 && h.Room != nil {
			in.Generation = h.Room.Generation
			if m.known[in.Generation] {
				m.t.Fatalf("%s: there was a generation %d before", call, in.Generation)
			}
			m.known[in.Generation] = true
		}
	}
	say := func(status int, code string, r *room.Room, created bool, rest string) string {
		text := fmt.Sprintf("%d %s%s", status, code, rest)
		if r != nil {
			text += fmt.Sprintf("%s, created %t", describe(*r, m.world.began), created)
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

// settle holds what the last action made the open streams bring against the
// world.
func (m *model) settle() {
	for _, name := range seatNames {
		s := m.seats[name]
		if s.stream == nil {
			continue
		}
		if m.bring(s); s.ends {
			s.stream, s.ends = nil, false
		}
	}
}

// bring reads all that a stream has to bring, and nothing else. Fences are sent
// after it: what the session itself was told of is before the first, and what
// its logs got before the second, unless they have to be read from the database.
func (m *model) bring(s *seat) {
	fences := 2
	if s.ends {
		fences = 0
	} else {
		s.client.fence()
	}
	for fences > 0 || s.lacks() != "" {
		e, ok := m.next(s)
		switch {
		case !ok:
			m.t.Fatalf("%s ends, and lacks %s", s.name, s.lacks())
		case fenceBegins(e):
			continue
		case fenceEnds(e):
			s.skip("")
			if len(s.told) > 0 {
				m.t.Fatalf("%s lacks %s", s.name, s.lacks())
			}
			if fences--; fences > 0 {
				s.client.fence()
			}
			continue // it is no event of the world, so its cursor is none to resume from
		case slices.Contains([]string{string(room.TypeMembersJoined), string(room.TypeMembersLeft), string(room.TypeMessagesReceived), string(room.TypePeerMessagesReceived)}, e.Type):
			s.skip("")
			m.bringLog(s, e)
		default:
			text := m.textOf(e)
			m.t.Logf("\t%s: %s", s.name, text)
			s.skip(text)
			if len(s.told) == 0 {
				m.t.Fatalf("%s brings %s", s.name, text)
			}
			m.same(s.name, s.told[0], text)
			if l := s.told[0].life; s.leaving[l] {
				delete(s.leaving, l)
				delete(s.at, l)
			}
			s.told = s.told[1:]
		}
		m.mark(s, e)
	}
	if !s.ends {
		return
	}
	if e, ok := m.next(s); ok {
		m.t.Fatalf("%s does not end, but brings %s", s.name, m.textOf(e))
	}
}

// skip passes over what may come and does not: something else does.
func (s *seat) skip(text string) {
	for len(s.told) > 0 && s.told[0].maybe && s.told[0].String() != text {
		s.told = s.told[1:]
	}
}

// lacks is what a stream has yet to bring.
func (s *seat) lacks() string {
	var lacking []string
	for _, t := range s.told {
		if !t.maybe {
			lacking = append(lacking, t.String())
		}
	}
	for _, l := range lives(s.at) {
		for i := s.at[l]; i < len(l.log) && !s.leaving[l]; i++ {
			lacking = append(lacking, fmt.Sprintf("%s/%d %d %s", l.ID, l.Generation, i+1, l.log[i].text))
		}
	}
	return strings.Join(lacking, "; ")
}

// next is the next event of a stream, or its end.
func (m *model) next(s *seat) (event, bool) {
	select {
	case e, ok := <-s.stream.events:
		return e, ok
	case <-time.After(m.patience):
		m.t.Fatalf("%s brings nothing, and lacks %s", s.name, s.lacks())
		panic("unreachable")
	}
}

// bringLog takes an event of a log, which must be the next one there. A stream
// tells what concerns its session alone before it goes on in the logs.
func (m *model) bringLog(s *seat, e event) {
	place := bodyOf[struct {
		Generation room.LogID
		Seq        int
	}](m, e)
	if place.Generation == 0 {
		place.Generation = m.world.inboxes[s.user].Generation
	}
	text := m.textOf(e)
	m.t.Logf("\t%s: %d/%d %s", s.name, place.Generation, place.Seq, text)
	for l, at := range s.at {
		inTurn := len(s.told) == 0 || s.leaving[l]
		if l.Generation == place.Generation && inTurn && place.Seq == at+1 && l.read(place.Seq, text) {
			s.at[l] = place.Seq
			return
		}
	}
	m.t.Fatalf("%s brings of log %d: %d %s\n\tand lacks %s", s.name, place.Generation, place.Seq, text, s.lacks())
}

// mark holds the cursor of an event against how far the stream has come.
func (m *model) mark(s *seat, e event) {
	if e.ID == "" {
		return
	}
	cursor := hub.Cursor{}
	for _, l := range lives(s.at) {
		cursor = append(cursor, room.Position{Log: l.Generation, Seq: room.Seq(s.at[l])})
	}
	_, at, _ := strings.Cut(e.ID, ".") // after the epoch
	m.same(s.name+"'s cursor", string(cursor.AppendTo(nil)), at)
	s.marks = append(s.marks, mark{e.ID, maps.Clone(s.at)})
}

func bodyOf[T any](m *model, e event) T {
	var body T
	if err := json.Unmarshal(e.Data, &body); err != nil {
		m.t.Fatalf("%s: %v", e.Type, err)
	}
	return body
}

// textOf is an event as the world tells of it.
func (m *model) textOf(e event) string {
	var list []string
	switch room.EventType(e.Type) {
	case room.TypeMembersJoined:
		return "joined: " + m.names(bodyOf[room.MembersJoined](m, e).MemberList)
	case room.TypeMembersLeft:
		for _, left := range bodyOf[room.MembersLeft](m, e).MemberList {
			list = append(list, fmt.Sprintf("%s %s", left.ID, left.Reason))
		}
		return "left: " + strings.Join(list, ", ")
	case room.TypeMessagesReceived:
		for _, message := range bodyOf[room.MessagesReceived](m, e).MessageList {
			list = append(list, fmt.Sprintf("%s says: %s", message.Sender.ID, message.Text))
		}
		return strings.Join(list, ", ")
	case room.TypePeerMessagesReceived:
		for _, message := range bodyOf[room.PeerMessagesReceived](m, e).MessageList {
			list = append(list, fmt.Sprintf("with %s, %s writes: %s", message.Peer, message.Sender.ID, message.Text))
		}
		return strings.Join(list, ", ")
	case room.TypeInboxReset:
		return fmt.Sprintf("inbox reset %s", bodyOf[room.InboxReset](m, e).Reason)
	case room.TypeSessionReady:
		ready := bodyOf[room.SessionReady](m, e)
		for _, r := range ready.Rooms {
			list = append(list, describe(r, m.world.began))
		}
		return fmt.Sprintf("ready, resumed %t: %s", ready.Resumed, strings.Join(list, "; "))
	case room.TypeRoomReset:
		reset := bodyOf[room.RoomReset](m, e)
		return fmt.Sprintf("reset %s: %s", reset.Reason, describe(reset.Room, m.world.began))
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
		names = append(names, fmt.Sprintf("%s@%v", member.ID, member.JoinedAt.Sub(m.world.began)))
	}
	return strings.Join(names, " ")
}

// look asks the API for all there is, and holds that against the world.
func (m *model) look() {
	get := func(c *client, path string) reply { return c.call("GET", path, nil).is(http.StatusOK) }
	list := func(rooms []room.Room) string {
		var list []string
		for _, r := range rooms {
			list = append(list, describe(r, m.world.began))
		}
		return strings.Join(list, "; ")
	}
	known := func(in []*life) string {
		var rooms []room.Room
		for _, l := range in {
			rooms = append(rooms, l.Room)
		}
		return list(rooms)
	}
	type roomList struct{ Rooms []room.Room }

	var living []*life
	for _, id := range slices.Sorted(maps.Keys(m.world.rooms)) {
		l := m.world.rooms[id]
		living = append(living, l)
		members := as[memberPage](get(m.operator, adminPath(id, "/members"))).MemberList
		m.same(fmt.Sprint("the members of ", id), l.members(), m.names(members))
	}
	m.same("the rooms", known(living), list(as[roomList](get(m.operator, "/v1/admin/rooms")).Rooms))
	for _, id := range modelRoomIDs {
		var want, got []string
		for _, user := range modelUsers {
			if until := m.world.bans[ban{id, user}]; until > m.world.now {
				want = append(want, fmt.Sprint(user, " until ", until))
			}
		}
		for _, b := range as[struct{ Bans []room.Ban }](get(m.operator, adminPath(id, "/bans"))).Bans {
			got = append(got, fmt.Sprint(b.UserID, " until ", b.Until.Sub(m.world.began)))
		}
		m.same(fmt.Sprint("the banned of ", id), want, got)
	}
	for _, user := range modelUsers {
		path := fmt.Sprintf("/v1/admin/users/%s/rooms", user)
		m.same(fmt.Sprint("the rooms of ", user), known(m.world.roomsOf(user)), list(as[roomList](get(m.operator, path)).Rooms))
	}
	for _, s := range m.live() {
		m.same("the rooms of "+s.name, known(lives(s.from)), list(as[roomList](get(s.client, "/v1/sessions/current/rooms")).Rooms))
		m.same("the state of "+s.name, map[bool]string{true: "online", false: "detached"}[s.online], s.client.state())
	}
}

// live is the seats with a session that is not over.
func (m *model) live() (seats []*seat) {
	for _, name := range seatNames {
		if s := m.seats[name]; s.visitor != nil && !s.over {
			seats = append(seats, s)
		}
	}
	return seats
}

// finish looks at what has become of all, ends all sessions, after which no
// stream may have anything left, and looks again.
func (m *model) finish() {
	m.look()
	for _, s := range m.live() {
		m.logOut(s)
		m.settle()
	}
	m.look()
	m.log.check(m, false) // at the test's end it would be too late for rapid
}
