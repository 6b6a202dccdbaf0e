package hub

import (
	"crypto/tls"
	"fmt"
	"net"
)

// secure makes the sink of a socket whose bytes are to be encrypted.
func secure(sock *socket, below net.Conn, secured *tls.Conn) (sink, error) {
	captured, ok := below.(WriteRedirector)
	if !ok {
		return nil, fmt.Errorf("take over TLS: a %T cannot be captured", below)
	}
	s := &securedSocket{socket: sock, tls: secured}
	captured.RedirectWrites(s)
	return s, nil
}

// securedSocket is a sink that encrypts. tls.Conn does that, and believes to write
// to the connection below; what it writes comes here instead, so that it never
// waits. Nothing is read any more: after the handshake clients have nothing to say
// on a stream that matters before they hang up.
type securedSocket struct {
	*socket
	tls *tls.Conn
	// sealed is what was encrypted and the system has not taken yet.
	sealed []byte
	// owed is how much of the worker's bytes that is, which are not said to be taken.
	owed int
}

// Write takes what tls.Conn writes.
func (s *securedSocket) Write(p []byte) (int, error) {
	s.sealed = append(s.sealed, p...)
	return len(p), nil
}

// write encrypts b, and says that it was taken as its ciphertext is. What is left is
// owed: the worker brings exactly that again, and it is not encrypted twice.
func (s *securedSocket) write(b []byte) (int, error) {
	if s.owed == 0 {
		s.sealed = s.worker().sealed[:0]
		if _, err := s.tls.Write(b); err != nil {
			return 0, err
		}
		s.worker().sealed = s.sealed // it may have grown
		s.owed = len(b)
	}
	n, err := s.socket.write(s.sealed)
	if err != nil {
		return 0, err
	}
	if n == len(s.sealed) {
		taken := s.owed
		s.sealed, s.owed = nil, 0
		return taken, nil
	}
	s.sealed = append([]byte(nil), s.sealed[n:]...) // the worker's is needed by others
	taken := min(n, s.owed-1)
	s.owed -= taken
	return taken, nil
}

func (s *securedSocket) worker() *worker { return s.stream.worker }

// close says goodbye as TLS has it, so that the client knows that nothing was cut
// off, unless there is no room for it.
func (s *securedSocket) close() {
	if s.owed == 0 {
		_ = s.tls.CloseWrite()
		_, _ = s.socket.write(s.sealed)
	}
	s.socket.close()
}
