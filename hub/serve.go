package hub

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Conn is a client's connection that net/http serves.
type Conn interface {
	// Send writes and flushes p. It fails if that takes longer than timeout. The timeout must not
	// apply to anything after Send has returned.
	Send(p []byte, timeout time.Duration) error
}

// ErrEnough is returned by Conn.Send, or is the cause of the end of Serve's context, to end a stream
// that has served its purpose.
var ErrEnough = errors.New("enough events")

// WriteRedirector is a connection below TLS that TakeOver accepts.
type WriteRedirector interface {
	// RedirectWrites makes all later writes go to another writer instead of the connection's
	// socket.
	RedirectWrites(to io.Writer)
}

// Serve starts the stream and returns when it has ended. It works over any connection, including
// HTTP/2 and TLS, but occupies a goroutine and the buffers of net/http. Errors: ErrClosed; a broken
// connection is not an error.
func (s *Stream) Serve(ctx context.Context, st *StreamStart, c Conn) error {
	p := &pipe{stream: s, wake: make(chan struct{}, 1)}
	if !s.worker.do(func() { s.start(st, p) }) {
		return s.refuseStart(st)
	}
	p.run(ctx, c)
	return nil
}

// pipe is a sink that passes bytes from the worker, which must not block, to the goroutine of the
// request, which may block.
type pipe struct {
	stream *Stream
	wake   chan struct{} // has room for one value; never closed

	mu     sync.Mutex // guards all below
	buf    []byte
	busy   bool // buf holds bytes that are not sent yet
	closed bool
}

// write implements sink.
func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy || p.closed {
		return 0, nil
	}
	p.buf = append(p.buf[:0], b...)
	p.busy = true
	p.signal()
	return len(b), nil
}

// close implements sink.
func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.signal()
}

func (p *pipe) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run sends what is written to the pipe until the pipe is closed, the connection fails or ctx ends.
func (p *pipe) run(ctx context.Context, c Conn) {
	w := p.stream.worker
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			w.do(func() { p.stream.closeOnWriteError(context.Cause(ctx)) })
			return
		}
		p.mu.Lock()
		buf, busy, closed := p.buf, p.busy, p.closed
		p.mu.Unlock()
		if busy {
			if err := p.send(c, buf); err != nil {
				w.do(func() { p.stream.closeOnWriteError(err) })
				return
			}
			w.do(p.stream.writable)
		}
		if closed {
			return
		}
	}
}

// send sends buf, and then allows the next write.
func (p *pipe) send(c Conn, buf []byte) error {
	if err := c.Send(buf, p.stream.hub.opts.WriteTimeout); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	if cap(p.buf) > chunkBytes/4 {
		p.buf = nil // an idle stream holds no large buffer
	}
	return nil
}
