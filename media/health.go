package media

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/aws/smithy-go"
	"gocloud.dev/gcerrors"
)

// Stored is a file that is in a bucket, or should be.
type Stored struct {
	Name string
	Size int64 // bytes
}

// Check reports what keeps the bucket from storing files and from reading those that it should hold, of which sample is
// some: where not one of them is there, it is another folder or bucket than the one they were stored in. A folder that
// took the place of the one at the start is taken for the same once it holds them. Errors: ErrFull, ErrNotStored, and
// those of the bucket.
func (b *Bucket) Check(ctx context.Context, sample []Stored) error {
	moved := b.inPlace()
	if b.folder == "" {
		if err := b.there(ctx); err != nil {
			return err
		}
	} else if err := b.tryWrite(); err != nil {
		return err
	}
	found := 0
	for _, s := range sample {
		is, err := b.Is(ctx, s)
		if err != nil {
			return err
		}
		if is {
			found++
		}
	}
	if found == 0 && len(sample) > 0 {
		return fmt.Errorf("%w: none of %d files that should be there; is it the right folder or bucket?", ErrNotStored, len(sample))
	}
	if moved != nil && found > 0 {
		moved = b.adopt()
	}
	return errors.Join(moved, b.HasRoom(0))
}

// Is reports whether a file is stored with its size.
func (b *Bucket) Is(ctx context.Context, s Stored) (bool, error) {
	size, err := b.Size(ctx, s.Name)
	if errors.Is(err, ErrNotStored) {
		return false, nil
	}
	return err == nil && size == s.Size, err
}

// Size is how many bytes are stored of a file. Errors: ErrNotStored, and those of the bucket.
func (b *Bucket) Size(ctx context.Context, name string) (int64, error) {
	is, err := b.blobs.Attributes(ctx, key(name))
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return 0, fmt.Errorf("%w: %w", ErrNotStored, err)
	case err != nil:
		return 0, fmt.Errorf("media: look for a file: %w", err)
	}
	return is.Size, nil
}

// there reports whether the bucket can be reached. Where it is not there, its files look like ones that were deleted.
func (b *Bucket) there(ctx context.Context) error {
	if b.folder != "" {
		return b.inPlace()
	}
	is, err := b.blobs.IsAccessible(ctx)
	if err == nil && !is {
		err = errors.New("the bucket does not exist")
	}
	if err != nil {
		return fmt.Errorf("media: look at the bucket: %w", err)
	}
	return nil
}

// inPlace reports whether the folder is the one that was opened. A disk that is not mounted any more leaves an empty
// folder in its place.
func (b *Bucket) inPlace() error {
	if b.folder == "" {
		return nil
	}
	is, err := os.Stat(b.folder)
	if err == nil && !os.SameFile(is, *b.opened.Load()) {
		err = &fs.PathError{Op: "open", Path: b.folder, Err: errors.New("another folder than the one at the start")}
	}
	if err != nil {
		return fmt.Errorf("media: look at the folder: %w", err)
	}
	return nil
}

// adopt takes the folder that is there now for the one that was opened.
func (b *Bucket) adopt() error {
	is, err := os.Stat(b.folder)
	if err != nil {
		return fmt.Errorf("media: look at the folder: %w", err)
	}
	b.opened.Store(&is)
	return nil
}

// tryWrite stores a few bytes in the folder and removes them. Where that fails in between, RemoveStrays finds them.
func (b *Bucket) tryWrite() error {
	file, err := os.CreateTemp(b.folder, "check-*.tmp")
	if err == nil {
		_, err = file.WriteString("Parlor looks whether it can write here.\n")
		err = errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	switch {
	case isFull(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case err != nil:
		return fmt.Errorf("media: write into the folder: %w", err)
	}
	return nil
}

// HasRoom reports whether the folder's file system has room for so many bytes, beside those that stay free. A bucket far
// away says so itself, when it is written to. Errors: ErrFull.
func (b *Bucket) HasRoom(size int64) error {
	if b.folder == "" || b.KeepFree == 0 {
		return nil
	}
	free, known := freeBytes(b.folder)
	if known && free-size < b.KeepFree {
		return fmt.Errorf("%w: %d MiB are free, and %d MiB are to stay free", ErrFull, free>>20, b.KeepFree>>20)
	}
	return nil
}

// isFull reports whether an error says that there is no room: of the file system, of the user's quota on it or of a limit
// of the process, or of an S3 service, where each has a name of its own.
func isFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return true
	}
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.ErrorCode() {
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientCapacity", "InsufficientStorage":
		return true
	}
	return false
}
