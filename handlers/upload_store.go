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

// uploadStore has the store methods for uploads.
type uploadStore interface {
	AddUpload(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error)
	Upload(ctx context.Context, owner room.UserID, id room.MediaID) (room.Upload, error)
	EndUpload(ctx context.Context, owner room.UserID, id room.MediaID) error
	AddPart(ctx context.Context, u room.Upload) (room.PartID, error)
	FinishPart(ctx context.Context, id room.PartID, length int64) error
	Parts(ctx context.Context, id room.MediaID) (room.Parts, error)
	DeleteParts(ctx context.Context, ids []room.PartID) error
	DeleteMedia(ctx context.Context, id room.MediaID) error
}

const (
	// partBytes is the largest size of a part: how much of an upload may be lost when the server is
	// killed, and how much may be held in memory for a remote bucket.
	partBytes = 4 << 20
	// assembleTimeout bounds assembling 100 MB, which continues if the client disconnects.
	assembleTimeout = 5 * time.Minute
)

// uploads is tusd's data store: the rows are in the store and the bytes in the bucket.
type uploads struct{ *api }

// upload is an upload of the caller.
type upload struct {
	*api
	call *uploadCall
	room.Upload
}

func (u uploads) NewUpload(ctx context.Context, info tusd.FileInfo) (tusd.Upload, error) {
	c := uploadCallOf(ctx)
	if err := u.Media.CheckSpace(info.Size); err != nil {
		return nil, c.fail(bucketProblem(ctx, err))
	}
	id, err := withCallTimeout(ctx, func(ctx context.Context) (room.MediaID, error) {
		return u.Store.AddUpload(ctx, c.owner, c.fileName, info.Size)
	})
	if err != nil {
		return nil, c.fail(err)
	}
	c.created = &upload{u.api, c, room.Upload{ID: id, FileName: c.fileName, Length: info.Size}}
	return c.created, nil
}

// GetUpload returns an upload of the caller; it does not find those of other users. An upload that
// has all its bytes but was not assembled, because the server was killed or its bucket failed, is
// assembled now, so that a client can rely on the reply that no bytes are missing.
func (u uploads) GetUpload(ctx context.Context, id string) (tusd.Upload, error) {
	c := uploadCallOf(ctx)
	stored, err := withCallTimeout(ctx, func(ctx context.Context) (room.Upload, error) {
		return u.Store.Upload(ctx, c.owner, room.MediaID(id))
	})
	if err != nil {
		return nil, c.fail(err)
	}
	found := &upload{u.api, c, stored}
	if stored.Whole() && c.reply.method != http.MethodDelete {
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

// GetReader serves a tusd download, for which there is no route.
func (u *upload) GetReader(context.Context) (io.ReadCloser, error) {
	return nil, tusd.ErrNotImplemented
}

// WriteChunk stores the body of a request part by part. All bytes that arrive are stored, however
// the request ends: if the body fails, tusd's reader returns io.EOF.
func (u *upload) WriteChunk(ctx context.Context, _ int64, src io.Reader) (written int64, err error) {
	body := bufio.NewReader(src)
	for {
		if _, err := body.Peek(1); err != nil {
			return written, nil // the end of the body; call.body.failed contains the reason
		}
		if u.Parts >= room.MaxParts {
			return written, u.call.fail(room.ErrMediaQuota)
		}
		n, err := u.writePart(ctx, io.LimitReader(body, partBytes))
		written += n
		if err != nil {
			return written, u.call.fail(err)
		}
	}
}

// writePart stores a part: first its row, then its bytes, and then the row is updated.
func (u *upload) writePart(ctx context.Context, r io.Reader) (int64, error) {
	id, err := withCallTimeout(ctx, func(ctx context.Context) (room.PartID, error) { return u.Store.AddPart(ctx, u.Upload) })
	if err != nil {
		return 0, err
	}
	n, err := u.Media.Write(ctx, string(id), r)
	switch {
	case errors.Is(err, media.ErrFull):
		u.removeParts(ctx, []room.PartID{id})
		return 0, bucketProblem(ctx, err)
	case err != nil:
		// A remote bucket that failed may have stored all bytes, so the row stays for the sweep.
		_ = u.Media.Delete(context.WithoutCancel(ctx), string(id))
		return 0, bucketProblem(ctx, err)
	}
	err = doWithCallTimeout(ctx, func(ctx context.Context) error { return u.Store.FinishPart(ctx, id, n) })
	switch {
	case errors.Is(err, room.ErrUploadOffset):
		u.removeParts(ctx, []room.PartID{id})
		return 0, err
	case err != nil:
		return 0, err // it is unknown whether the row was updated; the sweep finds out
	}
	u.Offset += n
	u.Parts++
	return n, nil
}

// removeParts deletes parts that are no longer needed. If it fails, the sweep deletes them.
func (u *upload) removeParts(ctx context.Context, ids []room.PartID) {
	ctx = context.WithoutCancel(ctx)
	var faults []error
	for _, id := range ids {
		faults = append(faults, u.Media.Delete(ctx, string(id)))
	}
	err := errors.Join(faults...)
	if err == nil {
		err = doWithCallTimeout(ctx, func(ctx context.Context) error { return u.Store.DeleteParts(ctx, ids) })
	}
	if err != nil {
		u.Log.Warn("upload cleanup failed: parts left for the sweep", "requestID", requestID(ctx), "error", err)
	}
}

// FinishUpload assembles the parts into the file. Several processes may do so at once with the same
// result, and the first one to update the row wins. If it fails, the parts are kept for another
// attempt.
func (u *upload) FinishUpload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), assembleTimeout)
	defer cancel()
	parts, err := withCallTimeout(ctx, func(ctx context.Context) (room.Parts, error) { return u.Store.Parts(ctx, u.ID) })
	if err != nil {
		return u.call.fail(err)
	}
	if err := u.assemble(ctx, parts); err != nil {
		current, readErr := withCallTimeout(ctx, func(ctx context.Context) (room.Upload, error) {
			return u.Store.Upload(ctx, u.call.owner, u.ID)
		})
		switch {
		case current.Finished: // another process has assembled it
		case errors.Is(readErr, room.ErrMediaNotFound):
			return u.call.fail(errors.Join(readErr, u.Media.Delete(ctx, string(u.ID))))
		case readErr == nil && errors.Is(err, errParts):
			return u.call.fail(u.lostParts(u.Upload, err))
		case errors.Is(err, errParts): // it is unknown whether another process has assembled it
			return u.call.fail(readErr)
		default:
			return u.call.fail(err)
		}
	}
	u.Finished = true
	u.removeParts(ctx, parts.IDs)
	return nil
}

// assemble stores the parts as one file and determines its type. It writes nothing unless all parts
// exist: another process that has assembled them deletes them, and the rest must not overwrite the
// file. Errors: errParts.
func (u *upload) assemble(ctx context.Context, parts room.Parts) error {
	if parts.Length != u.Length {
		return fmt.Errorf("%w: %d of %d bytes are stored", errParts, parts.Length, u.Length)
	}
	assembled := &partReader{ctx: ctx, bucket: u.Media, left: parts.IDs}
	defer assembled.close()
	size, err := u.Media.Write(ctx, string(u.ID), assembled)
	switch {
	case errors.Is(err, media.ErrNotStored):
		return fmt.Errorf("%w: %w", errParts, err)
	case err != nil:
		return bucketProblem(ctx, err)
	case size != u.Length: // a part is truncated
		return fmt.Errorf("%w: %d of %d bytes are stored", errParts, size, u.Length)
	}
	info, err := u.Media.Probe(ctx, string(u.ID), size)
	if err != nil {
		return bucketProblem(ctx, err)
	}
	return doWithCallTimeout(ctx, func(ctx context.Context) error {
		return u.Store.FinishMedia(ctx, mediaOf(u.ID, u.FileName, size, info))
	})
}

// AsTerminatableUpload returns the upload itself, which can be terminated.
func (u uploads) AsTerminatableUpload(found tusd.Upload) tusd.TerminatableUpload {
	return found.(*upload) // tusd passes what GetUpload returned
}

// Terminate deletes a file that was not sent, whether or not it is complete.
func (u *upload) Terminate(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := doWithCallTimeout(ctx, func(ctx context.Context) error { return u.Store.EndUpload(ctx, u.call.owner, u.ID) })
	if err != nil {
		return u.call.fail(err)
	}
	// The file no longer has an owner. What cannot be deleted now is deleted by the sweep.
	parts, err := withCallTimeout(ctx, func(ctx context.Context) (room.Parts, error) { return u.Store.Parts(ctx, u.ID) })
	if err == nil {
		u.removeParts(ctx, parts.IDs)
		err = u.Media.Delete(ctx, string(u.ID))
	}
	if err == nil {
		err = doWithCallTimeout(ctx, func(ctx context.Context) error { return u.Store.DeleteMedia(ctx, u.ID) })
	}
	if err != nil {
		u.Log.Warn("upload cleanup failed: file left for the sweep", "requestID", requestID(ctx), "error", err)
	}
	return nil
}

// partReader reads parts one after the other, and opens each only when it is needed.
type partReader struct {
	ctx    context.Context // that of the one call that assembles them
	bucket *media.Bucket
	left   []room.PartID
	part   io.ReadCloser // nil between parts
}

func (p *partReader) Read(b []byte) (int, error) {
	for {
		if p.part == nil {
			if len(p.left) == 0 {
				return 0, io.EOF
			}
			part, _, err := p.bucket.Open(p.ctx, string(p.left[0]))
			if err != nil {
				return 0, err
			}
			p.part, p.left = part, p.left[1:]
		}
		n, err := p.part.Read(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		p.close()
		if n > 0 {
			return n, nil
		}
	}
}

func (p *partReader) close() {
	if p.part != nil {
		_ = p.part.Close()
		p.part = nil
	}
}
