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
	_ "gocloud.dev/blob/s3blob" // registers s3:// URLs
	"gocloud.dev/gcerrors"
)

var (
	// ErrNotStored means that the bucket is reachable, but does not contain the file.
	ErrNotStored = errors.New("media: not stored")
	// ErrFull means that the bucket has no space left.
	ErrFull = errors.New("media: no space left")
)

// strayAge is the age from which an unfinished file is deleted. No upload takes nearly as long.
const strayAge = 24 * time.Hour

// Bucket stores the bytes of files by name. It is safe for concurrent use.
type Bucket struct {
	// KeepFree is how many bytes of a folder's file system must stay free, because a database on
	// the same disk stops when it cannot write. Set it before the first use.
	KeepFree int64

	blobs *blob.Bucket
	// folder is the folder of the files. It is empty if they are in a remote bucket.
	folder string
	opened atomic.Pointer[fs.FileInfo] // identifies the folder, to notice when it is replaced
	sync   func(*os.File) error        // os.File.Sync, which tests replace

	// bucket and prefix are those of S3, for calls that the driver does not offer.
	bucket, prefix string
}

// Open opens the bucket at a URL: file:///folder, s3://bucket?region=…, or the path of a folder. It
// creates a folder that does not exist, accessible to this user only.
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

// folderOf returns the folder that an address names, if it names one.
func folderOf(address string) (folder string, isFolder bool, err error) {
	if !strings.Contains(address, "://") {
		return address, true, nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		// The error of url.Parse would quote the address, which may contain keys.
		return "", false, errors.New("media: the address is not a URL")
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
		// Unfinished files are in the same folder, where a rename is atomic.
		NoTempDir: true,
		Metadata:  fileblob.MetadataDontWrite, // the database contains it
	})
	return err
}

// makeFolder creates a folder and its parents if they do not exist, and syncs them to disk.
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

// syncFolder syncs the names in a folder to disk, so that they survive a power failure. Syncing a
// file covers only its bytes (fsync(2)).
func (b *Bucket) syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = b.sync(folder)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // some network file systems do not support it, and there is no other way
	}
	return err
}

// RemoveStrays deletes the unfinished files of uploads that were interrupted by the end of the
// program a day ago or earlier. Nothing refers to them. It reads the whole bucket.
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

// Close closes the bucket.
func (b *Bucket) Close() error { return b.blobs.Close() }

// key returns the key under which a file is stored. Names are random, so the files are spread
// evenly over the folders.
func key(name string) string { return name[:min(2, len(name))] + "/" + name }

// Save stores all of r under a new name, and returns its size and what kind of file it is. No byte
// can be read before all are stored, and a saved file survives a power failure. If Save fails,
// nothing is stored. It holds at most a few megabytes of r in memory, and wraps an error of r.
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

// Write does the same as Save, but does not probe the file. Errors: ErrFull, and those of the
// bucket and of r.
func (b *Bucket) Write(ctx context.Context, name string, r io.Reader) (int64, error) {
	// If a disk is no longer mounted, the driver would create the folder again on the disk below.
	err := b.checkFolder()
	if err == nil {
		err = b.CheckSpace(0)
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
	// A write is aborted by cancelling its context before closing the writer.
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	var file *os.File // the file being written, if the bucket is a folder
	w, err := b.blobs.NewWriter(ctx, key(name), &blob.WriterOptions{
		ContentType: Unknown, // readers get the type from the database
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
		// The driver does not sync. The bytes must be synced before the rename: the rename may
		// reach the disk first, and after a power failure the name would refer to an empty file.
		err = b.sync(file)
	}
	if err != nil {
		abandon()
		_ = w.Close() // reports that the write was aborted
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

// syncNames syncs the name of a file to disk: in the folder of the file, and the name of that
// folder in its parent.
func (b *Bucket) syncNames(name string) error {
	if b.folder == "" {
		return nil
	}
	return errors.Join(b.syncFolder(filepath.Dir(filepath.Join(b.folder, key(name)))), b.syncFolder(b.folder))
}

// Probe reports what kind of file a stored file of size bytes is. A broken file is not an error.
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

// Open opens a stored file and returns its size. The caller compares the size with the expected
// one, because bytes may have been lost. Errors: ErrNotStored, and those of the bucket.
func (b *Bucket) Open(ctx context.Context, name string) (r io.ReadSeekCloser, size int64, err error) {
	stored, err := b.blobs.NewReader(ctx, key(name), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		if unreachable := b.checkReachable(ctx); unreachable != nil {
			return nil, 0, unreachable
		}
		return nil, 0, fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("media: read: %w", err)
	}
	return stored, stored.Size(), nil
}

// Delete deletes a file. Deleting a file that does not exist is not an error.
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

// readerAt reads at offsets from a seeker, for one caller at a time. Reading sequentially needs no
// further requests to a remote bucket.
type readerAt struct{ r io.ReadSeeker }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if _, err := r.r.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r.r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // as io.ReaderAt requires
	}
	return n, err
}
