package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanTakeOver reports that TakeOver works on this platform.
const CanTakeOver = true

// TakeOver starts the stream on a connection that was hijacked from net/http after the response
// header, and returns at once. An idle stream then needs neither a goroutine nor a buffer: workers
// write to the socket without blocking, and one goroutine waits for events of all sockets.
//
// The connection belongs to the hub, even if TakeOver fails. If conn has a method HandOver, it is
// called first, and the function that it returns is called when the socket is closed. tlsConn is
// the TLS connection above conn, or nil; with it, conn must be a WriteRedirector. Errors:
// ErrClosed, or an error that says why the socket of conn cannot be used.
func (s *Stream) TakeOver(st *StreamStart, conn net.Conn, tlsConn *tls.Conn) error {
	sock := &socket{stream: s, poller: &s.hub.poller, onClosed: func() {}}
	if counted, ok := conn.(interface{ HandOver() (done func()) }); ok {
		sock.onClosed = counted.HandOver()
	}
	var out sink = sock
	var err error
	if tlsConn != nil {
		out, err = newTLSSocket(sock, conn, tlsConn)
	}
	if err == nil {
		sock.fd, err = duplicate(conn)
	}
	// sock has a duplicate of the descriptor, so net can release what it holds for its own.
	_ = conn.Close()
	if err != nil {
		sock.onClosed()
		s.worker.do(func() { s.abortStart(st) })
		return err
	}
	taken := s.worker.do(func() {
		if err := sock.poller.add(sock); err != nil {
			s.hub.opts.Logger.Error("epoll registration failed", "error", err)
			sock.closeFD()
			s.abortStart(st)
			return
		}
		s.start(st, out)
	})
	if !taken {
		sock.closeFD()
		return s.refuseStart(st)
	}
	return nil
}

// duplicate returns a duplicate of the file descriptor of a connection.
func duplicate(conn net.Conn) (int, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("take over a %T: not a socket", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("take over a connection: %w", err)
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, dupErr); err != nil {
		return 0, fmt.Errorf("take over a connection: %w", err)
	}
	return fd, nil
}

// socket is a sink that writes to a file descriptor without blocking: net has made the descriptor
// non-blocking, and the duplicate shares that.
type socket struct {
	fd       int
	id       int32
	stream   *Stream
	poller   *poller
	onClosed func() // called when the descriptor is closed
}

// write implements sink.
func (s *socket) write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := unix.Write(s.fd, b[written:])
		switch {
		case err == nil:
			written += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return written, nil
		default:
			return written, err
		}
	}
	return written, nil
}

// close implements sink.
func (s *socket) close() {
	s.poller.remove(s.id)
	s.closeFD()
}

// closeFD closes a socket that is not in the poller.
func (s *socket) closeFD() {
	_ = unix.Close(s.fd)
	s.onClosed()
}
