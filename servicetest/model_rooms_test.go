package servicetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parlor/room"
)

// The reference model's calls.

// Calls that enter a room.

func (w *referenceModel) create(v *modelSession, id room.RoomID, config room.Config, data string) verdict {
	switch {
	case v.ended:
		return refused(401, "session_ended")
	case w.rooms[id] != nil:
		return v.entryFailed(id, "create", refused(409, "room_exists"))
	}
	l := w.newGeneration(id, config)
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.entryFailed(id, "create", a)
	}
	w.enterGeneration(v, l, "create", "created", data)
	return verdict{status: 201, generation: l}
}

func (w *referenceModel) join(v *modelSession, id room.RoomID, data string) verdict {
	l := w.rooms[id]
	switch {
	case v.ended:
		return refused(401, "session_ended")
	case l == nil:
		return v.entryFailed(id, "enter", refused(404, "room_not_found"))
	}
	if l.hasLeft(v.user) {
		w.flush(l)
	}
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.entryFailed(id, "enter", a)
	}
	w.enterGeneration(v, l, "enter", "success", data)
	return verdict{status: 200, generation: l}
}

func (w *referenceModel) enter(v *modelSession, id room.RoomID, config room.Config, data string) verdict {
	if v.ended {
		return refused(401, "session_ended")
	}
	l, status, done := w.rooms[id], 200, "success"
	if l == nil {
		l, status, done = w.newGeneration(id, config), 201, "created"
	}
	if l.hasLeft(v.user) {
		w.flush(l)
	}
	if a := w.mayEnter(v, l, len(w.roomsOf(v.user))); a.code != "" {
		return v.entryFailed(id, "enter", a)
	}
	w.enterGeneration(v, l, "enter", done, data)
	return verdict{status: status, generation: l, created: done == "created"}
}

func (w *referenceModel) switchRoom(
	v *modelSession, from, to room.RoomID, create bool, config room.Config, data string,
) verdict {
	old, l, done := w.rooms[from], w.rooms[to], "success"
	switch {
	case v.ended:
		return refused(401, "session_ended")
	case from == to:
		return refused(400, "invalid_request")
	case old == nil:
		return v.entryFailed(to, "switch", refused(404, "room_not_found"))
	case !v.in(old):
		return v.entryFailed(to, "switch", refused(409, "not_in_room"))
	case l == nil && !create:
		return v.entryFailed(to, "switch", refused(404, "room_not_found"))
	case l == nil:
		l, done = w.newGeneration(to, config), "created"
	}
	others := len(w.roomsOf(v.user))
	if len(old.member(v.user).sessions) == 1 {
		others--
	}
	if a := w.mayEnter(v, l, others); a.code != "" {
		return v.entryFailed(to, "switch", a)
	}
	if l.hasLeft(v.user) {
		w.flush(l)
	}
	w.enterGeneration(v, l, "switch", done, data)
	w.removeSessions(old, []*modelSession{v}, "switched", "")
	return verdict{status: 200, generation: l, created: done == "created"}
}

// mayEnter checks whether a session can enter a room. others is the number of other rooms that its
// user would be in.
func (w *referenceModel) mayEnter(v *modelSession, l *generation, others int) verdict {
	if v.in(l) {
		return verdict{}
	}
	if w.now < w.bans[ban{l.ID, v.user}] {
		return refused(403, "banned")
	}
	if l.member(v.user) != nil {
		if l.Config.SameUser == "reject" {
			return refused(409, "user_in_room")
		}
		return verdict{}
	}
	if len(l.memberList) >= l.Config.MaxMembers {
		return refused(409, "room_full")
	}
	if others >= modelRooms {
		return refused(409, "too_many_rooms")
	}
	return verdict{}
}

// entryFailed records a rejected call to enter a room. It causes no events if the session is in the
// room.
func (v *modelSession) entryFailed(id room.RoomID, call string, a verdict) verdict {
	for l := range v.from {
		if l.ID == id {
			return a
		}
	}
	v.notify(nil, "%s connecting %s", id, call)
	v.notify(nil, "%s disconnected %sFailed %s", id, call, a.code)
	return a
}

func (w *referenceModel) enterGeneration(v *modelSession, l *generation, call, done, data string) {
	if v.in(l) {
		return
	}
	v.notify(nil, "%s connecting %s", l.ID, call)
	v.notify(l, "connected %s", done)
	w.rooms[l.ID] = l
	g := l.member(v.user)
	if g == nil {
		g = &modelMember{user: v.user, joined: w.now, data: data}
		w.add(l, g)
		l.MemberCount++
		l.DestroyAt = 0
	}
	if l.Config.SameUser == "replace" {
		for _, other := range slices.Clone(g.sessions) {
			w.removeSession(l, other, "replaced", "")
		}
	}
	g.sessions = append(g.sessions, v)
	v.from[l], v.at[l] = len(l.log), len(l.log)
	delete(v.leftRooms, l)
}

// Calls that leave a room.

// refusedIn returns the error of a call that only a session in the room may make; ok is false if
// the session may make it.
func (v *modelSession) refusedIn(l *generation) (refusal verdict, ok bool) {
	switch {
	case v.ended:
		return refused(401, "session_ended"), true
	case l == nil:
		return refused(404, "room_not_found"), true
	case !v.in(l):
		return refused(409, "not_in_room"), true
	}
	return verdict{}, false
}

func (w *referenceModel) leave(v *modelSession, id room.RoomID) verdict {
	l := w.rooms[id]
	if refusal, ok := v.refusedIn(l); ok {
		return refusal
	}
	w.removeSessions(l, []*modelSession{v}, "left", "")
	return verdict{status: 200, rest: string(id)}
}

func (w *referenceModel) leaveAll(v *modelSession) verdict {
	if v.ended {
		return refused(401, "session_ended")
	}
	var left []room.RoomID
	for _, l := range sortedGenerations(v.from) {
		left = append(left, l.ID)
		w.removeSessions(l, []*modelSession{v}, "left", "")
	}
	return verdict{status: 200, rest: fmt.Sprint(left)}
}

// describeMember changes the user data of a member.
func (w *referenceModel) describeMember(v *modelSession, id room.RoomID, data string) verdict {
	l := w.rooms[id]
	if refusal, ok := v.refusedIn(l); ok {
		return refusal
	}
	if g := l.member(v.user); g.data != data {
		g.data = data
		l.append(w, "%s is now %q", v.user, data)
	}
	return verdict{status: 200}
}

// kick removes users from a room, with all their sessions.
func (w *referenceModel) kick(id room.RoomID, users []room.UserID, until time.Duration) verdict {
	l := w.rooms[id]
	if l == nil {
		return refused(404, "room_not_found")
	}
	var (
		kicked, absent []room.UserID
		out            []*modelSession
	)
	for _, g := range l.memberList {
		if slices.Contains(users, g.user) {
			kicked, out = append(kicked, g.user), append(out, g.sessions...)
		}
	}
	for _, u := range users {
		if until > w.now {
			w.bans[ban{id, u}] = until
		}
		if l.member(u) == nil {
			absent = append(absent, u)
		}
	}
	w.removeSessions(l, out, "kicked", "out")
	return verdict{status: 200, rest: fmt.Sprint(kicked, absent)}
}

// removeSessions removes sessions from a room. A user leaves with the last session, and the room is
// destroyed after its last user, at once or later.
func (w *referenceModel) removeSessions(l *generation, out []*modelSession, reason, note string) {
	if len(out) == 0 {
		return
	}
	var leaving []*modelMember
	for _, g := range l.memberList {
		if !slices.ContainsFunc(g.sessions, func(v *modelSession) bool { return !slices.Contains(out, v) }) {
			leaving = append(leaving, g)
		}
	}
	if l.flushesBefore(leaving) {
		w.flush(l)
	}
	for _, v := range out {
		w.removeSession(l, v, reason, note)
	}
	if len(leaving) > 0 {
		w.remove(l, leaving, reason)
	}
	l.MemberCount = len(l.memberList)
	if len(l.memberList) > 0 {
		return
	}
	if l.Config.Lifetime == "kept" {
		return
	}
	l.used, l.emptySince = true, w.now
	l.DestroyAt = room.InstantOf(w.instant().Add(l.Config.DestroyDelay.Duration()))
	if l.Config.DestroyDelay == 0 {
		delete(w.rooms, l.ID)
	}
}

// removeSession removes one session from a room, and notifies it.
func (w *referenceModel) removeSession(l *generation, v *modelSession, reason, note string) {
	event := map[string]string{
		"left": "success", "switched": "success", "timedOut": "networkTimeout", "kicked": "kickedOut",
		"roomDestroyed": "roomNotExist", "replaced": "replaced", "loggedOut": "loggedOut",
	}[reason]
	g := l.member(v.user)
	g.sessions = slices.DeleteFunc(g.sessions, func(other *modelSession) bool { return other == v })
	delete(v.from, l)
	if v.leaving[l] = v.online; !v.online {
		delete(v.at, l)
	}
	v.leftRooms[l] = departure{sessionEvent{generation: l, text: strings.TrimSpace("disconnected " + event + " " + note)}, w.now, reason != "left" && reason != "switched"}
	v.notify(l, "%s", v.leftRooms[l].text)
}

// createEmptyRoom creates a room as an admin.
func (w *referenceModel) createEmptyRoom(id room.RoomID, config room.Config) verdict {
	if w.rooms[id] != nil {
		return refused(409, "room_exists")
	}
	l := w.newGeneration(id, config)
	if config.Lifetime != "kept" {
		l.DestroyAt = room.InstantOf(w.instant().Add(config.UnusedTimeout.Duration()))
	}
	w.rooms[id] = l
	return verdict{status: 201, generation: l}
}

// update changes the settings of a room as an admin.
func (w *referenceModel) update(id room.RoomID, patch func(*room.Config)) verdict {
	l := w.rooms[id]
	if l == nil {
		return refused(404, "room_not_found")
	}
	before := l.Config
	if patch(&l.Config); l.Config != before {
		l.append(w, "settings: %+v", l.Config)
		l.SettingsVersion = l.LastSeq
		l.changed(false)
	}
	if len(l.memberList) == 0 && before.Lifetime == "kept" && l.Config.Lifetime != "kept" {
		l.used, l.emptySince = true, w.now
	}
	switch {
	case len(l.memberList) > 0:
	case l.Config.Lifetime == "kept":
		l.DestroyAt = 0
	case l.used:
		l.DestroyAt = room.InstantOf(w.began.Add(l.emptySince + l.Config.DestroyDelay.Duration()))
	default:
		l.DestroyAt = room.InstantOf(l.CreatedAt.Time().Add(l.Config.UnusedTimeout.Duration()))
	}
	return verdict{status: 200, generation: l}
}

// destroy destroys a room as an admin. No session can read its log afterwards.
func (w *referenceModel) destroy(id room.RoomID) verdict {
	l := w.rooms[id]
	if l == nil {
		return refused(404, "room_not_found")
	}
	for _, g := range l.memberList {
		for _, v := range slices.Clone(g.sessions) {
			w.removeSession(l, v, "roomDestroyed", "over")
		}
	}
	delete(w.rooms, id)
	return verdict{status: 204}
}

// end ends a session. reason is in the event of its rooms, event in its own.
func (w *referenceModel) end(v *modelSession, reason, event, note string) verdict {
	if v.ended {
		return refused(401, "session_ended")
	}
	for _, l := range sortedGenerations(v.from) {
		w.removeSessions(l, []*modelSession{v}, reason, note)
	}
	v.notify(nil, "%s", strings.TrimSpace("connection disconnected "+event+" "+note))
	w.recordEnd(v, reason == "loggedOut")
	v.ended, v.ends, v.online = true, v.online, false
	w.sessions = slices.DeleteFunc(w.sessions, func(other *modelSession) bool { return other == v })
	return verdict{status: 204}
}

// send sends a message to some users, or to all.
func (w *referenceModel) send(v *modelSession, id room.RoomID, text string, to []room.UserID) verdict {
	l := w.rooms[id]
	if refusal, ok := v.refusedIn(l); ok {
		return refusal
	}
	l.append(w, "%s says to %v: %s", v.user, to, text)
	if len(to) > 0 {
		l.log[len(l.log)-1].audience = append([]room.UserID{v.user}, to...)
	}
	return verdict{status: 201, rest: fmt.Sprintf("seq %d", len(l.log))}
}
