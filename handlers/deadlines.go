package handlers

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	// defaultBodyTimeout bounds how long the body of a call may take. The largest
	// one comes in this time at 26 KB/s.
	defaultBodyTimeout = 10 * time.Second
	// unreadBodyTimeout is how long the rest of a body may take that the handler has not
	// read. Over HTTP/1.1 the reply waits for it.
	unreadBodyTimeout = time.Second
	// replyTimeout bounds how long a client may take to read a reply, beside the
	// time of the call itself. The largest replies have some hundred kilobytes.
	replyTimeout = 30 * time.Second
)

var errBodyTimeout = newProblem(http.StatusRequestTimeout, "body_timeout", "The body did not arrive in time: send it again.")

// deadlines bounds how long a request may keep its connection waiting, before
// anything is known of its caller: the body has BodyTimeout to come, and the reply
// has to be read. net/http has no deadline of its own for either, and reads what
// is left of a body before it writes a reply, whatever the handler did.
//
// Handlers that take longer move the deadlines: uploads and downloads as their
// bytes go, streams take them away (untimed).
func (a *api) deadlines(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		now := time.Now()
		// Both fail only where the connection is gone. net/http takes the write
		// deadline away after the reply.
		_ = control.SetWriteDeadline(now.Add(callTimeout + replyTimeout))
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = control.SetReadDeadline(now.Add(a.BodyTimeout))
		body := &timedBody{ReadCloser: r.Body}
		r.Body = body
		next.ServeHTTP(w, r)
		if !body.complete.Load() { // the handler wants no more of it, or has waited long enough
			_ = control.SetReadDeadline(time.Now().Add(unreadBodyTimeout))
		}
	})
}

// timedBody knows whether the body has come. net/http takes the deadline away
// then, by itself, as it reads on to see whether the client hangs up.
type timedBody struct {
	io.ReadCloser
	complete atomic.Bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.complete.Store(true)
	}
	return n, err
}

// allowStreaming lets a reply last, once the body of the request has come, which should
// not be there and would otherwise be read without end.
// Errors: body_timeout, body_too_large.
func allowStreaming(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength != 0 {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBodyBytes)); err != nil {
			return bodyProblem(err)
		}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	return nil
}

// extendUploadDeadline gives the reply to an upload the time that the upload may take. The
// body's deadline moves along with its bytes (uploadBody).
func extendUploadDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(uploadTimeout + assembleTimeout + replyTimeout))
}

// bodyProblem is what a caller is told whose body could not be read.
func bodyProblem(err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		return errBodyTooBig
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodyTimeout
	}
	return malformed("The body ended too early: send it again.")
}
