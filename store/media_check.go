package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// MediaFile is what the database knows about an object in the bucket, which is a file or a part of
// one.
type MediaFile struct {
	ID   room.MediaID
	Size int64 // bytes
	// Stored says that the bytes must be there. If it is false, they may still be: they may be
	// arriving, or being deleted.
	Stored bool
}

// MediaIndex reads the names of all files, for a program that compares them with a bucket while
// servers are running. It is not a node and changes nothing.
type MediaIndex struct{ conn *pgx.Conn }

// OpenMediaIndex connects to a database that has this program's schema. Errors: those of
// CheckMigrated.
func OpenMediaIndex(ctx context.Context, url string) (*MediaIndex, error) {
	conn, err := connectMigrated(ctx, url, "parlor media check")
	if err != nil {
		return nil, err
	}
	return &MediaIndex{conn}, nil
}

// Close closes the connection.
func (x *MediaIndex) Close(ctx context.Context) error { return x.conn.Close(ctx) }

const mediaFiles = `SELECT id::text, size, stored FROM (
		SELECT media_id AS id, coalesce(size, 0) AS size, size IS NOT NULL AND NOT deleting AS stored FROM media
		UNION ALL
		SELECT p.piece_id, coalesce(p.length, 0), p.length IS NOT NULL AND m.media_id IS NOT NULL AND m.size IS NULL AND NOT m.deleting
		FROM media_pieces p LEFT JOIN media m USING (media_id)
	) files `

func scanMediaFile(row pgx.CollectableRow) (f MediaFile, err error) {
	return f, row.Scan(&f.ID, &f.Size, &f.Stored)
}

// After returns at most n files after an ID, in the order of IDs.
func (x *MediaIndex) After(ctx context.Context, after room.MediaID, n int) ([]MediaFile, error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	rows, err := x.conn.Query(ctx, mediaFiles+"WHERE id > $1::uuid ORDER BY id LIMIT $2", after, n)
	if err != nil {
		return nil, translate(err)
	}
	files, err := pgx.CollectRows(rows, scanMediaFile)
	return files, translate(err)
}

// File returns the current state of a file. found is false if there is none.
func (x *MediaIndex) File(ctx context.Context, id room.MediaID) (f MediaFile, found bool, err error) {
	rows, err := x.conn.Query(ctx, mediaFiles+"WHERE id = $1::uuid", id)
	if err != nil {
		return f, false, translate(err)
	}
	f, err = pgx.CollectExactlyOneRow(rows, scanMediaFile)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, false, nil
	}
	return f, err == nil, translate(err)
}
