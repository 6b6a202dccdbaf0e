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

// Stored describes a file that is, or should be, in a bucket.
type Stored struct {
	Name string
	Size int64 // bytes
}

// Check returns an error if the bucket cannot store files, or if it contains none of the files of
// sample, all of which should be in it. If
// the folder was replaced since the start, and the new one contains files of the sample, Check
// accepts it as the same folder. Errors: ErrFull, ErrNotStored, and those of the bucket.
func (b *Bucket) Check(ctx context.Context, sample []Stored) error {
	replaced := b.checkFolder()
	if b.folder == "" {
		if err := b.checkReachable(ctx); err != nil {
			return err
		}
	} else if err := b.tryWrite(); err != nil {
		return err
	}
	found := 0
	for _, s := range sample {
		stored, err := b.has(ctx, s)
		if err != nil {
			return err
		}
		if stored {
			found++
		}
	}
	if found == 0 && len(sample) > 0 {
		return fmt.Errorf("%w: none of %d files that should be stored was found; is this the right folder or bucket?", ErrNotStored, len(sample))
	}
	if replaced != nil && found > 0 {
		replaced = b.acceptFolder()
	}
	return errors.Join(replaced, b.CheckSpace(0))
}

// has reports whether a file is stored with the expected size.
func (b *Bucket) has(ctx context.Context, s Stored) (bool, error) {
	size, err := b.Size(ctx, s.Name)
	if errors.Is(err, ErrNotStored) {
		return false, nil
	}
	return err == nil && size == s.Size, err
}

// Size returns how many bytes of a file are stored. Errors: ErrNotStored, and those of the bucket.
func (b *Bucket) Size(ctx context.Context, name string) (int64, error) {
	attributes, err := b.blobs.Attributes(ctx, key(name))
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return 0, fmt.Errorf("%w: %w", ErrNotStored, err)
	case err != nil:
		return 0, fmt.Errorf("media: look for a file: %w", err)
	}
	return attributes.Size, nil
}

// checkReachable returns an error if the bucket cannot be reached. An unreachable bucket must not
// be mistaken for one whose files were deleted.
func (b *Bucket) checkReachable(ctx context.Context) error {
	if b.folder != "" {
		return b.checkFolder()
	}
	exists, err := b.blobs.IsAccessible(ctx)
	if err == nil && !exists {
		err = errors.New("the bucket does not exist")
	}
	if err != nil {
		return fmt.Errorf("media: look at the bucket: %w", err)
	}
	return nil
}

// checkFolder returns an error if the folder is not the one that was opened. A disk that is no
// longer mounted leaves an empty folder in its place.
func (b *Bucket) checkFolder() error {
	if b.folder == "" {
		return nil
	}
	folder, err := os.Stat(b.folder)
	if err == nil && !os.SameFile(folder, *b.opened.Load()) {
		err = &fs.PathError{Op: "open", Path: b.folder, Err: errors.New("not the folder that was opened at the start")}
	}
	if err != nil {
		return fmt.Errorf("media: look at the folder: %w", err)
	}
	return nil
}

// acceptFolder accepts the current folder in place of the one that was opened.
func (b *Bucket) acceptFolder() error {
	folder, err := os.Stat(b.folder)
	if err != nil {
		return fmt.Errorf("media: look at the folder: %w", err)
	}
	b.opened.Store(&folder)
	return nil
}

// tryWrite stores a few bytes in the folder and deletes them. If it fails in between, RemoveStrays
// deletes them later.
func (b *Bucket) tryWrite() error {
	file, err := os.CreateTemp(b.folder, "check-*.tmp")
	if err == nil {
		_, err = file.WriteString("Parlor checks whether it can write here.\n")
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

// CheckSpace returns ErrFull if storing size bytes would leave less than KeepFree on the folder's
// file system. A remote bucket reports that it is full when it is written to.
func (b *Bucket) CheckSpace(size int64) error {
	if b.folder == "" || b.KeepFree == 0 {
		return nil
	}
	free, known := freeBytes(b.folder)
	if known && free-size < b.KeepFree {
		return fmt.Errorf("%w: %d MiB are free, and %d MiB must stay free", ErrFull, free>>20, b.KeepFree>>20)
	}
	return nil
}

// isFull reports whether an error means that there is no space left: on the file system, in the
// user's quota on it, below a limit of the process, or in an S3 service. S3 services have different
// names for it.
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
