package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// AddUpload adds a file of a user that will be uploaded in parts, of length bytes in total, and
// returns its ID. SweepMedia deletes it room.MediaKept after its last part. Errors:
// room.ErrMediaQuota.
func (s *Store) AddUpload(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error) {
	return s.addMedia(ctx, owner, fileName, length, new(int64))
}

// Upload returns a file of a user, complete or not. A file that is uploaded in a single request
// counts as an upload once it is complete. Errors: room.ErrMediaNotFound.
func (s *Store) Upload(ctx context.Context, owner room.UserID, id room.MediaID) (room.Upload, error) {
	u := room.Upload{ID: id}
	err := s.pool.QueryRow(ctx, `
		SELECT file_name, coalesce(size, length), coalesce(size, uploaded), pieces, size IS NOT NULL FROM media
		WHERE media_id = $1 AND owner_id = $2 AND NOT deleting AND (size IS NOT NULL OR uploaded IS NOT NULL)`,
		id, owner).Scan(&u.FileName, &u.Length, &u.Offset, &u.Parts, &u.Finished)
	if errors.Is(err, pgx.ErrNoRows) {
		return u, room.ErrMediaNotFound
	}
	return u, translate(err)
}

// AddPart adds a part at the offset of an upload before its bytes are stored, and returns its ID.
// Parts are the rows of media_pieces. Several processes that do not know of each other may add
// parts at one offset; FinishPart accepts the first that is stored. Errors: room.ErrUploadOffset.
func (s *Store) AddPart(ctx context.Context, u room.Upload) (room.PartID, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("part ID: %w", err)
	}
	added, err := s.pool.Exec(ctx, `
		INSERT INTO media_pieces (piece_id, media_id, starts, created_at)
		SELECT $1, media_id, uploaded, $4 FROM media
		WHERE media_id = $2 AND uploaded = $3 AND size IS NULL AND NOT deleting`, id, u.ID, u.Offset, s.now())
	if err == nil && added.RowsAffected() == 0 {
		err = room.ErrUploadOffset
	}
	return room.PartID(id.String()), translate(err)
}

// FinishPart records that a part is stored, and moves the offset of its upload by length bytes,
// unless the upload has grown or ended since AddPart. Errors: room.ErrUploadOffset.
func (s *Store) FinishPart(ctx context.Context, id room.PartID, length int64) error {
	finished, err := s.pool.Exec(ctx, `
		WITH grown AS (
			UPDATE media m SET uploaded = uploaded + $2, pieces = pieces + 1, unused_since = $3
			FROM media_pieces p WHERE p.piece_id = $1 AND p.length IS NULL AND m.media_id = p.media_id
				AND m.uploaded = p.starts AND m.size IS NULL AND NOT m.deleting
			RETURNING p.piece_id
		)
		UPDATE media_pieces SET length = $2 WHERE piece_id IN (SELECT piece_id FROM grown)`, id, length, s.now())
	if err == nil && finished.RowsAffected() == 0 {
		err = room.ErrUploadOffset
	}
	return translate(err)
}

// Parts returns the stored parts of an upload, in order.
func (s *Store) Parts(ctx context.Context, id room.MediaID) (p room.Parts, err error) {
	rows, err := s.pool.Query(ctx, "SELECT piece_id, length FROM media_pieces WHERE media_id = $1 AND length IS NOT NULL ORDER BY starts", id)
	if err != nil {
		return p, translate(err)
	}
	var (
		part   room.PartID
		length int64
	)
	_, err = pgx.ForEachRow(rows, []any{&part, &length}, func() error {
		p.IDs = append(p.IDs, part)
		p.Length += length
		return nil
	})
	return p, translate(err)
}

// DeleteParts deletes the rows of parts whose bytes are not, or no longer, stored.
func (s *Store) DeleteParts(ctx context.Context, ids []room.PartID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM media_pieces WHERE piece_id = ANY ($1::uuid[])", ids)
	return translate(err)
}

// EndUpload removes a file that was not sent from its owner, complete or not. The caller then
// deletes its bytes and calls DeleteMedia; otherwise the sweep does both. Errors:
// room.ErrMediaNotFound, room.ErrMediaSent.
func (s *Store) EndUpload(ctx context.Context, owner room.UserID, id room.MediaID) error {
	ended, err := s.pool.Exec(ctx, `
		UPDATE media SET deleting = true, unused_since = $3
		WHERE media_id = $1 AND owner_id = $2 AND uses = 0 AND NOT deleting
			AND (size IS NOT NULL OR uploaded IS NOT NULL)`, id, owner, s.now().Add(-room.MediaKept))
	if err != nil || ended.RowsAffected() > 0 {
		return translate(err)
	}
	if _, err := s.Upload(ctx, owner, id); err != nil {
		return err
	}
	return room.ErrMediaSent
}

// SweepParts deletes parts that no upload needs: the parts of files that are complete or deleted,
// and parts that were not recorded as stored within room.MediaKept, by when no request can still be
// storing them. remove deletes the bytes, and must succeed if there are none. Any number of
// processes may sweep.
func (s *Store) SweepParts(ctx context.Context, remove func(context.Context, room.PartID) error) error {
	for range mediaBatches {
		swept, err := s.sweepParts(ctx, remove)
		if err != nil || swept < mediaBatch {
			return err
		}
	}
	return nil
}

func (s *Store) sweepParts(
	ctx context.Context, remove func(context.Context, room.PartID) error,
) (swept int, err error) {
	if ok, err := s.mayDelete(ctx); !ok {
		return 0, err
	}
	rows, err := s.pool.Query(ctx, `
		SELECT piece_id FROM media_pieces p LEFT JOIN media m USING (media_id)
		WHERE CASE WHEN p.length IS NULL THEN p.created_at <= $1 ELSE m.media_id IS NULL OR m.size IS NOT NULL OR m.deleting END
		LIMIT $2`, s.now().Add(-room.MediaKept), mediaBatch)
	if err != nil {
		return 0, translate(err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[room.PartID])
	if err != nil {
		return 0, translate(err)
	}
	deleted, failed := removeEach(ctx, "part", due, remove)
	if len(deleted) > 0 {
		err = s.DeleteParts(ctx, deleted)
	}
	return len(due), errors.Join(failed, err)
}
