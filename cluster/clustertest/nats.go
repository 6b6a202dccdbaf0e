// Package clustertest runs NATS servers for tests.
package clustertest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// StartNATS starts a NATS server on a free port until the end of the test. change may change its
// options. A port in them makes a server return after it was stopped.
func StartNATS(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true}
	if change != nil {
		change(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatalf("NATS server: %v", err)
	}
	s.Start()
	t.Cleanup(func() { Stop(s) })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server accepts no connections")
	}
	return s
}

// Stop stops a NATS server, and waits until it has.
func Stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}
