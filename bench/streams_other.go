//go:build !linux

package bench

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// link is a stream's connection.
type link struct{ conn net.Conn }

func (k *link) closeSocket() { _ = k.conn.Close() }

// engine reads each stream in its own goroutine, which is simple, but expensive for many streams.
type engine struct{ servers []string }

func (e *engine) open(addresses []string, _, sources int) error {
	if sources > 1 {
		return errors.New("--source-addresses is supported only on Linux")
	}
	e.servers = addresses
	return nil
}

func (e *engine) release() error { return nil }

// dial connects and sends the request. The lock is held, so that no other stream connects
// meanwhile.
func (e *engine) dial(l *loop, s *stream) error {
	conn, err := net.DialTimeout("tcp", e.servers[s.server], callTimeout)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	if _, err := conn.Write(l.Target.appendRequest(nil, s)); err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	s.state = streamRequested
	l.done.Go(func() { l.read(s, conn) })
	return nil
}

// read reads a connection until it ends or the stream has another one.
func (l *loop) read(s *stream, conn net.Conn) {
	b := make([]byte, 8<<10)
	for {
		n, err := conn.Read(b)
		l.mu.Lock()
		for s.stopped && s.conn == conn && !l.closed {
			l.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			l.mu.Lock()
		}
		if s.state == streamClosed || s.conn != conn {
			l.mu.Unlock()
			return
		}
		if err == nil {
			kept := len(s.tail)
			err = l.received(s, append(s.tail[:kept:kept], b[:n]...), kept)
		}
		if err != nil {
			l.connectionLost(s, err)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// run opens streams when they are due, until the loop is closed.
func (l *loop) run() {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		l.mu.Lock()
		if l.closed {
			for _, s := range l.streams {
				l.disconnect(s)
			}
			l.mu.Unlock()
			return
		}
		l.resumed = nil // their goroutines notice it
		l.openDue()
		l.mu.Unlock()
	}
}
