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

// world is what docs/room-states.md says of rooms, sessions and their timers, in
// maps and ifs: what TestModel holds the service against. It shares no rule with
// the service, and knows nothing of databases, streams or goroutines.
type world struct {
	began time.Time
	now   time.Duration // since then
	rooms map[room.RoomID]*life
	bans  map[ban]time.Duration // until when
	// inboxes is the users' logs: lives without guests. delivered is how far
	// each user has shown to have come there.
	inboxes   map[room.UserID]*life
	delivered map[room.UserID]int
	// visitors is the sessions that are not over, the oldest first.
	visitors []*visitor
	// sweep is the sweep that is going on; 0: none is.
	sweep, sweeps int
}

// modelRooms is how many rooms a user may be in.
const modelRooms = 2

type ban struct {
	room room.RoomID
	user room.UserID
}

// life is one life of a room.
type life struct {
	room.Room
	guests []*guest // in order of entering
	log    []entry  // from seq 1
}

// guest is a member.
type guest struct {
	user     room.UserID
	joined   time.Duration
	visitors []*visitor
}

// entry is an event of a log. The order of what one sweep found is not said:
// whom it takes first is told by the first who reads of it.
type entry struct {
	text  string
	sweep int // 0: not of a sweep
	read  bool
}

// visitor is a session.
type visitor struct {
	user       room.UserID
	over       bool
	online     bool
	detachedAt time.Duration
	// from is where it began to follow the rooms it is in, at is how far its
	// stream has come, gone is why it is out of others.
	from, at map[*life]int
	gone     map[*life]departure
	// leaving is the rooms that it is out of and was not yet told so. The service
	// may read a log while it is about to tell, and then the session hears of what
	// happened as it left.
	leaving map[*life]bool
	// told is what its stream has yet to bring of the session's own events; ends
	// says that it ends then.
	told []told
	ends bool
}

// told is an event of a session's own. The number of a new life is known only
// after the reply.
type told struct {
	life *life
	text string
	// maybe says that it may come again: what happened in the very instant in
	// which the session's stream was superseded may be told by both streams.
	maybe bool
}

func (t told) String() string {
	if t.life == nil {
		return t.text
	}
	return fmt.Sprintf("%s/%d %s", t.life.ID, t.life.Generation, t.text)
}

type departure struct {
	told
	at       time.Duration
	byOthers bool
}

// verdict is the reply to a call.
type verdict struct {
	status  int
	code    string // of a refusal
	life    *life  // the room in the reply, as it is after the call
	created bool
	rest    string
}

func refused(status int, code string) verdict { return verdict{status: status, code: code} }

func newWorld(began time.Time) *world {
	return &world{began: began, rooms: make(map[room.RoomID]*life), bans: make(map[ban]time.Duration), inboxes: make(map[room.UserID]*life), delivered: make(map[room.UserID]int)}
}

func (w *world) instant() time.Time { return w.began.Add(w.now) }

func (w *world) login(user room.UserID) *visitor {
	v := &visitor{
		user: user, detachedAt: w.now,
		from: make(map[*life]int), at: make(map[*life]int), gone: make(map[*life]departure), leaving: make(map[*life]bool),
	}
	w.visitors = append(w.visitors, v)
	if w.inboxes[user] == nil {
		w.inboxes[user] = &life{Room: room.Room{ID: "inbox"}}
	}
	return v
}

// write sends a message to a user.
func (w *world) write(v *visitor, to room.UserID, text string) verdict {
	own, theirs := w.inboxes[v.user], w.inboxes[to]
	switch {
	case v.over:
		return refused(401, "session_ended")
	case to == v.user:
		return refused(400, "message_to_self")
	case theirs == nil:
		return refused(404, "user_not_found")
	}
	own.say(w, "with %s, %s writes: %s", to, v.user, text)
	theirs.say(w, "with %s, %s writes: %s", v.user, v.user, text)
	return verdict{status: 201, rest: fmt.Sprintf("seq %d", own.LastSeq)}
}

func (v *visitor) tell(l *life, format string, args ...any) {
	if v.online {
		v.told = append(v.told, told{life: l, text: fmt.Sprintf(format, args...)})
	}
}

func (l *life) say(w *world, format string, args ...any) {
	l.log = append(l.log, entry{text: fmt.Sprintf(format, args...), sweep: w.sweep})
	l.LastSeq++
}

// read holds an event that a stream brought against the log.
func (l *life) read(seq int, text string) bool {
	if seq < 1 || seq > len(l.log) {
		return false
	}
	e := &l.log[seq-1]
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

func (l *life) guest(user room.UserID) *guest {
	for _, g := range l.guests {
		if g.user == user {
			return g
		}
	}
	return nil
}

func (l *life) members() string {
	var names []string
	for _, g := range l.guests {
		names = append(names, fmt.Sprintf("%s@%v", g.user, g.joined))
	}
	return strings.Join(names, " ")
}

func (v *visitor) in(l *life) bool {
	_, in := v.from[l]
	return in
}

// lives is the rooms that are keys of a map, by age.
func lives[V any](of map[*life]V) []*life {
	return slices.SortedFunc(maps.Keys(of), func(a, b *life) int { return cmp.Compare(a.Generation, b.Generation) })
}

func (w *world) roomsOf(user room.UserID) (in []*life) {
	for _, l := range w.rooms {
		if l.guest(user) != nil {
			in = append(in, l)
		}
	}
	slices.SortFunc(in, func(a, b *life) int { return cmp.Compare(a.Generation, b.Generation) })
	return in
}

func (w *world) newLife(id room.RoomID, config room.Config) *life {
	return &life{Room: room.Room{ID: id, Config: config, CreatedAt: w.instant()}}
}

// Streams and time.

// attach opens a stream at a cursor; nil is none, and garbage is none that the
// service can read.
func (w *world) attach(v *visitor, cursor map[*life]int, garbage bool) {
	away := !v.online
	v.online = true
	var rooms []string
	for _, l := range lives(v.from) {
		v.at[l] = max(v.from[l], cursor[l])
		rooms = append(rooms, describe(l.Room, w.began))
	}
	v.tell(nil, "ready, resumed %t: %s", cursor != nil && !garbage, strings.Join(rooms, "; "))
	if garbage {
		for _, l := range lives(v.from) {
			v.at[l] = len(l.log)
			v.tell(nil, "reset cursorInvalid: %s", describe(l.Room, w.began))
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
		v.tell(nil, "inbox reset cursorInvalid")
	}
	// Of what the cursor names, and of what others did while it was away.
	for _, l := range lives(v.gone) {
		gone := v.gone[l]
		_, named := cursor[l]
		switch {
		case named || (away && gone.byOthers && gone.at >= v.detachedAt):
			v.tell(l, "%s", gone.text)
		case gone.byOthers && gone.at == w.now:
			v.told = append(v.told, told{life: l, text: gone.text, maybe: true})
		}
	}
}

func (w *world) detach(v *visitor) {
	v.online, v.detachedAt = false, w.now
}

// sweepUp does what is due.
func (w *world) sweepUp() {
	w.sweeps++
	w.sweep = w.sweeps
	overdue := make(map[*life][]*visitor)
	for _, v := range w.visitors {
		for l := range v.from {
			if !v.online && v.detachedAt+l.Config.MemberTimeout.Duration() <= w.now {
				overdue[l] = append(overdue[l], v)
			}
		}
	}
	for _, l := range lives(overdue) {
		w.takeOut(l, overdue[l], "timedOut", "")
	}
	maps.DeleteFunc(w.rooms, func(_ room.RoomID, l *life) bool {
		return !l.DestroyAt.IsZero() && !l.DestroyAt.After(w.instant())
	})
	for _, v := range w.visitors {
		maps.DeleteFunc(v.gone, func(_ *life, d departure) bool { return d.at < w.now-24*time.Hour })
	}
	w.sweep = 0
}

// deadlines is when something will be due, the earliest first.
func (w *world) deadlines() []time.Duration {
	var due []time.Duration
	for _, l := range w.rooms {
		if !l.DestroyAt.IsZero() {
			due = append(due, l.DestroyAt.Sub(w.began))
		}
	}
	for _, v := range w.visitors {
		for l := range v.from {
			if !v.online {
				due = append(due, v.detachedAt+l.Config.MemberTimeout.Duration())
			}
		}
	}
	for _, until := range w.bans {
		due = append(due, until)
	}
	slices.Sort(due)
	return slices.DeleteFunc(slices.Compact(due), func(at time.Duration) bool { return at <= w.now })
}

// describe is a room as the API tells of it.
func describe(r room.Room, began time.Time) string {
	text := fmt.Sprintf("%s/%d of %v %+v: %d members, seq %d", r.ID, r.Generation, r.CreatedAt.Sub(began), r.Config, r.MemberCount, r.LastSeq)
	if !r.DestroyAt.IsZero() {
		text += fmt.Sprintf(", goes at %v", r.DestroyAt.Sub(began))
	}
	return text
}
