package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// updateMembers changes the attributes of members, which must succeed.
func updateMembers(
	t *testing.T, f fixture, by room.Session, id room.RoomID, u room.MemberAttributesUpdate, users ...room.UserID,
) []room.MemberAttributesInfo {
	t.Helper()
	u.By = by.User.ID
	infos, absent, err := f.UpdateMemberAttributes(t.Context(), as(by), id, users, u)
	if err != nil || len(absent) > 0 {
		t.Fatalf("absent %q: %v", absent, err)
	}
	return infos
}

// attributesOf returns the attributes of the users who are in the room.
func attributesOf(t *testing.T, f fixture, r room.Room, users ...room.UserID) map[room.UserID]map[string]string {
	t.Helper()
	infos, err := f.MemberAttributesByID(t.Context(), r.Generation, users)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[room.UserID]map[string]string)
	for _, m := range infos.List {
		all[m.UserID] = m.Attributes.Pairs()
	}
	return all
}

func TestUpdateMemberAttributes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
	_, r := enterAs(t, f, "bob", "lobby", room.RoomOptions{})
	carol := newSession(t, f.Store, "carol")
	for id, want := range map[room.RoomID]error{"lobby": room.ErrNotInRoom, "nowhere": room.ErrRoomNotFound} {
		if _, _, err := f.UpdateMemberAttributes(t.Context(), as(carol), id, []room.UserID{"alice"}, room.MemberAttributesUpdate{Set: set("k", "v")}); !errors.Is(err, want) {
			t.Errorf("%s by a session outside: %v, want %v", id, err, want)
		}
	}
	f.published.take()
	infos, absent, err := f.UpdateMemberAttributes(t.Context(), as(alice), "lobby", []room.UserID{"nobody", "bob", "carol", "alice"},
		room.MemberAttributesUpdate{By: "alice", Set: set("k", "v")})
	want := []room.MemberAttributesInfo{
		{UserID: "alice", Attributes: room.MemberAttributes{"k": {Value: "v"}}}, {UserID: "bob", Attributes: room.MemberAttributes{"k": {Value: "v"}}},
	}
	if diff := cmp.Diff(want, infos); err != nil || diff != "" || !slices.Equal(absent, []room.UserID{"nobody", "carol"}) {
		t.Errorf("absent %q, %v (-want +got):\n%s", absent, err, diff)
	}
	published := f.published.take().Events
	stored, err := f.EventsAfter(t.Context(), r.Generation, r.LastSeq, 10)
	if diff := cmp.Diff(published, stored.Events); err != nil || diff != "" || len(published) != 1 {
		t.Errorf("published (-) and stored (+): %v\n%s", err, diff)
	}
	if diff := cmp.Diff(room.Body(room.MemberAttributesUpdated{Infos: want, OperatedInfo: &room.OperatedInfo{UserID: "alice"}}), published[0].Body); diff != "" {
		t.Error(diff)
	}
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("long", strings.Repeat("x", 64))}, "bob")
	_, _, err = f.UpdateMemberAttributes(t.Context(), as(alice), "lobby", []room.UserID{"alice", "bob"}, room.MemberAttributesUpdate{Set: set("longer", strings.Repeat("x", 70))})
	if !errors.Is(err, room.ErrAttributesFull) {
		t.Errorf("too much for bob: %v", err)
	}
	before := roomAs(t, f, alice, "lobby")
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("k", "v"), Delete: []string{"nothing"}}, "alice", "bob")
	if after := roomAs(t, f, alice, "lobby"); after.LastSeq != before.LastSeq {
		t.Errorf("an update without effect advanced the log from %d to %d", before.LastSeq, after.LastSeq)
	}
	if got := attributesOf(t, f, r, "alice", "bob"); len(got["alice"]) != 1 || len(got["bob"]) != 2 {
		t.Errorf("the attributes are %v", got)
	}
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Delete: []string{"k"}}, "alice")
	if got := attributesOf(t, f, r, "alice", "carol"); len(got) != 1 || len(got["alice"]) != 0 {
		t.Errorf("the attributes are %v", got)
	}
}

// TestMemberAttributesAfterLeaving: with a user's last session, attributes are deleted unless they
// are kept for the user's return.
func TestMemberAttributesAfterLeaving(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, r := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
	bob, _ := enterAs(t, f, "bob", "lobby", room.RoomOptions{})
	phone, _ := enterAs(t, f, "bob", "lobby", room.RoomOptions{})
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("kept", "1"), DeleteAfterOwnerLeft: new(false)}, "bob", "alice")
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("going", "2")}, "bob")
	leave := func(s room.Session) {
		t.Helper()
		if err := f.LeaveRoom(t.Context(), as(s), "lobby"); err != nil {
			t.Fatal(err)
		}
	}
	leave(phone)
	if got := attributesOf(t, f, r, "bob"); len(got["bob"]) != 2 {
		t.Errorf("while a session remains, the attributes are %v", got)
	}
	leave(bob)
	if got := attributesOf(t, f, r, "bob"); len(got) > 0 {
		t.Errorf("a user outside the room has %v", got)
	}
	if page, err := f.MemberAttributes(t.Context(), r.Generation, room.MemberCursor{}, 10); err != nil || len(page.List) != 1 {
		t.Errorf("listed are %v, %v", page, err)
	}
	enterAs(t, f, "bob", "lobby", room.RoomOptions{})
	if diff := cmp.Diff(set("kept", "1"), attributesOf(t, f, r, "bob")["bob"]); diff != "" {
		t.Errorf("back again: %s", diff)
	}
	updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("kept", "1"), DeleteAfterOwnerLeft: new(true)}, "bob")
	checkInvariants(t, f)
}

func TestMemberAttributesPages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, r := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
	var want []room.UserID
	for i := range 7 {
		user := room.UserID(fmt.Sprint("user", 9-i))
		enterAs(t, f, string(user), "lobby", room.RoomOptions{})
		if i%3 > 0 {
			updateMembers(t, f, alice, "lobby", room.MemberAttributesUpdate{Set: set("k", "v")}, user)
			want = append(want, user)
		}
	}
	for limit := 1; limit <= 5; limit++ {
		var got []room.UserID
		var after room.MemberCursor
		for more := true; more; more = after != (room.MemberCursor{}) {
			page, err := f.MemberAttributes(t.Context(), r.Generation, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.List) > limit || len(page.List) == 0 || len(got) >= len(want) {
				t.Fatalf("a page of %d members after %q", len(page.List), got)
			}
			for _, m := range page.List {
				got = append(got, m.UserID)
			}
			after = page.Next
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q, want %q", limit, got, want)
		}
	}
}
