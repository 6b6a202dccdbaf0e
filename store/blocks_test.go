package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// TestBlocksStopMessages checks that messages of a blocked user are neither stored nor published,
// that retries of earlier ones still get their answer, and that recalls still work.
func TestBlocksStopMessages(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	once := textDraft("once")
	once.ClientMessageID = "1"
	earlier := postPeer(t, f, bob, "alice", once)
	if err := f.Block(t.Context(), as(alice), "alice", "bob"); err != nil {
		t.Fatal(err)
	}
	f.published.take()
	command := room.Draft{Content: room.Content{Kind: room.KindCommand, Data: []byte{1}}}
	for _, d := range []room.Draft{textDraft("x"), command} {
		if _, err := f.PostPeerMessage(t.Context(), bob, "alice", d); !errors.Is(err, room.ErrBlocked) {
			t.Errorf("%s of a blocked user: got %v, want ErrBlocked", d.Kind, err)
		}
		postPeer(t, f, alice, "bob", d)
	}
	if n := len(f.published.take().Events); n != 4 {
		t.Errorf("%d events published, want the two messages to bob", n)
	}
	if got := postPeer(t, f, bob, "alice", once); got.ID != earlier.ID {
		t.Errorf("the retry of an earlier message: got %+v", got)
	}
	byAdmin := room.PeerSend{Sender: room.Sender{Actor: admin, User: bob.User}, Peer: "alice", Draft: textDraft("by an admin")}
	if _, _, err := f.Store.PostPeerMessage(t.Context(), byAdmin); err != nil {
		t.Errorf("a message by an admin: %v", err)
	}
	if err := f.RecallPeer(t.Context(), as(bob), "bob", "alice", earlier.ID); err != nil {
		t.Errorf("recall of a message to the user who blocked its sender: %v", err)
	}
	if err := f.Unblock(t.Context(), as(alice), "alice", "bob"); err != nil {
		t.Fatal(err)
	}
	postPeer(t, f, bob, "alice", textDraft("again"))
	checkInvariants(t, f)
}

// TestBlockListsAreLimited checks the limit from many goroutines, and the pages of a full list.
func TestBlockListsAreLimited(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newUser(t, f, "alice")
	query[int](t, f, `WITH made AS (INSERT INTO inboxes (user_id) SELECT 'user' || n FROM generate_series(1, 1005) n RETURNING 1) SELECT count(*) FROM made`)
	query[int](t, f, `WITH made AS (INSERT INTO blocks SELECT $1, 'user' || n, now() FROM generate_series(1, 990) n RETURNING 1) SELECT count(*) FROM made`, alice.Inbox)
	var (
		group   sync.WaitGroup
		mu      sync.Mutex // guards refused
		refused int
	)
	for n := range 15 {
		group.Go(func() {
			err := f.Block(t.Context(), as(alice), "alice", room.UserID(fmt.Sprintf("user%d", 991+n)))
			if errors.Is(err, room.ErrTooManyBlocks) {
				mu.Lock()
				defer mu.Unlock()
				refused++
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if refused != 5 {
		t.Errorf("%d calls were refused, want 5", refused)
	}
	var all []room.UserID
	for more, after := true, room.UserID(""); more; {
		var page []room.Block
		var err error
		if page, more, err = f.Blocks(t.Context(), alice, after, 300); err != nil || more && len(page) != 300 {
			t.Fatalf("a page of %d blocks: %v", len(page), err)
		}
		for _, b := range page {
			all = append(all, b.User)
		}
		after = all[len(all)-1]
	}
	if len(all) != room.MaxBlocks || !slices.IsSorted(all) {
		t.Errorf("%d blocks in pages, sorted %t", len(all), slices.IsSorted(all))
	}
	checkInvariants(t, f)
}

// TestBlocksOfDeletedUsers checks that a user stays blocked after being deleted, and that the block
// list of a deleted user is deleted.
func TestBlocksOfDeletedUsers(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	f := setup(t, store.Options{UserRetention: 10 * day, PeerRetention: day, SessionIdle: 300 * day})
	year := f.clock.Now().Add(365 * day)
	alice := newSessionUntil(t, f.Store, "alice", year)
	bob := newSessionUntil(t, f.Store, "bob", year)
	newSessionUntil(t, f.Store, "carol", year)
	for _, b := range [][2]room.UserID{{"alice", "bob"}, {"bob", "carol"}} {
		if err := f.Block(t.Context(), as(alice), b[0], b[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.EndSession(t.Context(), as(bob)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(11 * day)
	for range 4 {
		sweep(t, f)
	}
	if query[bool](t, f, "SELECT EXISTS (SELECT FROM inboxes WHERE user_id = 'bob')") {
		t.Fatal("bob was not deleted")
	}
	if n := query[int](t, f, "SELECT count(*) FROM blocks"); n != 1 {
		t.Errorf("%d blocks are left, want that of alice", n)
	}
	if err := f.Block(t.Context(), as(alice), "alice", "bob"); err != nil {
		t.Errorf("blocking a deleted user again: %v", err)
	}
	bob = newSessionUntil(t, f.Store, "bob", year)
	if _, err := f.PostPeerMessage(t.Context(), bob, "alice", textDraft("back")); !errors.Is(err, room.ErrBlocked) {
		t.Errorf("a blocked user who comes back: got %v, want ErrBlocked", err)
	}
	if err := f.Block(t.Context(), as(bob), "carol", "dave"); !errors.Is(err, room.ErrUserNotFound) {
		t.Errorf("blocking an unknown user: got %v, want ErrUserNotFound", err)
	}
	postPeer(t, f, newUser(t, f, "alice"), "bob", textDraft("the other way works"))
	checkInvariants(t, f)
}
