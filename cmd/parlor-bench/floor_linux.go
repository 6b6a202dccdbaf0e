package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	floorWait = 100 // milliseconds between checks of the context
	// floorBuffer is the maximum size of a request, head and body.
	floorBuffer = 128 << 10
	// floorQueue is how much data may be queued for a subscriber that does not read. Above it, the
	// connection is closed.
	floorQueue = 4 << 20

	floorSubscribed = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	floorPublished  = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	floorRejected   = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

// serveFloor runs the cheapest possible server: one loop writes each message to all subscribed
// sockets, with one write() each. It has no users, stores nothing, and understands only the method,
// the last part of the path, and Content-Length. No server of the same protocol can cost less, so
// the difference is the price of what other servers do in addition.
func serveFloor(ctx context.Context, address string, ready func(net.Addr)) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("the listener's socket: %w", err)
	}
	defer file.Close()
	f := &floor{listener: int(file.Fd()), topics: make(map[string]*floorTopic), buffer: make([]byte, floorBuffer)}
	if err := unix.SetNonblock(f.listener, true); err != nil {
		return fmt.Errorf("the listener's socket: %w", err)
	}
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	defer func() { _ = unix.Close(f.epoll) }()
	// Go has raised the limit on open files to the hard limit, which only root can raise.
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: floorFiles, Max: floorFiles})
	ready(l.Addr())
	return f.run(ctx)
}

// floorFiles is the wanted limit on open files, and so on connections.
const floorFiles = 100_000

type floor struct {
	epoll, listener int
	conns           []*floorConn // by file descriptor
	topics          map[string]*floorTopic
	buffer, frame   []byte
}

// floorConn is a connection of a publisher, or of a subscriber once it has a topic.
type floorConn struct {
	fd    int
	topic *floorTopic
	index int // in the subscribers of the topic
	in    []byte
	out   []byte // not accepted by the socket yet
}

type floorTopic struct {
	subscribers []*floorConn
	last        int64
}

func (f *floor) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := f.watch(f.listener, unix.EPOLLIN); err != nil {
		return err
	}
	defer func() {
		for _, c := range f.conns {
			f.close(c)
		}
	}()
	events := make([]unix.EpollEvent, 512)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(f.epoll, events, floorWait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == f.listener {
				f.accept()
			} else if c := f.conns[e.Fd]; c != nil {
				f.serve(c, e.Events)
			}
		}
	}
	return nil
}

func (f *floor) watch(fd int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (f *floor) accept() {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return // EAGAIN, or too many open files: the others stay queued
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		for len(f.conns) <= fd {
			f.conns = append(f.conns, nil)
		}
		f.conns[fd] = &floorConn{fd: fd}
		if f.watch(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET) != nil {
			f.close(f.conns[fd])
		}
	}
}

func (f *floor) serve(c *floorConn, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		f.close(c)
		return
	}
	if events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		waiting := c.out
		c.out = nil
		f.write(c, waiting)
	}
	for events&unix.EPOLLIN != 0 && f.conns[c.fd] == c {
		n, err := unix.Read(c.fd, f.buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil || n == 0 || len(c.in)+n > floorBuffer:
			f.close(c)
			return
		}
		c.in = append(c.in, f.buffer[:n]...)
		for f.conns[c.fd] == c && f.request(c) {
		}
		if n < floorBuffer {
			return
		}
	}
}

// request serves the first request in the buffer if it is complete. It returns false if there is no
// further request to serve.
func (f *floor) request(c *floorConn) bool {
	head, rest, complete := bytes.Cut(c.in, []byte("\r\n\r\n"))
	if !complete || c.topic != nil {
		return false
	}
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		f.write(c, []byte(floorRejected))
		f.close(c)
		return false
	}
	name := parts[1][bytes.LastIndexByte(parts[1], '/')+1:]
	topic := f.topics[string(name)]
	if topic == nil {
		topic = &floorTopic{}
		f.topics[string(name)] = topic
	}
	if string(parts[0]) == "GET" {
		c.in, c.topic, c.index = nil, topic, len(topic.subscribers)
		topic.subscribers = append(topic.subscribers, c)
		f.write(c, []byte(floorSubscribed))
		return false
	}
	length := contentLength(fields)
	if len(rest) < length {
		return false
	}
	f.publish(topic, rest[:length])
	c.in = append(c.in[:0], rest[length:]...)
	f.write(c, []byte(floorPublished))
	return true
}

func contentLength(fields []byte) int {
	for line := range bytes.Lines(fields) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			n, _ := strconv.Atoi(string(bytes.TrimSpace(value)))
			return max(n, 0)
		}
	}
	return 0
}

// publish writes a message to all subscribers. It starts with the last one, because closing a
// connection moves the last subscriber into its position.
func (f *floor) publish(t *floorTopic, message []byte) {
	t.last++
	f.frame = append(f.frame[:0], "id: "...)
	f.frame = strconv.AppendInt(f.frame, t.last, 10)
	f.frame = append(append(append(f.frame, "\ndata: "...), message...), "\n\n"...)
	for i := len(t.subscribers) - 1; i >= 0; i-- {
		f.write(t.subscribers[i], f.frame)
	}
}

// write writes to the socket, and queues what the socket does not accept.
func (f *floor) write(c *floorConn, b []byte) {
	for len(c.out) == 0 && len(b) > 0 {
		n, err := unix.Write(c.fd, b)
		switch {
		case err == nil:
			b = b[n:]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			c.out = append(c.out, b...)
			return
		default:
			f.close(c)
			return
		}
	}
	if len(b) == 0 {
		return
	}
	if c.out = append(c.out, b...); len(c.out) > floorQueue {
		f.close(c)
	}
}

func (f *floor) close(c *floorConn) {
	if c == nil || f.conns[c.fd] != c {
		return
	}
	if t := c.topic; t != nil {
		last := len(t.subscribers) - 1
		t.subscribers[c.index] = t.subscribers[last]
		t.subscribers[c.index].index = c.index
		t.subscribers = t.subscribers[:last]
	}
	f.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}
