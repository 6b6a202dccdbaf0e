package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"parlor/auth"
	"parlor/media"
	"parlor/room"
	"parlor/store"
)

const (
	// orphanAge is the age from which stored bytes without a row are deleted. No upload takes
	// nearly as long. It is a second safeguard: every upload has a row before it has bytes.
	orphanAge = 24 * time.Hour
	// mediaPage is how many rows are read in one query.
	mediaPage = 1000
)

// MediaCmd contains the commands for uploaded files.
type MediaCmd struct {
	Check MediaCheckCmd `cmd:"" help:"Check the files in the database against those in the folder or bucket. The server may be running."`
}

// MediaCheckCmd compares the files in the database with those in the bucket.
type MediaCheckCmd struct {
	BesideServer
	MediaURL auth.Secret `name:"media-url" env:"PARLOR_MEDIA_URL" placeholder:"URL" help:"Where the files are stored. Empty: the folder media of the data folder."`
	Delete   bool        `help:"Delete stored files that no row refers to and that are older than a day."`
}

var errFilesMissing = errors.New("files are missing or damaged")

// Run prints a line for each file with a problem, and a summary. It fails if bytes are missing or
// have another size than in their row.
func (c *MediaCheckCmd) Run(ctx context.Context, to console) (err error) {
	address := string(c.MediaURL)
	if address == "" {
		address = filepath.Join(c.Data, "media")
		if _, err := os.Stat(address); err != nil { // opening it would create it
			return fmt.Errorf("folder of files: %w", err)
		}
	}
	bucket, err := media.Open(ctx, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	url, stop, err := c.database(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	index, err := store.OpenMediaIndex(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, index.Close(context.WithoutCancel(ctx))) }()
	check := mediaCheck{index: index, bucket: bucket, to: to, orphanAge: orphanAge}
	return check.run(ctx, c.Delete)
}

// mediaCheck compares rows and stored files, both in the order of their names, so that it holds
// only a page of rows and the orphans in memory.
type mediaCheck struct {
	index     *store.MediaIndex
	bucket    *media.Bucket
	to        console
	orphanAge time.Duration

	page []store.MediaFile // rows that have been read but not compared
	last room.MediaID      // ID of the last row that was read
	end  bool              // all rows have been read

	rows, matched, missing, damaged, foreign, deleted int
	orphans                                           []media.Listed
}

func (c *mediaCheck) run(ctx context.Context, remove bool) error {
	err := c.bucket.List(ctx, func(l media.Listed) error {
		if l.Foreign {
			c.foreign++
			c.printf("foreign  %s, %d bytes: not a file of Parlor, or an unfinished one", l.Name, l.Size)
			return nil
		}
		return c.compare(ctx, l)
	})
	if err == nil {
		err = c.reportRowsBefore(ctx, "")
	}
	if err == nil && remove {
		err = c.deleteOrphans(ctx)
	}
	if err != nil {
		return err
	}
	c.printf("%d files and upload parts in the database: %d missing, %d damaged; %d orphans in the bucket, %d of them deleted; %d foreign",
		c.rows, c.missing, c.damaged, len(c.orphans), c.deleted, c.foreign)
	if c.missing+c.damaged > 0 {
		return errFilesMissing
	}
	return nil
}

func (c *mediaCheck) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.to.out, format+"\n", args...)
}

// next returns the next row; found is false after the last.
func (c *mediaCheck) next(ctx context.Context) (f store.MediaFile, found bool, err error) {
	if len(c.page) == 0 && !c.end {
		if c.page, err = c.index.After(ctx, c.last, mediaPage); err != nil {
			return f, false, err
		}
		c.end = len(c.page) < mediaPage
		if n := len(c.page); n > 0 {
			c.last = c.page[n-1].ID
		}
	}
	if len(c.page) == 0 {
		return f, false, nil
	}
	return c.page[0], true, nil
}

func (c *mediaCheck) advance() { c.page = c.page[1:]; c.rows++ }

// reportRowsBefore reports the rows before a name, whose files the bucket does not list. An empty
// name means all remaining rows.
func (c *mediaCheck) reportRowsBefore(ctx context.Context, name room.MediaID) error {
	for {
		f, found, err := c.next(ctx)
		if err != nil || !found || name != "" && f.ID >= name {
			return err
		}
		c.advance()
		if err := c.recheck(ctx, f); err != nil {
			return err
		}
	}
}

// compare compares a file that the bucket lists with its row.
func (c *mediaCheck) compare(ctx context.Context, l media.Listed) error {
	id := room.MediaID(l.Name)
	if err := c.reportRowsBefore(ctx, id); err != nil {
		return err
	}
	f, found, err := c.next(ctx)
	if err != nil {
		return err
	}
	if !found || f.ID != id {
		// It may have been uploaded after the rows were read.
		if _, found, err = c.index.File(ctx, id); err != nil || found {
			return err
		}
		c.orphans = append(c.orphans, l)
		c.printf("orphan   %s, %d bytes, stored %s: no row refers to it", l.Name, l.Size, l.StoredAt.UTC().Format(time.RFC3339))
		return nil
	}
	c.advance()
	c.matched++
	if f.Stored && f.Size != l.Size {
		return c.recheck(ctx, f)
	}
	return nil
}

// recheck reads a row and its stored file again if they did not match, because both may have
// changed since they were read. It reads the row last: a row is marked as deleting before its bytes
// are deleted.
func (c *mediaCheck) recheck(ctx context.Context, f store.MediaFile) error {
	if !f.Stored {
		return nil
	}
	size, err := c.bucket.Size(ctx, string(f.ID))
	if err != nil && !errors.Is(err, media.ErrNotStored) {
		return err
	}
	now, found, indexErr := c.index.File(ctx, f.ID)
	switch {
	case indexErr != nil:
		return indexErr
	case !found || !now.Stored:
	case err != nil:
		c.missing++
		c.printf("missing  %s, %d bytes", f.ID, now.Size)
	case size != now.Size:
		c.damaged++
		c.printf("damaged  %s, %d bytes: %d are stored", f.ID, now.Size, size)
	}
	return nil
}

// deleteOrphans deletes bytes that no row refers to and that are too old to belong to an upload. It
// deletes nothing if no file in the bucket belongs to the database, because that is the wrong
// bucket then.
func (c *mediaCheck) deleteOrphans(ctx context.Context) error {
	if c.matched == 0 && len(c.orphans) > 0 {
		return errors.New("nothing was deleted, because no file in the bucket belongs to this database: check that the database and the bucket are the right ones")
	}
	for _, o := range c.orphans {
		if time.Since(o.StoredAt) < c.orphanAge {
			c.printf("kept     %s: younger than %s", o.Name, c.orphanAge)
			continue
		}
		if _, found, err := c.index.File(ctx, room.MediaID(o.Name)); err != nil || found {
			if err != nil {
				return err
			}
			continue
		}
		if err := c.bucket.Delete(ctx, o.Name); err != nil {
			return err
		}
		c.deleted++
		c.printf("deleted  %s", o.Name)
	}
	return nil
}
