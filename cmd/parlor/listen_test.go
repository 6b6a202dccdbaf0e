package main

import (
	"net"
	"testing"
	"time"
)

// accept returns both ends of a connection to a port that listen opened.
func accept(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	listener, err := listen(t.Context(), "127.0.0.1:0", &connections{most: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	dialed, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return accepted.(*conn).TCPConn, dialed.(*net.TCPConn)
}

func TestListenServes(t *testing.T) {
	t.Parallel()
	server, client := accept(t)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	if _, err := listen(t.Context(), "127.0.0.1:-1", &connections{}); err == nil {
		t.Error("an invalid port was opened")
	}
}
