package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"parlor/room"
	"parlor/store"
)

// beginUpload adds a file that is uploaded in parts.
func beginUpload(t testing.TB, f fixture, owner room.UserID, length int64) room.Upload {
	t.Helper()
	id, err := f.AddUpload(t.Context(), owner, "a.txt", length)
	if err != nil {
		t.Fatal(err)
	}
	return currentUpload(t, f, owner, id)
}

func currentUpload(t testing.TB, f fixture, owner room.UserID, id room.MediaID) room.Upload {
	t.Helper()
	u, err := f.Upload(t.Context(), owner, id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func addPart(t testing.TB, f fixture, u room.Upload) room.PartID {
	t.Helper()
	id, err := f.AddPart(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func finishPart(t testing.TB, f fixture, id room.PartID, length int64) {
	t.Helper()
	if err := f.FinishPart(t.Context(), id, length); err != nil {
		t.Fatal(err)
	}
}

// TestPartsAreInOrder checks that only one of the parts added at an offset is accepted, and that
// an upload never has a gap or the same bytes twice.
func TestPartsAreInOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	u := beginUpload(t, f, "alice", 40)
	var kept []room.PartID
	for u.Offset < u.Length {
		var mu sync.Mutex // guards kept
		var writing sync.WaitGroup
		won := len(kept)
		var added []room.PartID
		for range 8 {
			added = append(added, addPart(t, f, u))
		}
		for _, id := range added {
			writing.Go(func() {
				switch err := f.FinishPart(t.Context(), id, 10); {
				case err == nil:
					mu.Lock()
					kept = append(kept, id)
					mu.Unlock()
				case !errors.Is(err, room.ErrUploadOffset):
					t.Error(err)
				}
			})
		}
		writing.Wait()
		if len(kept) != won+1 {
			t.Fatalf("at %d, %d parts accepted", u.Offset, len(kept)-won)
		}
		if err := f.FinishPart(t.Context(), kept[won], 10); !errors.Is(err, room.ErrUploadOffset) {
			t.Errorf("finished twice: %v", err)
		}
		if _, err := f.AddPart(t.Context(), u); !errors.Is(err, room.ErrUploadOffset) {
			t.Errorf("added at an old offset: %v", err)
		}
		u = currentUpload(t, f, "alice", u.ID)
	}
	if parts, err := f.Parts(t.Context(), u.ID); err != nil || !slices.Equal(parts.IDs, kept) || parts.Length != u.Length || u.Parts != 4 || !u.Whole() {
		t.Errorf("the parts of %+v are %v, want %v: %v", u, parts, kept, err)
	}
	if err := f.FinishPart(t.Context(), addPart(t, f, u), 1); err == nil {
		t.Error("the upload is longer than was announced")
	}
}

// TestPartsAreDeleted checks that parts are deleted with their files and, if they were never
// finished, after a day.
func TestPartsAreDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	done, ended, open := beginUpload(t, f, "alice", 2), beginUpload(t, f, "alice", 2), beginUpload(t, f, "alice", 2)
	var due, late []room.PartID
	for _, u := range []room.Upload{done, ended, open} {
		part := addPart(t, f, u)
		finishPart(t, f, part, 1)
		late = append(late, addPart(t, f, currentUpload(t, f, "alice", u.ID)))
		if u.ID != open.ID {
			due = append(due, part)
		}
	}
	if err := f.FinishMedia(t.Context(), room.Media{ID: done.ID, Size: 2}); err != nil {
		t.Fatal(err)
	}
	if err := f.EndUpload(t.Context(), "alice", ended.ID); err != nil {
		t.Fatal(err)
	}
	for _, part := range late[:2] {
		if err := f.FinishPart(t.Context(), part, 1); !errors.Is(err, room.ErrUploadOffset) {
			t.Errorf("a part of an ended upload: %v", err)
		}
	}
	sweep := func() (removed []room.PartID) {
		t.Helper()
		err := f.SweepParts(t.Context(), func(_ context.Context, id room.PartID) error { removed = append(removed, id); return nil })
		if err != nil {
			t.Error(err)
		}
		slices.Sort(removed)
		return removed
	}
	slices.Sort(due)
	if got := sweep(); !slices.Equal(got, due) {
		t.Errorf("deleted: %v, want %v", got, due)
	}
	f.clock.advance(room.MediaKept)
	finishPart(t, f, late[2], 1) // all bytes are stored, but nothing has assembled them yet
	slices.Sort(late[:2])
	if got := sweep(); !slices.Equal(got, late[:2]) {
		t.Errorf("after a day deleted: %v, want %v", got, late[:2])
	}
	var b bucket
	sweepMedia(t, f, &b)
	if slices.Contains(b.deleted, open.ID) || len(b.deleted) != 2 {
		t.Errorf("deleted files: %v", b.deleted)
	}
	f.clock.advance(room.MediaKept)
	sweepMedia(t, f, &b)
	stuck := errors.New("the bucket is away")
	if err := f.SweepParts(t.Context(), func(context.Context, room.PartID) error { return stuck }); !errors.Is(err, stuck) {
		t.Errorf("sweep: %v", err)
	}
	if got := sweep(); len(got) != 2 || query[int](t, f, "SELECT (SELECT count(*) FROM media) + (SELECT count(*) FROM media_pieces)") != 0 {
		t.Errorf("in the end, deleted: %v", got)
	}
}

// TestUploadsBelongToTheirOwner also checks that a file uploaded in a single request can be neither
// resumed nor ended before it is complete.
func TestUploadsBelongToTheirOwner(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	mine, single := beginUpload(t, f, "alice", 2).ID, beginFile(t, f, "alice")
	for user, id := range map[room.UserID]room.MediaID{"bob": mine, "alice": single} {
		if _, err := f.Upload(t.Context(), user, id); !errors.Is(err, room.ErrMediaNotFound) {
			t.Errorf("%s resumes: %v", user, err)
		}
		if err := f.EndUpload(t.Context(), user, id); !errors.Is(err, room.ErrMediaNotFound) {
			t.Errorf("%s ends: %v", user, err)
		}
	}
	if err := f.FinishMedia(t.Context(), room.Media{ID: single, Size: 1}); err != nil {
		t.Fatal(err)
	}
	if err := f.EndUpload(t.Context(), "alice", single); err != nil {
		t.Error(err)
	}
}
