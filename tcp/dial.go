// Package tcp makes connections that end soon after their peer or the network between has vanished
// without a word. Left alone, TCP retransmits for about 15 minutes, and keeps an idle connection for
// hours.
package tcp

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"
)

const (
	// connectTimeout bounds an attempt to connect. The system repeats its first packet after 1, 3
	// and 7 seconds, so a new attempt is sooner noticed by a network that works again.
	connectTimeout = 5 * time.Second
	// unackedTimeout is how long data may stay unacknowledged. It is as long as a statement may
	// take, so that an outage that ends before loses nothing.
	unackedTimeout = 10 * time.Second
	// A connection on which nothing was received for probeAfter is probed. It ends after
	// probeCount probes without an answer, or after unackedTimeout on systems that have it.
	probeAfter    = 5 * time.Second
	probeInterval = 5 * time.Second
	probeCount    = 2
)

// PostgresSettings are statements that make PostgreSQL, too, notice within 15 seconds that its peer
// has vanished. It then ends the session, with its locks and its place in the queue of notifications.
// They have no effect on a Unix socket.
const PostgresSettings = "SET tcp_keepalives_idle = '5'; SET tcp_keepalives_interval = '5'; " +
	"SET tcp_keepalives_count = '2'; SET tcp_user_timeout = '15000'; "

// Dial connects to a server that this one depends on, such as PostgreSQL or NATS. The connection
// fails about 10 seconds after nothing arrives any more.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probeCount},
		Control: func(network, _ string, socket syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			return LimitUnacked(socket, unackedTimeout)
		},
	}
	return d.DialContext(ctx, network, address)
}
