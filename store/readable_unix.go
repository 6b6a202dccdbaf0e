//go:build unix

package store

import (
	"crypto/tls"
	"net"
	"syscall"
)

// readable reports whether a connection has something to read, or was closed by its
// peer. It neither waits nor takes anything.
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
	// Not Read, which waits for pgx's reader in the background, which waits for PostgreSQL.
	if err := raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		something = err != syscall.EAGAIN
	}); err != nil {
		return true
	}
	return something
}
