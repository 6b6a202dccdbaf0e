package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// MediaFile is what the database knows of a name in the bucket: of a file or of a
// piece of one.
type MediaFile struct {
	ID   room.MediaID
	Size int64 // bytes
	// Stored says that the bytes must be there. They may be there where it is false:
	// they are on their way, or are being deleted.
	Stored bool
}

// MediaIndex is the names of all files, for a program that compares them with a
// bucket beside a running server: it is no node, and changes nothing.
type MediaIndex struct{ conn *pgx.Conn }

// OpenMediaIndex connects to a database that has this program's schema. Errors:
// those of CheckMigrated.
func OpenMediaIndex(ctx context.Context, url string) (*MediaIndex, error) {
	if err := CheckMigrated(ctx, url); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, translate(err)
	}
	return &MediaIndex{conn}, nil
}

// Close ends the connection.
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

// After is the next files after a name, at most n, in the order of names.
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

// File is one of them as it stands now; found is false where there is none.
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
