package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// portsPerAddress is how many streams come from one source address. Linux has 28,231 ephemeral
	// ports.
	portsPerAddress = 25_000
	// loopWait is how many milliseconds a loop waits for sockets before it opens streams that are
	// due.
	loopWait = 10
	// stoppedBuffer is the smallest receive buffer of Linux.
	stoppedBuffer = 4 << 10
	// spareFiles are the open files of a run other than streams.
	spareFiles = 1000
)

// link is a stream's socket.
type link struct{ fd int }

func (k *link) closeSocket() { _ = unix.Close(k.fd) }

// server is the address of a server, as the system calls need it.
type server struct {
	family  int
	address unix.Sockaddr
}

// engine waits for sockets with epoll and reads them into one buffer.
type engine struct {
	epoll   int
	servers []server
	sources []unix.Sockaddr // empty means that the system chooses
	buffer  []byte
	byFD    []*stream
}

func (e *engine) open(addresses []string, streams, sources int) error {
	if err := allowFiles(streams + spareFiles); err != nil {
		return err
	}
	loopback := true // all of them are on the loopback network
	for _, address := range addresses {
		resolved, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			return fmt.Errorf("the server's address: %w", err)
		}
		to := resolved.AddrPort()
		if !to.IsValid() { // an address without a host
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(resolved.Port))
		}
		to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
		loopback = loopback && to.Addr().Is4() && to.Addr().IsLoopback()
		family, at := sockaddr(to)
		e.servers = append(e.servers, server{family, at})
	}
	sources = sourcesFor(streams, sources, loopback)
	if sources > 1 && !loopback {
		return errors.New("--source-addresses can only be used with a server on the loopback network")
	}
	for i := range sources {
		_, source := sockaddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), 0))
		e.sources = append(e.sources, source)
	}
	e.buffer = make([]byte, readBuffer)
	var err error
	if e.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	return nil
}

// sourcesFor returns how many source addresses to bind; 0 means that the system chooses one.
func sourcesFor(streams, asked int, loopback bool) int {
	if asked == 0 && loopback {
		asked = (streams + portsPerAddress - 1) / portsPerAddress
	}
	if asked == 1 {
		return 0
	}
	return asked
}

func (e *engine) release() error { return unix.Close(e.epoll) }

func sockaddr(a netip.AddrPort) (family int, to unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// allowFiles raises the limit on open files if it is too low. Only root can exceed the hard limit.
func allowFiles(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	if limit.Cur >= uint64(n) {
		return nil
	}
	limit.Cur, limit.Max = uint64(n), max(limit.Max, uint64(n))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("the limit on open files (ulimit -n) must be at least %d: %w", n, err)
	}
	return nil
}

// dial starts to connect. The socket is registered once, edge-triggered for reading and writing.
func (e *engine) dial(l *loop, s *stream) error {
	to := e.servers[s.server]
	fd, err := unix.Socket(to.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.state = streamClosed
		l.opening--
		return fmt.Errorf("socket: %w", err)
	}
	s.fd = fd
	if s.number < l.Stopped {
		// The kernel would buffer megabytes for a client that has stopped reading.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, stoppedBuffer)
	}
	if len(e.sources) > 0 {
		// connect chooses the port, so that one port can be used for several servers.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, e.sources[s.number%len(e.sources)]); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.Connect(fd, to.address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	for len(e.byFD) <= fd {
		e.byFD = append(e.byFD, nil)
	}
	e.byFD[fd] = s
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// run reads the loop's streams until it is closed.
func (l *loop) run() {
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(l.epoll, events, loopWait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.fail(fmt.Errorf("epoll_wait: %w", err))
			n = 0
		}
		l.mu.Lock()
		if l.closed {
			for _, s := range l.streams {
				l.disconnect(s)
			}
			l.mu.Unlock()
			return
		}
		for _, e := range events[:max(n, 0)] {
			s := l.byFD[e.Fd]
			if s.state == streamClosed || s.fd != int(e.Fd) || s.stopped {
				continue // closed meanwhile, or stopped
			}
			ending := e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
			if err := l.serve(s, ending); err != nil {
				l.connectionLost(s, err)
			}
		}
		for _, s := range l.resumed {
			if s.state != streamClosed {
				if err := l.serve(s, true); err != nil { // its edges were missed
					l.connectionLost(s, err)
				}
			}
		}
		l.resumed = l.resumed[:0]
		l.openDue()
		l.mu.Unlock()
	}
}

// serve handles the events of a socket. If the connection is ending, it reads to the end. An error
// ends the stream.
func (l *loop) serve(s *stream, ending bool) error {
	if s.state == streamConnecting {
		if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			return fmt.Errorf("connect: %w", errors.Join(err, unix.Errno(code)))
		}
		l.scratch = l.Target.appendRequest(l.scratch[:0], s)
		n, err := unix.Write(s.fd, l.scratch)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTCONN) {
			return nil // not connected yet
		}
		if err != nil || n < len(l.scratch) {
			return fmt.Errorf("write the request: %d of %d bytes: %w", n, len(l.scratch), err)
		}
		s.state = streamRequested
	}
	for s.state != streamClosed {
		kept := copy(l.buffer, s.tail)
		n, err := unix.Read(s.fd, l.buffer[kept:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return errEnded
		}
		if err := l.received(s, l.buffer[:kept+n], kept); err != nil {
			return err
		}
		if n < readBuffer-kept && !ending {
			return nil // everything was read: more data is a new edge
		}
	}
	return nil
}
