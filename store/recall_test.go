package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store"
)

func recallFixture(t *testing.T) (f fixture, alice, bob room.Session) {
	t.Helper()
	f = setup(t, store.Options{})
	alice, bob = newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	for _, s := range []room.Session{alice, bob} {
		enter(t, f, s, "lobby")
	}
	return f, alice, bob
}

func say(t *testing.T, f fixture, s room.Session, d room.Draft) room.Message {
	t.Helper()
	m, err := f.PostMessage(t.Context(), s, "lobby", d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRecalledContentIsGone looks for it in all of the database.
func TestRecalledContentIsGone(t *testing.T) {
	t.Parallel()
	f, alice, _ := recallFixture(t)
	d := textDraft("a secret")
	d.ClientMessageID, d.ExtendedData = "1", "a secret too"
	say(t, f, alice, textDraft("before")) // of the same millisecond, as the clock stands still
	m := say(t, f, alice, d)
	after := say(t, f, alice, textDraft("after"))
	f.heard.take()

	if err := f.Recall(t.Context(), alice, "lobby", m.ID); err != nil {
		t.Fatal(err)
	}
	heard := f.heard.take().Events
	want := room.MessageRecalled{MessageID: m.ID, RecalledSeq: m.Seq, OperatedInfo: &room.OperatedInfo{UserID: "alice"}}
	if len(heard) != 1 || heard[0].Seq != after.Seq+1 || !cmp.Equal(heard[0].Body, room.Body(want)) {
		t.Errorf("told of %+v", heard)
	}
	if n := query[int](t, f, "SELECT count(*) FROM events e WHERE e::text LIKE '%secret%'"); n != 0 {
		t.Errorf("%d events have the content", n)
	}
	page, err := f.EventsAfter(t.Context(), heard[0].Generation, m.Seq-1, 3)
	if err != nil || len(page.Events) != 3 || page.LastSeq != heard[0].Seq {
		t.Fatalf("the log goes on with %+v, %v", page, err)
	}
	tombstone := page.Events[0].Body.(room.MessagesReceived).MessageList[0]
	wanted := m
	wanted.Text, wanted.ExtendedData, wanted.Recalled = "", "", true
	if diff := cmp.Diff(wanted, tombstone); diff != "" {
		t.Errorf("the tombstone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(heard[0], page.Events[2]); diff != "" {
		t.Errorf("heard (-) and stored (+):\n%s", diff)
	}

	// Again, and sent again: nothing new.
	if err := f.Recall(t.Context(), alice, "lobby", m.ID); err != nil {
		t.Errorf("again: %v", err)
	}
	if retried := say(t, f, alice, d); !cmp.Equal(retried, tombstone) {
		t.Errorf("the retry is answered with %+v", retried)
	}
	if heard := f.heard.take().Events; len(heard) != 0 {
		t.Errorf("then told of %+v", heard)
	}
	checkInvariants(t, f)
}

func TestWhoMayRecallWhat(t *testing.T) {
	t.Parallel()
	f, alice, bob := recallFixture(t)
	enter(t, f, alice, "other")
	elsewhere, err := f.PostMessage(t.Context(), alice, "other", textDraft("elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	told, err := f.PostMessage(t.Context(), alice, "lobby", room.Draft{Content: room.Content{Kind: room.KindBarrage, Text: "whoosh"}, Priority: room.PriorityLow})
	if err != nil {
		t.Fatal(err)
	}
	outsider := newSession(t, f.Store, "alice")
	m := say(t, f, alice, textDraft("mine"))
	old := say(t, f, alice, textDraft("mine and old"))
	recall := func(what string, s room.Session, in room.RoomID, id room.MessageID, want error) {
		t.Helper()
		if err := f.Recall(t.Context(), s, in, id); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	recall("another's", bob, "lobby", m.ID, room.ErrNotSender)
	recall("of another room", alice, "lobby", elsewhere.ID, room.ErrMessageNotFound)
	recall("not stored", alice, "lobby", told.ID, room.ErrMessageNotFound)
	recall("never said", alice, "lobby", "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4", room.ErrMessageNotFound)
	recall("not of version 7", alice, "lobby", "0193507e-9b1e-4c3d-8a10-2f5be1c2d3e4", room.ErrMessageNotFound)
	recall("no ID", alice, "lobby", "x", room.ErrMessageNotFound)
	recall("from outside", outsider, "lobby", m.ID, room.ErrNotInRoom)
	recall("in no room", alice, "nowhere", m.ID, room.ErrRoomNotFound)
	f.clock.advance(room.RecallTime)
	// Another session of the user will do.
	enter(t, f, outsider, "lobby")
	recall("just in time", outsider, "lobby", m.ID, nil)
	f.clock.advance(time.Second)
	recall("too late", alice, "lobby", old.ID, room.ErrRecallTooLate)
	for id, want := range map[room.MessageID]error{old.ID: nil, m.ID: nil, elsewhere.ID: room.ErrMessageNotFound} {
		if err := f.RecallAny(t.Context(), "lobby", id); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("by the operator: %v", err)
		}
	}
	if err := f.RecallAny(t.Context(), "nowhere", m.ID); !errors.Is(err, room.ErrRoomNotFound) {
		t.Errorf("by the operator in no room: %v", err)
	}
	// A new life of the room does not have the messages of the last.
	if err := f.DestroyRoom(t.Context(), "lobby", ""); err != nil {
		t.Fatal(err)
	}
	enter(t, f, alice, "lobby")
	recall("of an earlier life", alice, "lobby", m.ID, room.ErrMessageNotFound)
}
