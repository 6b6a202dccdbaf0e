package hub

import (
	"context"
	"io"
	"sync"
	"time"
)

// Conn is a client's connection as net/http shows it.
type Conn interface {
	// Send writes and flushes. It fails when the client has not taken what it is
	// sent within a time, which must not bound anything after Send has returned.
	Send(p []byte, within time.Duration) error
}

// WriteRedirector is a connection below TLS that TakeOver can take. From RedirectWrites on, what
// is written to it goes to another writer, and not to its socket.
type WriteRedirector interface {
	RedirectWrites(to io.Writer)
}

// Serve lets the stream begin and returns when it has ended. It is the way that
// works over everything, HTTP/2 and TLS included; it costs a goroutine and
// net/http's buffers. Errors: ErrClosed; a connection that breaks is no error.
func (s *Stream) Serve(ctx context.Context, o StreamStart, c Conn) error {
	p := &pipe{stream: s, wake: make(chan struct{}, 1)}
	if !s.worker.do(func() { s.start(o, p) }) {
		return s.rejectStart(o)
	}
	p.run(ctx, c)
	return nil
}

// pipe hands bytes from the worker, which must not wait, to the goroutine of
// the request, which may.
type pipe struct {
	stream *Stream
	wake   chan struct{} // has room for one; never closed

	mu     sync.Mutex // guards all below
	buf    []byte
	busy   bool // buf holds bytes that are not written yet
	closed bool
}

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

func (p *pipe) run(ctx context.Context, c Conn) {
	w := p.stream.worker
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			w.do(p.stream.close)
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

// send writes buf to the client and makes room for the next write.
func (p *pipe) send(c Conn, buf []byte) error {
	if err := c.Send(buf, p.stream.hub.opts.WriteTimeout); err != nil {
		return err
	}
	p.mu.Lock()
	p.busy = false
	if cap(p.buf) > chunkBytes/4 {
		p.buf = nil
	}
	p.mu.Unlock()
	return nil
}
