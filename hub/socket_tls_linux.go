package hub

import (
	"crypto/tls"
	"fmt"
	"net"
)

// secure makes the sink of a socket whose bytes are to be encrypted.
func newTLSSocket(sock *socket, below net.Conn, secured *tls.Conn) (sink, error) {
	captured, ok := below.(WriteRedirector)
	if !ok {
		return nil, fmt.Errorf("take over TLS: a %T cannot be captured", below)
	}
	s := &tlsSocket{socket: sock, tls: secured}
	captured.RedirectWrites(s)
	return s, nil
}

// securedSocket is a sink that encrypts. tls.Conn does that, and believes to write
// to the connection below; what it writes comes here instead, so that it never
// waits. Nothing is read any more: after the handshake clients have nothing to say
// on a stream that matters before they hang up.
type tlsSocket struct {
	*socket
	tls *tls.Conn
	// sealed is what was encrypted and the system has not taken yet.
	ciphertext []byte
	// owed is how much of the worker's bytes that is, which are not said to be taken.
	unreported int
}

// Write takes what tls.Conn writes.
func (s *tlsSocket) Write(p []byte) (int, error) {
	s.ciphertext = append(s.ciphertext, p...)
	return len(p), nil
}

// write encrypts b, and says that it was taken as its ciphertext is. What is left is
// owed: the worker brings exactly that again, and it is not encrypted twice.
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
	s.ciphertext = append([]byte(nil), s.ciphertext[n:]...) // the worker's is needed by others
	taken := min(n, s.unreported-1)
	s.unreported -= taken
	return taken, nil
}

func (s *tlsSocket) worker() *worker { return s.stream.worker }

// close says goodbye as TLS has it, so that the client knows that nothing was cut
// off, unless there is no room for it.
func (s *tlsSocket) close() {
	if s.unreported == 0 {
		_ = s.tls.CloseWrite()
		_, _ = s.socket.write(s.ciphertext)
	}
	s.socket.close()
}
