package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestLockedRoomDelaysNoOtherCalls: while a forgotten transaction keeps a room locked, calls for
// the room wait, and no other call does.
func TestLockedRoomDelaysNoOtherCalls(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	const rooms = 5
	sessions := make([]room.Session, rooms) // each is in a room of its own, and all are in the first room
	for i := range sessions {
		sessions[i] = newSession(t, f.Store, fmt.Sprintf("user%d", i))
		enter(t, f, sessions[i], roomOf(0))
		enter(t, f, sessions[i], roomOf(i))
	}
	callers := []room.Session{sessions[0], newSession(t, f.Store, "caller1"), newSession(t, f.Store, "caller2")}
	for _, s := range callers {
		enter(t, f, s, roomOf(0))
	}
	post := func(s room.Session, id room.RoomID) error {
		_, err := f.PostMessage(t.Context(), s, id, textDraft("hello"))
		return err
	}
	release := holdLog(t, f, roomOf(0))

	var (
		stalled  sync.WaitGroup
		released atomic.Bool
	)
	call := func(call func() error) {
		stalled.Go(func() {
			switch err := call(); {
			case err == nil && !released.Load():
				t.Error("a call for the room succeeded while it was locked")
			case err != nil && !errors.Is(err, room.ErrNotInRoom) && !errors.Is(err, room.ErrUnavailable):
				t.Errorf("a call for the locked room: %v", err)
			}
		})
	}
	const n = 20 // of each kind, more than there are connections
	for i := range n {
		s := callers[i%3]
		call(func() error { return post(s, roomOf(0)) })
		call(func() error { // also waits for the lock of its session
			_, _, err := f.UpdateAttributes(t.Context(), as(s), roomOf(0), room.AttributesUpdate{Set: map[string]string{"a": fmt.Sprint(i)}})
			return err
		})
	}
	for i := range n {
		late := newSession(t, f.Store, fmt.Sprintf("late%d", i))
		call(func() error {
			_, _, err := f.EnterRoom(t.Context(), as(late), roomOf(0), room.RoomOptions{})
			return err
		})
	}
	for _, s := range callers[:2] {
		call(func() error { return f.LeaveRoom(t.Context(), as(s), roomOf(0)) })
	}
	call(func() error { return f.EndSession(t.Context(), as(callers[2])) })

	var others sync.WaitGroup
	for r := 1; r < rooms; r++ {
		others.Go(func() {
			for i := range 3 {
				s := sessions[r]
				if err := post(s, roomOf(r)); err != nil {
					t.Errorf("a message to another room: %v", err)
				}
				newcomer := newSession(t, f.Store, fmt.Sprintf("new%d-%d", r, i))
				if _, err := f.JoinRoom(t.Context(), as(newcomer), roomOf(r), ""); err != nil {
					t.Errorf("joining another room: %v", err)
				}
				if err := f.LeaveRoom(t.Context(), as(newcomer), roomOf(r)); err != nil {
					t.Errorf("leaving another room: %v", err)
				}
				if err := f.EndSession(t.Context(), as(newcomer)); err != nil {
					t.Errorf("logging out: %v", err)
				}
				if _, err := f.SessionRoom(t.Context(), s.ID, roomOf(0)); err != nil {
					t.Errorf("reading the room: %v", err)
				}
			}
		})
	}
	others.Wait()
	released.Store(true)
	release()
	stalled.Wait()
	checkInvariants(t, f)
}

// TestCallsForALockedRoomAreRejected: all calls for a locked room fail within the time of one or
// two, and succeed afterwards.
func TestCallsForALockedRoomAreRejected(t *testing.T) {
	t.Parallel()
	var unknownCommits atomic.Int64
	f := setup(t, store.Options{LockTimeout: 300 * time.Millisecond, CommitUnknown: func() { unknownCommits.Add(1) }})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	post := func() error {
		_, err := f.PostMessage(context.Background(), alice, "lobby", textDraft("hello"))
		return err
	}
	if err := post(); err != nil {
		t.Fatal(err)
	}
	before := query[room.Seq](t, f, "SELECT last_seq FROM logs")
	release := holdLog(t, f, "lobby")
	var calls sync.WaitGroup
	wantRejected := func(call func() error) {
		calls.Go(func() {
			if err := call(); !errors.Is(err, room.ErrUnavailable) {
				t.Errorf("a call for a locked room: %v, want room.ErrUnavailable", err)
			}
		})
	}
	for i := range 50 {
		wantRejected(post)
		late := newSession(t, f.Store, fmt.Sprintf("late%d", i))
		wantRejected(func() error {
			_, err := f.JoinRoom(context.Background(), as(late), "lobby", "")
			return err
		})
		wantRejected(func() error { return f.DestroyRoom(context.Background(), admin, "lobby", "") })
	}
	wantRejected(func() error { return f.LeaveRoom(context.Background(), as(alice), "lobby") })
	calls.Wait()
	release()
	if err := post(); err != nil {
		t.Errorf("message after the lock was released: %v", err)
	}
	if got := query[room.Seq](t, f, "SELECT last_seq FROM logs"); got != before+1 {
		t.Errorf("the log ends at %d, want %d", got, before+1)
	}
	if n := unknownCommits.Load(); n > 0 {
		t.Errorf("CommitUnknown was called %d times, want 0", n)
	}
	checkInvariants(t, f)
}

// TestLockedSessionDelaysNoOtherJoins: joins of the same room do not wait for a session whose row
// is locked, or whose user is locked by another session.
func TestLockedSessionDelaysNoOtherJoins(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	host, locked := newSession(t, f.Store, "host"), newSession(t, f.Store, "locked")
	twin, other := newSession(t, f.Store, "twin"), newSession(t, f.Store, "twin")
	enter(t, f, host, "hall")
	enter(t, f, host, "stalled")
	releaseSession := hold(t, f, "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", locked.ID)
	releaseRoom := holdLog(t, f, "stalled")
	var waiting sync.WaitGroup
	join := func(s room.Session, id room.RoomID) {
		waiting.Go(func() {
			if _, err := f.JoinRoom(t.Context(), as(s), id, ""); err != nil {
				t.Errorf("%s joins %s: %v", s.User.ID, id, err)
			}
		})
	}
	join(twin, "stalled")
	waitForLocks(t, f, 1)
	join(locked, "hall")
	waitForLocks(t, f, 2)
	join(other, "hall")
	waitForLocks(t, f, 3)
	for i := range 5 {
		enter(t, f, newSession(t, f.Store, fmt.Sprintf("user%d", i)), "hall")
	}
	if n := query[int](t, f, "SELECT count(*) FROM members WHERE user_id IN ('locked', 'twin')"); n != 0 {
		t.Errorf("%d users joined although their session or user is locked", n)
	}
	releaseSession()
	releaseRoom()
	waiting.Wait()
	checkInvariants(t, f)
}

// TestSweepSkipsLockedRows: members of other rooms time out, and other sessions are detached and
// deleted, while a room and a session are locked.
func TestSweepSkipsLockedRows(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{LockTimeout: 100 * time.Millisecond})
	member := func(user string, ids ...room.RoomID) room.Session {
		s := newSession(t, f.Store, user)
		for _, id := range ids {
			enter(t, f, s, id)
		}
		return s
	}
	for i := range 3 { // these are due first
		member(fmt.Sprintf("stuck%d", i), "stalled")
	}
	both := member("both", "stalled", "hall")
	member("gone", "hall")
	online, locked := member("online", "hall", "stalled"), member("locked")
	stream, other := openStream(t, f, online), openStream(t, f, locked)
	releases := []func(){holdLog(t, f, "stalled"), hold(t, f, "SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", locked.ID)}
	f.clock.advance(31 * time.Second)
	sweep(t, f)
	if n := query[int](t, f, "SELECT count(*) FROM members JOIN rooms USING (generation) WHERE room_id = 'hall'"); n != 1 {
		t.Errorf("got %d members in the hall, want 1", n)
	}
	if n := query[int](t, f, "SELECT count(*) FROM members JOIN rooms USING (generation) WHERE room_id = 'stalled'"); n != 5 {
		t.Errorf("got %d members in the locked room, want 5", n)
	}
	f.Detach(locked.ID, other.StreamNo, f.clock.Now())
	f.Detach(online.ID, stream.StreamNo, f.clock.Now())
	waitUntil(t, "a session in the batch of a locked one is detached", func() bool { return detached(t, f, online) })
	for _, release := range releases {
		release()
	}
	waitUntil(t, "the other session is detached", func() bool { return detached(t, f, locked) })
	waitUntil(t, "the room is swept when it is no longer skipped", func() bool {
		sweep(t, f)
		return query[int](t, f, "SELECT count(*) FROM members JOIN rooms USING (generation) WHERE room_id = 'stalled'") == 1
	})
	if _, err := f.SessionRoom(t.Context(), both.ID, "stalled"); !errors.Is(err, room.ErrNotInRoom) {
		t.Errorf("a session that timed out in both rooms: got %v, want ErrNotInRoom", err)
	}
	checkInvariants(t, f)
}
