package servicetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parlor/room"
)

// referenceModel is what TestModel compares the service with: the rules of docs/room-states.md for
// rooms, sessions and their timers, written with maps and ifs. It shares no rule with the service
// and has no database, streams or goroutines.
type referenceModel struct {
	began time.Time
	now   time.Duration // since began
	rooms map[room.RoomID]*generation
	bans  map[ban]time.Duration // when each ban expires
	// inboxes holds the users' inbox logs, as rooms without members. delivered is the seq up to
	// which each user has acknowledged them.
	inboxes   map[room.UserID]*generation
	delivered map[room.UserID]int
	// seen holds what is known of the users' sessions that have ended.
	seen map[room.UserID]seenUser
	// sessions holds the sessions that have not ended, the oldest first.
	sessions []*modelSession
	// sweep is the number of the current sweep, or 0.
	sweep, sweeps int
}

// modelRooms is the limit of rooms for each user.
const modelRooms = 2

type ban struct {
	room room.RoomID
	user room.UserID
}

// generation is one generation of a room.
type generation struct {
	room.Room
	memberList []*modelMember // in the order of their seqs, and of their IDs
	// pending means that the next sweep publishes something about members: such as the users who
	// are gone, with the reason.
	pending bool
	gone    []string
	log     []logEntry // from seq 1
	// used means that a session has joined, and emptySince is when the last member left.
	used       bool
	emptySince time.Duration
}

// modelMember is a member of a room, with its sessions there.
type modelMember struct {
	user   room.UserID
	joined time.Duration
	data   string // user data
	// unpublished means that the join is not in the log yet.
	unpublished bool
	seq         int // of the log when the user joined
	// reconnecting is the state that was published.
	reconnecting bool
	sessions     []*modelSession
}

// text formats a member as the list has it.
func (l *generation) text(g *modelMember) string {
	state := room.MemberState("")
	switch {
	case !l.Config.MemberStates:
	case g.reconnecting:
		state = room.MemberReconnecting
	default:
		state = room.MemberOnline
	}
	return fmt.Sprintf("%s@%v %s %s", g.user, g.joined, g.data, state)
}

// logEntry is an event of a log. The order of events within one sweep is not defined: the first
// session that reads them determines it.
type logEntry struct {
	text  string
	sweep int // 0 if the event is not from a sweep
	read  bool
	// audience holds the users who may see the event; nil means all members.
	audience []room.UserID
}

// modelSession is a session.
type modelSession struct {
	user       room.UserID
	ended      bool
	online     bool
	detachedAt time.Duration
	// from holds the seq at which it entered each of its rooms, at the seq that its stream has
	// reached, and leftRooms the reason why it is no longer in other rooms.
	from, at  map[*generation]int
	leftRooms map[*generation]departure
	// leaving holds the rooms that it has left without having been notified yet. The service may
	// read a log just before it notifies the session, which then gets events that happened as it
	// left.
	leaving map[*generation]bool
	// pending holds the session's own events that its stream has not delivered yet. ends means
	// that the stream ends after them.
	pending []sessionEvent
	ends    bool
}

// sessionEvent is one of a session's own events. The number of a new generation is known only
// after the reply.
type sessionEvent struct {
	generation *generation
	text       string
	// maybe means that the event may be delivered twice: if it happened at the instant at which
	// the session's stream was superseded, both streams may deliver it.
	maybe bool
}

func (t sessionEvent) String() string {
	if t.generation == nil {
		return t.text
	}
	return fmt.Sprintf("%s/%d %s", t.generation.ID, t.generation.Generation, t.text)
}

type departure struct {
	sessionEvent
	at       time.Duration
	byOthers bool
}

// verdict is the expected reply to a call.
type verdict struct {
	status     int
	code       string      // of an error
	generation *generation // the room in the reply, as it is after the call
	created    bool
	rest       string
}

func refused(status int, code string) verdict { return verdict{status: status, code: code} }

func newReferenceModel(began time.Time) *referenceModel {
	return &referenceModel{began: began, rooms: make(map[room.RoomID]*generation), bans: make(map[ban]time.Duration), inboxes: make(map[room.UserID]*generation), delivered: make(map[room.UserID]int), seen: make(map[room.UserID]seenUser)}
}

func (w *referenceModel) instant() time.Time { return w.began.Add(w.now) }

func (w *referenceModel) login(user room.UserID) *modelSession {
	v := &modelSession{
		user: user, detachedAt: w.now,
		from: make(map[*generation]int), at: make(map[*generation]int), leftRooms: make(map[*generation]departure), leaving: make(map[*generation]bool),
	}
	w.sessions = append(w.sessions, v)
	if w.inboxes[user] == nil {
		w.inboxes[user] = &generation{Room: room.Room{ID: "inbox"}}
		w.seen[user] = seenUser{exists: true}
	}
	return v
}

// sendPeerMessage sends a message to a user.
func (w *referenceModel) sendPeerMessage(v *modelSession, to room.UserID, text string) verdict {
	own, theirs := w.inboxes[v.user], w.inboxes[to]
	switch {
	case v.ended:
		return refused(401, "session_ended")
	case to == v.user:
		return refused(400, "message_to_self")
	case theirs == nil:
		return refused(404, "user_not_found")
	}
	own.append(w, "with %s, %s writes: %s", to, v.user, text)
	theirs.append(w, "with %s, %s writes: %s", v.user, v.user, text)
	return verdict{status: 201, rest: fmt.Sprintf("seq %d", own.LastSeq)}
}

func (v *modelSession) notify(l *generation, format string, args ...any) {
	if v.online {
		v.pending = append(v.pending, sessionEvent{generation: l, text: fmt.Sprintf(format, args...)})
	}
}

func (l *generation) append(w *referenceModel, format string, args ...any) {
	l.log = append(l.log, logEntry{text: fmt.Sprintf(format, args...), sweep: w.sweep})
	l.LastSeq++
}

// read compares an event that a stream of a user received with the log.
func (l *generation) read(seq int, user room.UserID, text string) bool {
	if seq < 1 || seq > len(l.log) {
		return false
	}
	e := &l.log[seq-1]
	if e.audience != nil && !slices.Contains(e.audience, user) {
		return text == string(room.TypeRoomSeqAdvanced)
	}
	if e.text != text && e.sweep > 0 && !e.read {
		for i := seq; i < len(l.log) && l.log[i].sweep == e.sweep; i++ {
			if l.log[i].text == text && !l.log[i].read {
				e.text, l.log[i].text = l.log[i].text, e.text
				break
			}
		}
	}
	e.read = true
	return e.text == text
}

func (l *generation) member(user room.UserID) *modelMember {
	for _, g := range l.memberList {
		if g.user == user {
			return g
		}
	}
	return nil
}

func (l *generation) members() string {
	var names []string
	for _, g := range l.memberList {
		names = append(names, l.text(g))
	}
	return strings.Join(names, " ")
}

func (v *modelSession) in(l *generation) bool {
	_, in := v.from[l]
	return in
}

// sortedGenerations returns the keys of a map, the oldest first.
func sortedGenerations[V any](of map[*generation]V) []*generation {
	return slices.SortedFunc(maps.Keys(of), func(a, b *generation) int { return cmp.Compare(a.Generation, b.Generation) })
}

func (w *referenceModel) roomsOf(user room.UserID) (in []*generation) {
	for _, l := range w.rooms {
		if l.member(user) != nil {
			in = append(in, l)
		}
	}
	slices.SortFunc(in, func(a, b *generation) int { return cmp.Compare(a.Generation, b.Generation) })
	return in
}

func (w *referenceModel) newGeneration(id room.RoomID, config room.Config) *generation {
	l := &generation{Room: room.Room{ID: id, Config: config, CreatedAt: room.InstantOf(w.instant()), MemberEvents: "names"}}
	l.MemberEvents = l.wanted()
	return l
}

// Streams and time.

// openStream opens a stream at a cursor. nil means none, and garbage means one that the service
// cannot parse.
func (w *referenceModel) openStream(v *modelSession, cursor map[*generation]int, garbage bool) {
	away := !v.online
	v.online = true
	var rooms []string
	for _, l := range sortedGenerations(v.from) {
		v.at[l] = max(v.from[l], cursor[l])
		rooms = append(rooms, describe(l.Room, w.began))
	}
	v.notify(nil, "ready, resumed %t: %s", cursor != nil && !garbage, strings.Join(rooms, "; "))
	if garbage {
		for _, l := range sortedGenerations(v.from) {
			v.at[l] = len(l.log)
			v.notify(nil, "reset cursorInvalid: %s", describe(l.Room, w.began))
		}
	}
	inbox := w.inboxes[v.user]
	at, named := cursor[inbox]
	if named {
		w.delivered[v.user] = max(w.delivered[v.user], at)
	} else {
		at = w.delivered[v.user]
	}
	v.at[inbox] = at
	if garbage {
		v.notify(nil, "inbox reset cursorInvalid")
	}
	// The session is notified about rooms in its cursor, and about rooms from which others removed
	// it while it had no stream.
	for _, l := range sortedGenerations(v.leftRooms) {
		gone := v.leftRooms[l]
		_, named := cursor[l]
		switch {
		case named || (away && gone.byOthers && gone.at >= v.detachedAt):
			v.notify(l, "%s", gone.text)
		case gone.byOthers && gone.at == w.now:
			v.pending = append(v.pending, sessionEvent{generation: l, text: gone.text, maybe: true})
		}
	}
}

func (w *referenceModel) closeStream(v *modelSession) {
	v.online, v.detachedAt = false, w.now
}

// sweepDue runs a sweep.
func (w *referenceModel) sweepDue() {
	w.sweeps++
	w.sweep = w.sweeps
	overdue := make(map[*generation][]*modelSession)
	for _, v := range w.sessions {
		for l := range v.from {
			if !v.online && v.detachedAt+l.Config.MemberTimeout.Duration() <= w.now {
				overdue[l] = append(overdue[l], v)
			}
		}
	}
	for _, l := range sortedGenerations(overdue) {
		w.removeSessions(l, overdue[l], "timedOut", "")
	}
	for _, l := range w.rooms {
		if l.pending {
			w.flush(l)
		}
	}
	for _, l := range w.rooms {
		w.publishStates(l)
	}
	maps.DeleteFunc(w.rooms, func(_ room.RoomID, l *generation) bool {
		return l.DestroyAt != 0 && !l.DestroyAt.Time().After(w.instant())
	})
	for _, v := range w.sessions {
		maps.DeleteFunc(v.leftRooms, func(_ *generation, d departure) bool { return d.at < w.now-24*time.Hour })
	}
	w.sweep = 0
}

// deadlines returns the times at which something expires, the earliest first.
func (w *referenceModel) deadlines() []time.Duration {
	var due []time.Duration
	for _, l := range w.rooms {
		if l.DestroyAt != 0 {
			due = append(due, l.DestroyAt.Time().Sub(w.began))
		}
	}
	for _, v := range w.sessions {
		if !v.online {
			due = append(due, v.detachedAt+offlineAfter)
		}
		for l := range v.from {
			if !v.online {
				due = append(due, v.detachedAt+l.Config.MemberTimeout.Duration())
				if l.Config.MemberStates {
					due = append(due, v.detachedAt+reconnectingAfter)
				}
			}
		}
	}
	for _, until := range w.bans {
		due = append(due, until)
	}
	slices.Sort(due)
	return slices.DeleteFunc(slices.Compact(due), func(at time.Duration) bool { return at <= w.now })
}

// describe formats a room as the API returns it.
func describe(r room.Room, began time.Time) string {
	text := fmt.Sprintf("%s/%d of %v %+v since %d: %d members by %s, seq %d",
		r.ID, r.Generation, r.CreatedAt.Time().Sub(began), r.Config, r.SettingsVersion, r.MemberCount, r.MemberEvents, r.LastSeq)
	if r.DestroyAt != 0 {
		text += fmt.Sprintf(", goes at %v", r.DestroyAt.Time().Sub(began))
	}
	return text
}
