package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store"
)

// bucket is what is stored, as far as the store can tell: it only ever deletes.
type bucket struct {
	mu      sync.Mutex // guards all below
	deleted []room.MediaID
	fail    map[room.MediaID]error
}

func (b *bucket) remove(_ context.Context, id room.MediaID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail[id]; err != nil {
		return err
	}
	b.deleted = append(b.deleted, id)
	return nil
}

// upload notes a file that is stored.
func upload(t testing.TB, f fixture, owner room.UserID) room.Media {
	t.Helper()
	m := room.Media{ID: begin(t, f, owner), FileName: "a.txt", Size: 1, ContentType: "application/octet-stream"}
	if err := f.FinishMedia(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// begin notes a file whose bytes are on their way.
func begin(t testing.TB, f fixture, owner room.UserID) room.MediaID {
	t.Helper()
	id, err := f.AddMedia(t.Context(), owner, "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func fileDraft(m room.Media) room.Draft {
	return room.Draft{Content: room.Content{Kind: room.KindFile, Media: &m}, Priority: room.PriorityMedium}
}

func sweepMedia(t testing.TB, f fixture, b *bucket) {
	t.Helper()
	if err := f.SweepMedia(t.Context(), b.remove); err != nil {
		t.Fatal(err)
	}
}

// TestUnsentFilesGo: after a day, uploads that were never finished too; what was
// sent stays.
func TestUnsentFilesGo(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), alice.ID, "lobby", room.Blueprint{}); err != nil {
		t.Fatal(err)
	}
	var b bucket
	unsent, cut, sent := upload(t, f, "alice"), begin(t, f, "alice"), upload(t, f, "alice")
	if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(sent)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(room.MediaKept - time.Millisecond)
	late := upload(t, f, "alice")
	sweepMedia(t, f, &b)
	if len(b.deleted) > 0 {
		t.Fatalf("within the day %v are deleted", b.deleted)
	}
	f.clock.advance(time.Millisecond)
	sweepMedia(t, f, &b)
	slices.Sort(b.deleted)
	want := []room.MediaID{unsent.ID, cut}
	slices.Sort(want)
	if !slices.Equal(b.deleted, want) {
		t.Errorf("deleted are %v, and not %v", b.deleted, want)
	}
	if _, err := f.Media(t.Context(), unsent.ID); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("the deleted file: %v", err)
	}
	if err := f.FinishMedia(t.Context(), room.Media{ID: cut}); err == nil {
		t.Error("the deleted upload is finished")
	}
	for _, m := range []room.Media{sent, late} {
		if _, err := f.MediaFor(t.Context(), "alice", m.ID); err != nil {
			t.Errorf("a file that stays: %v", err)
		}
	}
	sweepMedia(t, f, &b)
	if len(b.deleted) != 2 {
		t.Errorf("swept again, deleted are %v", b.deleted)
	}
}

// TestFilesGoWithTheirRooms: with the last of them, when that is purged.
func TestFilesGoWithTheirRooms(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	attach(t, f, alice)
	m := upload(t, f, "alice")
	rooms := []room.RoomID{"one", "two"}
	for _, id := range rooms {
		if _, _, err := f.EnterRoom(t.Context(), alice.ID, id, room.Blueprint{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := f.PostMessage(t.Context(), alice, id, fileDraft(m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if uses := query[int](t, f, "SELECT uses FROM media"); uses != 2 {
		t.Errorf("the file is used %d times", uses)
	}
	var b bucket
	for i, id := range rooms {
		// By the second time alice may have timed out, and the room with her.
		if err := f.DestroyRoom(t.Context(), id, ""); err != nil && (i == 0 || !errors.Is(err, room.ErrRoomNotFound)) {
			t.Fatal(err)
		}
		sweep(t, f)
		sweepMedia(t, f, &b)
		if len(b.deleted) > 0 {
			t.Fatalf("the file goes before the log of %s", id)
		}
		f.clock.advance(2 * time.Minute)
		sweep(t, f)
		sweepMedia(t, f, &b)
		if (len(b.deleted) > 0) != (i == 1) {
			t.Errorf("after %s deleted are %v", id, b.deleted)
		}
	}
	if left := query[int](t, f, "SELECT (SELECT count(*) FROM media) + (SELECT count(*) FROM media_uses) + (SELECT count(*) FROM rooms)"); left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

// TestFilesOfABigRoomGo: more than fit into one transaction.
func TestFilesOfABigRoomGo(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{FeedRetention: time.Minute})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), alice.ID, "lobby", room.Blueprint{}); err != nil {
		t.Fatal(err)
	}
	const n = 450
	for range n {
		if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(upload(t, f, "alice"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.DestroyRoom(t.Context(), "lobby", ""); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Minute)
	sweep(t, f)
	var b bucket
	for range 3 {
		sweepMedia(t, f, &b)
	}
	if len(b.deleted) != n || query[int](t, f, "SELECT count(*) FROM media") != 0 {
		t.Errorf("%d files are deleted", len(b.deleted))
	}
}

// TestABucketThatFails: what cannot be deleted is nobody's any more, and is tried
// again; what can be is.
func TestABucketThatFails(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), alice.ID, "lobby", room.Blueprint{}); err != nil {
		t.Fatal(err)
	}
	stuck, other := upload(t, f, "alice"), upload(t, f, "alice")
	f.clock.advance(room.MediaKept)
	cause := errors.New("the bucket is away")
	b := bucket{fail: map[room.MediaID]error{stuck.ID: cause}}
	if err := f.SweepMedia(t.Context(), b.remove); !errors.Is(err, cause) {
		t.Errorf("the sweep ends with %v", err)
	}
	if !slices.Equal(b.deleted, []room.MediaID{other.ID}) {
		t.Errorf("deleted are %v", b.deleted)
	}
	if _, err := f.MediaFor(t.Context(), "alice", stuck.ID); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("what is being deleted is read: %v", err)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(stuck)); !errors.Is(err, room.ErrMediaNotFound) {
		t.Errorf("what is being deleted is sent: %v", err)
	}
	b.fail = nil
	sweepMedia(t, f, &b)
	if n := query[int](t, f, "SELECT count(*) FROM media"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestSendingWhileSweeping: a file is either sent and stays, or it is deleted and
// not sent.
func TestSendingWhileSweeping(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	if _, _, err := f.EnterRoom(t.Context(), alice.ID, "lobby", room.Blueprint{}); err != nil {
		t.Fatal(err)
	}
	const n = 60
	files := make([]room.Media, n)
	for i := range files {
		files[i] = upload(t, f, "alice")
	}
	f.clock.advance(room.MediaKept)
	var b bucket
	sent := make([]bool, n)
	var all sync.WaitGroup
	for i := range files {
		all.Go(func() {
			_, err := f.PostMessage(t.Context(), alice, "lobby", fileDraft(files[i]))
			sent[i] = err == nil
			if err != nil && !errors.Is(err, room.ErrMediaNotFound) {
				t.Error(err)
			}
		})
		if i%20 == 10 {
			all.Go(func() {
				if err := f.SweepMedia(t.Context(), b.remove); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for i, m := range files {
		if sent[i] == slices.Contains(b.deleted, m.ID) {
			t.Errorf("file %d was sent: %t, and deleted: %t", i, sent[i], !sent[i])
		}
	}
	if wrong := query[int](t, f, `SELECT count(*) FROM media m WHERE uses <> (SELECT count(*) FROM media_uses u WHERE u.media_id = m.media_id)`); wrong != 0 {
		t.Errorf("the uses of %d files are counted wrong", wrong)
	}
	t.Logf("%d were deleted", len(b.deleted))
}
