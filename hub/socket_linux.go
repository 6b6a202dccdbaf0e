package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanTakeOver says that TakeOver works on this platform.
const CanTakeOver = true

// TakeOver lets the stream begin on a connection that was hijacked from
// net/http after the response header, and returns at once: an idle stream then
// costs neither a goroutine nor a buffer. Bytes go straight to the socket; a
// single goroutine watches all sockets for room and for peers that hang up. The
// connection belongs to the hub, whatever is returned. Where it is counted by
// somebody, it has a method HandOver, whose result is called when the socket is
// closed. secured is the TLS that was spoken over it, nil where there is none; then
// it has to be a WriteRedirector. Errors: ErrClosed, or what the system says to a connection that is not a
// socket.
func (s *Stream) TakeOver(o StreamStart, conn net.Conn, secured *tls.Conn) error {
	sock := &socket{stream: s, poller: &s.hub.poller, onClosed: func() {}}
	if counted, ok := conn.(interface{ HandOver() (done func()) }); ok {
		sock.onClosed = counted.HandOver()
	}
	var out sink = sock
	var err error
	if secured != nil {
		out, err = newTLSSocket(sock, conn, secured)
	}
	if err == nil {
		sock.fd, err = duplicate(conn)
	}
	// From here on the socket is ours alone; net's own bookkeeping goes.
	_ = conn.Close()
	if err != nil {
		sock.onClosed()
		s.worker.do(func() { s.cancelStart(o) })
		return err
	}
	taken := s.worker.do(func() {
		if err := s.hub.watch(sock); err != nil {
			s.hub.opts.Logger.Error("a socket could not be watched", "error", err)
			sock.closeFD()
			s.cancelStart(o)
			return
		}
		s.start(o, out)
	})
	if !taken {
		sock.closeFD()
		return s.rejectStart(o)
	}
	return nil
}

// duplicate takes the file descriptor out of a connection.
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

// socket is a sink that writes to a file descriptor without waiting. net made
// the descriptor non-blocking, and the duplicate shares that.
type socket struct {
	fd       int
	id       int32
	stream   *Stream
	poller   *poller
	onClosed func() // is told that the descriptor is closed
}

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

func (s *socket) close() {
	s.poller.remove(s.id)
	s.closeFD()
}

func (s *socket) closeFD() {
	_ = unix.Close(s.fd)
	s.onClosed()
}

// poller tells the workers of sockets that have room again, or whose peer hung
// up. It starts with the first socket.
type poller struct {
	startOnce sync.Once
	startErr  error    // why it could not start
	file      *os.File // an epoll instance; waiting for it goes through Go's own poller
	fd        int

	mu      sync.Mutex // guards sockets and last
	sockets map[int32]*socket
	lastID  int32
}

// watch registers a socket. Both conditions are edge-triggered: one
// registration serves the socket for life.
func (h *Hub) watch(s *socket) error {
	p := &h.poller
	p.startOnce.Do(func() { p.startErr = p.open(h) })
	if p.startErr != nil {
		return p.startErr
	}
	p.mu.Lock()
	for p.lastID++; p.sockets[p.lastID] != nil; p.lastID++ { // numbers may come round
	}
	s.id = p.lastID
	p.sockets[s.id] = s
	p.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: s.id}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
		p.remove(s.id)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (p *poller) open(h *Hub) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	p.fd, p.file, p.sockets = fd, os.NewFile(uintptr(fd), "epoll"), make(map[int32]*socket)
	raw, err := p.file.SyscallConn()
	if err != nil {
		return errors.Join(err, p.file.Close())
	}
	h.done.Go(func() { p.run(raw) })
	return nil
}

// run passes events on until the poller is closed.
func (p *poller) run(raw syscall.RawConn) {
	events := make([]unix.EpollEvent, 256)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return err == nil && n > 0
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			p.mu.Lock()
			s := p.sockets[e.Fd]
			p.mu.Unlock()
			switch {
			case s == nil: // closed meanwhile
			case e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
				s.stream.worker.do(s.stream.close)
			default:
				s.stream.worker.do(s.stream.writable)
			}
		}
	}
}

func (p *poller) remove(id int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, id)
}

func (p *poller) close() {
	p.startOnce.Do(func() { p.startErr = ErrClosed })
	if p.file != nil {
		_ = p.file.Close()
	}
}
