package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestRoomsHaveTheirOwnRetention compares what is left of the logs of rooms with different settings,
// on servers with and without a retention for all rooms.
func TestRoomsHaveTheirOwnRetention(t *testing.T) {
	t.Parallel()
	for _, server := range []time.Duration{0, 48 * time.Hour} {
		f := setup(t, store.Options{MessageRetention: server})
		settings := map[room.RoomID]room.Settings{
			"plain": {},
			"none":  {History: new(room.HistoryNone)},
			"count": {RetentionCount: new(2)},
			"days":  {RetentionDays: new(1)},
			"long":  {RetentionDays: new(3)},
		}
		for id, s := range settings {
			alice := newSessionUntil(t, f.Store, "alice of "+string(id), f.clock.Now().Add(1000*time.Hour))
			openStream(t, f, alice)
			if _, _, err := f.EnterRoom(t.Context(), as(alice), id, room.RoomOptions{Settings: s}); err != nil {
				t.Fatal(err)
			}
			if id == "none" {
				if _, err := f.PostMessage(t.Context(), alice, id, fileDraft(upload(t, f, alice.User.ID))); err != nil {
					t.Fatal(err)
				}
			}
			for _, text := range []string{"1", "2", "3"} {
				if _, err := f.PostMessage(t.Context(), alice, id, textDraft(text)); err != nil {
					t.Fatal(err)
				}
			}
		}
		left := func() map[room.RoomID]string {
			t.Helper()
			sweep(t, f)
			found := map[room.RoomID]string{}
			for id := range settings {
				r, err := f.Room(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				page, err := f.EventsAfter(t.Context(), r.Generation, 0, 10)
				if err != nil {
					t.Fatal(err)
				}
				found[id] = fmt.Sprintf("%d from %d", len(page.Events), page.OldestSeq)
			}
			return found
		}
		began := f.clock.Now()
		for _, step := range []struct {
			after time.Duration
			want  map[room.RoomID]string
		}{
			{room.ReplayWindow, map[room.RoomID]string{"plain": "4 from 1", "none": "5 from 1", "count": "4 from 1", "days": "4 from 1", "long": "4 from 1"}},
			{room.ReplayWindow + time.Millisecond, map[room.RoomID]string{"plain": "4 from 1", "none": "0 from 6", "count": "2 from 3", "days": "4 from 1", "long": "4 from 1"}},
			{24*time.Hour + time.Millisecond, map[room.RoomID]string{"plain": "4 from 1", "none": "0 from 6", "count": "2 from 3", "days": "0 from 5", "long": "4 from 1"}},
			{48*time.Hour + time.Millisecond, map[room.RoomID]string{"plain": "0 from 5", "none": "0 from 6", "count": "0 from 5", "days": "0 from 5", "long": "4 from 1"}},
			{72*time.Hour + time.Millisecond, map[room.RoomID]string{"plain": "0 from 5", "none": "0 from 6", "count": "0 from 5", "days": "0 from 5", "long": "0 from 5"}},
		} {
			if server == 0 && step.after > 25*time.Hour { // nothing else limits these
				step.want["plain"], step.want["count"] = "4 from 1", "2 from 3"
			}
			f.clock.set(began.Add(step.after))
			if diff := cmp.Diff(step.want, left()); diff != "" {
				t.Errorf("retention %s, after %s (-want +got):\n%s", server, step.after, diff)
			}
			if step.after < 48*time.Hour { // later there are no events
				checkInvariants(t, f)
			}
		}
		if n := query[int](t, f, "SELECT count(*) FROM media_uses"); n != 0 {
			t.Errorf("retention %s: %d files of trimmed messages are used", server, n)
		}
	}
}

// TestReplayedEventsOutliveAnOutage checks that a server that has just come back deletes nothing
// that its members may still need, however old it is.
func TestReplayedEventsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSessionUntil(t, f.Store, "alice", f.clock.Now().Add(1000*time.Hour))
	openStream(t, f, alice)
	_, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", room.RoomOptions{Settings: room.Settings{History: new(room.HistoryNone)}})
	if err != nil {
		t.Fatal(err)
	}
	postToLobby(t, f, alice, textDraft("before the outage"))
	f.clock.advance(10 * time.Hour) // the lease of the first server expires
	f.Store = openOn(t, f.address, store.Options{Now: f.clock.Now})
	events := func() int {
		sweep(t, f)
		return query[int](t, f, "SELECT count(*) FROM events")
	}
	if n := events(); n != 2 {
		t.Errorf("after the outage, %d events are left, want 2", n)
	}
	if r, err := f.Room(t.Context(), "lobby"); err != nil || r.MemberCount != 1 {
		t.Errorf("after the outage, the room is %+v, %v", r, err)
	}
	openStream(t, f, alice)
	f.clock.advance(room.ReplayWindow + time.Second)
	if n := events(); n != 0 {
		t.Errorf("after the replay window, %d events are left", n)
	}
}

// TestKeptRooms checks that kept rooms outlive their members, with their attributes, until they are
// destroyed.
func TestKeptRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Hour})
	kept := room.RoomOptions{Settings: room.Settings{Lifetime: new(room.LifetimeKept), DestroyDelay: new(room.Seconds(5))}, Attributes: set("topic", "tea")}
	until := f.clock.Now().Add(1000 * time.Hour)
	alice := newSessionUntil(t, f.Store, "alice", until)
	entered, _, err := f.EnterRoom(t.Context(), as(alice), "lobby", kept)
	if err != nil {
		t.Fatal(err)
	}
	update(t, f, alice, "lobby", room.AttributesUpdate{Set: set("mine", "1"), DeleteAfterOwnerLeft: new(true)})
	postToLobby(t, f, alice, textDraft("hello"))
	if _, _, err := f.UpdateMemberAttributes(t.Context(), as(alice), "lobby", []room.UserID{"alice"}, room.MemberAttributesUpdate{
		By: "alice", Set: set("hand", "up"), DeleteAfterOwnerLeft: new(false),
	}); err != nil {
		t.Fatal(err)
	}
	leave(t, f, alice, "lobby")
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "unused", kept); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(100 * time.Hour)
	sweep(t, f)
	checkInvariants(t, f)
	for id, want := range map[room.RoomID]room.Seq{"lobby": 6, "unused": 0} {
		r, err := f.Room(t.Context(), id)
		if err != nil || r.DestroyAt != 0 || r.MemberCount != 0 || r.LastSeq != want || !cmp.Equal(r.Attributes.Pairs(), set("topic", "tea")) {
			t.Errorf("after its members, %s is %+v: %v", id, r, err)
		}
	}
	again := enter(t, f, newSessionUntil(t, f.Store, "bob", until), "lobby")
	if again.Generation != entered.Generation || again.MemberCount != 1 {
		t.Errorf("entered again: %+v", again)
	}
	if history, err := f.OldestMessages(t.Context(), again, room.Span{Before: 100}, 10); err != nil || !slices.Equal(texts(history), []string{"hello"}) {
		t.Errorf("the history is %v, %v", history, err)
	}
	for _, id := range []room.RoomID{"lobby", "unused"} {
		if err := f.DestroyRoom(t.Context(), admin, id, ""); err != nil {
			t.Error(err)
		}
	}
	f.clock.advance(2 * time.Hour)
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM rooms"); n != 0 {
		t.Errorf("%d destroyed rooms are left", n)
	}
}

// TestRoomLimits lets many users create rooms at once, in each way, and counts those that exist.
func TestRoomLimits(t *testing.T) {
	t.Parallel()
	const all, each, users = 17, 3, 8
	f := setup(t, store.Options{MaxRooms: all, RoomsPerCreator: each, RoomsPerUser: 100})
	for i := range 2 { // rooms of admins count only for the server
		if _, err := f.CreateEmptyRoom(t.Context(), admin, room.RoomID(fmt.Sprint("admin", i)), room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var (
		creating        sync.WaitGroup
		refused, capped atomic.Int64
	)
	for u := range users {
		session := newSession(t, f.Store, fmt.Sprint("user", u))
		if _, err := f.JoinRoom(t.Context(), as(session), "admin0", ""); err != nil {
			t.Fatal(err)
		}
		for i := range each + 2 {
			creating.Go(func() {
				id := room.RoomID(fmt.Sprint("room", u, "-", i))
				var err error
				switch i % 2 {
				case 0:
					_, err = f.CreateRoom(t.Context(), as(session), id, room.RoomOptions{})
				default:
					_, _, err = f.EnterRoom(t.Context(), as(session), id, room.RoomOptions{})
				}
				switch {
				case errors.Is(err, room.ErrRoomLimit):
					refused.Add(1)
				case errors.Is(err, room.ErrCreatorRoomLimit):
					capped.Add(1)
				case err != nil:
					t.Error(err)
				}
			})
		}
	}
	creating.Wait()
	if n := query[int](t, f, invariants["the existing rooms are counted"]); n != 0 {
		t.Errorf("the count of rooms differs by %d", n)
	}
	if n := query[int](t, f, "SELECT count(*) FROM rooms WHERE destroyed_at IS NULL"); n != all {
		t.Errorf("%d rooms exist, want %d; %d refused by the server's limit, %d by the creator's", n, all, refused.Load(), capped.Load())
	}
	if n := query[int](t, f, "SELECT max(n) FROM (SELECT count(*) AS n FROM rooms WHERE creator_id IS NOT NULL GROUP BY creator_id) c"); n > each {
		t.Errorf("a user has created %d rooms", n)
	}
	stranger := newSession(t, f.Store, "stranger")
	enter(t, f, stranger, "admin0") // existing rooms can be joined
	if _, err := f.CreateEmptyRoom(t.Context(), admin, "late", room.RoomOptions{}); !errors.Is(err, room.ErrRoomLimit) {
		t.Errorf("the admin creates one too many: %v", err)
	}
	if _, _, err := f.SwitchRoom(t.Context(), as(stranger), "admin0", "late", true, room.RoomOptions{}); !errors.Is(err, room.ErrRoomLimit) {
		t.Errorf("a switch creates one too many: %v", err)
	}
	if err := f.DestroyRoom(t.Context(), admin, "admin1", ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.EnterRoom(t.Context(), as(stranger), "late", room.RoomOptions{}); err != nil {
		t.Errorf("after one was destroyed: %v", err)
	}
}
