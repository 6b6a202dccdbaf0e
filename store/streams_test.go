package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

// TestDeparturesThatNoStreamTold: a session that comes back learns once of the
// rooms that it was taken out of without a stream, whatever its cursor.
func TestDeparturesThatNoStreamTold(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	attach(t, f, bob)
	lives := map[room.RoomID]room.Generation{}
	for _, id := range []room.RoomID{"told", "left", "lost"} {
		lives[id] = enter(t, f, bob, id).Generation
	}
	detach := func(streamNo int64) {
		t.Helper()
		f.Detach(alice.ID, streamNo, f.clock.Now())
		waitUntil(t, "she is detached", func() bool { return detached(t, f, alice) })
	}
	wants := func(what string, logs []room.Position, ids ...room.RoomID) room.Attachment {
		t.Helper()
		a, err := f.Attach(t.Context(), alice.ID, logs)
		if err != nil {
			t.Fatal(err)
		}
		var got []room.RoomID
		for _, d := range a.Departures {
			got = append(got, d.Room)
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		return a
	}
	first := wants("at first", nil)
	for id := range lives {
		enter(t, f, alice, id)
	}
	leave(t, f, alice, "told")
	f.clock.advance(time.Second)
	detach(first.StreamNo)
	leave(t, f, alice, "left")
	f.clock.advance(31 * time.Second)
	sweep(t, f)
	wants("after her stream was lost", nil, "lost")
	second := wants("where another stream is open", nil)
	f.clock.advance(time.Second)
	detach(second.StreamNo)
	wants("after the next loss", nil)
	wants("with a cursor", []room.Position{{Log: lives["told"]}, {Log: lives["left"]}}, "told", "left")
}
