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
	// defaultBodyTimeout is how long receiving the body of a call may take. At 26 KB/s, that is
	// enough for the largest one.
	defaultBodyTimeout = 10 * time.Second
	// unreadBodyTimeout is how long receiving the part of a body that the handler has not read may
	// take. Over HTTP/1.1 the reply waits for it.
	unreadBodyTimeout = time.Second
	// replyTimeout is how long a client may take to read a reply, in addition to the time of the
	// call itself. The largest replies have some hundred kilobytes.
	replyTimeout = 30 * time.Second
)

var errBodyTimeout = newProblem(http.StatusRequestTimeout, "body_timeout", "The body did not arrive in time: send it again.")

// deadlines limits how long a client may take to send the body of a request (BodyTimeout) and to
// read the reply. It applies before the caller is authenticated. net/http sets neither deadline,
// and reads the rest of a body before it writes a reply, even if the handler ignored the body.
//
// Handlers that take longer extend the deadlines: uploads and downloads with each part that they
// transfer; streams clear them (allowStreaming).
func (a *api) deadlines(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		now := time.Now()
		// Setting a deadline fails only if the connection is closed. net/http clears the write
		// deadline after the reply.
		_ = control.SetWriteDeadline(now.Add(callTimeout + replyTimeout))
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		_ = control.SetReadDeadline(now.Add(a.BodyTimeout))
		body := &timedBody{ReadCloser: r.Body}
		r.Body = body
		next.ServeHTTP(w, r)
		if !body.complete.Load() { // the handler has not read it all
			_ = control.SetReadDeadline(time.Now().Add(unreadBodyTimeout))
		}
	})
}

// timedBody records whether the whole body was read. net/http then clears the read deadline itself,
// because it continues to read in order to notice when the client closes the connection.
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

// allowStreaming clears the write deadline of a reply that is a stream.
func allowStreaming(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

// extendUploadDeadline extends the write deadline by the time that an upload may take. uploadBody
// extends the read deadline as bytes arrive.
func extendUploadDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(uploadTimeout + assembleTimeout + replyTimeout))
}

// bodyProblem returns the problem for a body that could not be read.
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
