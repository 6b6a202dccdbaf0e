package handlers

import (
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

// streamStore brings a session online when its stream opens.
type streamStore interface {
	OpenStream(ctx context.Context, id room.SessionID, epoch string, cursor []room.Position) (room.OpenedStream, error)
}

// maxReconnectDelay is the longest that a client is asked to stay away, where nobody knows
// for how long the server has nothing for it. It is half of the shortest
// memberTimeout: a client that obeys is back before it is taken out of its rooms.
const maxReconnectDelay = room.MinMemberTimeout / 2

// streamEvents opens the session's stream.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request) {
	if err := a.openStream(w, r); err != nil {
		a.answerStreamError(w, r, err)
	}
}

// answerStreamError refuses a stream. A native EventSource that should try again
// later is told so by an event: any other status than 200 would be the end for it
// (WHATWG HTML, "fail the connection").
func (a *api) answerStreamError(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && r.URL.Query().Has("stream_key") {
		a.answerReconnect(w, r, max(p.retryAfter, 1))
		return
	}
	a.answerError(w, r, err)
}

func (a *api) openStream(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "stream_key", "stream_ticket", "last_event_id")
	// A stream may last; what is asked before it begins may not.
	ctx, cancel := context.WithTimeoutCause(r.Context(), callTimeout, errCallTimeout)
	defer cancel()
	session, err := a.authenticateStream(r.WithContext(ctx), q.values.Get("stream_key"), q.values.Get("stream_ticket"))
	if err != nil {
		return err
	}
	if err := q.err(); err != nil { // a misspelt last_event_id would begin anew, and nobody would notice
		return err
	}
	if err := allowStreaming(w, r); err != nil {
		return err
	}
	free, err := a.acquireStream(r, session)
	if err != nil {
		return err
	}
	begun := false // from then on the stream's end frees its slot
	defer func() {
		if !begun {
			free()
		}
	}()
	start := hub.StreamStart{TokenExpiresAt: session.TokenExpiresAt, RequestID: requestID(r.Context())}
	var epoch string
	epoch, start.Cursor, start.CursorInvalid = lastEventID(r, q)
	// Registered first and read afterwards: what happens to the session's rooms
	// in between is not missed.
	stream, err := a.Hub.OpenStream(session.ID, session.Inbox)
	if err != nil {
		return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
	}
	if start.OpenedStream, err = a.Store.OpenStream(ctx, session.ID, epoch, start.Cursor); err != nil {
		stream.Abort()
		return err
	}
	begun = true
	a.StreamOpens(r.Context())
	if err := a.serveStream(w, r, stream, start, free); err != nil {
		a.Log.Debug("a stream ended at its start", "requestID", requestID(r.Context()), "error", err)
	}
	return nil
}

// lastEventID is the cursor that the client sends, by itself in the header or
// by its program in the query, and the epoch that it belongs to.
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

// serveStream hands the connection to the hub where it can be taken out of net/http:
// HTTP/1.1 on a platform that can. HTTP/2, whose bytes only net/http can write,
// keeps its request's goroutine. free is called when the stream has ended.
func (a *api) serveStream(w http.ResponseWriter, r *http.Request, stream *hub.Stream, start hub.StreamStart, free func()) error {
	setStreamHeader(w.Header())
	control := http.NewResponseController(w)
	if !hub.CanTakeOver || r.ProtoMajor != 1 || r.TLS != nil && !a.TakesTLS {
		defer free()
		w.WriteHeader(http.StatusOK)
		return stream.Serve(r.Context(), start, responseConn{w, control})
	}
	// Without chunks the stream is the bare events, up to the connection's end.
	w.Header().Set("Transfer-Encoding", "identity")
	w.WriteHeader(http.StatusOK)
	taken, _, err := control.Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		defer free()
		return stream.Serve(r.Context(), start, responseConn{w, control})
	}
	if err != nil {
		free()
		stream.Abort()
		return fmt.Errorf("hijack: %w", err)
	}
	secured, ok := taken.(*tls.Conn)
	if ok {
		taken = secured.NetConn()
	}
	return stream.TakeOver(start, streamConn{taken, free}, secured)
}

// streamConn is the connection of a stream that has a slot.
type streamConn struct {
	net.Conn
	release func()
}

// SyscallConn is what the hub takes the socket from.
func (c streamConn) SyscallConn() (syscall.RawConn, error) {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is not a socket", c.Conn)
	}
	return socket.SyscallConn()
}

// RedirectWrites lets what TLS writes to the connection go elsewhere (hub.WriteRedirector).
func (c streamConn) RedirectWrites(to io.Writer) {
	c.Conn.(hub.WriteRedirector).RedirectWrites(to) // as Options.TakesTLS says
}

// HandOver tells the connection, where that is counted too, that the hub takes its
// socket. done says that the socket is closed.
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

// setStreamHeader keeps everything between here and the client from holding the
// stream back: X-Accel-Buffering is nginx's, no-transform is for proxies that
// compress.
func setStreamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// responseConn is a client's connection, as the hub and the feed write to it.
type responseConn struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Send writes and flushes with a deadline of its own: http.Server.WriteTimeout
// counts from the request and would end every stream. The deadline is cleared
// afterwards, because net/http resets an HTTP/2 stream as soon as its deadline
// passes, whether or not anything is being written: every stream that was
// silent for longer would end.
func (c responseConn) Send(p []byte, within time.Duration) error {
	if err := c.control.SetWriteDeadline(time.Now().Add(within)); err != nil {
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

// answerReconnect answers with the request to come back after some seconds, for each
// client others: up to two and a half times as many.
func (a *api) answerReconnect(w http.ResponseWriter, r *http.Request, seconds int) {
	after := time.Duration(seconds) * (maxReconnectDelay/2 + rand.N(maxReconnectDelay/2))
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(hub.AppendReconnect(nil, after)); err != nil {
		a.Log.Debug("a reply could not be written", "requestID", requestID(r.Context()), "error", err)
	}
}
