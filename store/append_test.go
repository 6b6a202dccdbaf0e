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

// TestAppendAmongRejectedMessages checks that rejected messages do not prevent the others of their
// batch from being stored, and use up no seq.
func TestAppendAmongRejectedMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const senders, rounds = 48, 5
	sessions := make([]room.Session, senders)
	for i := range sessions {
		sessions[i] = newSession(t, f.Store, fmt.Sprintf("user%d", i))
		if i%3 == 0 { // a third of the senders are not in the room
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
				if i%3 == 1 { // another third sends each message twice
					d.ClientMessageID = fmt.Sprint(round / 2)
				}
				m, err := f.PostMessage(t.Context(), session, "lobby", d)
				if i%3 == 0 {
					if !errors.Is(err, room.ErrNotInRoom) {
						t.Errorf("a sender who is not in the room gets error %v", err)
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
		t.Errorf("%d messages have seqs from %d to %d, want %d messages after %d", len(seqs), seqs[0], seqs[len(seqs)-1], want, before)
	}
	if rows := query[int](t, f, "SELECT count(*) FROM events WHERE type = $1", room.TypeMessagesReceived); rows != want {
		t.Errorf("%d messages are stored, want %d", rows, want)
	}
}

// TestAppendToLaterGeneration sends to a room that was destroyed since the last message, and may
// have been created again.
func TestAppendToLaterGeneration(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	post := func() (room.Message, error) { return f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")) }
	if _, err := post(); !errors.Is(err, room.ErrRoomNotFound) {
		t.Fatalf("before the room exists: got error %v", err)
	}
	for generation := range 3 {
		entered := enter(t, f, alice, "lobby")
		for i := range 2 {
			m, err := post()
			if err != nil || m.Seq != entered.LastSeq+room.Seq(i+1) {
				t.Fatalf("message %d of generation %d has seq %d: %v", i+1, generation+1, m.Seq, err)
			}
		}
		in, err := f.SessionRoom(t.Context(), alice.ID, "lobby")
		if err != nil {
			t.Fatal(err)
		}
		if messages, err := f.NewestMessages(t.Context(), in, room.Span{Before: 100}, 10); err != nil || len(messages) != 2 {
			t.Fatalf("generation %d has %d messages: %v", generation+1, len(messages), err)
		}
		if err := f.DestroyRoom(t.Context(), admin, "lobby", ""); err != nil {
			t.Fatal(err)
		}
		if generation == 1 { // otherwise the facts are stale when the next generation begins
			if _, err := post(); !errors.Is(err, room.ErrRoomNotFound) {
				t.Fatalf("after the room is destroyed: got error %v", err)
			}
		}
	}
}

// TestAppendWithLaterPresence sends from a session that has left the room since its last message,
// and may have joined again.
func TestAppendWithLaterPresence(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newSession(t, f.Store, "alice"), newSession(t, f.Store, "bob")
	enter(t, f, alice, "lobby") // keeps the room from being destroyed
	for presence := range 3 {
		entered := enter(t, f, bob, "lobby")
		m, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello"))
		if err != nil || m.Seq != entered.LastSeq+1 {
			t.Fatalf("the message of presence %d has seq %d, want the one after %d: %v", presence+1, m.Seq, entered.LastSeq, err)
		}
		leave(t, f, bob, "lobby")
		if presence == 1 { // otherwise the facts are stale when the next presence begins
			if _, err := f.PostMessage(t.Context(), bob, "lobby", textDraft("hello")); !errors.Is(err, room.ErrNotInRoom) {
				t.Fatalf("after leaving: got error %v", err)
			}
		}
	}
}

// TestAppendBehindLeave checks that an append that waits for the lock of a room, which the sender
// is just leaving, decides by the state after the wait.
func TestAppendBehindLeave(t *testing.T) {
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
			}{{alice, "lobby"}, {bob, "lobby"}, {alice, "cellar"}} { // from now on the facts are cached
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
						t.Errorf("from %s to %s: got error %v, want %v", sender.User.ID, id, err, want)
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

// holdLog locks the log of a room until release is called.
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
	first := postToLobby(t, f, alice, textDraft("before"))
	f.published.take()
	renewed := query[room.PresenceID](t, f, "UPDATE attendances SET stay = DEFAULT WHERE session_id = $1 RETURNING stay", alice.ID)
	if m := postToLobby(t, f, alice, textDraft("after")); m.Seq != first.Seq+1 {
		t.Errorf("the message has seq %d, want %d", m.Seq, first.Seq+1)
	}
	leave(t, f, alice, "lobby")
	if left := f.published.take().Left; len(left) != 1 || left[0].Presence != renewed {
		t.Errorf("left: got %+v, want presence %d", left, renewed)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("gone")); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("after leaving: got error %v, want %v", err, room.ErrNotInRoom)
	}
}
