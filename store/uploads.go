package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// AddUpload notes a file of a user that will come in pieces, so many bytes in all,
// and names it. SweepMedia finds it room.MediaKept after its last piece. Errors:
// room.ErrMediaQuota.
func (s *Store) AddUpload(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error) {
	return s.addMedia(ctx, owner, fileName, length, new(int64))
}

// Upload is a file of a user, done or not. One that came in a single request is
// an upload once it is done. Errors: room.ErrMediaNotFound.
func (s *Store) Upload(ctx context.Context, owner room.UserID, id room.MediaID) (room.Upload, error) {
	u := room.Upload{ID: id}
	err := s.pool.QueryRow(ctx, `
		SELECT file_name, coalesce(size, length), coalesce(size, uploaded), pieces, size IS NOT NULL FROM media
		WHERE media_id = $1 AND owner_id = $2 AND NOT deleting AND (size IS NOT NULL OR uploaded IS NOT NULL)`,
		id, owner).Scan(&u.FileName, &u.Length, &u.Offset, &u.Pieces, &u.Finished)
	if errors.Is(err, pgx.ErrNoRows) {
		return u, room.ErrMediaNotFound
	}
	return u, translate(err)
}

// AddPiece notes that bytes of an upload are about to be stored, from its offset
// on, and names them. Several may be noted at one offset, by processes that do not
// know of each other; FinishPiece takes the first that is stored. Errors:
// room.ErrUploadOffset.
func (s *Store) AddPiece(ctx context.Context, u room.Upload) (room.PieceID, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("piece ID: %w", err)
	}
	added, err := s.pool.Exec(ctx, `
		INSERT INTO media_pieces (piece_id, media_id, starts, created_at)
		SELECT $1, media_id, uploaded, $4 FROM media
		WHERE media_id = $2 AND uploaded = $3 AND size IS NULL AND NOT deleting`, id, u.ID, u.Offset, s.now())
	if err == nil && added.RowsAffected() == 0 {
		err = room.ErrUploadOffset
	}
	return room.PieceID(id.String()), translate(err)
}

// FinishPiece says that a piece is stored, and makes its upload so many bytes
// longer, unless that has grown or ended since AddPiece. Errors:
// room.ErrUploadOffset.
func (s *Store) FinishPiece(ctx context.Context, id room.PieceID, length int64) error {
	kept, err := s.pool.Exec(ctx, `
		WITH grown AS (
			UPDATE media m SET uploaded = uploaded + $2, pieces = pieces + 1, unused_since = $3
			FROM media_pieces p WHERE p.piece_id = $1 AND p.length IS NULL AND m.media_id = p.media_id
				AND m.uploaded = p.starts AND m.size IS NULL AND NOT m.deleting
			RETURNING p.piece_id
		)
		UPDATE media_pieces SET length = $2 WHERE piece_id IN (SELECT piece_id FROM grown)`, id, length, s.now())
	if err == nil && kept.RowsAffected() == 0 {
		err = room.ErrUploadOffset
	}
	return translate(err)
}

// Pieces is what is stored of an upload, in order.
func (s *Store) Pieces(ctx context.Context, id room.MediaID) (p room.Pieces, err error) {
	rows, err := s.pool.Query(ctx, "SELECT piece_id, length FROM media_pieces WHERE media_id = $1 AND length IS NOT NULL ORDER BY starts", id)
	if err != nil {
		return p, translate(err)
	}
	var (
		piece  room.PieceID
		length int64
	)
	_, err = pgx.ForEachRow(rows, []any{&piece, &length}, func() error {
		p.IDs = append(p.IDs, piece)
		p.Length += length
		return nil
	})
	return p, translate(err)
}

// DeletePieces forgets pieces whose bytes are not stored, or not any more.
func (s *Store) DeletePieces(ctx context.Context, ids []room.PieceID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM media_pieces WHERE piece_id = ANY ($1::uuid[])", ids)
	return translate(err)
}

// EndUpload takes a file from its owner, done or not, that was not sent. Its bytes
// are the caller's to delete, and then DeleteMedia; else the sweep does both. Errors:
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

// SweepPieces deletes pieces that no upload needs: those of files that are done or
// gone, and those that were never kept, after room.MediaKept, when nobody can be
// storing them any more. Bytes are deleted by remove, which must not mind that they
// are gone. Any number of processes may sweep.
func (s *Store) SweepPieces(ctx context.Context, remove func(context.Context, room.PieceID) error) error {
	for range mediaBatches {
		swept, err := s.sweepPieces(ctx, remove)
		if err != nil || swept < mediaBatch {
			return err
		}
	}
	return nil
}

func (s *Store) sweepPieces(ctx context.Context, remove func(context.Context, room.PieceID) error) (swept int, err error) {
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
	due, err := pgx.CollectRows(rows, pgx.RowTo[room.PieceID])
	if err != nil {
		return 0, translate(err)
	}
	gone, kept := removeEach(ctx, "piece", due, remove)
	if len(gone) > 0 {
		err = s.DeletePieces(ctx, gone)
	}
	return len(due), errors.Join(kept, err)
}
