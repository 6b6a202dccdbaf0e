package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"parlor/media"
	"parlor/room"
)

// mediaStore has the store methods for files.
type mediaStore interface {
	AddMedia(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error)
	FinishMedia(ctx context.Context, m room.Media) error
	AbandonMedia(ctx context.Context, id room.MediaID) error
	MediaByID(ctx context.Context, user room.UserID, ids []room.MediaID) (map[room.MediaID]room.StoredMedia, error)
	MediaFor(ctx context.Context, user room.UserID, id room.MediaID) (room.StoredMedia, error)
}

const (
	// uploadTimeout bounds an upload. It allows 100 MB at 60 KB/s.
	uploadTimeout = 30 * time.Minute
	// defaultUploadPause is how long an upload may send nothing. It is longer than a phone takes to
	// switch networks.
	defaultUploadPause = 60 * time.Second
)

var (
	errFileTooBig  = newProblem(http.StatusRequestEntityTooLarge, "file_too_large", "The file is larger than 100 MB: upload a smaller one.")
	errStalled     = newProblem(http.StatusRequestTimeout, "upload_stalled", "The upload stalled or took too long: upload the file again.")
	errIncomplete  = newProblem(http.StatusBadRequest, "upload_incomplete", "The body ended before the file did: upload the file again.")
	errStorageFull = newProblem(http.StatusInsufficientStorage, "storage_full", "The server has no space left for files: try again later.")
)

type mediaReply struct {
	Media     room.Media   `json:"media"`
	SignedURL string       `json:"signedURL"`
	ExpiresAt room.Instant `json:"expiresAt"`
}

// answerMedia replies with a file and a URL that opens it without a key.
func (a *api) answerMedia(w http.ResponseWriter, r *http.Request, status int, session room.SessionID, m room.Media) error {
	m.URL = mediaPath(m.ID, m.FileName)
	reply := mediaReply{Media: m}
	signed, expires := a.mediaURLs.sign(m, session, time.Now())
	reply.SignedURL, reply.ExpiresAt = a.link(r, signed), room.InstantOf(expires)
	return a.answer(w, r, status, reply)
}

// uploadMedia stores the file while it is received. callTimeout does not apply to the whole
// request, but to each query of the database.
func (a *api) uploadMedia(w http.ResponseWriter, r *http.Request) error {
	session, err := a.authenticateWithTimeout(r)
	if err != nil {
		return err
	}
	if err := session.Grants.CheckMedia(); err != nil {
		return err
	}
	release, err := a.acquireTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), uploadTimeout)
	defer cancel()
	extendUploadDeadline(w)
	body, err := a.openUploadBody(ctx, w, r)
	if err != nil {
		return err
	}
	if err := a.Media.CheckSpace(body.atMost); err != nil {
		return bucketProblem(ctx, err)
	}
	id, err := withCallTimeout(ctx, func(ctx context.Context) (room.MediaID, error) {
		return a.Store.AddMedia(ctx, session.User.ID, body.fileName, body.atMost)
	})
	if err != nil {
		return err
	}
	m, err := a.saveMedia(ctx, id, body)
	if err != nil {
		// If it is certain that no bytes are stored, delete the row. A remote bucket that failed
		// may still have stored all of them: then the sweep deletes the bytes and the row.
		discard := a.Store.AbandonMedia
		if body.failed != nil || errors.Is(err, media.ErrFull) {
			discard = a.Store.DeleteMedia
		}
		discardErr := doWithCallTimeout(context.WithoutCancel(ctx), func(ctx context.Context) error { return discard(ctx, id) })
		if discardErr != nil {
			a.Log.Warn("upload cleanup failed: file left for the sweep", "requestID", requestID(ctx), "error", discardErr)
		}
		return err
	}
	return a.answerMedia(w, r, http.StatusCreated, session.ID, m)
}

// saveMedia stores the bytes of a file, determines its type, and makes it visible.
func (a *api) saveMedia(ctx context.Context, id room.MediaID, body *uploadBody) (room.Media, error) {
	size, info, err := a.Media.Save(ctx, string(id), body)
	switch {
	case err == nil:
	case body.failed != nil:
		return room.Media{}, body.failed
	default:
		return room.Media{}, bucketProblem(ctx, err)
	}
	m := mediaOf(id, body.fileName, size, info)
	err = doWithCallTimeout(ctx, func(ctx context.Context) error { return a.Store.FinishMedia(ctx, m) })
	if err != nil {
		// It is unknown whether the row was updated. If it was, the row describes a file without
		// bytes, whose ID no client knows. The sweep deletes both.
		return room.Media{}, errors.Join(err, a.Media.Delete(context.WithoutCancel(ctx), string(id)))
	}
	return m, nil
}

// mediaOf returns the description of a stored file from what its bytes show.
func mediaOf(id room.MediaID, fileName string, size int64, info media.Info) room.Media {
	return room.Media{
		ID: id, FileName: fileName, Size: size, ContentType: info.ContentType, Width: info.Width, Height: info.Height,
		Duration: float64(info.Duration.Milliseconds()) / 1000, VideoCodec: info.VideoCodec, AudioCodec: info.AudioCodec,
	}
}

// bucketProblem returns the error to answer with if the bucket failed.
func bucketProblem(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, media.ErrFull):
		return fmt.Errorf("%w (%w)", errStorageFull, err)
	}
	return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
}

// withCallTimeout calls ask with a context that ends after callTimeout.
func withCallTimeout[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	return ask(ctx)
}

// doWithCallTimeout is withCallTimeout for calls that return only an error.
func doWithCallTimeout(ctx context.Context, do func(context.Context) error) error {
	_, err := withCallTimeout(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) })
	return err
}

func (a *api) authenticateWithTimeout(r *http.Request) (room.Session, error) {
	return withCallTimeout(r.Context(), func(ctx context.Context) (room.Session, error) { return a.authenticate(r.WithContext(ctx)) })
}

// parseMediaID parses the ID of a file. An invalid ID is treated as one that does not exist.
func parseMediaID(name string) (room.MediaID, error) {
	if !validUUID(name) {
		return "", room.ErrMediaNotFound
	}
	return room.MediaID(name), nil
}

// pathMediaID returns the file that the path names.
func pathMediaID(r *http.Request) (room.MediaID, error) { return parseMediaID(pathParam(r, "mediaID")) }

// namedMedia returns a file of which only the ID is known; nil if the request names none.
func namedMedia(name *string) *room.Media {
	if name == nil {
		return nil
	}
	return &room.Media{ID: room.MediaID(*name)}
}

// resolveMedia replaces the mediaIDs in a draft by the files that they name. Errors: those of
// room.Draft.ResolveMedia.
func (a *api) resolveMedia(ctx context.Context, sender room.UserID, draft *room.Draft) error {
	ids := draft.MediaIDs()
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		if _, err := parseMediaID(string(id)); err != nil {
			return err
		}
	}
	readable, err := a.Store.MediaByID(ctx, sender, ids)
	if err != nil {
		return err
	}
	for id, m := range readable {
		m.URL = mediaPath(m.ID, m.FileName)
		readable[id] = m
	}
	return draft.ResolveMedia(sender, readable)
}

func (a *api) getMedia(w http.ResponseWriter, r *http.Request, session room.Session) error {
	id, err := pathMediaID(r)
	if err != nil {
		return err
	}
	m, err := a.Store.MediaFor(r.Context(), session.User.ID, id)
	if err != nil {
		return err
	}
	return a.answerMedia(w, r, http.StatusOK, session.ID, m.Media)
}
