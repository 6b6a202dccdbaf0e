package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

func broadcastDraft(text string) room.BroadcastDraft {
	return room.BroadcastDraft{Sender: room.User{ID: "school", Name: "School"}, Draft: textDraft(text)}
}

func createBroadcast(t *testing.T, f fixture, d room.BroadcastDraft) room.Broadcast {
	t.Helper()
	b, err := f.CreateBroadcast(t.Context(), admin, d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copiesOf returns how many rooms have how many messages of a broadcast.
func copiesOf(t *testing.T, f fixture, b room.Broadcast) map[int]int {
	t.Helper()
	rooms := make(map[int]int)
	for copies := range 3 {
		rooms[copies] = query[int](t, f, `SELECT count(*) FROM rooms r WHERE destroyed_at IS NULL AND
			(SELECT count(*) FROM events e WHERE e.generation = r.generation AND client_message_id = $1) = $2`, b.ClientMessageID, copies)
	}
	return rooms
}

// TestBroadcastSurvivesItsServers kills servers in the middle of a broadcast, some of them without
// knowing what they have sent. In the end each room has the message once, and rooms that were
// created meanwhile do not have it.
func TestBroadcastSurvivesItsServers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const rooms = 420
	for i := range rooms {
		if _, err := f.CreateEmptyRoom(t.Context(), admin, roomOf(i), room.RoomOptions{Settings: room.Settings{UnusedTimeout: new(room.Seconds(86400))}}); err != nil {
			t.Fatal(err)
		}
	}
	b := createBroadcast(t, f, broadcastDraft("The school closes."))
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	crashes := 0
	for ; ; crashes++ {
		if crashes > 100 {
			t.Fatal("the broadcast does not end")
		}
		server := openOn(t, f.address, store.Options{Now: f.clock.Now})
		ctx, kill := context.WithCancel(t.Context())
		var running sync.WaitGroup
		// Rooms that have the message may not be counted in the broadcast yet, so they are counted here:
		// each server sends the message to more of them.
		const copies = "SELECT count(*) FROM events WHERE client_message_id = $1"
		sent := query[int](t, f, copies, b.ClientMessageID)
		running.Go(func() {
			if err := server.SendBroadcasts(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, room.ErrUnavailable) {
				t.Errorf("server %d: %v", crashes, err)
			}
		})
		random := random.IntN(40)
		waitUntil(t, "a part is sent", func() bool {
			n := query[int](t, f, copies, b.ClientMessageID)
			return n >= sent+random || query[bool](t, f, "SELECT ended_at IS NOT NULL FROM broadcasts")
		})
		kill()
		running.Wait()
		now, err := f.Broadcast(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now.State != room.BroadcastRunning {
			break
		}
		// A server that is killed does not release its broadcast, and another one may believe that it
		// still has it.
		query[int](t, f, "WITH u AS (UPDATE broadcasts SET leased_until = leased_until + interval '10 s' RETURNING 1) SELECT count(*) FROM u")
		// The transactions of the server that was killed may still hold locks.
		err = f.SendBroadcasts(t.Context())
		for errors.Is(err, room.ErrUnavailable) {
			err = f.SendBroadcasts(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		f.clock.advance(room.BroadcastLease + time.Second)
		if _, err := f.CreateEmptyRoom(t.Context(), admin, room.RoomID(fmt.Sprintf("late%d", crashes)), room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if crashes < 3 {
		t.Errorf("only %d servers were killed", crashes)
	}
	got, err := f.Broadcast(t.Context(), b.ID)
	if err != nil || got.State != room.BroadcastDone || got.SentCount != rooms || got.FailedCount != 0 || *got.RoomCount != rooms || got.EndedAt == 0 {
		t.Errorf("the broadcast is %+v, %v", got, err)
	}
	if copies := copiesOf(t, f, b); copies[1] != rooms || copies[2] != 0 || copies[0] != crashes {
		t.Errorf("rooms by copies are %v, want %d with one and %d with none", copies, rooms, crashes)
	}
	checkInvariants(t, f)
}

// TestBroadcastTakenOver checks that a server whose lease has expired sends no room the message a
// second time, and does not move the broadcast back.
func TestBroadcastTakenOver(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	for i := range 60 {
		if _, err := f.CreateEmptyRoom(t.Context(), admin, roomOf(i), room.RoomOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b := createBroadcast(t, f, broadcastDraft("once"))
	release := hold(t, f, "SELECT FROM logs WHERE generation = (SELECT min(generation) FROM logs) FOR UPDATE")
	slow := openOn(t, f.address, store.Options{Now: f.clock.Now})
	ended := make(chan error, 1)
	go func() { ended <- slow.SendBroadcasts(context.Background()) }()
	waitUntil(t, "the first rooms have the message", func() bool { return copiesOf(t, f, b)[1] == 49 })
	f.clock.advance(room.BroadcastLease + time.Second)
	released := make(chan error, 1)
	go func() { released <- f.SendBroadcasts(context.Background()) }()
	waitUntil(t, "another server has taken the broadcast", func() bool {
		return query[bool](t, f, "SELECT node_id = $1 FROM broadcasts", f.NodeID())
	})
	release()
	if err := errors.Join(<-ended, <-released); err != nil {
		t.Error(err)
	}
	got, err := f.Broadcast(t.Context(), b.ID)
	if err != nil || got.State != room.BroadcastDone || got.SentCount != 60 {
		t.Errorf("the broadcast is %+v, %v", got, err)
	}
	if copies := copiesOf(t, f, b); copies[1] != 60 {
		t.Errorf("rooms by copies are %v", copies)
	}
}

// TestBroadcastResults checks the counts of rooms that refuse the message or are destroyed, the
// prefix, retries, limits, and the end of what is kept.
func TestBroadcastResults(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	for _, id := range []room.RoomID{"a", "class-1", "class-2", "class-3", "class.", "classy"} {
		if _, err := f.CreateEmptyRoom(t.Context(), admin, id, room.RoomOptions{Settings: room.Settings{Lifetime: new(room.LifetimeKept)}}); err != nil {
			t.Fatal(err)
		}
	}
	d := broadcastDraft("hello")
	d.Prefix, d.Draft.ClientMessageID = "class-", "x"
	if _, err := f.PostMessageAs(t.Context(), d.Sender, "class-2", room.Draft{
		Content: room.Content{Kind: room.KindText, Text: "other"}, Priority: room.PriorityMedium, ClientMessageID: "x",
	}); err != nil {
		t.Fatal(err)
	}
	b := createBroadcast(t, f, d)
	if again := createBroadcast(t, f, d); again.ID != b.ID {
		t.Errorf("the retry created another broadcast: %+v", again)
	}
	for _, change := range []func(*room.BroadcastDraft){
		func(d *room.BroadcastDraft) { d.Prefix = "" }, func(d *room.BroadcastDraft) { d.Draft.Text = "bye" },
	} {
		other := d
		change(&other)
		if _, err := f.CreateBroadcast(t.Context(), admin, other); !errors.Is(err, room.ErrMessageIDReused) {
			t.Errorf("another broadcast with the same ID: %v", err)
		}
	}
	if err := f.SendBroadcasts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Broadcast(t.Context(), b.ID); err != nil || got.SentCount != 2 || got.FailedCount != 1 || *got.RoomCount != 3 {
		t.Errorf("the broadcast is %+v, %v", got, err)
	}

	stopped := createBroadcast(t, f, broadcastDraft("never"))
	for range 2 {
		if err := f.StopBroadcast(t.Context(), stopped.ID); err != nil {
			t.Error(err)
		}
	}
	var creating sync.WaitGroup
	errs := make([]error, 2*room.MaxBroadcasts)
	for i := range errs {
		creating.Go(func() { _, errs[i] = f.CreateBroadcast(t.Context(), admin, broadcastDraft("many")) })
	}
	creating.Wait()
	refused := 0
	for _, err := range errs {
		if errors.Is(err, room.ErrTooManyBroadcasts) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != room.MaxBroadcasts {
		t.Errorf("%d of %d broadcasts were refused", refused, len(errs))
	}
	if err := f.SendBroadcasts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if copies := copiesOf(t, f, stopped); copies[1] != 0 {
		t.Errorf("%d rooms have the message of a stopped broadcast", copies[1])
	}
	if all, err := f.Broadcasts(t.Context()); err != nil || len(all) != room.MaxBroadcasts+2 {
		t.Errorf("there are %d broadcasts, %v", len(all), err)
	}
	f.clock.advance(7*24*time.Hour + time.Second)
	sweep(t, f)
	if _, err := f.Broadcast(t.Context(), b.ID); !errors.Is(err, room.ErrBroadcastNotFound) {
		t.Errorf("a broadcast of the week before last: %v", err)
	}
	if err := f.StopBroadcast(t.Context(), b.ID); !errors.Is(err, room.ErrBroadcastNotFound) {
		t.Errorf("a broadcast of the week before last: %v", err)
	}
}
