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

// mediaStore stores what is known about files.
type mediaStore interface {
	AddMedia(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error)
	FinishMedia(ctx context.Context, m room.Media) error
	AbandonMedia(ctx context.Context, id room.MediaID) error
	MediaByID(ctx context.Context, user room.UserID, ids []room.MediaID) (map[room.MediaID]room.StoredMedia, error)
	MediaFor(ctx context.Context, user room.UserID, id room.MediaID) (room.StoredMedia, error)
}

const (
	// uploadTimeout bounds an upload: 100 MB at 60 KB/s.
	uploadTimeout = 30 * time.Minute
	// defaultUploadPause is the longest silence in an upload, longer than a phone
	// takes from one network to another.
	defaultUploadPause = 60 * time.Second
	// downloadPause is how long a reader may take nothing.
	downloadPause = 60 * time.Second
	// formOverhead is what a form may have around its file.
	formOverhead = 64 << 10
	// unnamedFile is what a file is called whose sender does not say.
	unnamedFile = "file"
)

var (
	errFileTooBig = newProblem(http.StatusRequestEntityTooLarge, "file_too_large", "The file is larger than 100 MB: upload a smaller one.")
	errStalled    = newProblem(http.StatusRequestTimeout, "upload_stalled", "The upload stalled or took too long: upload the file again.")
	errIncomplete = newProblem(http.StatusBadRequest, "upload_incomplete", "The body ended before the file did: upload the file again.")
	errNoRoom     = newProblem(http.StatusInsufficientStorage, "storage_full", "The server has no space left for files: try again later.")
)

type mediaReply struct {
	Media     room.Media `json:"media"`
	SignedURL string     `json:"signedURL"`
	ExpiresAt time.Time  `json:"expiresAt"`
}

// answerMedia tells a session of a file, with a URL that opens it without a key.
func (a *api) answerMedia(w http.ResponseWriter, r *http.Request, status int, session room.SessionID, m room.Media) error {
	m.URL = mediaPath(m.ID, m.FileName)
	reply := mediaReply{Media: m}
	signed, expires := a.mediaURLs.sign(m, session, time.Now())
	reply.SignedURL, reply.ExpiresAt = a.link(r, signed), expires
	return a.answer(w, r, status, reply)
}

// uploadMedia stores a file as it comes. It is no call that callTimeout bounds, but
// each of its questions to the database is.
func (a *api) uploadMedia(w http.ResponseWriter, r *http.Request) error {
	session, err := a.authenticateShortly(r)
	if err != nil {
		return err
	}
	if err := session.Grants.CheckMedia(); err != nil {
		return err
	}
	free, err := a.takeTransfer(r)
	if err != nil {
		return err
	}
	defer free()
	ctx, cancel := context.WithTimeout(r.Context(), uploadTimeout)
	defer cancel()
	allowUpload(w)
	body, err := a.uploadBody(ctx, w, r)
	if err != nil {
		return err
	}
	if err := a.Media.CheckSpace(body.atMost); err != nil {
		return unavailable(ctx, err)
	}
	id, err := shortly(ctx, func(ctx context.Context) (room.MediaID, error) {
		return a.Store.AddMedia(ctx, session.User.ID, body.fileName, body.atMost)
	})
	if err != nil {
		return err
	}
	m, err := a.saveMedia(ctx, id, body)
	if err != nil {
		// Nothing is kept of it. Where even that fails, the sweep will see to it; and where
		// the bucket has failed, which may have got all bytes before it did.
		drop := a.Store.AbandonMedia
		if body.failed != nil || errors.Is(err, media.ErrFull) {
			drop = a.Store.DeleteMedia
		}
		dropped := doShortly(context.WithoutCancel(ctx), func(ctx context.Context) error { return drop(ctx, id) })
		if dropped != nil {
			a.Log.Warn("an upload that failed is left to the sweep", "requestID", requestID(ctx), "error", dropped)
		}
		return err
	}
	return a.answerMedia(w, r, http.StatusCreated, session.ID, m)
}

// saveMedia stores the bytes of a file, finds out what it is, and lets it be seen.
func (a *api) saveMedia(ctx context.Context, id room.MediaID, body *uploadBody) (room.Media, error) {
	size, info, err := a.Media.Save(ctx, string(id), body)
	switch {
	case err == nil:
	case body.failed != nil:
		return room.Media{}, body.failed
	default:
		return room.Media{}, unavailable(ctx, err)
	}
	m := mediaOf(id, body.fileName, size, info)
	err = doShortly(ctx, func(ctx context.Context) error { return a.Store.FinishMedia(ctx, m) })
	if err != nil {
		// Whether the row says so is not known. If it does, the file is whole but
		// for its bytes, and nobody knows its name; the sweep takes both.
		return room.Media{}, errors.Join(err, a.Media.Delete(context.WithoutCancel(ctx), string(id)))
	}
	return m, nil
}

// mediaOf is a stored file as its bytes tell.
func mediaOf(id room.MediaID, fileName string, size int64, info media.Info) room.Media {
	return room.Media{
		ID: id, FileName: fileName, Size: size, ContentType: info.ContentType, Width: info.Width, Height: info.Height,
		Duration: float64(info.Duration.Milliseconds()) / 1000, VideoCodec: info.VideoCodec, AudioCodec: info.AudioCodec,
	}
}

// unavailable is a bucket's failure, as callers are told of it.
func unavailable(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, media.ErrFull):
		return fmt.Errorf("%w (%w)", errNoRoom, err)
	}
	return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
}

// shortly asks the database within the time of a call.
func shortly[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	return ask(ctx)
}

// doShortly is shortly where there is no answer but an error.
func doShortly(ctx context.Context, do func(context.Context) error) error {
	_, err := shortly(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) })
	return err
}

func (a *api) authenticateShortly(r *http.Request) (room.Session, error) {
	return shortly(r.Context(), func(ctx context.Context) (room.Session, error) { return a.authenticate(r.WithContext(ctx)) })
}

// uploadBody reads the file of an upload, and knows why that failed.
type uploadBody struct {
	fileName string
	atMost   int64 // bytes, as far as the request tells

	ctx      context.Context // of the one call that the body is of
	file     io.Reader
	left     int64 // bytes that may come
	pause    time.Duration
	deadline *bodyDeadline
	form     func() error // looks for the end of the form; nil where there is none
	failed   error        // a problem for the caller
}

// bodyDeadline is the deadline for reading a request's body. It is set for each
// read and cleared after it, because net/http ends the body of an HTTP/2 request
// as soon as the deadline passes, whether or not anything is being read: a file
// would be lost when storing a piece of it takes longer than a client may pause.
type bodyDeadline struct {
	control *http.ResponseController

	mu    sync.Mutex // guards fixed
	fixed bool       // the body has ended, or was cut off
}

// set moves the deadline to a time from now; 0 clears it. It changes nothing once
// the body has ended or was cut off.
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

// end clears the deadline for good. The server reads on after the body, to see
// whether the client hangs up: a deadline would end the connection for the
// requests that follow.
func (d *bodyDeadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fixed {
		return
	}
	d.fixed = true
	_ = d.control.SetReadDeadline(time.Time{})
}

// cutOff makes a read that is under way return, and every later one.
func (d *bodyDeadline) cutOff() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fixed {
		return nil
	}
	d.fixed = true
	return d.control.SetReadDeadline(time.Now())
}

// uploadBody finds the file in a request: it is the body, or the one part of a
// form. Errors: invalid_request, file_too_large, upload_incomplete,
// upload_stalled.
func (a *api) uploadBody(ctx context.Context, w http.ResponseWriter, r *http.Request) (*uploadBody, error) {
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

// openForm goes to the file of a form. The form is read through a body of its own,
// which has all bounds of a file.
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

// problem is what a caller is told where a form cannot be read.
func (b *uploadBody) problem() error {
	if b.failed != nil {
		return b.failed
	}
	return errIncomplete
}

// Read reads of the file, with a deadline that moves along with it.
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

// fail keeps why the file cannot be read, as the caller is told of it.
func (b *uploadBody) fail(err error) error {
	// The server looks for what is left of the body before it answers: not for long.
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

// parseMediaID is the file of a name. What no file is called is not found.
func parseMediaID(name string) (room.MediaID, error) {
	if !validUUID(name) {
		return "", room.ErrMediaNotFound
	}
	return room.MediaID(name), nil
}

// pathMediaID is the file that the path names.
func pathMediaID(r *http.Request) (room.MediaID, error) { return parseMediaID(pathParam(r, "mediaID")) }

// namedMedia is a file of which no more is known than what a request calls it.
func namedMedia(name *string) *room.Media {
	if name == nil {
		return nil
	}
	return &room.Media{ID: room.MediaID(*name)}
}

// attach puts what is known of the files that a content names into it. Their sender
// is their owner, or may read them where they are only quoted. Errors:
// room.ErrMediaNotFound and those of room.MessageKind.Takes.
func (a *api) attach(ctx context.Context, sender room.UserID, content *room.Content) error {
	ids := content.MediaIDs()
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		if _, err := parseMediaID(string(id)); err != nil {
			return err
		}
	}
	known, err := a.Store.MediaByID(ctx, sender, ids)
	if err != nil {
		return err
	}
	if content.Media != nil && known[content.Media.ID].Owner != sender {
		return room.ErrMediaNotFound
	}
	return describe(content, known)
}

// describe puts known files into a content and all that it quotes.
func describe(content *room.Content, known map[room.MediaID]room.StoredMedia) error {
	if content.Media != nil {
		m, ok := known[content.Media.ID]
		if !ok {
			return room.ErrMediaNotFound
		}
		if err := content.Kind.Takes(m.Media); err != nil {
			return err
		}
		m.URL = mediaPath(m.ID, m.FileName)
		content.Media = &m.Media
	}
	for i := range content.MessageList {
		if err := describe(&content.MessageList[i].Content, known); err != nil {
			return err
		}
	}
	return nil
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

// shown is what browsers may show: the types that the prober knows, of which none
// can run scripts. Everything else is only ever saved.
var shown = map[string]bool{
	media.JPEG: true, media.PNG: true, media.GIF: true, media.WebP: true, media.BMP: true, media.TIFF: true,
	media.MP3: true, media.M4A: true, media.MP4: true, media.QuickTime: true,
}

// downloadMedia sends a file, or a piece of it. It takes as long as its reader
// does, as long as that reads at all.
func (a *api) downloadMedia(w http.ResponseWriter, r *http.Request) error {
	m, user, err := a.openedMedia(r)
	if err != nil {
		return err
	}
	free, err := a.takeTransfer(r)
	if err != nil {
		return err
	}
	defer free()
	if err := untimed(w, r); err != nil {
		return err
	}
	bytes, size, err := a.Media.Open(r.Context(), string(m.ID))
	switch {
	case errors.Is(err, media.ErrNotStored):
		return a.lostMedia(r.Context(), user, m, err)
	case err != nil:
		return unavailable(r.Context(), err)
	}
	defer func() { _ = bytes.Close() }()
	if size != m.Size {
		return a.lostMedia(r.Context(), user, m, fmt.Errorf("%d bytes are stored", size))
	}

	contentType, disposition := m.ContentType, "inline"
	if !shown[contentType] {
		contentType, disposition = media.Unknown, "attachment"
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": m.FileName}))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", a.resourcePolicy())
	// A browser may keep the bytes, and asks each time whether it may still show
	// them: the answer is a 304 without a body, or a problem where the message was
	// recalled or the caller has left the room.
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+string(m.ID)+`"`) // its bytes never change
	out := &download{ResponseWriter: w, control: http.NewResponseController(w)}
	http.ServeContent(out, r, "", m.CreatedAt, bytes)
	if out.cutShort(r) {
		a.lost.note(a.Log, m, errors.New("the bytes ended early, or could not be read"))
		// The status and the length are on their way: all that can still be said is that
		// this is not the file. A reply that ended in order would be taken for it.
		panic(http.ErrAbortHandler)
	}
	return out.refusal(h)
}

// openedMedia is the file that a request opens, by the signature of its URL or by
// a session's key. Either way it is for those who may read it now: a signature
// stands for its session and gives no more rights than its key would.
func (a *api) openedMedia(r *http.Request) (m room.StoredMedia, user room.UserID, err error) {
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
		session, err = a.authenticateShortly(r)
		if err == nil {
			err = errors.Join(badID, q.err())
		}
	}
	if err != nil {
		return m, "", err
	}
	m, err = shortly(r.Context(), func(ctx context.Context) (room.StoredMedia, error) {
		return a.Store.MediaFor(ctx, session.User.ID, id)
	})
	if err == nil && pathParam(r, "fileName") != m.FileName {
		err = room.ErrMediaNotFound // nobody's link shows another name
	}
	return m, session.User.ID, err
}

// signedSession is the session that a URL was signed for. Errors:
// room.ErrMediaURLRefused, also where the session is over.
func (a *api) signedSession(ctx context.Context, id room.MediaID, expires int64, query url.Values) (room.Session, error) {
	now := time.Now()
	sessionID := room.SessionID(query.Get("session"))
	if err := a.mediaURLs.verify(id, sessionID, expires, query.Get("signature"), now); err != nil {
		return room.Session{}, err
	}
	session, err := shortly(ctx, func(ctx context.Context) (room.Session, error) { return a.Store.SessionByID(ctx, sessionID) })
	switch {
	case errors.Is(err, room.ErrUnauthenticated): // it ended so long ago that it is forgotten
		return room.Session{}, room.ErrMediaURLRefused
	case err != nil:
		return room.Session{}, err
	case session.Usable(now) != nil:
		return room.Session{}, room.ErrMediaURLRefused
	}
	return session, nil
}

// resourcePolicy says whose pages may show files: this server's, and others' only
// where some may call at all.
func (a *api) resourcePolicy() string {
	if len(a.AllowedOrigins) > 0 {
		return "cross-origin"
	}
	return "same-origin"
}

// download writes a file, with a deadline for each write, and holds back what
// http.ServeContent says of a request that it refuses. The deadline is cleared
// after each write, as conn.Send does: reading the next bytes from a bucket far
// away may take longer.
type download struct {
	http.ResponseWriter
	control  *http.ResponseController
	refused  int
	promised int64 // bytes, where a body was announced
	written  int64
	failed   error // of a write
}

func (d *download) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		d.refused = status
		return
	}
	d.promised, _ = strconv.ParseInt(d.Header().Get("Content-Length"), 10, 64)
	d.ResponseWriter.WriteHeader(status)
}

// cutShort reports whether less was sent than was announced, and not for the
// reader's fault.
func (d *download) cutShort(r *http.Request) bool {
	return d.refused == 0 && d.failed == nil && d.written < d.promised && r.Method != http.MethodHead && r.Context().Err() == nil
}

func (d *download) Write(p []byte) (int, error) {
	if d.refused != 0 {
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

// refusal is what the caller is told instead.
func (d *download) refusal(h http.Header) error {
	if d.refused == 0 {
		return nil
	}
	for _, name := range []string{"Content-Disposition", "Content-Length", "ETag", "Last-Modified", "Accept-Ranges"} {
		h.Del(name)
	}
	switch d.refused {
	case http.StatusRequestedRangeNotSatisfiable:
		return newProblem(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable", "The file has no such range: Content-Range contains its size.")
	case http.StatusPreconditionFailed:
		return newProblem(http.StatusPreconditionFailed, "precondition_failed", "The file does not match the precondition: download all of it.")
	}
	return fmt.Errorf("serving a file ends with status %d", d.refused)
}
