package handlers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"

	"parlor/hub"
	"parlor/room"
)

// streamStore has the store methods for streams.
type streamStore interface {
	OpenStream(ctx context.Context, id room.SessionID, epoch string, cursor []room.Position) (room.OpenedStream, error)
}

// maxReconnectDelay is the longest time after which a client is asked to reconnect if it is not
// known when the server can serve it again. It is half of the shortest memberTimeout, so that the
// client is back before it is removed from its rooms.
const maxReconnectDelay = room.MinMemberTimeout / 2

// streamEvents opens and serves the session's stream, or with the parameter wait its beginning.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request) {
	o, err := a.openStream(w, r)
	switch {
	case err != nil:
	case o.wait > 0:
		err = a.servePoll(w, r, o)
	default:
		a.serveStream(w, r, o)
	}
	if err != nil {
		a.answerStreamError(w, r, err)
	}
}

// answerStreamError answers a request for a stream with an error. A native EventSource that should
// retry later gets a reconnect event instead, because any status other than 200 makes it give up
// (WHATWG HTML, "fail the connection").
func (a *api) answerStreamError(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	query := r.URL.Query()
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && query.Has("stream_key") && !query.Has("wait") {
		a.answerReconnect(w, r, max(p.retryAfter, 1))
		return
	}
	a.answerError(w, r, err)
}

// openedStream is a stream that has yet to be served. It occupies a slot until release is called.
// A stream over HTTP/2 keeps the goroutine of its request, and with it the stack frames of all
// functions that wait for it: so openStream returns before the stream is served.
type openedStream struct {
	stream  *hub.Stream
	start   *hub.StreamStart
	wait    time.Duration // how long a poll waits; 0 for a stream
	release func()
}

// openStream authenticates the session of a request for a stream, and opens the stream.
func (a *api) openStream(w http.ResponseWriter, r *http.Request) (*openedStream, error) {
	q := readQuery(r, "stream_key", "stream_ticket", "last_event_id", "wait")
	wait := time.Duration(q.integer("wait", minWait, maxWait, 0)) * time.Second
	// The stream itself has no time limit, but everything before it has.
	ctx, cancel := context.WithTimeoutCause(r.Context(), callTimeout, errCallTimeout)
	defer cancel()
	session, err := a.authenticateStream(r.WithContext(ctx), q.values.Get("stream_key"), q.values.Get("stream_ticket"))
	if err != nil {
		return nil, err
	}
	if err := q.err(); err != nil { // with a misspelt last_event_id the client would miss events unnoticed
		return nil, err
	}
	if err := refuseUnread(r, inQuery); err != nil {
		return nil, err
	}
	allowStreaming(w)
	release, err := a.acquireStream(r, session)
	if err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened {
			release()
		}
	}()
	start := &hub.StreamStart{TokenExpiresAt: session.TokenExpiresAt, RequestID: requestID(r.Context())}
	var epoch string
	epoch, start.Cursor, start.CursorInvalid = lastEventID(r, q)
	// The stream is registered before the session's rooms are read, so that no change in between is
	// missed.
	stream, err := a.Hub.OpenStream(session.ID, session.User.ID, session.Inbox)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
	}
	if start.OpenedStream, err = a.Store.OpenStream(ctx, session.ID, epoch, start.Cursor); err != nil {
		stream.Abort()
		return nil, err
	}
	start.Missed = a.missedStatuses(session.User.ID, start.StatusesSince, wait > 0)
	a.StreamOpens(r.Context())
	opened = true
	return &openedStream{stream, start, wait, release}, nil
}

// lastEventID returns the cursor that the client sends, and its epoch. EventSource sends it in the
// header, and programs can send it in the query.
func lastEventID(r *http.Request, q *query) (epoch string, c hub.Cursor, invalid bool) {
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = q.values.Get("last_event_id")
	}
	if id == "" {
		return "", nil, false
	}
	epoch, c, err := hub.ParseID(id)
	return epoch, c, err != nil
}

// serveStream serves the stream. If possible, which means HTTP/1.1 on Linux, it hands the
// connection over to the hub and returns; otherwise, as with HTTP/2, whose bytes only net/http can
// write, it returns when the stream has ended.
func (a *api) serveStream(w http.ResponseWriter, r *http.Request, o *openedStream) {
	setStreamHeader(w.Header())
	w.Header().Add("Vary", "Accept-Encoding")
	if o.start.Gzip = a.CompressStreams && acceptsGzip(r.Header); o.start.Gzip {
		w.Header().Set("Content-Encoding", "gzip")
	}
	c := responseConn{w, http.NewResponseController(w)}
	if hub.CanTakeOver && r.ProtoMajor == 1 && (r.TLS == nil || a.TakesTLS) && a.handOver(r, o, c) {
		return
	}
	defer o.release()
	w.WriteHeader(http.StatusOK)
	a.logStart(r, o.stream.Serve(r.Context(), o.start, c))
}

// handOver hands the connection of a stream over to the hub. It reports false if that is not
// possible, for example because a middleware has wrapped it.
func (a *api) handOver(r *http.Request, o *openedStream, c responseConn) bool {
	conn, _, err := c.control.Hijack()
	switch {
	case err == nil:
		o.start.Head = replyHead(c.Header())
		err = o.takeOver(conn)
	case errors.Is(err, http.ErrNotSupported):
		return false
	default:
		o.release()
		o.stream.Abort()
	}
	a.logStart(r, err)
	return true
}

// replyHead returns the head of a reply over HTTP/1.1. Its body ends with the connection, so that
// the hub can write bare events.
func replyHead(h http.Header) []byte {
	b := append(make([]byte, 0, 1<<10), "HTTP/1.1 200 OK\r\nConnection: close\r\nDate: "...)
	b = append(time.Now().UTC().AppendFormat(b, http.TimeFormat), "\r\n"...)
	head := bytes.NewBuffer(b)
	_ = h.Write(head) // a bytes.Buffer takes everything
	head.WriteString("\r\n")
	return head.Bytes()
}

// logStart logs that a stream could not start, unless err is nil.
func (a *api) logStart(r *http.Request, err error) {
	if err != nil {
		a.Log.Debug("stream start failed", "requestID", requestID(r.Context()), "error", err)
	}
}

// takeOver hands a hijacked connection over to the hub.
func (o *openedStream) takeOver(taken net.Conn) error {
	secured, ok := taken.(*tls.Conn)
	if ok {
		taken = secured.NetConn()
	}
	return o.stream.TakeOver(o.start, streamConn{taken, o.release}, secured)
}

// streamConn is the hijacked connection of a stream that occupies a slot.
type streamConn struct {
	net.Conn
	release func()
}

// SyscallConn gives the hub access to the socket.
func (c streamConn) SyscallConn() (syscall.RawConn, error) {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is not a socket", c.Conn)
	}
	return socket.SyscallConn()
}

// RedirectWrites implements hub.WriteRedirector.
func (c streamConn) RedirectWrites(to io.Writer) {
	c.Conn.(hub.WriteRedirector).RedirectWrites(to) // guaranteed by Options.TakesTLS
}

// HandOver is called by the hub when it takes the socket. done must be called when the socket is
// closed. Connections that are counted have such a method as well.
func (c streamConn) HandOver() (done func()) {
	counted, ok := c.Conn.(interface{ HandOver() (done func()) })
	if !ok {
		return c.release
	}
	leave := counted.HandOver()
	return func() {
		leave()
		c.release()
	}
}

// setStreamHeader sets the headers that keep proxies from buffering the stream: X-Accel-Buffering
// is for nginx, no-transform for proxies that compress or decompress.
func setStreamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// responseConn implements hub.Conn for the reply to a request.
type responseConn struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Send writes and flushes p. Each write has its own deadline, because http.Server.WriteTimeout
// counts from the request and would end every stream. The deadline is cleared afterwards, because
// net/http resets an HTTP/2 stream as soon as its deadline passes, even if nothing is being
// written.
func (c responseConn) Send(p []byte, timeout time.Duration) error {
	if err := c.control.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(p); err != nil {
		return err
	}
	if err := c.control.Flush(); err != nil {
		return err
	}
	return c.control.SetWriteDeadline(time.Time{})
}

// answerReconnect asks the client to reconnect after a random time between 1.25 and 2.5 times the
// given seconds.
func (a *api) answerReconnect(w http.ResponseWriter, r *http.Request, seconds int) {
	after := time.Duration(seconds) * (maxReconnectDelay/2 + rand.N(maxReconnectDelay/2))
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(hub.AppendReconnect(nil, after)); err != nil {
		a.Log.Debug("reply write failed", "requestID", requestID(r.Context()), "error", err)
	}
}
