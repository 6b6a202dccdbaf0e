package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// enterAs creates a session of a user and joins a room with it.
func enterAs(t *testing.T, f fixture, user string, id room.RoomID, opts room.RoomOptions) (room.Session, room.Room) {
	t.Helper()
	session := newSession(t, f.Store, user)
	r, _, err := f.EnterRoom(t.Context(), as(session), id, opts)
	if err != nil {
		t.Fatal(err)
	}
	return session, r
}

// update changes a room's attributes, which must succeed.
func update(
	t *testing.T, f fixture, by room.Session, id room.RoomID, u room.AttributesUpdate,
) (version room.Seq, refused []string) {
	t.Helper()
	u.By = by.User.ID
	version, refused, err := f.UpdateAttributes(t.Context(), as(by), id, u)
	if err != nil {
		t.Fatal(err)
	}
	return version, refused
}

func roomAs(t *testing.T, f fixture, session room.Session, id room.RoomID) room.Room {
	t.Helper()
	r, err := f.SessionRoom(t.Context(), session.ID, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func set(key, value string) map[string]string { return map[string]string{key: value} }

func TestInitialAttributes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, created := enterAs(t, f, "alice", "lobby", room.RoomOptions{Attributes: set("topic", "tea")})
	want := room.Attributes{"topic": {Value: "tea", Owner: "alice"}}
	if diff := cmp.Diff(want, created.Attributes); diff != "" || created.AttributesVersion != 0 || created.LastSeq != 1 {
		t.Errorf("created as %+v: %s", created, diff)
	}
	bob, entered := enterAs(t, f, "bob", "lobby", room.RoomOptions{Attributes: set("topic", "coffee")})
	if diff := cmp.Diff(want, entered.Attributes); diff != "" {
		t.Errorf("entered (-want +got):\n%s", diff)
	}
	if version, refused := update(t, f, bob, "lobby", room.AttributesUpdate{Set: set("topic", "coffee")}); version != 0 || !slices.Equal(refused, []string{"topic"}) {
		t.Errorf("an attribute of another user: version %d, refused %q", version, refused)
	}
	if version, _ := update(t, f, alice, "lobby", room.AttributesUpdate{Set: set("topic", "rum")}); version != 3 {
		t.Errorf("the version is %d, want the seq of the event", version)
	}
	fresh, _, err := f.SwitchRoom(t.Context(), as(bob), "lobby", "bar", true, room.RoomOptions{Attributes: set("open", "yes")})
	if diff := cmp.Diff(room.Attributes{"open": {Value: "yes", Owner: "bob"}}, fresh.Attributes); err != nil || diff != "" {
		t.Errorf("switched (-want +got): %v\n%s", err, diff)
	}
}

func TestUpdateAttributes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
	bob := newSession(t, f.Store, "bob")
	for id, want := range map[room.RoomID]error{"lobby": room.ErrNotInRoom, "nowhere": room.ErrRoomNotFound} {
		if _, _, err := f.UpdateAttributes(t.Context(), as(bob), id, room.AttributesUpdate{Set: set("k", "v")}); !errors.Is(err, want) {
			t.Errorf("%s by a session outside: %v, want %v", id, err, want)
		}
	}
	f.published.take()
	version, _ := update(t, f, alice, "lobby", room.AttributesUpdate{Set: set(`"é\`, "{\"\\u0000\"}\n")})
	r := roomAs(t, f, alice, "lobby")
	if diff := cmp.Diff(room.Attributes{`"é\`: {Value: "{\"\\u0000\"}\n", Owner: "alice"}}, r.Attributes); diff != "" || r.AttributesVersion != version || r.LastSeq != version {
		t.Errorf("the room is %+v: %s", r, diff)
	}
	published := f.published.take().Events
	if len(published) != 1 || published[0].Seq != version || published[0].Body.Type() != room.TypeAttributesUpdated {
		t.Errorf("published %+v", published)
	}
	stored, err := f.EventsAfter(t.Context(), r.Generation, version-1, 10)
	if diff := cmp.Diff(published, stored.Events); err != nil || diff != "" {
		t.Errorf("published (-) and stored (+): %v\n%s", err, diff)
	}
	if again, _ := update(t, f, alice, "lobby", room.AttributesUpdate{Set: set(`"é\`, "{\"\\u0000\"}\n"), Delete: []string{"nothing"}}); again != version || len(f.published.take().Events) > 0 {
		t.Errorf("after an update without effect the version is %d, want %d", again, version)
	}
	if _, _, err := f.UpdateAttributes(t.Context(), as(alice), "lobby", room.AttributesUpdate{Set: set("k", "v"), Base: []room.Seq{version + 1}}); !errors.Is(err, room.ErrVersionMismatch) {
		t.Errorf("another version: %v", err)
	}
	more := make(map[string]string)
	for i := range room.MaxRoomAttributes {
		more[fmt.Sprint(i)] = "v"
	}
	if _, _, err := f.UpdateAttributes(t.Context(), as(alice), "lobby", room.AttributesUpdate{Set: more}); !errors.Is(err, room.ErrAttributesFull) {
		t.Errorf("too many: %v", err)
	}
	if after := roomAs(t, f, alice, "lobby"); after.LastSeq != version || len(after.Attributes) != 1 {
		t.Errorf("a rejected update changed the room: %+v", after)
	}
}

// TestAttributesAreDeletedWithTheirOwner removes the owner's last session from the room in each
// possible way.
func TestAttributesAreDeletedWithTheirOwner(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	bob, _ := enterAs(t, f, "bob", "lobby", room.RoomOptions{})
	for _, step := range []struct {
		how   string
		leave func(room.Session) error
	}{
		{"left", func(s room.Session) error { return f.LeaveRoom(t.Context(), as(s), "lobby") }},
		{"logged out", func(s room.Session) error { return f.EndSession(t.Context(), as(s)) }},
		{"switched", func(s room.Session) error {
			_, _, err := f.SwitchRoom(t.Context(), as(s), "lobby", "bar", true, room.RoomOptions{})
			return err
		}},
		{"timed out", func(room.Session) error {
			openStream(t, f, bob)
			f.clock.advance(time.Minute)
			return f.Sweep(t.Context())
		}},
	} {
		tab, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
		phone, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
		update(t, f, tab, "lobby", room.AttributesUpdate{Set: map[string]string{"going": "1", "gone": "2"}, DeleteAfterOwnerLeft: new(true)})
		update(t, f, tab, "lobby", room.AttributesUpdate{Set: set("staying", "3")})
		if err := f.LeaveRoom(t.Context(), as(phone), "lobby"); err != nil {
			t.Fatal(err)
		}
		before := roomAs(t, f, bob, "lobby")
		if len(before.Attributes) != 3 {
			t.Errorf("%s, another session remains: %v", step.how, before.Attributes)
		}
		f.published.take()
		if err := step.leave(tab); err != nil {
			t.Fatalf("%s: %v", step.how, err)
		}
		after := roomAs(t, f, bob, "lobby")
		if diff := cmp.Diff(room.Attributes{"staying": {Value: "3", Owner: "alice"}}, after.Attributes); diff != "" || after.AttributesVersion != before.LastSeq+2 {
			t.Errorf("%s: version %d after %d: %s", step.how, after.AttributesVersion, before.LastSeq, diff)
		}
		var published []room.Body
		for _, e := range f.published.take().Events {
			if e.Room == "lobby" {
				published = append(published, e.Body)
			}
		}
		want := room.AttributesUpdated{Infos: []room.AttributesInfo{{Action: room.AttributesDelete, Attributes: map[string]string{"going": "1", "gone": "2"}}}}
		if len(published) != 2 || published[0].Type() != room.TypeMembersLeft || cmp.Diff(room.Body(want), published[1]) != "" {
			t.Errorf("%s: published %+v", step.how, published)
		}
		back, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{})
		update(t, f, back, "lobby", room.AttributesUpdate{Delete: []string{"staying"}})
		if err := f.EndSession(t.Context(), as(back)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttributesDoNotSurviveTheDestroyDelay(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, _ := enterAs(t, f, "alice", "call", room.RoomOptions{
		Settings: room.Settings{DestroyDelay: new(room.Seconds(10))}, Attributes: set("k", "v"),
	})
	enter := func() room.Room {
		t.Helper()
		r, err := f.JoinRoom(t.Context(), as(alice), "call", "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	updateMembers(t, f, alice, "call", room.MemberAttributesUpdate{Set: set("k", "v"), DeleteAfterOwnerLeft: new(false)}, "alice")
	if err := f.LeaveRoom(t.Context(), as(alice), "call"); err != nil {
		t.Fatal(err)
	}
	again := enter()
	if len(again.Attributes) > 0 || again.AttributesVersion != 4 { // events: joined, set, left, deleted, joined
		t.Errorf("after joining again the room has %+v", again)
	}
	if infos := attributesOf(t, f, again, "alice"); len(infos["alice"]) > 0 {
		t.Errorf("after joining again the member has %v", infos)
	}
	if err := f.LeaveRoom(t.Context(), as(alice), "call"); err != nil {
		t.Fatal(err)
	}
	if last := enter(); last.LastSeq != again.LastSeq+2 {
		t.Errorf("an empty room without attributes has an event about them: seq %d after %d", last.LastSeq, again.LastSeq)
	}
}

func TestPurgeDeletesAttributes(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, _ := enterAs(t, f, "alice", "chat", room.RoomOptions{Attributes: set("k", "v")})
	updateMembers(t, f, alice, "chat", room.MemberAttributesUpdate{Set: set("k", "v")}, "alice")
	if err := f.LeaveRoom(t.Context(), as(alice), "chat"); err != nil {
		t.Fatal(err)
	}
	if _, created := enterAs(t, f, "bob", "chat", room.RoomOptions{}); len(created.Attributes) > 0 {
		t.Errorf("the next generation begins with %v", created.Attributes)
	}
	f.clock.advance(store.DefaultFeedRetention)
	if err := f.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, f, "SELECT (SELECT count(*) FROM room_attributes) + (SELECT count(*) FROM member_attributes)"); n > 0 {
		t.Errorf("%d rows remain", n)
	}
}

// TestCompareAndSet: writers that state the version that they have read never lose an update, while
// messages advance the log.
func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, _ := enterAs(t, f, "alice", "lobby", room.RoomOptions{Attributes: set("n", "0")})
	const writers, increments = 16, 20
	var working sync.WaitGroup
	for range writers {
		working.Go(func() {
			// An update that fails has lost to another one, so no writer fails more often than all
			// succeed.
			for done, tries := 0, 0; done < increments && tries < writers*increments; tries++ {
				r, err := f.SessionRoom(t.Context(), alice.ID, "lobby")
				if err != nil {
					t.Error(err)
					return
				}
				n, err := strconv.Atoi(r.Attributes["n"].Value)
				if err != nil {
					t.Error(err)
					return
				}
				_, _, err = f.UpdateAttributes(t.Context(), as(alice), "lobby", room.AttributesUpdate{
					By: "alice", Set: set("n", strconv.Itoa(n+1)), Base: []room.Seq{r.AttributesVersion},
				})
				if err == nil {
					done++
				} else if !errors.Is(err, room.ErrVersionMismatch) {
					t.Error(err)
					return
				}
			}
		})
	}
	working.Go(func() {
		for range increments {
			if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
				t.Error(err)
			}
		}
	})
	working.Wait()
	if got := roomAs(t, f, alice, "lobby").Attributes["n"].Value; got != strconv.Itoa(writers*increments) {
		t.Errorf("%s of %d increments are stored", got, writers*increments)
	}
	checkInvariants(t, f)
}
