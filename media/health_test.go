package media

import (
	"errors"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parlor/media/mediatest"
)

// save stores a file and returns its description.
func save(t *testing.T, b *Bucket, name, data string) Stored {
	t.Helper()
	size, err := b.Write(t.Context(), name, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return Stored{name, size}
}

// TestFolderIsChecked covers folders that do not exist, were replaced, or are not writable.
func TestFolderIsChecked(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	b := openAt(t, folder)
	sample := []Stored{save(t, b, "abcd", "here"), {"gone", 1}}
	check := func(what string, want error, sample []Stored) {
		t.Helper()
		if err := b.Check(t.Context(), sample); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("unchanged", nil, sample)
	check("no sample", nil, nil)
	check("all files lost", ErrNotStored, sample[1:])
	check("all files truncated", ErrNotStored, []Stored{{"abcd", 5}})
	if left := files(t, folder); len(left) != 1 {
		t.Errorf("Check leaves files: %v", left)
	}

	// A disk that is no longer mounted: nothing is stored below its mount point, and its files are
	// not reported as lost.
	if err := os.Rename(folder, folder+"2"); err != nil {
		t.Fatal(err)
	}
	check("gone", fs.ErrNotExist, sample)
	unreadable := func(what string) {
		t.Helper()
		if _, err := b.Write(t.Context(), "efgh", strings.NewReader("x")); err == nil {
			t.Errorf("%s: Write returned no error", what)
		}
		if _, _, err := b.Open(t.Context(), "abcd"); err == nil || errors.Is(err, ErrNotStored) {
			t.Errorf("%s: Open: %v", what, err)
		}
	}
	unreadable("gone")
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was created again: %v", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "not the folder") {
		t.Errorf("an empty folder in its place: %v", err)
	}
	check("an empty folder without the sample", ErrNotStored, sample)
	unreadable("an empty folder")

	// The same files in a new folder, as after mounting a disk again: the folder is accepted.
	if err := os.CopyFS(folder, os.DirFS(folder+"2")); err != nil {
		t.Fatal(err)
	}
	check("copied", nil, sample)
	save(t, b, "efgh", "x")

	b.KeepFree = math.MaxInt64
	check("no space", ErrFull, sample)
	if _, err := b.Write(t.Context(), "ijkl", strings.NewReader("x")); !errors.Is(err, ErrFull) {
		t.Errorf("no space: Write: %v", err)
	}
	if err := b.CheckSpace(1); !errors.Is(err, ErrFull) {
		t.Errorf("no space for a byte: %v", err)
	}
	b.KeepFree = 1
	check("enough space", nil, sample)
	if err := b.CheckSpace(math.MaxInt64 / 2); !errors.Is(err, ErrFull) {
		t.Errorf("no space for that many bytes: %v", err)
	}

	b.KeepFree = 0
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), nil); err == nil {
		t.Error("Check accepts a file in place of the folder")
	}
}

// TestS3IsChecked checks that an unreachable or full bucket is not mistaken for one that has lost
// its files.
func TestS3IsChecked(t *testing.T) {
	s3 := mediatest.NewS3(t)
	b := openAt(t, s3.URL)
	here := save(t, b, "abcd", "here")
	if err := b.Check(t.Context(), []Stored{here, {"gone", 1}}); err != nil {
		t.Error(err)
	}
	if err := b.Check(t.Context(), []Stored{{"gone", 1}, {"abcd", 5}}); !errors.Is(err, ErrNotStored) {
		t.Errorf("all files lost: %v", err)
	}
	s3.Fill(true)
	for _, n := range []int{1, inParts} {
		if _, err := b.Write(t.Context(), "full", zeros(n)); !errors.Is(err, ErrFull) {
			t.Errorf("%d bytes into a full bucket: %v", n, err)
		}
	}
	s3.Fill(false)
	s3.Deny(func(*http.Request) bool { return true })
	if err := b.Check(t.Context(), nil); err == nil {
		t.Error("Check returned no error while requests are denied")
	}
	s3.Deny(nil)

	missing := openAt(t, strings.Replace(s3.URL, "s3://parlor", "s3://nobodys", 1))
	if err := missing.Check(t.Context(), []Stored{here}); err == nil || errors.Is(err, ErrNotStored) {
		t.Errorf("a bucket that does not exist: %v", err)
	}
	if _, _, err := missing.Open(t.Context(), "abcd"); err == nil || errors.Is(err, ErrNotStored) {
		t.Errorf("a file of a bucket that does not exist: %v", err)
	}
}
