package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"
)

// Listed is a file in a bucket.
type Listed struct {
	Stored        // its Name is the whole key if the file is foreign
	Foreign  bool // not written by Parlor, or unfinished
	StoredAt time.Time
}

// List calls each for every file in the bucket. Parlor's own files are in the order of their names,
// which are UUIDs.
func (b *Bucket) List(ctx context.Context, each func(Listed) error) error {
	listed := func(key string, size int64, at time.Time) error {
		l := Listed{Stored: Stored{Name: key, Size: size}, StoredAt: at, Foreign: !ownKey.MatchString(key)}
		if !l.Foreign {
			l.Name = key[3:]
			l.Foreign = l.Name[:2] != key[:2]
		}
		return each(l)
	}
	if b.folder != "" {
		// The driver would walk the whole folder again for every page.
		return filepath.WalkDir(b.folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || entry.IsDir() || path == filepath.Join(b.folder, identityFile) {
				return err
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			key, err := filepath.Rel(b.folder, path)
			if err != nil {
				return err
			}
			return listed(filepath.ToSlash(key), info.Size(), info.ModTime())
		})
	}
	for objects := b.blobs.List(nil); ; {
		object, err := objects.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("media: list: %w", err)
		}
		if err := listed(object.Key, object.Size, object.ModTime); err != nil {
			return err
		}
	}
}
