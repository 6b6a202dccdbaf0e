package handlers

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	tusd "github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/exp/slog"

	"parlor/room"
)

// Resumable uploads implement tus 1.0 (https://tus.io/protocols/resumable-upload). tusd implements
// the protocol; storage, authorization and error texts are Parlor's.

const (
	uploadsPath = "/v1/media/uploads"
	// lockTimeout is how long a request waits until another request of the same upload has stored
	// what it received and stopped.
	lockTimeout = 10 * time.Second
	// storeTimeout is how long a request may take to store its last bytes after the client has
	// disconnected.
	storeTimeout = 10 * time.Second
)

// The headers that pages of other origins may send and read.
var (
	tusRequestHeaders = []string{"Tus-Resumable", "Upload-Length", "Upload-Metadata", "Upload-Offset"}
	tusReplyHeaders   = []string{"Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Length", "Upload-Metadata", "Upload-Offset"}
)

var (
	errTusVersion = newProblem(http.StatusPreconditionFailed, "tus_version", "Tus-Resumable must be 1.0.0: use a client of tus 1.0.")
	errTooLong    = newProblem(http.StatusRequestEntityTooLarge, "upload_too_long", "The body has more bytes than Upload-Length announced: start a new upload with the right length.")
	// After a 409, tus clients ask for the offset and continue; after a 408, they give up.
	errInterrupted = newProblem(http.StatusConflict, "upload_interrupted", "The upload was interrupted: get its offset with getUploadOffset, and continue from there.")
)

// mountUploads adds the routes of tus.
func (a *api) mountUploads(r chi.Router) {
	composer := tusd.NewStoreComposer()
	composer.UseCore(uploads{a})
	composer.UseTerminater(uploads{a})
	composer.UseLocker(&uploadLocker{held: make(map[string]*uploadLock)})
	tus, err := tusd.NewUnroutedHandler(tusd.Config{
		StoreComposer: composer, BasePath: uploadsPath, MaxSize: room.MaxMediaBytes,
		Cors:               &tusd.CorsConfig{Disable: true}, // Parlor's own CORS rules apply
		Logger:             slog.New(discardHandler{}),      // observe and answerError log instead
		AcquireLockTimeout: min(lockTimeout, a.UploadPause), NetworkTimeout: a.UploadPause,
		GracefulRequestCompletionTimeout: storeTimeout,
	})
	if err != nil {
		panic(err) // cannot happen: the configuration is constant
	}
	r.Options(uploadsPath, a.serveUpload(tus, func(http.ResponseWriter, *http.Request) {}))
	r.Post(uploadsPath, a.serveUpload(tus, tus.PostFile))
	r.Head(uploadsPath+"/{mediaID}", a.serveUpload(tus, tus.HeadFile))
	r.Patch(uploadsPath+"/{mediaID}", a.serveUpload(tus, tus.PatchFile))
	r.Delete(uploadsPath+"/{mediaID}", a.serveUpload(tus, tus.DelFile))
}

// serveUpload serves a request with tusd, and replaces its error replies.
func (a *api) serveUpload(tus *tusd.UnroutedHandler, serve http.HandlerFunc) http.HandlerFunc {
	middleware := tus.Middleware(serve)
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), uploadTimeout)
		defer cancel()
		c, path, err := a.authorizeUpload(r)
		if err != nil {
			return err
		}
		if r.Method == http.MethodPatch || r.Method == http.MethodHead { // these open files
			release, err := a.acquireTransfer(r)
			if err != nil {
				return err
			}
			defer release()
		}
		extendUploadDeadline(w)
		empty := r.Body == nil || r.Body == http.NoBody
		deadline := &bodyDeadline{control: http.NewResponseController(w), fixed: empty}
		c.reply = &uploadReply{ResponseWriter: w, links: a.links, method: r.Method, deadline: deadline}
		c.body = &uploadBody{ctx: ctx, file: r.Body, left: room.MaxMediaBytes + 1, pause: a.UploadPause, deadline: deadline}

		forTus := r.Clone(context.WithValue(ctx, uploadCallKey{}, c))
		forTus.URL.Path = path
		forTus.Header.Del("X-HTTP-Method-Override") // the route has already been chosen by the method
		if !empty {
			forTus.Body = struct {
				io.Reader
				io.Closer
			}{c.body, r.Body}
		}
		middleware.ServeHTTP(c.reply, forTus)
		if deadline.wasCutOff() {
			closeAfterReply(w, r)
		}
		if c.created != nil && c.reply.rejected != 0 { // the client does not learn its ID
			if err := c.created.Terminate(ctx); err != nil {
				a.Log.Warn("upload cleanup failed: file left for the sweep", "requestID", requestID(ctx), "error", err)
			}
		}
		return c.err()
	})
}

// authorizeUpload authenticates a request of an upload. It returns the call, and the path in which
// tusd looks for the ID.
func (a *api) authorizeUpload(r *http.Request) (c *uploadCall, path string, err error) {
	c = &uploadCall{}
	if r.Method == http.MethodOptions {
		return c, "/", nil
	}
	session, err := a.authenticateWithTimeout(r)
	if err != nil {
		return nil, "", err
	}
	var read []input
	if r.Method == http.MethodPost || r.Method == http.MethodPatch {
		read = []input{inBody}
	}
	if err := refuseUnread(r, read...); err != nil {
		return nil, "", err
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPatch { // getting the offset and deleting need no grant
		if err := session.Grants.CheckMedia(); err != nil {
			return nil, "", err
		}
	}
	c.owner = session.User.ID
	switch r.Method {
	case http.MethodPost:
		c.fileName, err = uploadName(r.Header)
		return c, "/", err
	case http.MethodPatch:
		if err := refuseEncoded(r); err != nil {
			return nil, "", err
		}
	}
	id, err := pathMediaID(r)
	return c, "/" + string(id), err
}

// uploadName returns the name of the file from the metadata of a request that creates an upload.
// Other metadata is ignored, because the bytes determine the type.
func uploadName(h http.Header) (string, error) {
	for _, unknown := range []string{"Upload-Concat", "Upload-Defer-Length"} {
		if h.Get(unknown) != "" {
			return "", invalid(fault{"header/" + unknown, "extension", "belongs to an extension that is not in Tus-Extension"})
		}
	}
	name, seen := unnamedFile, make(map[string]bool)
	fields := h.Values("Upload-Metadata")
	if len(fields) == 0 || fields[0] == "" {
		return name, nil
	}
	for pair := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		key, encoded, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case err != nil || key == "" || seen[key]:
			return "", invalid(fault{"header/Upload-Metadata", "metadata", "must be comma-separated keys, each of them once and with a value in Base64"})
		case key == "filename":
			var bad *room.NameFault
			if name, bad = fileName(string(value)); bad != nil {
				return "", invalid(fault{"header/Upload-Metadata", bad.Rule, "filename " + bad.Message})
			}
		}
		seen[key] = true
	}
	return name, nil
}

// uploadCall is the state of one request of an upload, which tusd passes to uploads in the context.
type uploadCall struct {
	owner    room.UserID
	fileName string // of a new upload
	body     *uploadBody
	reply    *uploadReply
	created  *upload // the upload that this request created
	failed   error   // the first error of the store, which tusd would reduce to its text
}

type uploadCallKey struct{}

func uploadCallOf(ctx context.Context) *uploadCall {
	c, _ := ctx.Value(uploadCallKey{}).(*uploadCall)
	return c
}

// fail records the first error, for the reply.
func (c *uploadCall) fail(err error) error {
	if c.failed == nil {
		c.failed = err
	}
	return err
}

// err returns the error to answer with in place of tusd's error reply, or nil if there was none.
func (c *uploadCall) err() error {
	if c.reply.rejected == 0 {
		return nil
	}
	h := c.reply.Header()
	for _, name := range []string{"Content-Length", "Upload-Offset"} { // tusd set these for its own reply
		h.Del(name)
	}
	switch {
	case c.failed != nil:
		return c.failed
	case errors.Is(c.body.failed, errStalled), errors.Is(c.body.failed, errIncomplete):
		return errInterrupted
	case c.body.failed != nil:
		return c.body.failed
	}
	code, _, _ := strings.Cut(c.reply.text, ":")
	switch code {
	case tusd.ErrUnsupportedVersion.ErrorCode:
		return errTusVersion
	case tusd.ErrMaxSizeExceeded.ErrorCode:
		return errFileTooBig
	case tusd.ErrSizeExceeded.ErrorCode:
		return errTooLong
	case tusd.ErrInvalidContentType.ErrorCode:
		return notOfType("application/offset+octet-stream")
	case tusd.ErrInvalidUploadLength.ErrorCode, tusd.ErrNotImplemented.ErrorCode:
		return invalid(fault{"header/Upload-Length", "length", "must be the size of the file in bytes, sent when the upload is created"})
	case tusd.ErrInvalidOffset.ErrorCode:
		return invalid(fault{"header/Upload-Offset", "offset", "must be the number of bytes that are stored"})
	case tusd.ErrMismatchOffset.ErrorCode:
		return room.ErrUploadOffset
	case tusd.ErrUploadInterrupted.ErrorCode:
		return errInterrupted
	}
	return errors.New("tusd: " + c.reply.text)
}

// uploadReply passes on tusd's replies, except for its error replies.
type uploadReply struct {
	http.ResponseWriter
	links    links
	method   string
	deadline *bodyDeadline
	rejected int    // the status of a suppressed error reply; 0 if there was none
	text     string // the body of that reply
}

func (u *uploadReply) WriteHeader(status int) {
	h := u.Header()
	switch {
	case status >= http.StatusBadRequest:
		u.rejected = status
		return
	case u.method == http.MethodHead:
		h.Del("Content-Length") // it would be that of a GET, which does not exist
	case h.Get("Location") != "":
		// tusd builds it from the scheme, host and path that it sees, which may differ from those
		// that the client uses.
		_, id, _ := strings.Cut(h.Get("Location"), uploadsPath+"/")
		h.Set("Location", u.links.path(uploadsPath+"/"+id))
	}
	h.Set("Cache-Control", "no-store")
	u.ResponseWriter.WriteHeader(status)
}

func (u *uploadReply) Write(p []byte) (int, error) {
	if u.rejected != 0 {
		u.text += string(p)
		return len(p), nil
	}
	return u.ResponseWriter.Write(p)
}

// SetReadDeadline ignores tusd's deadlines, except for one that is not in the future, with which
// tusd interrupts an upload. The others would keep running while bytes are stored; uploadBody sets
// its own for each read.
func (u *uploadReply) SetReadDeadline(t time.Time) error {
	if t.After(time.Now()) {
		return nil
	}
	return u.deadline.cutOff()
}

// SetWriteDeadline does nothing: a reply consists of a few headers, and the time to assemble a file
// is not the client's fault.
func (u *uploadReply) SetWriteDeadline(time.Time) error { return nil }

func (u *uploadReply) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// discardHandler discards tusd's log messages.
type discardHandler struct{}

func (discardHandler) Enabled(context.Context, slog.Level) bool  { return false }
func (discardHandler) Handle(context.Context, slog.Record) error { return nil }
func (s discardHandler) WithAttrs([]slog.Attr) slog.Handler      { return s }
func (s discardHandler) WithGroup(string) slog.Handler           { return s }

// uploadLocker allows one request per upload in this process. A new request asks the old one to
// stop, because the connection of the old one may be dead without the server knowing. Between
// processes, the store decides for each part.
type uploadLocker struct {
	mu   sync.Mutex // guards held
	held map[string]*uploadLock
}

type uploadLock struct {
	locker   *uploadLocker
	id       string
	stop     func()
	released chan struct{} // closed by Unlock
}

func (l *uploadLocker) NewLock(id string) (tusd.Lock, error) {
	return &uploadLock{locker: l, id: id, released: make(chan struct{})}, nil
}

func (k *uploadLock) Lock(ctx context.Context, stop func()) error {
	k.stop = stop
	for {
		k.locker.mu.Lock()
		holder := k.locker.held[k.id]
		if holder == nil {
			k.locker.held[k.id] = k
		}
		k.locker.mu.Unlock()
		if holder == nil {
			return nil
		}
		holder.stop()
		select {
		case <-holder.released:
		case <-ctx.Done():
			return uploadCallOf(ctx).fail(errInterrupted)
		}
	}
}

func (k *uploadLock) Unlock() error {
	k.locker.mu.Lock()
	defer k.locker.mu.Unlock()
	delete(k.locker.held, k.id)
	close(k.released)
	return nil
}
