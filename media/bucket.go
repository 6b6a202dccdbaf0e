package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // opens s3:// URLs
	"gocloud.dev/gcerrors"
)

var (
	// ErrNotStored says that a bucket is there and does not hold what was asked for.
	ErrNotStored = errors.New("media: not stored")
	// ErrFull says that a bucket has no room for more.
	ErrFull = errors.New("media: no room")
)

// strayAge is how old an unfinished file must be before it is removed: no upload takes nearly as long.
const strayAge = 24 * time.Hour

// Bucket keeps the bytes of files by name. It is safe for concurrent use.
type Bucket struct {
	// KeepFree is how many bytes of a folder's file system stay free: a database that shares it stops for good where it
	// cannot write. It is set before the first use.
	KeepFree int64

	blobs *blob.Bucket
	// folder is where the files lie; empty where they lie in a bucket far away, which answers for them.
	folder string
	opened atomic.Pointer[fs.FileInfo] // the folder as it was found: one that takes its place is another
	sync   func(*os.File) error        // os.File.Sync; a test looks on

	// bucket and prefix are of S3, for what the driver does not do.
	bucket, prefix string
}

// Open opens the bucket at a URL: file:///folder, s3://bucket?region=…, or a folder's path. A folder that is not there
// is made, for this user alone.
func Open(ctx context.Context, address string) (*Bucket, error) {
	folder, isFolder, err := folderOf(address)
	if err != nil {
		return nil, err
	}
	b := &Bucket{folder: folder, sync: (*os.File).Sync}
	if isFolder {
		err = b.openFolder()
	} else {
		b.blobs, err = blob.OpenBucket(ctx, address)
		b.bucket, b.prefix = bucketOf(address)
	}
	if err != nil {
		return nil, fmt.Errorf("media: open: %w", err)
	}
	return b, nil
}

// folderOf is the folder that an address names, if it names one.
func folderOf(address string) (folder string, isFolder bool, err error) {
	if !strings.Contains(address, "://") {
		return address, true, nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", false, errors.New("media: the address is not a URL") // the error would quote it, with its keys
	case u.Scheme != "file":
		return "", false, nil
	case u.Host != "" || u.RawQuery != "" || !filepath.IsAbs(u.Path):
		return "", false, errors.New("media: a folder is named as file:///absolute/path")
	}
	return u.Path, true, nil
}

func (b *Bucket) openFolder() error {
	if err := b.makeFolder(b.folder); err != nil {
		return err
	}
	opened, err := os.Stat(b.folder)
	if err != nil {
		return err
	}
	b.opened.Store(&opened)
	b.blobs, err = fileblob.OpenBucket(b.folder, &fileblob.Options{
		DirFileMode: 0o700,
		NoTempDir:   true,                       // what is unfinished lies beside its place, where a rename is atomic
		Metadata:    fileblob.MetadataDontWrite, // all that is known of a file is in the database
	})
	return err
}

// makeFolder makes a folder that is not there, and those above it, to last.
func (b *Bucket) makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := b.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
		return b.makeFolder(path)
	case err != nil:
		return err
	}
	return b.syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder survive a loss of power: syncing a file is about its bytes only (fsync(2)).
func (b *Bucket) syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = b.sync(folder)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // a file system that cannot, as some across a network; there is no more to be done
	}
	return err
}

// RemoveStrays deletes what uploads left behind that ended with the program, a day ago or longer: nothing else ever finds it.
// It looks through all that is there.
func (b *Bucket) RemoveStrays(ctx context.Context) error {
	if b.folder == "" {
		return b.abortStrays(ctx)
	}
	return filepath.WalkDir(b.folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".tmp" {
			return err
		}
		if info, err := entry.Info(); err != nil || time.Since(info.ModTime()) < strayAge {
			return nil //nolint:nilerr // it is gone by now
		}
		return os.Remove(path)
	})
}

// Close lets go of the bucket.
func (b *Bucket) Close() error { return b.blobs.Close() }

// key is where a file lies. Names are random, so no folder gets more than its share of a large number of files.
func key(name string) string { return name[:min(2, len(name))] + "/" + name }

// Save stores all of r under a name that nothing is stored under, and returns its size and what it is. Nothing can be
// read of it before all of it is there, and what is saved survives a loss of power; where Save fails nothing is there.
// It never holds more than a few megabytes of r, and where r fails, its error comes back wrapped.
func (b *Bucket) Save(ctx context.Context, name string, r io.Reader) (int64, Info, error) {
	size, err := b.Write(ctx, name, r)
	if err != nil {
		return 0, Info{}, err
	}
	info, err := b.Probe(ctx, name, size)
	if err != nil {
		return 0, Info{}, errors.Join(err, b.Delete(context.WithoutCancel(ctx), name))
	}
	return size, info, nil
}

// Write is Save without the look at what was stored. Errors: ErrFull, and those of the bucket and of r.
func (b *Bucket) Write(ctx context.Context, name string, r io.Reader) (int64, error) {
	// The driver would make the folder anew, where a disk is not mounted any more: on the disk below it.
	err := b.inPlace()
	if err == nil {
		err = b.HasRoom(0)
	}
	if err != nil {
		return 0, err
	}
	size, err := b.write(ctx, name, r)
	if isFull(err) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return size, err
}

func (b *Bucket) write(ctx context.Context, name string, r io.Reader) (int64, error) {
	// A write is abandoned by cancelling its context before it is closed.
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	var file *os.File // where it is written to, if that is a folder
	w, err := b.blobs.NewWriter(ctx, key(name), &blob.WriterOptions{
		ContentType: Unknown, // what it is, nobody should take from here
		BeforeWrite: func(as func(any) bool) error {
			as(&file)
			tuneUpload(b.blobs, as)
			return nil
		},
	})
	if err != nil {
		return 0, fmt.Errorf("media: store: %w", err)
	}
	size, err := io.Copy(w, r)
	if err == nil && file != nil {
		// The driver does not sync. The bytes come before the name: a rename may be on the disk before what was
		// written, and then the name stands for an empty file after a loss of power.
		err = b.sync(file)
	}
	if err != nil {
		abandon()
		_ = w.Close() // says that it was abandoned
		return 0, fmt.Errorf("media: store: %w", err)
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("media: store: %w", err)
	}
	if err := b.syncNames(name); err != nil {
		return 0, errors.Join(fmt.Errorf("media: store: %w", err), b.Delete(context.WithoutCancel(ctx), name))
	}
	return size, nil
}

// syncNames makes what was done to a name last: in the folder of the file, and that folder's own name in the one above.
func (b *Bucket) syncNames(name string) error {
	if b.folder == "" {
		return nil
	}
	return errors.Join(b.syncFolder(filepath.Dir(filepath.Join(b.folder, key(name)))), b.syncFolder(b.folder))
}

// Probe says what a stored file of size bytes is. One that is broken is still a file.
func (b *Bucket) Probe(ctx context.Context, name string, size int64) (Info, error) {
	stored, _, err := b.Open(ctx, name)
	if err != nil {
		return Info{}, err
	}
	defer stored.Close()
	info, err := Probe(ctx, readerAt{stored}, size)
	var broken *BrokenError
	if errors.As(err, &broken) {
		return info, nil
	}
	return info, err
}

// Open opens a stored file, and tells its size, which the caller compares with what it knows: bytes may get lost. Errors:
// ErrNotStored, and those of the bucket.
func (b *Bucket) Open(ctx context.Context, name string) (r io.ReadSeekCloser, size int64, err error) {
	stored, err := b.blobs.NewReader(ctx, key(name), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		if away := b.there(ctx); away != nil {
			return nil, 0, away
		}
		return nil, 0, fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("media: read: %w", err)
	}
	return stored, stored.Size(), nil
}

// Delete removes a file, for good. One that is not there is none to remove.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	err := b.blobs.Delete(ctx, key(name))
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	if err == nil {
		err = b.syncNames(name)
	}
	if err != nil {
		return fmt.Errorf("media: delete: %w", err)
	}
	return nil
}

// readerAt reads at offsets from a seeker, which one caller uses at a time. Reading on costs no new request to a bucket
// far away.
type readerAt struct{ r io.ReadSeeker }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if _, err := r.r.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r.r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // as io.ReaderAt has it
	}
	return n, err
}
