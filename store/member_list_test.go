package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestMemberListsAndEvents lists members and their attributes in pages while users join, leave and
// change attributes. The pages and the events after the seq of the first one must give the state of
// the room in the end: in small rooms, and in those that batch presence.
func TestMemberListsAndEvents(t *testing.T) {
	t.Parallel()
	const rounds, churning = 300, 4
	for _, size := range []int{churning + 2, room.PresenceBatchThreshold + 2} {
		t.Run(fmt.Sprint(size, " members"), func(t *testing.T) {
			t.Parallel()
			f := setup(t, store.Options{})
			sessions := joinUsers(t, f, "hall", 0, size)
			hall, err := f.Room(t.Context(), "hall")
			if err != nil {
				t.Fatal(err)
			}
			list := func() memberList { return listMembers(t, f, hall.Generation) }
			for round := range rounds {
				var changing sync.WaitGroup
				for i := range churning {
					changing.Go(func() {
						for range 1 + (round+i)%3 {
							if err := leaveOrJoin(t, f, sessions[i], sessions[churning]); err != nil {
								t.Error(err)
							}
						}
					})
				}
				if round%3 == 0 {
					changing.Go(func() {
						if err := f.Sweep(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				listed := list()
				if round%2 == 0 {
					listed = snapshot(t, f, sessions[churning])
				}
				changing.Wait()
				sweep(t, f)
				if diff := cmp.Diff(list().entries, listed.withEvents(t, f).entries); diff != "" {
					t.Fatalf("round %d: in the room (-), and from a list as of %d with events (+):\n%s", round, listed.seq, diff)
				}
			}
			checkInvariants(t, f)
		})
	}
}

// leaveOrJoin lets a session leave the room if it is in it. Otherwise it joins the room and gets an
// attribute from another member.
func leaveOrJoin(t *testing.T, f fixture, session, other room.Session) error {
	if err := f.LeaveRoom(t.Context(), as(session), "hall"); err == nil {
		return nil
	}
	if _, err := f.JoinRoom(t.Context(), as(session), "hall", ""); err != nil {
		return err
	}
	_, _, err := f.UpdateMemberAttributes(t.Context(), as(other), "hall", []room.UserID{session.User.ID},
		room.MemberAttributesUpdate{By: other.User.ID, Set: set("k", "v")})
	return err
}

// memberList is what a client knows about the members of a room.
type memberList struct {
	log     room.LogID
	seq     room.Seq // of the first page
	entries map[string]string
}

// listMembers reads all pages of the members, and then those of their attributes.
func listMembers(t *testing.T, f fixture, log room.LogID) memberList {
	t.Helper()
	l := memberList{log: log, entries: map[string]string{}}
	first := true
	var after room.MemberCursor
	for more := true; more; more = after != (room.MemberCursor{}) {
		page, err := f.Members(t.Context(), log, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if first {
			l.seq, first = page.Seq, false
		}
		l.join(page.List)
		after = page.Next
	}
	for more := true; more; more = after != (room.MemberCursor{}) {
		page, err := f.MemberAttributes(t.Context(), log, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		l.setAttributes(page.List)
		after = page.Next
	}
	return l
}

// snapshot reads all members together with the room.
func snapshot(t *testing.T, f fixture, session room.Session) memberList {
	t.Helper()
	r, page, attributes, err := f.RoomWithMembers(t.Context(), session.ID, "hall", room.MaxMembersPerEvent)
	if err != nil {
		t.Fatal(err)
	}
	if page.Seq != r.LastSeq || len(page.List) != r.MemberCount {
		t.Errorf("a room of %d members at %d was read with %d members at %d", r.MemberCount, r.LastSeq, len(page.List), page.Seq)
	}
	l := memberList{log: r.Generation, seq: page.Seq, entries: map[string]string{}}
	l.join(page.List)
	l.setAttributes(attributes)
	return l
}

func (l memberList) join(members []room.Member) {
	for _, m := range members {
		l.entries[string(m.ID)] = m.JoinedAt.String()
	}
}

func (l memberList) setAttributes(infos []room.MemberAttributesInfo) {
	for _, m := range infos {
		l.entries["attributes of "+string(m.UserID)] = fmt.Sprint(m.Attributes.Pairs())
	}
}

// withEvents applies the events after the first page.
func (l memberList) withEvents(t *testing.T, f fixture) memberList {
	t.Helper()
	stored, err := f.EventsAfter(t.Context(), l.log, l.seq, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range stored.Events {
		switch b := e.Body.(type) {
		case room.MembersJoined:
			l.join(b.MemberList)
		case room.MembersLeft:
			for _, m := range b.MemberList {
				delete(l.entries, string(m.ID))
				delete(l.entries, "attributes of "+string(m.ID))
			}
		case room.MemberAttributesUpdated:
			l.setAttributes(b.Infos)
		}
	}
	return l
}
