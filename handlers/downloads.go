package handlers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"parlor/media"
	"parlor/room"
)

// downloadPause is how long a client may read nothing of a download.
const downloadPause = 60 * time.Second

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
	allowStreaming(w)
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
	h.Set("Content-Disposition", contentDisposition(disposition, m.FileName))
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
	if err == nil {
		err = refuseUnread(r, inQuery)
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
