package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"parlor/tcp"
)

// A peer that lost its network, such as a phone in a tunnel, acknowledges nothing. TCP would
// retransmit for about 15 minutes. TCP_USER_TIMEOUT (RFC 5482) limits that on systems that have it.
//
// A stream gets a timeout of its own when it opens (setUnackedTimeout), so that the next heartbeat
// ends it after PARLOR_PEER_TIMEOUT. On all other connections the timeout is unackedTimeout, which
// is long because Linux also applies it to a peer that is reachable but does not read, such as a
// paused download. TCP keep-alive probes find lost peers of idle connections.
const (
	probeAfter     = 15 * time.Second
	probeInterval  = 5 * time.Second
	probeCount     = 3
	unackedTimeout = 60 * time.Second
)

// maxUnsent is how many unsent bytes the system buffers for a connection. By default it buffers
// some megabytes, from which the hub can no longer shed messages, and which hide that a client has
// stopped reading.
const maxUnsent = 128 << 10

// listen opens a TCP port whose connections are counted, and end soon after their peer has lost its
// network.
func listen(ctx context.Context, address string, counted *connections) (*listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probeCount},
		Control:         limitSending, // connections inherit it from the listening socket
	}
	port, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &listener{Listener: port, connections: counted}, nil
}

// unacked returns how long data on a stream may stay unacknowledged. The next heartbeat is sent at
// most PARLOR_HEARTBEAT after a client's last packet, so this is the rest of PARLOR_PEER_TIMEOUT,
// less a second because timers are late.
func (c *ServeCmd) unacked() time.Duration { return c.PeerTimeout - c.Heartbeat - time.Second }

// setUnackedTimeout sets the time after which a request's connection ends if data on it stays
// unacknowledged.
func setUnackedTimeout(ctx context.Context, unacked time.Duration) error {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return nil // not TCP, as in tests
	}
	socket, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return tcp.LimitUnacked(socket, unacked)
}
