package servicetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"parlor/room"
)

// The reference model's joins and leaves, as members see them. Rooms of the model are small, so that
// only their settings make them publish joins and leaves in batches, counts or nothing.

// wanted returns what the log should say about members, by the settings and the number of members.
func (l *generation) wanted() room.MemberEvents {
	named := l.Config.NamesUpTo
	if l.MemberEvents != "names" {
		named /= 2
	}
	switch {
	case l.Config.Presence == "none":
		return "none"
	case l.Config.Presence == "counts" || len(l.memberList) > named:
		return "counts"
	}
	return "names"
}

// batches reports whether the next join or leave is published by the next sweep.
func (l *generation) batches() bool {
	return l.MemberEvents == "names" && (l.Config.Presence == "batched" || l.pending || l.wanted() != "names")
}

// published is the number of members according to the log.
func (l *generation) published() int {
	n := len(l.gone)
	for _, g := range l.memberList {
		if !g.unpublished {
			n++
		}
	}
	return n
}

// changed notes that the next sweep has something to publish.
func (l *generation) changed(batched bool) {
	l.pending = l.pending || batched || l.MemberEvents == "counts" || l.wanted() != l.MemberEvents
}

// count publishes the number of members, and what the log says about them from here on.
func (w *referenceModel) count(l *generation) {
	l.pending = false
	before := l.MemberEvents
	l.MemberEvents = l.wanted()
	if before != "none" || l.MemberEvents != "none" {
		l.append(w, "counted: %d, %s", len(l.memberList), l.MemberEvents)
	}
}

// flush publishes what is pending.
func (w *referenceModel) flush(l *generation) {
	gone := l.gone
	var joined []*modelMember
	for _, g := range l.memberList {
		if g.unpublished {
			joined = append(joined, g)
		}
	}
	if l.MemberEvents != "names" || l.wanted() != "names" {
		l.gone = nil
		for _, g := range joined {
			g.unpublished = false
		}
		w.count(l)
		return
	}
	l.pending = false
	slices.SortStableFunc(joined, func(a, b *modelMember) int { return cmp.Compare(a.joined, b.joined) })
	if len(joined) > 0 {
		var names []string
		for _, g := range joined {
			g.unpublished = false
			names = append(names, l.text(g))
		}
		l.append(w, "joined: %s, now %d", strings.Join(names, " "), l.published())
	}
	if l.gone = nil; len(gone) > 0 {
		l.append(w, "left: %s, now %d", sorted(gone), l.published())
	}
}

// add makes a user a member.
func (w *referenceModel) add(l *generation, g *modelMember) {
	batched := l.batches()
	g.unpublished = batched
	l.memberList = append(l.memberList, g)
	if l.MemberEvents == "names" && !batched {
		l.append(w, "joined: %s, now %d", l.text(g), l.published())
	}
	g.seq = len(l.log)
	slices.SortStableFunc(l.memberList, func(a, b *modelMember) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.user, b.user))
	})
	l.changed(batched)
}

// remove removes the members without sessions. leaving are the users that are about to have none.
func (w *referenceModel) remove(l *generation, leaving []*modelMember, reason string) {
	batched, emptied := l.batches(), len(leaving) == len(l.memberList)
	l.memberList = slices.DeleteFunc(l.memberList, func(g *modelMember) bool { return slices.Contains(leaving, g) })
	var left []string
	for _, g := range leaving {
		left = append(left, string(g.user)+" "+reason)
	}
	switch {
	case l.MemberEvents == "names" && (!batched || emptied):
		l.append(w, "left: %s, now %d", sorted(left), l.published())
		l.changed(false)
	case emptied:
		w.count(l)
	default:
		if batched {
			l.gone = append(l.gone, left...)
		}
		l.changed(batched)
	}
}

// flushesBefore reports whether what is pending is published before members leave.
func (l *generation) flushesBefore(leaving []*modelMember) bool {
	if l.MemberEvents != "names" || len(leaving) == 0 {
		return false
	}
	return slices.ContainsFunc(leaving, func(g *modelMember) bool { return g.unpublished }) ||
		l.pending && len(leaving) == len(l.memberList)
}

// reconnectingAfter is how long a member has no stream before it is published.
const reconnectingAfter = 3 * time.Second

// publishStates publishes which members are reconnecting, and which have reconnected.
func (w *referenceModel) publishStates(l *generation) {
	var away, back []string
	for _, g := range l.memberList {
		online := slices.ContainsFunc(g.sessions, func(v *modelSession) bool { return v.online })
		lately := g.joined > w.now-reconnectingAfter ||
			slices.ContainsFunc(g.sessions, func(v *modelSession) bool { return v.detachedAt > w.now-reconnectingAfter })
		switch {
		case !l.Config.MemberStates || g.unpublished:
		case g.reconnecting && online:
			g.reconnecting, back = false, append(back, string(g.user))
		case !g.reconnecting && !online && !lately:
			g.reconnecting, away = true, append(away, string(g.user))
		}
	}
	if len(away) > 0 && l.MemberEvents == "names" {
		l.append(w, "reconnecting: %s", strings.Join(away, " "))
	}
	if len(back) > 0 && l.MemberEvents == "names" {
		l.append(w, "reconnected: %s", strings.Join(back, " "))
	}
}

// hasLeft reports whether a user has left, but the leave is not published yet.
func (l *generation) hasLeft(user room.UserID) bool {
	return slices.ContainsFunc(l.gone, func(text string) bool { return strings.HasPrefix(text, string(user)+" ") })
}

func sorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// now formats the number of members in an event.
func now(count *int) string {
	if count == nil {
		return ""
	}
	return fmt.Sprintf(", now %d", *count)
}
