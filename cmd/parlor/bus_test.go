package main

import (
	"net"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"parlor/cluster/clustertest"
)

// natsUser is the user of the NATS servers of tests. Its password must not appear anywhere.
const natsUser, natsPassword = "parlor", "nats-password-that-is-secret"

// natsBus is a NATS server that can be stopped, and starts again at the same address.
type natsBus struct {
	t      *testing.T
	server *server.Server
	host   string
	port   int
}

func startNATS(t *testing.T) *natsBus {
	t.Helper()
	return startNATSAt(t, "127.0.0.1")
}

func startNATSAt(t *testing.T, host string) *natsBus {
	t.Helper()
	b := &natsBus{t: t, host: host, port: server.RANDOM_PORT}
	b.start()
	b.port = b.server.Addr().(*net.TCPAddr).Port
	return b
}

func (b *natsBus) start() {
	b.t.Helper()
	b.server = clustertest.StartNATS(b.t, func(o *server.Options) {
		o.Host, o.Port, o.Username, o.Password = b.host, b.port, natsUser, natsPassword
	})
}

func (b *natsBus) stop() { clustertest.Stop(b.server) }

// env returns the settings of servers that use the NATS server.
func (b *natsBus) env() []string {
	return []string{"PARLOR_NATS_URL=nats://" + natsUser + ":" + natsPassword + "@" + b.server.Addr().String()}
}

// overCarriers runs a test with servers that are connected by PostgreSQL, and with servers that are
// connected by NATS.
func overCarriers(t *testing.T, test func(t *testing.T, start func(t *testing.T, servers int) *nodes)) {
	t.Helper()
	t.Parallel()
	t.Run("NOTIFY", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T, servers int) *nodes { t.Helper(); return startNodes(t, servers, nil) })
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T, servers int) *nodes { t.Helper(); return startNodes(t, servers, startNATS(t).env()) })
	})
}
