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

// save stores a file and says so.
func save(t *testing.T, b *Bucket, name, data string) Stored {
	t.Helper()
	size, err := b.Write(t.Context(), name, strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return Stored{name, size}
}

// TestFolderIsChecked: whether it is there, is the one that it was, and can be written to.
func TestFolderIsChecked(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	b := openAt(t, folder)
	sample := []Stored{save(t, b, "abcd", "here"), {"gone", 1}}
	is := func(what string, want error, sample []Stored) {
		t.Helper()
		if err := b.Check(t.Context(), sample); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	is("as it was", nil, sample)
	is("without files", nil, nil)
	is("where all are lost", ErrNotStored, sample[1:])
	is("where all are cut", ErrNotStored, []Stored{{"abcd", 5}})
	if left := files(t, folder); len(left) != 1 {
		t.Errorf("the check leaves %v", left)
	}

	// A disk that is not mounted any more: nothing is stored below it, and nothing that is on it is said to be lost.
	if err := os.Rename(folder, folder+"2"); err != nil {
		t.Fatal(err)
	}
	is("gone", fs.ErrNotExist, sample)
	unreadable := func(what string) {
		t.Helper()
		if _, err := b.Write(t.Context(), "efgh", strings.NewReader("x")); err == nil {
			t.Errorf("%s, it is written to", what)
		}
		if _, _, err := b.Open(t.Context(), "abcd"); err == nil || errors.Is(err, ErrNotStored) {
			t.Errorf("%s, a file is opened with %v", what, err)
		}
	}
	unreadable("gone")
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made anew: %v", err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another folder") {
		t.Errorf("another folder in its place: %v", err)
	}
	is("another folder, and files are known", ErrNotStored, sample)
	unreadable("another")

	// The same files at another place, as of a disk that is mounted again: it is taken for the folder that it was.
	if err := os.CopyFS(folder, os.DirFS(folder+"2")); err != nil {
		t.Fatal(err)
	}
	is("copied", nil, sample)
	save(t, b, "efgh", "x")

	b.KeepFree = math.MaxInt64
	is("without room", ErrFull, sample)
	if _, err := b.Write(t.Context(), "ijkl", strings.NewReader("x")); !errors.Is(err, ErrFull) {
		t.Errorf("without room, it is written to: %v", err)
	}
	if err := b.CheckSpace(1); !errors.Is(err, ErrFull) {
		t.Errorf("without room for a byte: %v", err)
	}
	b.KeepFree = 1
	is("with room", nil, sample)
	if err := b.CheckSpace(math.MaxInt64 / 2); !errors.Is(err, ErrFull) {
		t.Errorf("without room for all that: %v", err)
	}

	b.KeepFree = 0
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), nil); err == nil {
		t.Error("a file in place of the folder can be written to")
	}
}

// TestS3IsChecked: a bucket that is away or full is no bucket that has lost its files.
func TestS3IsChecked(t *testing.T) {
	s3 := mediatest.NewS3(t)
	b := openAt(t, s3.URL)
	here := save(t, b, "abcd", "here")
	if err := b.Check(t.Context(), []Stored{here, {"gone", 1}}); err != nil {
		t.Error(err)
	}
	if err := b.Check(t.Context(), []Stored{{"gone", 1}, {"abcd", 5}}); !errors.Is(err, ErrNotStored) {
		t.Errorf("without its files: %v", err)
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
		t.Error("what is denied is there")
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
