package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"parlor/media/mediatest"
)

func openAt(t testing.TB, address string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// files returns the names of all files in a folder.
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

// eachBucket runs a test with a folder and with S3. left returns the names of the stored files.
func eachBucket(t *testing.T, test func(t *testing.T, b *Bucket, left func() []string)) {
	t.Helper()
	t.Run("folder", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "new", "media")
		test(t, openAt(t, "file://"+folder), func() []string { return files(t, folder) })
	})
	t.Run("S3", func(t *testing.T) {
		s3 := mediatest.NewS3(t)
		test(t, openAt(t, s3.URL), s3.Keys)
	})
}

// inParts is the size of a file that is uploaded to S3 in several parts.
const inParts = 2*partBytes + 1

// random returns n bytes that no probe recognizes.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

func TestBucketStoresFiles(t *testing.T) {
	picture, err := os.ReadFile("testdata/alpha.png")
	if err != nil {
		t.Fatal(err)
	}
	eachBucket(t, func(t *testing.T, b *Bucket, left func() []string) {
		contents := map[string][]byte{"abcd": picture, "abce": {}, "efgh": []byte("x"), "ijkl": random(inParts)}
		for name, data := range contents {
			want := Info{ContentType: Unknown}
			if name == "abcd" {
				want = Info{ContentType: PNG, Width: 67, Height: 43}
			}
			size, info, err := b.Save(t.Context(), name, bytes.NewReader(data))
			if err != nil || size != int64(len(data)) || info != want {
				t.Fatalf("Save(%s) = %d, %+v, %v", name, size, info, err)
			}
		}
		for name, data := range contents {
			stored, size, err := b.Open(t.Context(), name)
			if err != nil || size != int64(len(data)) {
				t.Fatalf("Open(%s): size %d, error %v", name, size, err)
			}
			if len(data) > partBytes {
				got, err := io.ReadAll(stored)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: read %d bytes, error %v", name, len(got), err)
				}
				at := make([]byte, 10)
				if n, err := (readerAt{stored}).ReadAt(at, partBytes-5); err != nil || !bytes.Equal(at[:n], data[partBytes-5:partBytes+5]) {
					t.Errorf("%s: read %x in the middle, error %v", name, at, err)
				}
			} else if err := iotest.TestReader(stored, data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := stored.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := left(); len(got) != len(contents) {
			t.Errorf("stored files: %v", got)
		}
		for name := range contents {
			for range 2 { // the second time, it no longer exists
				if err := b.Delete(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
			if _, _, err := b.Open(t.Context(), name); !errors.Is(err, ErrNotStored) {
				t.Errorf("open a deleted file: %v, want ErrNotStored", err)
			}
		}
		if got := left(); len(got) > 0 {
			t.Errorf("files left: %v", got)
		}
	})
}

// TestFailedSaveLeavesNothing covers readers that fail before and after the first part is full, and
// callers that cancel.
func TestFailedSaveLeavesNothing(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket, left func() []string) {
		cause := errors.New("the connection is gone")
		for _, n := range []int{0, 1 << 20, inParts} {
			cut := io.MultiReader(bytes.NewReader(random(n)), iotest.ErrReader(cause))
			if _, _, err := b.Save(t.Context(), "cut", cut); !errors.Is(err, cause) {
				t.Errorf("a reader that fails after %d bytes: %v, want its error", n, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			stopped := io.MultiReader(bytes.NewReader(random(n)), stopper(cancel), strings.NewReader("more"))
			if _, _, err := b.Save(ctx, "late", stopped); err == nil {
				t.Errorf("canceled after %d bytes: the file was stored", n)
			}
		}
		if got := left(); len(got) > 0 {
			t.Errorf("files left: %v", got)
		}
	})
}

// stopper calls a function when it is read, which is at some position of a file.
type stopper func()

func (s stopper) Read([]byte) (int, error) { s(); return 0, io.EOF }

// TestBrokenFilesAreStored checks that broken files are stored as files of an unknown type.
func TestBrokenFilesAreStored(t *testing.T) {
	eachBucket(t, func(t *testing.T, b *Bucket, _ func() []string) {
		size, info, err := b.Save(t.Context(), "broken", strings.NewReader("\x89PNG\r\n\x1a\nand no more"))
		if err != nil || size != 19 || info != (Info{ContentType: Unknown}) {
			t.Errorf("Save = %d, %+v, %v", size, info, err)
		}
	})
}

// TestS3Failures covers failures in the middle of a file, which must leave nothing behind. A
// connection that is cut once is not a failure.
func TestS3Failures(t *testing.T) {
	s3 := mediatest.NewS3(t)
	b := openAt(t, s3.URL)
	data := random(inParts)
	part := func(r *http.Request, n string) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == n
	}
	for _, step := range []struct {
		what string
		deny func(*http.Request) bool
	}{
		{"at the beginning", func(r *http.Request) bool { return r.Method == http.MethodPost }},
		{"in the middle", func(r *http.Request) bool { return part(r, "2") }},
		{"at the end", func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }},
		{"when it is read", func(r *http.Request) bool { return r.Method == http.MethodGet }},
	} {
		s3.Deny(step.deny)
		if _, _, err := b.Save(t.Context(), "denied", bytes.NewReader(data)); err == nil {
			t.Errorf("denied %s: the file was stored", step.what)
		}
		s3.Deny(nil)
		if got := s3.Keys(); len(got) > 0 {
			t.Errorf("denied %s: files left: %v", step.what, got)
		}
	}
	cut := false
	s3.Deny(func(r *http.Request) bool {
		if !cut && part(r, "2") {
			cut = true
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if size, _, err := b.Save(t.Context(), "cut", bytes.NewReader(data)); err != nil || size != int64(len(data)) || !cut {
		t.Errorf("connection cut: %t; Save = %d, %v", cut, size, err)
	}
	stored, _, err := b.Open(t.Context(), "cut")
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if got, err := io.ReadAll(stored); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, error %v", len(got), err)
	}
	s3.Deny(func(*http.Request) bool { return true })
	if _, _, err := b.Open(t.Context(), "cut"); err == nil || errors.Is(err, ErrNotStored) {
		t.Errorf("open while denied: %v", err)
	}
	if err := b.Delete(t.Context(), "cut"); err == nil {
		t.Error("a denied delete returned no error")
	}
}

// TestFilesAreSynced checks the order: first the bytes, before the file has its name, and then the
// names, including those of folders.
func TestFilesAreSynced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	folder := filepath.Join(top, "new", "media")
	var (
		synced []string
		broken string // the folder that cannot be synced
		cause  = errors.New("the disk is gone")
	)
	b := &Bucket{folder: folder, sync: func(f *os.File) error {
		name := f.Name()
		if filepath.Ext(name) == ".tmp" {
			name = filepath.Dir(name) + "/bytes"
			if finished, _, _ := strings.Cut(f.Name(), "."); slices.Contains(files(t, folder), finished) {
				t.Errorf("%s got its name before its bytes were synced", finished)
			}
		}
		synced = append(synced, strings.TrimPrefix(name, top))
		if name == broken {
			return cause
		}
		return f.Sync()
	}}
	if err := b.openFolder(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if at, err := os.Stat(folder); err != nil || at.Mode().Perm() != 0o700 {
		t.Errorf("mode of the folder: %v, error %v", at.Mode(), err)
	}
	checkSynced := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, synced); diff != "" {
			t.Errorf("%s: synced (-want +got):\n%s", what, diff)
		}
		synced = nil
	}
	checkSynced("opened", "", "/new")
	if _, _, err := b.Save(t.Context(), "abcd", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	checkSynced("saved", "/new/media/ab/bytes", "/new/media/ab", "/new/media")
	for _, broken = range []string{folder + "/cd/bytes", folder + "/cd", folder} {
		if _, _, err := b.Save(t.Context(), "cdef", strings.NewReader("x")); !errors.Is(err, cause) {
			t.Errorf("failing sync of %s: %v, want its error", broken, err)
		}
		if got := files(t, folder); len(got) != 1 {
			t.Errorf("failing sync of %s: files left: %v", broken, got)
		}
	}
	broken, synced = "", nil
	if err := b.Delete(t.Context(), "abcd"); err != nil {
		t.Fatal(err)
	}
	checkSynced("deleted", "/new/media/ab", "/new/media")
}

// BenchmarkSave measures the cost of storing a small file, with and without syncing.
func BenchmarkSave(b *testing.B) {
	data := random(4 << 10)
	for _, step := range []struct {
		what string
		sync func(*os.File) error
	}{{"synced", (*os.File).Sync}, {"unsynced", func(*os.File) error { return nil }}} {
		b.Run(step.what, func(b *testing.B) {
			bucket := openAt(b, b.TempDir())
			bucket.sync = step.sync
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, _, err := bucket.Save(b.Context(), uuid.NewString(), bytes.NewReader(data)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// full is a bucket whose disk is full after a number of bytes.
type full struct {
	driver.Bucket
	left    int
	aborted bool
	ctx     context.Context
}

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func (f *full) Close() error {
	f.aborted = f.ctx != nil && f.ctx.Err() != nil
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

// TestFullDisk covers a write that fails in the middle. It must be aborted rather than closed,
// because closing it would store half a file.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := &full{left: 1 << 20}
	b := &Bucket{blobs: blob.NewBucket(f)}
	_, _, err := b.Save(t.Context(), "x", io.LimitReader(zeroReader{}, 2<<20))
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrFull) || !f.aborted {
		t.Errorf("a full disk: %v, aborted: %t", err, f.aborted)
	}
	f.ctx = nil
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func zeros(n int) io.Reader { return io.LimitReader(zeroReader{}, int64(n)) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestUnfinishedFilesAreRemoved covers files of a program that has ended. Those that another
// program is writing, and foreign files, must stay.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
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
		if err := openAt(t, folder).RemoveStrays(t.Context()); err != nil {
			t.Error(err)
		}
		if left := files(t, folder); len(left) != 2 || strings.Contains(strings.Join(left, " "), "ab.1.tmp") {
			t.Errorf("files left: %v", left)
		}
	})
	t.Run("S3", func(t *testing.T) {
		s3 := mediatest.NewS3(t)
		b := openAt(t, s3.URL)
		const old, young, others = "/3f/3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "/4f/4f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "/backup.tar"
		s3.SetClockBack(25 * time.Hour)
		s3.Do("POST", old+"?uploads", nil)
		s3.Do("POST", others+"?uploads", nil)
		s3.SetClockBack(time.Hour)
		s3.Do("POST", young+"?uploads", nil)
		if err := b.RemoveStrays(t.Context()); err != nil {
			t.Error(err)
		}
		left := s3.Keys()
		slices.Sort(left)
		if !slices.Equal(left, []string{young[1:], others[1:]}) {
			t.Errorf("files left: %v", left)
		}
		s3.Deny(func(*http.Request) bool { return true })
		if err := b.RemoveStrays(t.Context()); err == nil {
			t.Error("a denied removal returned no error")
		}
	})
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"file://relative/path", "file:///a?b=c", "nothing://x", "s3://%zz", "://"} {
		if b, err := Open(t.Context(), address); err == nil {
			t.Errorf("Open(%s) returned no error", address)
			_ = b.Close()
		}
	}
}
