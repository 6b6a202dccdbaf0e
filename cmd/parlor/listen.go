package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A peer that lost its network, such as a phone in a tunnel, acknowledges nothing. TCP would
// retransmit for about 15 minutes. TCP_USER_TIMEOUT (RFC 5482) limits that on systems that have it.
// On a stream, the next heartbeat is data that must be acknowledged, so the timeout is what is left
// of PARLOR_PEER_TIMEOUT, and is set when a stream opens (setUnackedTimeout). On all other
// connections it is unackedTimeout, because Linux also counts the time in which a peer is there but
// does not read: a download may pause. Idle connections are probed.
const (
	probeAfter     = 15 * time.Second
	probeInterval  = 5 * time.Second
	probeCount     = 3
	unackedTimeout = 60 * time.Second
)

// maxUnsent is how many bytes the system buffers for a client before the hub has to. The default is
// some megabytes, which can no longer be shed, and hide that the client has stopped reading.
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

// unacked returns how long data on a stream may stay unacknowledged. A heartbeat is sent at most
// PARLOR_HEARTBEAT after the last sign of a client. Together with this time it makes
// PARLOR_PEER_TIMEOUT, less a second because timers are late.
func (c *ServeCmd) unacked() time.Duration { return c.PeerTimeout - c.Heartbeat - time.Second }

// setUnackedTimeout makes a request's connection end after data has stayed unacknowledged for so
// long.
func setUnackedTimeout(ctx context.Context, unacked time.Duration) error {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return nil // not TCP, as in tests
	}
	socket, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	if err := limitUnacked(socket, unacked); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
