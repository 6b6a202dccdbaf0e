//go:build !unix

package store

import "net"

// readable reports whether a connection has unread data, as far as the operating system can tell.
func readable(net.Conn) bool { return false }
