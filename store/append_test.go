package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"parlor/room"
	"parlor/store"
)

// TestAppendAmongRefused: what must not be stored keeps nothing else from being
// stored in the same transaction, and takes no place in the log.
func TestAppendAmongRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const senders, rounds = 48, 5
	sessions := make([]room.Session, senders)
	for i := range sessions {
		sessions[i] = newSession(t, f.Store, fmt.Sprintf("user%d", i))
		if i%3 == 0 { // a third is not in the room
			continue
		}
		enter(t, f, sessions[i], "lobby")
	}
	before := query[room.Seq](t, f, "SELECT last_seq FROM logs")
	var (
		all  sync.WaitGroup
		mu   sync.Mutex // guards seqs
		seqs []room.Seq
	)
	for i, session := range sessions {
		all.Go(func() {
			for round := range rounds {
				d := textDraft("hello")
				if i%3 == 1 { // and another one says each thing twice
					d.ClientMessageID = fmt.Sprint(round / 2)
				}
				m, err := f.PostMessage(t.Context(), session, "lobby", d)
				if i%3 == 0 {
					if !errors.Is(err, room.ErrNotInRoom) {
						t.Errorf("somebody who is not in the room is answered with %v", err)
					}
					continue
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seqs = append(seqs, m.Seq)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	want := senders/3*rounds + senders/3*3
	if len(seqs) != want || seqs[0] != before+1 || seqs[want-1] != before+room.Seq(want) {
		t.Errorf("%d messages stand from %d to %d, and not %d after %d", len(seqs), seqs[0], seqs[len(seqs)-1], want, before)
	}
	if rows := query[int](t, f, "SELECT count(*) FROM events WHERE type = $1", room.TypeMessagesReceived); rows != want {
		t.Errorf("%d messages are stored, and not %d", rows, want)
	}
}

// TestAppendToALaterLife: the room that got the last message is gone, and another
// may have its ID.
func TestAppendToALaterLife(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	post := func() (room.Message, error) { return f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")) }
	if _, err := post(); !errors.Is(err, room.ErrRoomNotFound) {
		t.Fatalf("before the room is there, a message is answered with %v", err)
	}
	for life := range 3 {
		entered := enter(t, f, alice, "lobby")
		for i := range 2 {
			m, err := post()
			if err != nil || m.Seq != entered.LastSeq+room.Seq(i+1) {
				t.Fatalf("message %d of life %d stands at %d: %v", i+1, life+1, m.Seq, err)
			}
		}
		in, err := f.SessionRoom(t.Context(), alice.ID, "lobby")
		if err != nil {
			t.Fatal(err)
		}
		if messages, err := f.NewestMessages(t.Context(), in, room.Span{Before: 100}, 10); err != nil || len(messages) != 2 {
			t.Fatalf("life %d has %d messages: %v", life+1, len(messages), err)
		}
		if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
			t.Fatal(err)
		}
		if life == 1 { // else the next life begins unheard
			if _, err := post(); !errors.Is(err, room.ErrRoomNotFound) {
				t.Fatalf("after the room is gone, a message is answered with %v", err)
			}
		}
	}
}

// TestAppendAfterALaterStay: who sent the last message has left since, and may be in
// again.
func TestAppendAfterALaterStay(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby") // who keeps the room alive
	for stay := range 3 {
		entered := enter(t, f, bob, "lobby")
		m, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello"))
		if err != nil || m.Seq != entered.LastSeq+1 {
			t.Fatalf("the message of stay %d stands at %d, and not after %d: %v", stay+1, m.Seq, entered.LastSeq, err)
		}
		leave(t, f, bob, "lobby")
		if stay == 1 { // else the next stay begins unheard
			if _, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello")); !errors.Is(err, room.ErrNotInRoom) {
				t.Fatalf("after leaving, a message is answered with %v", err)
			}
		}
	}
}

// TestAppendBehindALeaver: who waits for a room that the sender is just leaving
// decides by what is after the wait.
func TestAppendBehindALeaver(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together=%t", together), func(t *testing.T) {
			t.Parallel()
			f := setup(t, store.Options{})
			alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
			enter(t, f, alice, "lobby")
			enter(t, f, alice, "cellar")
			enter(t, f, bob, "lobby")
			for _, m := range []struct {
				sender room.Session
				id     room.RoomID
			}{{alice, "lobby"}, {bob, "lobby"}, {alice, "cellar"}} { // from now on they need not be looked for
				if _, err := f.PostMessage(t.Context(), m.sender, m.id, textDraft("hello")); err != nil {
					t.Fatal(err)
				}
			}
			var (
				replies sync.WaitGroup
				left    = make(chan error, 1)
			)
			post := func(sender room.Session, id room.RoomID, want error) {
				replies.Go(func() {
					if _, err := f.PostMessage(t.Context(), sender, id, textDraft("hello")); !errors.Is(err, want) {
						t.Errorf("a message of %s to %s is answered with %v, and not %v", sender.User.ID, id, err, want)
					}
				})
			}
			openLobby := holdLog(t, f, "lobby")
			go func() { left <- f.LeaveRoom(context.Background(), as(bob), "lobby") }()
			waitForLocks(t, f, 1)
			if together {
				openCellar := holdLog(t, f, "cellar")
				post(alice, "cellar", nil)
				waitForLocks(t, f, 2)
				post(alice, "lobby", nil)
				post(bob, "lobby", room.ErrNotInRoom)
				waitForLocks(t, f, 3) // each room has a lane by now
				openCellar()
			} else {
				post(bob, "lobby", room.ErrNotInRoom)
			}
			waitForLocks(t, f, 2)
			openLobby()
			if err := <-left; err != nil {
				t.Error(err)
			}
			replies.Wait()
		})
	}
}

// holdLog keeps everybody from writing to a room, until release is called.
func holdLog(t *testing.T, f fixture, id room.RoomID) (release func()) {
	t.Helper()
	return hold(t, f, "SELECT FROM logs JOIN rooms USING (generation) WHERE room_id = $1 FOR UPDATE OF logs", id)
}

// TestNewPresenceIDEndsPermit checks that a sender whose presence gets a new ID is decided about
// again, with the facts as they are then.
func TestNewPresenceIDEndsPermit(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby")
	enter(t, f, bob, "lobby")
	first := say(t, f, alice, textDraft("before"))
	f.heard.take()
	renewed := query[room.PresenceID](t, f, "UPDATE attendances SET stay = DEFAULT WHERE session_id = $1 RETURNING stay", alice.ID)
	if m := say(t, f, alice, textDraft("after")); m.Seq != first.Seq+1 {
		t.Errorf("the message has seq %d, want %d", m.Seq, first.Seq+1)
	}
	leave(t, f, alice, "lobby")
	if left := f.heard.take().Left; len(left) != 1 || left[0].Presence != renewed {
		t.Errorf("left: got %+v, want presence %d", left, renewed)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("gone")); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("after leaving: got error %v, want %v", err, room.ErrNotInRoom)
	}
}
