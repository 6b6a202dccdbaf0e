package room_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parlor/room"
)

func TestAttributesUpdate(t *testing.T) {
	t.Parallel()
	before := room.Attributes{
		"mine":      {Value: "1", Owner: "alice"},
		"theirs":    {Value: "2", Owner: "bob"},
		"unowned":   {Value: "3"},
		"temporary": {Value: "4", Owner: "alice", DeleteAfterOwnerLeft: true},
	}
	for _, c := range []struct {
		what    string
		update  room.AttributesUpdate
		refused []string
		want    room.Attributes // the attributes that differ
		deleted []string
	}{
		{"a new one", room.AttributesUpdate{Set: pairs("new", "v")}, nil, room.Attributes{"new": {Value: "v", Owner: "alice"}}, nil},
		{"a new one, deleted after its owner left", room.AttributesUpdate{Set: pairs("new", "v"), DeleteAfterOwnerLeft: new(true)}, nil, room.Attributes{"new": {"v", "alice", true}}, nil},
		{"one's own", room.AttributesUpdate{Set: pairs("mine", "v")}, nil, room.Attributes{"mine": {"v", "alice", false}}, nil},
		{"DeleteAfterOwnerLeft unchanged", room.AttributesUpdate{Set: pairs("temporary", "v")}, nil, room.Attributes{"temporary": {"v", "alice", true}}, nil},
		{"DeleteAfterOwnerLeft cleared", room.AttributesUpdate{Set: pairs("temporary", "v"), DeleteAfterOwnerLeft: new(false)}, nil, room.Attributes{"temporary": {"v", "alice", false}}, nil},
		{"unowned stays unowned", room.AttributesUpdate{Set: pairs("unowned", "v")}, nil, room.Attributes{"unowned": {"v", "", false}}, nil},
		{"unowned gets an owner", room.AttributesUpdate{Set: pairs("unowned", "v"), UpdateOwner: true}, nil, room.Attributes{"unowned": {"v", "alice", false}}, nil},
		{"another's", room.AttributesUpdate{Set: pairs("theirs", "v", "mine", "v")}, []string{"theirs"}, room.Attributes{"mine": {"v", "alice", false}}, nil},
		{"another's, with UpdateOwner", room.AttributesUpdate{Set: pairs("theirs", "v"), UpdateOwner: true}, []string{"theirs"}, nil, nil},
		{"another's by force", room.AttributesUpdate{Set: pairs("theirs", "v"), Force: true}, nil, room.Attributes{"theirs": {"v", "bob", false}}, nil},
		{"another's by force, with UpdateOwner", room.AttributesUpdate{Set: pairs("theirs", "v"), Force: true, UpdateOwner: true}, nil, room.Attributes{"theirs": {"v", "alice", false}}, nil},
		{"deleting", room.AttributesUpdate{Delete: []string{"mine", "nothing", "unowned"}}, nil, nil, []string{"mine", "unowned"}},
		{"deleting another's", room.AttributesUpdate{Set: pairs("a", "v"), Delete: []string{"theirs", "mine"}}, []string{"theirs"}, room.Attributes{"a": {"v", "alice", false}}, []string{"mine"}},
		{"deleting another's by force", room.AttributesUpdate{Delete: []string{"theirs"}, Force: true}, nil, nil, []string{"theirs"}},
	} {
		c.update.By = "alice"
		want := room.Attributes{}
		for key, attribute := range before {
			if !slices.Contains(c.deleted, key) {
				want[key] = attribute
			}
		}
		for key, attribute := range c.want {
			want[key] = attribute
		}
		got, refused, err := before.Update(c.update)
		if err != nil || !reflect.DeepEqual(got, want) || !slices.Equal(refused, c.refused) || refused == nil {
			t.Errorf("%s: got %v, refused %q, %v; want %v, refused %q", c.what, got, refused, err, want, c.refused)
		}
	}
	_, refused, err := before.Update(room.AttributesUpdate{Set: pairs("theirs", "v", "mine", "v")})
	if err != nil || !slices.Equal(refused, []string{"mine", "theirs"}) {
		t.Errorf("without a user, keys that users own are refused: %q, %v", refused, err)
	}
}

func pairs(keysAndValues ...string) map[string]string {
	m := make(map[string]string)
	for i := 0; i < len(keysAndValues); i += 2 {
		m[keysAndValues[i]] = keysAndValues[i+1]
	}
	return m
}

// TestAttributesFull fills attributes to each limit and goes one beyond it.
func TestAttributesFull(t *testing.T) {
	t.Parallel()
	full := make(map[string]string)
	for i := range room.MaxRoomAttributes {
		full[fmt.Sprint("k", i)] = ""
	}
	long := pairs("a", strings.Repeat("é", 512), "b", strings.Repeat("x", 1024), "c", strings.Repeat("x", 1024), "d", strings.Repeat("x", 1024), "e", strings.Repeat("x", 1019))
	for what, attributes := range map[string]map[string]string{"count": full, "bytes": long} {
		a, _, err := room.Attributes{}.Update(room.AttributesUpdate{Set: attributes})
		if err != nil {
			t.Fatalf("%s: at the limit: %v", what, err)
		}
		if _, _, err := a.Update(room.AttributesUpdate{Set: pairs("n", "")}); !errors.Is(err, room.ErrAttributesFull) {
			t.Errorf("%s: beyond the limit: %v", what, err)
		}
		for key := range attributes {
			if _, _, err := a.Update(room.AttributesUpdate{Set: pairs("n", ""), Delete: []string{key}}); err != nil {
				t.Errorf("%s: one instead of another: %v", what, err)
			}
		}
	}
	// An attribute that is refused uses no space.
	a := room.NewAttributes(full, "bob")
	if _, refused, err := a.Update(room.AttributesUpdate{By: "alice", Set: pairs("k0", "v")}); err != nil || len(refused) != 1 {
		t.Errorf("refused: %q, %v", refused, err)
	}
}

// attributesModel applies the same rules, one pair after the other.
type attributesModel map[string]room.Attribute

func (m attributesModel) update(u room.AttributesUpdate) (refused []string) {
	mayChange := func(key string) bool {
		a, exists := m[key]
		if exists && a.Owner != "" && a.Owner != u.By && !u.Force {
			refused = append(refused, key)
			return false
		}
		return true
	}
	for key, value := range u.Set {
		if !mayChange(key) {
			continue
		}
		a, exists := m[key]
		a.Value = value
		if !exists {
			a.Owner = u.By
		}
		if u.UpdateOwner {
			a.Owner = u.By
		}
		if u.DeleteAfterOwnerLeft != nil {
			a.DeleteAfterOwnerLeft = *u.DeleteAfterOwnerLeft
		}
		m[key] = a
	}
	for _, key := range u.Delete {
		if mayChange(key) {
			delete(m, key)
		}
	}
	slices.Sort(refused)
	return refused
}

// TestRoomAttributesMatchModel updates a room's attributes at random while users leave, and
// compares them with a model, and with a reader that only receives the events.
func TestRoomAttributesMatchModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := room.Room{ID: "r", Generation: 1, MemberCount: 50, Config: room.DefaultConfig(), MemberEvents: room.MemberEventsNames}
		model := attributesModel{}
		received := map[string]string{}
		receive := func(c room.Change) {
			for _, e := range c.Events {
				updated, ok := e.Body.(room.AttributesUpdated)
				if !ok {
					continue
				}
				if e.Seq != r.AttributesVersion || e.Seq != r.LastSeq {
					t.Fatalf("event %d, version %d, but the log ends at %d", e.Seq, r.AttributesVersion, r.LastSeq)
				}
				for _, info := range updated.Infos {
					for key, value := range info.Attributes {
						if info.Action == room.AttributesSet {
							received[key] = value
						} else if received[key] != value {
							t.Fatalf("%q is deleted with the value %q, want %q", key, value, received[key])
						} else {
							delete(received, key)
						}
					}
				}
			}
		}
		user := rapid.SampledFrom([]room.UserID{"", "alice", "bob"})
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				u := room.AttributesUpdate{
					By: user.Draw(t, "by"), Set: rapid.MapOf(key, rapid.SampledFrom([]string{"", "1", "2"})).Draw(t, "set"),
					Force: rapid.Bool().Draw(t, "force"), UpdateOwner: rapid.Bool().Draw(t, "update owner"),
					DeleteAfterOwnerLeft: rapid.Ptr(rapid.Bool(), true).Draw(t, "delete after"),
				}
				for _, k := range rapid.SliceOfDistinct(key, func(k string) string { return k }).Draw(t, "delete") {
					if _, both := u.Set[k]; !both {
						u.Delete = append(u.Delete, k)
					}
				}
				before, modelBefore := r, fmt.Sprint(model)
				var (
					c       room.Change
					refused []string
					err     error
				)
				r, c, refused, err = r.UpdateAttributes(u, noon)
				if want := model.update(u); err != nil || !slices.Equal(refused, want) {
					t.Fatalf("refused %q, %v, want %q", refused, err, want)
				}
				if changed := fmt.Sprint(model) != modelBefore; len(c.Events) > 1 || changed != (len(c.Events) == 1) || !changed && r.AttributesVersion != before.AttributesVersion {
					t.Fatalf("%d events, version %d after %d; changed: %t", len(c.Events), r.AttributesVersion, before.AttributesVersion, changed)
				}
				receive(c)
			},
			"leave": func(t *rapid.T) {
				who := rapid.SampledFrom([]room.UserID{"alice", "bob"}).Draw(t, "who")
				var c room.Change
				r, c = r.Leave([]room.LeaveRequest{{User: room.User{ID: who}, Last: true}}, room.ReasonLeft, "", noon)
				r.MemberCount = 50
				for key, a := range model {
					if a.Owner == who && a.DeleteAfterOwnerLeft {
						delete(model, key)
					}
				}
				if c.Events[0].Body.Type() != room.TypeMembersLeft {
					t.Fatalf("the first event is %s", c.Events[0].Body.Type())
				}
				receive(c)
			},
			"": func(t *rapid.T) {
				if diff := cmp.Diff(map[string]room.Attribute(model), map[string]room.Attribute(r.Attributes)); diff != "" && len(model)+len(r.Attributes) > 0 {
					t.Fatalf("attributes (-in the model +in the room):\n%s", diff)
				}
				if diff := cmp.Diff(received, r.Attributes.Pairs()); diff != "" {
					t.Fatalf("attributes (-in the events +in the room):\n%s", diff)
				}
			},
		})
	})
}

func TestAttributesVersion(t *testing.T) {
	t.Parallel()
	r := room.Room{LastSeq: 7, AttributesVersion: 5}
	for _, c := range []struct {
		base []room.Seq
		want error
	}{
		{nil, nil},
		{[]room.Seq{5}, nil},
		{[]room.Seq{1, 5}, nil},
		{[]room.Seq{}, room.ErrVersionMismatch},
		{[]room.Seq{4, 6}, room.ErrVersionMismatch},
		{[]room.Seq{7}, room.ErrVersionMismatch},
	} {
		updated, _, _, err := r.UpdateAttributes(room.AttributesUpdate{By: "alice", Set: pairs("k", "v"), Base: c.base}, noon)
		if !errors.Is(err, c.want) || c.want == nil && updated.AttributesVersion != 8 {
			t.Errorf("based on %v: version %d, %v, want error %v", c.base, updated.AttributesVersion, err, c.want)
		}
	}
}

// TestEmptyRoomHasNoAttributes checks that an empty room has no attributes, and that a destroyed
// room has no event about them.
func TestEmptyRoomHasNoAttributes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		delay  room.Seconds
		events int
	}{{10, 2}, {0, 1}} {
		r := room.Room{MemberCount: 1, LastSeq: 3, Config: roomConfig(func(to *room.Config) { to.DestroyDelay = c.delay }), MemberEvents: room.MemberEventsNames, Attributes: room.NewAttributes(pairs("k", "v"), "alice")}
		left, change := r.Leave([]room.LeaveRequest{{User: room.User{ID: "bob"}, Last: true}}, room.ReasonLeft, "", noon)
		if len(change.Events) != c.events {
			t.Fatalf("with a delay of %d: %+v", c.delay, change.Events)
		}
		if c.events == 2 {
			want := room.AttributesUpdated{Infos: []room.AttributesInfo{{room.AttributesDelete, pairs("k", "v")}}}
			if diff := cmp.Diff(want, change.Events[1].Body); diff != "" || len(left.Attributes) > 0 || left.AttributesVersion != 5 {
				t.Errorf("%+v: %s", left, diff)
			}
		}
	}
}

func TestAttributesJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what any
		want string
	}{
		{room.Attributes(nil), `{}`},
		{room.Attributes{"k": {"v", "alice", true}}, `{"k":"v"}`},
		{room.MemberAttributes(nil), `{}`},
		{room.MemberAttributes{"k": {"v", true}}, `{"k":"v"}`},
		{room.AttributesUpdated{Infos: []room.AttributesInfo{{room.AttributesSet, pairs("k", "v")}}}, `{"infos":[{"action":"set","roomAttributes":{"k":"v"}}]}`},
	} {
		if got, err := json.Marshal(c.what); err != nil || string(got) != c.want {
			t.Errorf("%v encodes to %s, %v", c.what, got, err)
		}
	}
	by := &room.OperatedInfo{UserID: "alice"}
	for _, body := range []room.Body{
		room.AttributesUpdated{Infos: []room.AttributesInfo{{room.AttributesSet, pairs("k", "v")}, {room.AttributesDelete, pairs("l", "")}}, OperatedInfo: by},
		room.MemberAttributesUpdated{Infos: []room.MemberAttributesInfo{{"bob", room.MemberAttributes{"k": {Value: "v"}}, nil}}, OperatedInfo: by},
		room.MemberAttributesUpdated{Infos: []room.MemberAttributesInfo{{"bob", room.MemberAttributes{}, new("")}}, OperatedInfo: by},
		room.MembersJoined{MemberList: []room.Member{{User: room.User{ID: "bob"}, UserData: "seat 1"}}},
	} {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := room.DecodeBody(body.Type(), data); err != nil || !reflect.DeepEqual(got, body) {
			t.Errorf("%s decodes to %+v, %v", data, got, err)
		}
	}
	if _, err := room.DecodeBody(room.TypeAttributesUpdated, []byte(`{"infos":[{"roomAttributes":1}]}`)); err == nil {
		t.Error("a number decodes to attributes")
	}
}
