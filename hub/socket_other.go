//go:build !linux

package hub

import (
	"crypto/tls"
	"errors"
	"net"
)

// CanTakeOver says that TakeOver works on this platform. Elsewhere than on Linux
// streams are served by Serve.
const CanTakeOver = false

// TakeOver is not there on this platform.
func (s *Stream) TakeOver(o StreamStart, conn net.Conn, _ *tls.Conn) error {
	s.worker.do(func() { s.cancelStart(o) })
	return errors.Join(errors.ErrUnsupported, conn.Close())
}

type poller struct{}

func (*poller) close() {}
