//go:build unix

package store

import (
	"crypto/tls"
	"net"
	"syscall"
)

// readable reports whether a connection has unread data, or was closed by its peer. It neither
// waits nor reads.
func readable(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	something := true
	// Not raw.Read, which waits for the background reader of pgx, which in turn waits for
	// PostgreSQL.
	if err := raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		something = err != syscall.EAGAIN
	}); err != nil {
		return true
	}
	return something
}
