package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

func openFolderAt(t *testing.T, folder string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// files is the names of all files in a folder.
func files(t *testing.T, folder string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBucketKeepsFiles(t *testing.T) {
	t.Parallel()
	picture, err := os.ReadFile("testdata/alpha.png")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "new", "media")
	b := openFolderAt(t, "file://"+folder)
	size, info, err := b.Save(t.Context(), "abcd", bytes.NewReader(picture))
	if err != nil || size != int64(len(picture)) || info.ContentType != PNG || info.Width == 0 {
		t.Fatalf("saved as %d bytes of %+v: %v", size, info, err)
	}
	if at, err := os.Stat(folder); err != nil || at.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v: %v", at.Mode(), err)
	}
	stored, err := b.Open(t.Context(), "abcd")
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(stored, picture); err != nil {
		t.Error(err)
	}
	if err := stored.Close(); err != nil {
		t.Error(err)
	}
	for range 2 { // the second time it is gone
		if err := b.Delete(t.Context(), "abcd"); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Open(t.Context(), "abcd"); !errors.Is(err, ErrNotStored) {
		t.Errorf("what was deleted is opened with %v", err)
	}
	if left := files(t, folder); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// TestBucketKeepsNothingOfWhatFails: neither where the reader fails nor where the
// caller gives up.
func TestBucketKeepsNothingOfWhatFails(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	b := openFolderAt(t, folder)
	cause := errors.New("the line is cut")
	cut := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(cause))
	if _, _, err := b.Save(t.Context(), "cut", cut); !errors.Is(err, cause) {
		t.Errorf("a cut file is stored with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Save(ctx, "late", strings.NewReader("x")); err == nil {
		t.Error("a file is stored for nobody")
	}
	if left := files(t, folder); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// full is a bucket whose disk is full after so many bytes.
type full struct {
	driver.Bucket
	left      int
	abandoned bool
	ctx       context.Context
}

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func (f *full) Close() error {
	f.abandoned = f.ctx != nil && f.ctx.Err() != nil
	return nil
}

func (f *full) NewTypedWriter(ctx context.Context, _, _ string, _ *driver.WriterOptions) (driver.Writer, error) {
	f.ctx = ctx
	return f, nil
}

func (f *full) Attributes(context.Context, string) (*driver.Attributes, error) {
	return nil, syscall.ENOENT
}
func (f *full) ErrorCode(error) gcerrors.ErrorCode { return gcerrors.Unknown }
func (f *full) ErrorAs(error, any) bool            { return false }

// TestFullDisk: a write that fails in the middle is abandoned and not finished,
// which would make half a file of it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := &full{left: 1 << 20}
	b := &Bucket{blob.NewBucket(f)}
	_, _, err := b.Save(t.Context(), "x", io.LimitReader(zeroReader{}, 2<<20))
	if !errors.Is(err, syscall.ENOSPC) || !f.abandoned {
		t.Errorf("a full disk: %v, abandoned: %t", err, f.abandoned)
	}
	f.ctx = nil
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBrokenFilesAreKept: as files like any other.
func TestBrokenFilesAreKept(t *testing.T) {
	t.Parallel()
	b := openFolderAt(t, t.TempDir())
	size, info, err := b.Save(t.Context(), "broken", strings.NewReader("\x89PNG\r\n\x1a\nand no more"))
	if err != nil || size != 19 || info != (Info{ContentType: Unknown}) {
		t.Errorf("saved as %d bytes of %+v: %v", size, info, err)
	}
}

// TestUnfinishedFilesAreRemoved: those of a program that ended, and not those of
// another one that writes.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, age := range map[string]time.Duration{"ab.1.tmp": 25 * time.Hour, "cd.2.tmp": time.Hour, "ef": 25 * time.Hour} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	openFolderAt(t, folder)
	if left := files(t, folder); len(left) != 2 || strings.Contains(strings.Join(left, " "), "ab.1.tmp") {
		t.Errorf("left are %v", left)
	}
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"file://relative/path", "file:///a?b=c", "nothing://x", "s3://%zz", "://"} {
		if b, err := Open(t.Context(), address); err == nil {
			t.Errorf("%s is opened", address)
			_ = b.Close()
		}
	}
}
