package handlers

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"parlor/room"
)

const (
	// formOverhead is how many bytes a form may have in addition to its file.
	formOverhead = 64 << 10
	// unnamedFile is the name of a file that is uploaded without one.
	unnamedFile = "file"
)

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

	mu    sync.Mutex // guards fixed and cut
	fixed bool       // the body has ended or was cut off
	cut   bool       // the body was cut off
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
	d.fixed, d.cut = true, true
	return d.control.SetReadDeadline(time.Now())
}

// wasCutOff reports whether cutOff had an effect. When net/http notices the deadline, it cancels
// this request and, over HTTP/1, those that follow on the connection. It may do so late, and even
// after the last bytes of the body have arrived.
func (d *bodyDeadline) wasCutOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// openUploadBody returns the file in a request, which is either the body or the only part of a
// form. Errors: unsupported_media_type, invalid_request, file_too_large, upload_incomplete,
// upload_stalled.
func (a *api) openUploadBody(ctx context.Context, w http.ResponseWriter, r *http.Request) (*uploadBody, error) {
	if err := refuseEncoded(r); err != nil {
		return nil, err
	}
	q := readQuery(r, "fileName")
	name := unnamedFile
	if q.has("fileName") {
		var bad *room.NameFault
		if name, bad = fileName(q.values.Get("fileName")); bad != nil {
			q.fault("fileName", bad.Rule, bad.Message)
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

// fileName returns the clean name of a file.
func fileName(text string) (string, *room.NameFault) {
	name, bad := room.CleanFileName(text)
	return cmp.Or(name, unnamedFile), bad
}

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
		var bad *room.NameFault
		if b.fileName, bad = fileName(part.FileName()); bad != nil {
			return invalid(fault{"/file", bad.Rule, "the name of the file " + bad.Message})
		}
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
	case b.deadline.wasCutOff(): // the request may be canceled, although its client is still there
		b.failed = errIncomplete
	case errors.Is(b.ctx.Err(), context.Canceled):
		b.failed = b.ctx.Err()
	default:
		b.failed = errIncomplete
	}
	return b.failed
}
