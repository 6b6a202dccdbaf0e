package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
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
	// downloadPause is how long a client may read nothing of a download.
	downloadPause = 60 * time.Second
	// formOverhead is how many bytes a form may have in addition to its file.
	formOverhead = 64 << 10
	// unnamedFile is the name of a file that is uploaded without one.
	unnamedFile = "file"
)

var (
	errFileTooBig  = newProblem(http.StatusRequestEntityTooLarge, "file_too_large", "The file is larger than 100 MB: upload a smaller one.")
	errStalled     = newProblem(http.StatusRequestTimeout, "upload_stalled", "The upload stalled or took too long: upload the file again.")
	errIncomplete  = newProblem(http.StatusBadRequest, "upload_incomplete", "The body ended before the file did: upload the file again.")
	errStorageFull = newProblem(http.StatusInsufficientStorage, "storage_full", "The server has no space left for files: try again later.")
)

type mediaReply struct {
	Media     room.Media `json:"media"`
	SignedURL string     `json:"signedURL"`
	ExpiresAt time.Time  `json:"expiresAt"`
}

// answerMedia replies with a file and a URL that opens it without a key.
func (a *api) answerMedia(w http.ResponseWriter, r *http.Request, status int, session room.SessionID, m room.Media) error {
	m.URL = mediaPath(m.ID, m.FileName)
	reply := mediaReply{Media: m}
	signed, expires := a.mediaURLs.sign(m, session, time.Now())
	reply.SignedURL, reply.ExpiresAt = a.link(r, signed), expires
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

// uploadBody reads the file of an upload, and records why reading failed.
type uploadBody struct {
	fileName string
	atMost   int64 // the largest possible size in bytes, according to the request

	ctx      context.Context // that of the request
	file     io.Reader
	left     int64 // how many more bytes are accepted
	pause    time.Duration
	deadline *bodyDeadline
	form     func() error // checks the end of the form; nil if there is none
	failed   error        // the error to answer with
}

// bodyDeadline is the deadline for reading a request's body. It is set for each read and cleared
// afterwards, because net/http ends the body of an HTTP/2 request as soon as the deadline passes,
// whether or not the body is being read. A file would be lost if storing a part of it took longer
// than a client may pause.
type bodyDeadline struct {
	control *http.ResponseController

	mu    sync.Mutex // guards fixed
	fixed bool       // the body has ended or was cut off
}

// set moves the deadline to the given time from now; 0 clears it. It has no effect after the body
// has ended or was cut off.
func (d *bodyDeadline) set(within time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.fixed:
		return nil
	case within == 0:
		return d.control.SetReadDeadline(time.Time{})
	}
	return d.control.SetReadDeadline(time.Now().Add(within))
}

// end clears the deadline for good. After the body, the server reads on to notice when the client
// disconnects, and a deadline would end the connection for the requests that follow.
func (d *bodyDeadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fixed {
		return
	}
	d.fixed = true
	_ = d.control.SetReadDeadline(time.Time{})
}

// cutOff makes the current read and all later ones return.
func (d *bodyDeadline) cutOff() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fixed {
		return nil
	}
	d.fixed = true
	return d.control.SetReadDeadline(time.Now())
}

// openUploadBody returns the file in a request, which is either the body or the only part of a
// form. Errors: invalid_request, file_too_large, upload_incomplete, upload_stalled.
func (a *api) openUploadBody(ctx context.Context, w http.ResponseWriter, r *http.Request) (*uploadBody, error) {
	q := readQuery(r, "fileName")
	name := unnamedFile
	if q.has("fileName") {
		name = q.values.Get("fileName")
		if !room.ValidFileName(name) {
			q.fault("fileName", "fileName", badFileName)
		}
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	body := &uploadBody{
		fileName: name, atMost: room.MaxMediaBytes, ctx: ctx, file: r.Body, left: room.MaxMediaBytes, pause: a.UploadPause,
		deadline: &bodyDeadline{control: http.NewResponseController(w)},
	}
	if r.ContentLength >= 0 {
		body.atMost = min(r.ContentLength, body.atMost)
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "multipart/form-data" {
		if r.ContentLength > room.MaxMediaBytes {
			return nil, errFileTooBig
		}
		return body, nil
	}
	return body, body.openForm(r, q.has("fileName"))
}

const badFileName = "must be 1 to 255 bytes of text on one line, without slashes"

// openForm moves to the file in a form. The form is read through a body of its own, to which all
// limits of a file apply.
func (b *uploadBody) openForm(r *http.Request, named bool) error {
	form := *b
	form.left += formOverhead
	r.Body = io.NopCloser(&form)
	parts, err := r.MultipartReader()
	if err != nil {
		return errIncomplete
	}
	part, err := parts.NextRawPart()
	if err != nil {
		return form.problem()
	}
	if part.FormName() != "file" || part.FileName() == "" {
		return invalid(fault{"/file", "single", "must be the only part of the form, and a file"})
	}
	if !named {
		b.fileName = part.FileName()
	}
	if !room.ValidFileName(b.fileName) {
		return invalid(fault{"/file", "fileName", badFileName})
	}
	b.file = part
	b.form = func() error {
		_, err := parts.NextRawPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			return invalid(fault{"/file", "single", "must be the only part of the form"})
		}
		return form.problem()
	}
	return nil
}

// problem returns the error to answer with if a form cannot be read.
func (b *uploadBody) problem() error {
	if b.failed != nil {
		return b.failed
	}
	return errIncomplete
}

// Read reads from the file, and sets the deadline for the read.
func (b *uploadBody) Read(p []byte) (int, error) {
	if err := b.deadline.set(b.pause); err != nil {
		return 0, b.fail(err)
	}
	n, err := b.file.Read(p)
	_ = b.deadline.set(0)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return 0, b.fail(errFileTooBig)
	case errors.Is(err, io.EOF) && b.form != nil:
		if err := b.form(); err != nil {
			return n, b.fail(err)
		}
		b.form = nil
		fallthrough
	case errors.Is(err, io.EOF):
		b.deadline.end()
		return n, io.EOF
	case err != nil:
		return n, b.fail(err)
	case b.ctx.Err() != nil:
		return n, b.fail(b.ctx.Err())
	}
	return n, nil
}

// fail records and returns the error to answer with when reading failed.
func (b *uploadBody) fail(err error) error {
	// net/http reads the rest of the body before it writes the reply. This bounds how long that
	// takes.
	_ = b.deadline.set(time.Second)
	var p *problem
	switch {
	case b.failed != nil:
	case errors.As(err, &p):
		b.failed = p
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		b.failed = errStalled
	case errors.Is(b.ctx.Err(), context.Canceled):
		b.failed = b.ctx.Err()
	default:
		b.failed = errIncomplete
	}
	return b.failed
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

// displayable contains the types that browsers may display: those that media.Probe recognizes, none
// of which can run scripts. All other files can only be saved.
var displayable = map[string]bool{
	media.JPEG: true, media.PNG: true, media.GIF: true, media.WebP: true, media.BMP: true, media.TIFF: true,
	media.MP3: true, media.M4A: true, media.MP4: true, media.QuickTime: true,
}

// downloadMedia sends a file or a range of it. It may take any time, as long as the client keeps
// reading.
func (a *api) downloadMedia(w http.ResponseWriter, r *http.Request) error {
	m, user, err := a.authorizeDownload(r)
	if err != nil {
		return err
	}
	release, err := a.acquireTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	if err := allowStreaming(w, r); err != nil {
		return err
	}
	content, size, err := a.Media.Open(r.Context(), string(m.ID))
	switch {
	case errors.Is(err, media.ErrNotStored):
		return a.lostMedia(r.Context(), user, m, err)
	case err != nil:
		return bucketProblem(r.Context(), err)
	}
	defer func() { _ = content.Close() }()
	if size != m.Size {
		return a.lostMedia(r.Context(), user, m, fmt.Errorf("%d bytes are stored", size))
	}

	contentType, disposition := m.ContentType, "inline"
	if !displayable[contentType] {
		contentType, disposition = media.Unknown, "attachment"
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": m.FileName}))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", a.resourcePolicy())
	// A browser may cache the bytes, but asks each time whether it may still use them. The reply is
	// a 304 without a body, or a problem if the message was recalled or the caller has left the
	// room.
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+string(m.ID)+`"`) // the bytes of a file never change
	out := &download{ResponseWriter: w, control: http.NewResponseController(w)}
	http.ServeContent(out, r, "", m.CreatedAt, content)
	if out.truncated(r) {
		a.lost.report(a.Log, m, errors.New("the bytes end early or cannot be read"))
		// The status and the length were already sent. Aborting the connection is the only way to
		// tell the client that the file is incomplete; a reply that ended normally would be taken
		// for the file.
		panic(http.ErrAbortHandler)
	}
	return out.rejection(h)
}

// authorizeDownload returns the file that a request may download, authenticated by the signature of
// its URL or by a session key. In both cases the session must be able to read the file now: a
// signature grants no more than the key of its session.
func (a *api) authorizeDownload(r *http.Request) (m room.StoredMedia, user room.UserID, err error) {
	id, badID := pathMediaID(r)
	q := readQuery(r, "expires", "session", "signature")
	expires := q.integer("expires", 0, math.MaxInt64, 0)
	var session room.Session
	if q.has("expires") || q.has("session") || q.has("signature") {
		if err := q.err(); err != nil {
			return m, "", err
		}
		session, err = a.signedSession(r.Context(), id, expires, q.values)
	} else {
		session, err = a.authenticateWithTimeout(r)
		if err == nil {
			err = errors.Join(badID, q.err())
		}
	}
	if err != nil {
		return m, "", err
	}
	m, err = withCallTimeout(r.Context(), func(ctx context.Context) (room.StoredMedia, error) {
		return a.Store.MediaFor(ctx, session.User.ID, id)
	})
	if err == nil && pathParam(r, "fileName") != m.FileName {
		err = room.ErrMediaNotFound // no link contains another name
	}
	return m, session.User.ID, err
}

// signedSession returns the session that a URL was signed for. Errors: room.ErrMediaURLRefused,
// also if the session has ended.
func (a *api) signedSession(ctx context.Context, id room.MediaID, expires int64, query url.Values) (room.Session, error) {
	now := time.Now()
	sessionID := room.SessionID(query.Get("session"))
	if err := a.mediaURLs.verify(id, sessionID, expires, query.Get("signature"), now); err != nil {
		return room.Session{}, err
	}
	session, err := withCallTimeout(ctx, func(ctx context.Context) (room.Session, error) { return a.Store.SessionByID(ctx, sessionID) })
	switch {
	case errors.Is(err, room.ErrUnauthenticated): // it ended so long ago that it was deleted
		return room.Session{}, room.ErrMediaURLRefused
	case err != nil:
		return room.Session{}, err
	case session.Usable(now) != nil:
		return room.Session{}, room.ErrMediaURLRefused
	}
	return session, nil
}

// resourcePolicy returns which pages may embed files: those of this server, and those of other
// origins if any may call the server.
func (a *api) resourcePolicy() string {
	if len(a.AllowedOrigins) > 0 {
		return "cross-origin"
	}
	return "same-origin"
}

// download writes a file with a deadline for each write, and suppresses the error replies of
// http.ServeContent. The deadline is cleared after each write, as conn.Send does, because reading
// the next bytes from a remote bucket may take longer.
type download struct {
	http.ResponseWriter
	control   *http.ResponseController
	rejected  int   // the status of a suppressed error reply; 0 if there was none
	announced int64 // length of the announced body in bytes
	written   int64
	failed    error // error of a write
}

func (d *download) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		d.rejected = status
		return
	}
	d.announced, _ = strconv.ParseInt(d.Header().Get("Content-Length"), 10, 64)
	d.ResponseWriter.WriteHeader(status)
}

// truncated reports whether less was sent than was announced, although the client has not
// disconnected.
func (d *download) truncated(r *http.Request) bool {
	return d.rejected == 0 && d.failed == nil && d.written < d.announced && r.Method != http.MethodHead && r.Context().Err() == nil
}

func (d *download) Write(p []byte) (int, error) {
	if d.rejected != 0 {
		return len(p), nil
	}
	n := 0
	if d.failed = d.control.SetWriteDeadline(time.Now().Add(downloadPause)); d.failed == nil {
		if n, d.failed = d.ResponseWriter.Write(p); d.failed == nil {
			d.failed = d.control.SetWriteDeadline(time.Time{})
		}
	}
	d.written += int64(n)
	return n, d.failed
}

// rejection returns the error to answer with, or nil if the request was not rejected.
func (d *download) rejection(h http.Header) error {
	if d.rejected == 0 {
		return nil
	}
	for _, name := range []string{"Content-Disposition", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges"} {
		h.Del(name)
	}
	switch d.rejected {
	case http.StatusRequestedRangeNotSatisfiable:
		return newProblem(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable", "The file has no such range: Content-Range contains its size.")
	case http.StatusPreconditionFailed:
		return newProblem(http.StatusPreconditionFailed, "precondition_failed", "The file does not match the precondition: download all of it.")
	}
	return fmt.Errorf("http.ServeContent: unexpected status %d", d.rejected)
}
