package hub

import (
	"crypto/tls"
	"fmt"
	"net"
)

// newTLSSocket returns a sink that encrypts what it writes to the socket.
func newTLSSocket(sock *socket, below net.Conn, conn *tls.Conn) (sink, error) {
	redirector, ok := below.(WriteRedirector)
	if !ok {
		return nil, fmt.Errorf("take over TLS: writes of a %T cannot be redirected", below)
	}
	s := &tlsSocket{socket: sock, tls: conn}
	redirector.RedirectWrites(s)
	return s, nil
}

// tlsSocket is a sink that encrypts. The encryption is done by tls.Conn, whose writes are
// redirected from the connection below it to tlsSocket.Write, so that they never block. Nothing is
// read any more: a client has nothing to send on a stream after the handshake.
type tlsSocket struct {
	*socket
	tls *tls.Conn
	// ciphertext holds the encrypted bytes that the socket has not taken yet.
	ciphertext []byte
	// unreported is how many of the worker's bytes are in ciphertext and were not reported as
	// taken.
	unreported int
}

// Write receives what tls.Conn writes.
func (s *tlsSocket) Write(p []byte) (int, error) {
	s.ciphertext = append(s.ciphertext, p...)
	return len(p), nil
}

// write encrypts b, and reports it as taken once the socket has taken the ciphertext. Until then
// the worker writes the rest of b again, which is not encrypted a second time.
func (s *tlsSocket) write(b []byte) (int, error) {
	if s.unreported == 0 {
		s.ciphertext = s.worker().ciphertext[:0]
		if _, err := s.tls.Write(b); err != nil {
			return 0, err
		}
		s.worker().ciphertext = s.ciphertext // it may have grown
		s.unreported = len(b)
	}
	n, err := s.socket.write(s.ciphertext)
	if err != nil {
		return 0, err
	}
	if n == len(s.ciphertext) {
		taken := s.unreported
		s.ciphertext, s.unreported = nil, 0
		return taken, nil
	}
	s.ciphertext = append([]byte(nil), s.ciphertext[n:]...) // the worker's buffer is for all its streams
	// At least one byte remains unreported, so that the worker writes again.
	taken := min(n, s.unreported-1)
	s.unreported -= taken
	return taken, nil
}

func (s *tlsSocket) worker() *worker { return s.stream.worker }

// close sends the close_notify alert, by which the client knows that nothing was cut off, unless
// the socket cannot take it. Then it closes the socket.
func (s *tlsSocket) close() {
	if s.unreported == 0 {
		_ = s.tls.CloseWrite()
		_, _ = s.socket.write(s.ciphertext)
	}
	s.socket.close()
}
