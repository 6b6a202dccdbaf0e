package hub

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller gives workers a task when one of their sockets can be written to again or its peer has
// closed the connection. It starts with the first socket.
type poller struct {
	startOnce sync.Once
	startErr  error
	epoll     *os.File // an epoll instance; the wait for its events goes through Go's own poller
	epollFD   int
	running   sync.WaitGroup // the goroutine that waits for events

	mu      sync.Mutex // guards sockets and lastID
	sockets map[int32]*socket
	lastID  int32
}

// add registers a socket. Its events are edge-triggered, so that it is registered only once.
func (p *poller) add(s *socket) error {
	p.startOnce.Do(func() { p.startErr = p.open() })
	if p.startErr != nil {
		return p.startErr
	}
	p.mu.Lock()
	for p.lastID++; p.sockets[p.lastID] != nil; p.lastID++ { // IDs may wrap around
	}
	s.id = p.lastID
	p.sockets[s.id] = s
	p.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: s.id}
	if err := unix.EpollCtl(p.epollFD, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
		p.remove(s.id)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// open creates the epoll instance and starts the goroutine that waits for its events.
func (p *poller) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	p.epollFD, p.epoll, p.sockets = fd, os.NewFile(uintptr(fd), "epoll"), make(map[int32]*socket)
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return errors.Join(err, p.epoll.Close())
	}
	p.running.Go(func() { p.run(raw) })
	return nil
}

// run handles events until the poller is closed.
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
			case s == nil: // closed after the event
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

// close ends the goroutine of the poller. Nothing may be added any more: the number of the closed
// descriptor may soon be that of another file.
func (p *poller) close() {
	if p.epoll != nil {
		_ = p.epoll.Close()
		p.running.Wait()
	}
}
