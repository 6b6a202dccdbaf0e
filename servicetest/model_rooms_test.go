package servicetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parlor/room"
)

// What the world does when it is called.

// Getting in.

func (w *world) create(v *visitor, id room.RoomID, config room.Config) verdict {
	switch {
	case v.over:
		return refused(401, "session_ended")
	case w.rooms[id] != nil:
		return v.failed(id, "create", refused(409, "room_exists"))
	}
	l := w.newLife(id, config)
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.failed(id, "create", a)
	}
	w.enterLife(v, l, "create", "created")
	return verdict{status: 201, life: l}
}

func (w *world) join(v *visitor, id room.RoomID) verdict {
	l := w.rooms[id]
	switch {
	case v.over:
		return refused(401, "session_ended")
	case l == nil:
		return v.failed(id, "enter", refused(404, "room_not_found"))
	}
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.failed(id, "enter", a)
	}
	w.enterLife(v, l, "enter", "success")
	return verdict{status: 200, life: l}
}

func (w *world) enter(v *visitor, id room.RoomID, config room.Config) verdict {
	if v.over {
		return refused(401, "session_ended")
	}
	l, status, done := w.rooms[id], 200, "success"
	if l == nil {
		l, status, done = w.newLife(id, config), 201, "created"
	}
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.failed(id, "enter", a)
	}
	w.enterLife(v, l, "enter", done)
	return verdict{status: status, life: l, created: done == "created"}
}

func (w *world) switchRoom(v *visitor, from, to room.RoomID, create bool, config room.Config) verdict {
	old, l, done := w.rooms[from], w.rooms[to], "success"
	switch {
	case v.over:
		return refused(401, "session_ended")
	case from == to:
		return refused(400, "invalid_request")
	case old == nil:
		return v.failed(to, "switch", refused(404, "room_not_found"))
	case !v.in(old):
		return v.failed(to, "switch", refused(409, "not_in_room"))
	case l == nil && !create:
		return v.failed(to, "switch", refused(404, "room_not_found"))
	case l == nil:
		l, done = w.newLife(to, config), "created"
	}
	others := len(w.roomsOf(v.user))
	if len(old.guest(v.user).visitors) == 1 {
		others--
	}
	if a := w.mayEnter(v, l, others); a.code != "" {
		return v.failed(to, "switch", a)
	}
	w.enterLife(v, l, "switch", done)
	w.takeOut(old, []*visitor{v}, "switched", "")
	return verdict{status: 200, life: l, created: done == "created"}
}

// mayEnter is why a session may not enter, whose user would be in so many rooms
// besides.
func (w *world) mayEnter(v *visitor, l *life, others int) verdict {
	if v.in(l) {
		return verdict{}
	}
	if w.now < w.bans[ban{l.ID, v.user}] {
		return refused(403, "banned")
	}
	if l.guest(v.user) != nil {
		if l.Config.SameUser == "reject" {
			return refused(409, "user_in_room")
		}
		return verdict{}
	}
	if len(l.guests) == l.Config.MaxMembers {
		return refused(409, "room_full")
	}
	if others >= modelRooms {
		return refused(409, "too_many_rooms")
	}
	return verdict{}
}

// failed tells of a call to get in that was refused, unless the session is in.
func (v *visitor) failed(id room.RoomID, call string, a verdict) verdict {
	for l := range v.from {
		if l.ID == id {
			return a
		}
	}
	v.tell(nil, "%s connecting %s", id, call)
	v.tell(nil, "%s disconnected %sFailed %s", id, call, a.code)
	return a
}

func (w *world) enterLife(v *visitor, l *life, call, done string) {
	if v.in(l) {
		return
	}
	v.tell(nil, "%s connecting %s", l.ID, call)
	v.tell(l, "connected %s", done)
	w.rooms[l.ID] = l
	g := l.guest(v.user)
	if g == nil {
		g = &guest{user: v.user, joined: w.now}
		l.guests = append(l.guests, g)
		l.say(w, "joined: %s@%v", v.user, w.now)
		l.MemberCount++
		l.DestroyAt = time.Time{}
	}
	if l.Config.SameUser == "replace" {
		for _, other := range slices.Clone(g.visitors) {
			w.depart(l, other, "replaced", "")
		}
	}
	g.visitors = append(g.visitors, v)
	v.from[l], v.at[l] = len(l.log), len(l.log)
	delete(v.gone, l)
}

// Getting out.

func (w *world) leave(v *visitor, id room.RoomID) verdict {
	l := w.rooms[id]
	switch {
	case v.over:
		return refused(401, "session_ended")
	case l == nil:
		return refused(404, "room_not_found")
	case !v.in(l):
		return refused(409, "not_in_room")
	}
	w.takeOut(l, []*visitor{v}, "left", "")
	return verdict{status: 200, rest: string(id)}
}

func (w *world) leaveAll(v *visitor) verdict {
	if v.over {
		return refused(401, "session_ended")
	}
	var left []room.RoomID
	for _, l := range lives(v.from) {
		left = append(left, l.ID)
		w.takeOut(l, []*visitor{v}, "left", "")
	}
	return verdict{status: 200, rest: fmt.Sprint(left)}
}

// kick takes users out of a room, with all their sessions.
func (w *world) kick(id room.RoomID, users []room.UserID, until time.Duration) verdict {
	l := w.rooms[id]
	if l == nil {
		return refused(404, "room_not_found")
	}
	var (
		kicked, absent []room.UserID
		out            []*visitor
	)
	for _, g := range l.guests {
		if slices.Contains(users, g.user) {
			kicked, out = append(kicked, g.user), append(out, g.visitors...)
		}
	}
	for _, u := range users {
		if until > w.now {
			w.bans[ban{id, u}] = until
		}
		if l.guest(u) == nil {
			absent = append(absent, u)
		}
	}
	w.takeOut(l, out, "kicked", "out")
	return verdict{status: 200, rest: fmt.Sprint(kicked, absent)}
}

// takeOut takes sessions out of a room. Users leave with the last of theirs, and
// the room goes with the last user, at once or later.
func (w *world) takeOut(l *life, out []*visitor, reason, note string) {
	if len(out) == 0 {
		return
	}
	for _, v := range out {
		w.depart(l, v, reason, note)
	}
	var left []string
	l.guests = slices.DeleteFunc(l.guests, func(g *guest) bool {
		if len(g.visitors) == 0 {
			left = append(left, string(g.user)+" "+reason)
		}
		return len(g.visitors) == 0
	})
	l.MemberCount = len(l.guests)
	if len(left) > 0 {
		l.say(w, "left: %s", strings.Join(left, ", "))
	}
	if len(l.guests) > 0 {
		return
	}
	l.DestroyAt = w.instant().Add(l.Config.DestroyDelay.Duration())
	if l.Config.DestroyDelay == 0 {
		delete(w.rooms, l.ID)
	}
}

// depart takes one session out, and tells it.
func (w *world) depart(l *life, v *visitor, reason, note string) {
	event := map[string]string{
		"left": "success", "switched": "success", "timedOut": "networkTimeout", "kicked": "kickedOut",
		"roomDestroyed": "roomNotExist", "replaced": "replaced", "loggedOut": "loggedOut",
	}[reason]
	g := l.guest(v.user)
	g.visitors = slices.DeleteFunc(g.visitors, func(other *visitor) bool { return other == v })
	delete(v.from, l)
	if v.leaving[l] = v.online; !v.online {
		delete(v.at, l)
	}
	v.gone[l] = departure{told{life: l, text: strings.TrimSpace("disconnected " + event + " " + note)}, w.now, reason != "left" && reason != "switched"}
	v.tell(l, "%s", v.gone[l].text)
}

// open is the operator's creating of a room that nobody is in.
func (w *world) open(id room.RoomID, config room.Config) verdict {
	if w.rooms[id] != nil {
		return refused(409, "room_exists")
	}
	l := w.newLife(id, config)
	l.DestroyAt = w.instant().Add(config.UnusedTimeout.Duration())
	w.rooms[id] = l
	return verdict{status: 201, life: l}
}

// destroy is the operator's ending of a room. Nobody is left to read its log.
func (w *world) destroy(id room.RoomID) verdict {
	l := w.rooms[id]
	if l == nil {
		return refused(404, "room_not_found")
	}
	for _, g := range l.guests {
		for _, v := range slices.Clone(g.visitors) {
			w.depart(l, v, "roomDestroyed", "over")
		}
	}
	delete(w.rooms, id)
	return verdict{status: 204}
}

// end is a session's end, for the reason that the rooms are told; event is what
// it is told itself.
func (w *world) end(v *visitor, reason, event, note string) verdict {
	if v.over {
		return refused(401, "session_ended")
	}
	for _, l := range lives(v.from) {
		w.takeOut(l, []*visitor{v}, reason, note)
	}
	v.tell(nil, "%s", strings.TrimSpace("connection disconnected "+event+" "+note))
	v.over, v.ends, v.online = true, v.online, false
	w.visitors = slices.DeleteFunc(w.visitors, func(other *visitor) bool { return other == v })
	return verdict{status: 204}
}

func (w *world) send(v *visitor, id room.RoomID, text string) verdict {
	l := w.rooms[id]
	switch {
	case v.over:
		return refused(401, "session_ended")
	case l == nil:
		return refused(404, "room_not_found")
	case !v.in(l):
		return refused(409, "not_in_room")
	}
	l.say(w, "%s says: %s", v.user, text)
	return verdict{status: 201, rest: fmt.Sprintf("seq %d", len(l.log))}
}
