//go:build !unix

package store

import "net"

// readable reports whether a connection has something to read, as far as the system lets
// that be asked.
func readable(net.Conn) bool { return false }
