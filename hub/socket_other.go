//go:build !linux

package hub

import (
	"crypto/tls"
	"errors"
	"net"
)

// CanTakeOver reports that TakeOver works on this platform. On platforms other than Linux, streams
// are served by Serve.
const CanTakeOver = false

// TakeOver is not supported on this platform.
func (s *Stream) TakeOver(st *StreamStart, conn net.Conn, _ *tls.Conn) error {
	s.worker.do(func() { s.abortStart(st) })
	return errors.Join(errors.ErrUnsupported, conn.Close())
}

type poller struct{}

func (*poller) close() {}
