package room_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
)

func TestMemberAttributesUpdate(t *testing.T) {
	t.Parallel()
	before := room.MemberAttributes{"temporary": {"1", false}, "kept": {"2", true}}
	for _, c := range []struct {
		what   string
		update room.MemberAttributesUpdate
		want   room.MemberAttributes
	}{
		{"a new one", room.MemberAttributesUpdate{Set: pairs("new", "v")}, room.MemberAttributes{"temporary": {"1", false}, "kept": {"2", true}, "new": {"v", false}}},
		{"a new one that is kept", room.MemberAttributesUpdate{Set: pairs("new", "v"), DeleteAfterOwnerLeft: new(false)}, room.MemberAttributes{"temporary": {"1", false}, "kept": {"2", true}, "new": {"v", true}}},
		{"others", room.MemberAttributesUpdate{Set: pairs("temporary", "v", "kept", "v")}, room.MemberAttributes{"temporary": {"v", false}, "kept": {"v", true}}},
		{"others, deleted after their owner left", room.MemberAttributesUpdate{Set: pairs("temporary", "v", "kept", "v"), DeleteAfterOwnerLeft: new(true)}, room.MemberAttributes{"temporary": {"v", false}, "kept": {"v", false}}},
		{"deleting", room.MemberAttributesUpdate{Set: pairs("new", "v"), Delete: []string{"temporary", "nothing"}}, room.MemberAttributes{"kept": {"2", true}, "new": {"v", false}}},
	} {
		got, err := before.Update(c.update)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, attributes (-want +got):\n%s", c.what, err, diff)
		}
	}
	if diff := cmp.Diff(room.MemberAttributes{"kept": {"2", true}}, before.Kept()); diff != "" {
		t.Error(diff)
	}
}

func TestMemberAttributesFull(t *testing.T) {
	t.Parallel()
	full := make(map[string]string)
	for i := range room.MaxMemberAttributes {
		full[fmt.Sprint("k", i)] = ""
	}
	long := pairs("a", strings.Repeat("x", 64), "b", strings.Repeat("é", 32), "c", strings.Repeat("x", 13))
	for what, attributes := range map[string]map[string]string{"count": full, "bytes": long} {
		a, err := room.MemberAttributes{}.Update(room.MemberAttributesUpdate{Set: attributes})
		if err != nil {
			t.Fatalf("%s: at the limit: %v", what, err)
		}
		if _, err := a.Update(room.MemberAttributesUpdate{Set: pairs("n", "")}); !errors.Is(err, room.ErrAttributesFull) {
			t.Errorf("%s: beyond the limit: %v", what, err)
		}
	}
}

// TestUpdateMemberAttributesIsAtomic checks that either all members are updated or none, and that
// the event lists only those that changed.
func TestUpdateMemberAttributesIsAtomic(t *testing.T) {
	t.Parallel()
	r := room.Room{LastSeq: 4}
	alice := room.MemberAttributesInfo{UserID: "alice", Attributes: room.MemberAttributes{"k": {"v", false}}}
	bob := room.MemberAttributesInfo{UserID: "bob"}
	updated, c, infos, err := r.UpdateMemberAttributes([]room.MemberAttributesInfo{alice, bob}, room.MemberAttributesUpdate{By: "alice", Set: pairs("k", "v")}, noon)
	if err != nil || len(infos) != 2 || updated.LastSeq != 5 || len(c.Events) != 1 {
		t.Fatalf("%+v, %+v, %+v, %v", updated, c, infos, err)
	}
	want := room.MemberAttributesUpdated{
		Infos:        []room.MemberAttributesInfo{{"bob", room.MemberAttributes{"k": {"v", false}}, nil}},
		OperatedInfo: &room.OperatedInfo{UserID: "alice"},
	}
	if diff := cmp.Diff(want, c.Events[0].Body); diff != "" {
		t.Error(diff)
	}
	if same, c, _, err := r.UpdateMemberAttributes(infos, room.MemberAttributesUpdate{By: "alice", Set: pairs("k", "v")}, noon); err != nil || len(c.Events) > 0 || same.LastSeq != 4 {
		t.Errorf("without effect: %+v, %v", c, err)
	}
	seated := room.MemberAttributesUpdate{By: "bob", UserData: new("seat 1")}
	bob.UserData = new("")
	if _, c, infos, err := r.UpdateMemberAttributes([]room.MemberAttributesInfo{bob}, seated, noon); err != nil || len(c.Events) != 1 || *infos[0].UserData != "seat 1" {
		t.Errorf("user data: %+v, %+v, %v", c, infos, err)
	}
	bob.UserData = new("seat 1")
	if same, c, _, err := r.UpdateMemberAttributes([]room.MemberAttributesInfo{bob}, seated, noon); err != nil || len(c.Events) > 0 || same.LastSeq != 4 {
		t.Errorf("the same user data: %+v, %v", c, err)
	}
	bob.Attributes = room.MemberAttributes{"long": {strings.Repeat("x", 64), false}, "longer": {strings.Repeat("x", 64), false}}
	if _, c, _, err := r.UpdateMemberAttributes([]room.MemberAttributesInfo{alice, bob}, room.MemberAttributesUpdate{Set: pairs("n", "longer")}, noon); !errors.Is(err, room.ErrAttributesFull) || len(c.Events) > 0 {
		t.Errorf("beyond the limit of one member: %+v, %v", c, err)
	}
}
