package handlers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	tusd "github.com/tus/tusd/v2/pkg/handler"

	"parlor/media"
	"parlor/room"
)

// uploadStore stores unfinished uploads and their pieces.
type uploadStore interface {
	AddUpload(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error)
	Upload(ctx context.Context, owner room.UserID, id room.MediaID) (room.Upload, error)
	EndUpload(ctx context.Context, owner room.UserID, id room.MediaID) error
	AddPiece(ctx context.Context, u room.Upload) (room.PieceID, error)
	FinishPiece(ctx context.Context, id room.PieceID, length int64) error
	Pieces(ctx context.Context, id room.MediaID) (room.Pieces, error)
	DeletePieces(ctx context.Context, ids []room.PieceID) error
	DeleteMedia(ctx context.Context, id room.MediaID) error
}

const (
	// pieceBytes is what an upload loses at most where the server is killed, and what
	// it may hold in memory for a bucket far away.
	pieceBytes = 4 << 20
	// joinTimeout bounds the putting together of 100 MB, which goes on without the
	// client.
	joinTimeout = 5 * time.Minute
)

// uploads is where tusd keeps uploads: the store has the rows, the bucket the bytes.
type uploads struct{ *api }

// upload is a file of the caller's.
type upload struct {
	*api
	call *uploadCall
	room.Upload
}

func (u uploads) NewUpload(ctx context.Context, info tusd.FileInfo) (tusd.Upload, error) {
	c := uploadCallOf(ctx)
	if err := u.Media.CheckSpace(info.Size); err != nil {
		return nil, c.fail(unavailable(ctx, err))
	}
	id, err := shortly(ctx, func(ctx context.Context) (room.MediaID, error) {
		return u.Store.AddUpload(ctx, c.owner, c.fileName, info.Size)
	})
	if err != nil {
		return nil, c.fail(err)
	}
	c.created = &upload{u.api, c, room.Upload{ID: id, FileName: c.fileName, Length: info.Size}}
	return c.created, nil
}

// GetUpload is an upload of the caller's; another's is not found. One that was
// whole when its server was killed, or its bucket failed, is put together now, so
// that a client which is told that nothing is missing can rely on it.
func (u uploads) GetUpload(ctx context.Context, id string) (tusd.Upload, error) {
	c := uploadCallOf(ctx)
	known, err := shortly(ctx, func(ctx context.Context) (room.Upload, error) {
		return u.Store.Upload(ctx, c.owner, room.MediaID(id))
	})
	if err != nil {
		return nil, c.fail(err)
	}
	found := &upload{u.api, c, known}
	if known.Whole() && c.reply.method != http.MethodDelete {
		if err := found.FinishUpload(ctx); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (u *upload) GetInfo(context.Context) (tusd.FileInfo, error) {
	return tusd.FileInfo{
		ID: string(u.ID), Size: u.Length, Offset: u.Offset, MetaData: tusd.MetaData{"filename": u.FileName},
	}, nil
}

// GetReader is for a way to download that is not mounted.
func (u *upload) GetReader(context.Context) (io.ReadCloser, error) {
	return nil, tusd.ErrNotImplemented
}

// WriteChunk stores the body of a request, piece by piece. What came is kept
// however the request ends: tusd's reader ends like a file where the body fails.
func (u *upload) WriteChunk(ctx context.Context, _ int64, src io.Reader) (written int64, err error) {
	body := bufio.NewReader(src)
	for {
		if _, err := body.Peek(1); err != nil {
			return written, nil // the reader ends; why, the body knows
		}
		if u.Pieces >= room.MaxPieces {
			return written, u.call.fail(room.ErrMediaQuota)
		}
		n, err := u.writePiece(ctx, io.LimitReader(body, pieceBytes))
		written += n
		if err != nil {
			return written, u.call.fail(err)
		}
	}
}

// writePiece stores a piece: its row is first, then its bytes, then the row says so.
func (u *upload) writePiece(ctx context.Context, r io.Reader) (int64, error) {
	id, err := shortly(ctx, func(ctx context.Context) (room.PieceID, error) { return u.Store.AddPiece(ctx, u.Upload) })
	if err != nil {
		return 0, err
	}
	n, err := u.Media.Write(ctx, string(id), r)
	switch {
	case errors.Is(err, media.ErrFull):
		u.removePieces(ctx, []room.PieceID{id})
		return 0, unavailable(ctx, err)
	case err != nil:
		// A bucket that has failed may have got all bytes before it did: the row stays for
		// the sweep.
		_ = u.Media.Delete(context.WithoutCancel(ctx), string(id))
		return 0, unavailable(ctx, err)
	}
	err = doShortly(ctx, func(ctx context.Context) error { return u.Store.FinishPiece(ctx, id, n) })
	switch {
	case errors.Is(err, room.ErrUploadOffset):
		u.removePieces(ctx, []room.PieceID{id})
		return 0, err
	case err != nil:
		return 0, err // whether it was kept is not known; the sweep will know
	}
	u.Offset += n
	u.Pieces++
	return n, nil
}

// removePieces deletes pieces that nobody needs. Where that fails, the sweep will
// see to them.
func (u *upload) removePieces(ctx context.Context, ids []room.PieceID) {
	ctx = context.WithoutCancel(ctx)
	var faults []error
	for _, id := range ids {
		faults = append(faults, u.Media.Delete(ctx, string(id)))
	}
	err := errors.Join(faults...)
	if err == nil {
		err = doShortly(ctx, func(ctx context.Context) error { return u.Store.DeletePieces(ctx, ids) })
	}
	if err != nil {
		u.Log.Warn("pieces of an upload are left to the sweep", "requestID", requestID(ctx), "error", err)
	}
}

// FinishUpload puts the pieces together into the file. Several processes may do so
// at once, and the first is right: what they store is the same. Where it fails the
// pieces stay, for another try.
func (u *upload) FinishUpload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTimeout)
	defer cancel()
	pieces, err := shortly(ctx, func(ctx context.Context) (room.Pieces, error) { return u.Store.Pieces(ctx, u.ID) })
	if err != nil {
		return u.call.fail(err)
	}
	if err := u.join(ctx, pieces); err != nil {
		now, gone := shortly(ctx, func(ctx context.Context) (room.Upload, error) {
			return u.Store.Upload(ctx, u.call.owner, u.ID)
		})
		switch {
		case now.Finished: // by another process
		case errors.Is(gone, room.ErrMediaNotFound):
			return u.call.fail(errors.Join(gone, u.Media.Delete(ctx, string(u.ID))))
		case gone == nil && errors.Is(err, errPieces):
			return u.call.fail(u.lostPieces(u.Upload, err))
		case errors.Is(err, errPieces): // or another process has finished it: that is not known
			return u.call.fail(gone)
		default:
			return u.call.fail(err)
		}
	}
	u.Finished = true
	u.removePieces(ctx, pieces.IDs)
	return nil
}

// join stores the pieces as one, and says what they are. It writes nothing unless
// they are all there: another process that has put them together deletes them, and
// what is left of them must not take the file's place. Errors: errPieces.
func (u *upload) join(ctx context.Context, pieces room.Pieces) error {
	if pieces.Length != u.Length {
		return fmt.Errorf("%w: %d of %d bytes are stored", errPieces, pieces.Length, u.Length)
	}
	joined := &pieceReader{ctx: ctx, bucket: u.Media, left: pieces.IDs}
	defer joined.close()
	size, err := u.Media.Write(ctx, string(u.ID), joined)
	switch {
	case errors.Is(err, media.ErrNotStored):
		return fmt.Errorf("%w: %w", errPieces, err)
	case err != nil:
		return unavailable(ctx, err)
	case size != u.Length: // a piece was cut short
		return fmt.Errorf("%w: %d of %d bytes are stored", errPieces, size, u.Length)
	}
	info, err := u.Media.Probe(ctx, string(u.ID), size)
	if err != nil {
		return unavailable(ctx, err)
	}
	return doShortly(ctx, func(ctx context.Context) error {
		return u.Store.FinishMedia(ctx, mediaOf(u.ID, u.FileName, size, info))
	})
}

// AsTerminatableUpload is the upload itself, which can be terminated.
func (u uploads) AsTerminatableUpload(known tusd.Upload) tusd.TerminatableUpload {
	return known.(*upload) // tusd hands back what it was given
}

// Terminate deletes a file that was not sent, whether or not it is done.
func (u *upload) Terminate(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := doShortly(ctx, func(ctx context.Context) error { return u.Store.EndUpload(ctx, u.call.owner, u.ID) })
	if err != nil {
		return u.call.fail(err)
	}
	// It is nobody's any more. What cannot be deleted at once, the sweep will.
	pieces, err := shortly(ctx, func(ctx context.Context) (room.Pieces, error) { return u.Store.Pieces(ctx, u.ID) })
	if err == nil {
		u.removePieces(ctx, pieces.IDs)
		err = u.Media.Delete(ctx, string(u.ID))
	}
	if err == nil {
		err = doShortly(ctx, func(ctx context.Context) error { return u.Store.DeleteMedia(ctx, u.ID) })
	}
	if err != nil {
		u.Log.Warn("an upload that was ended is left to the sweep", "requestID", requestID(ctx), "error", err)
	}
	return nil
}

// pieceReader reads pieces one after the other, each opened when its turn comes.
type pieceReader struct {
	ctx    context.Context // of the one call that puts them together
	bucket *media.Bucket
	left   []room.PieceID
	piece  io.ReadCloser // nil between pieces
}

func (p *pieceReader) Read(b []byte) (int, error) {
	for {
		if p.piece == nil {
			if len(p.left) == 0 {
				return 0, io.EOF
			}
			piece, _, err := p.bucket.Open(p.ctx, string(p.left[0]))
			if err != nil {
				return 0, err
			}
			p.piece, p.left = piece, p.left[1:]
		}
		n, err := p.piece.Read(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		p.close()
		if n > 0 {
			return n, nil
		}
	}
}

func (p *pieceReader) close() {
	if p.piece != nil {
		_ = p.piece.Close()
		p.piece = nil
	}
}
