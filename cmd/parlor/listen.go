package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A peer that vanished without a word, as a phone in a tunnel, acknowledges nothing. TCP would go on sending what it was sent
// for some 15 minutes; TCP_USER_TIMEOUT (RFC 5482) bounds that, where the system can. On a stream the next heartbeat is such
// data, so the time that is left of PARLOR_PEER_TIMEOUT is set when one opens (noticeSooner). On all other connections it is
// unackedTimeout, as Linux counts the time in which a peer is there and takes nothing: a download may pause. A connection on
// which nothing is sent is probed.
const (
	probeAfter     = 15 * time.Second
	probeInterval  = 5 * time.Second
	probeCount     = 3
	unackedTimeout = 60 * time.Second
)

// maxUnsent is how many bytes the system takes for a reader before the hub has to keep them. By itself it takes some
// megabytes: what waits there can no longer be shed, and nobody notices that its reader has stopped.
const maxUnsent = 128 << 10

// listen opens a TCP port whose connections are counted, and end soon after their peer has vanished.
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

// unacked is how long what was sent on a stream may stay unacknowledged. A heartbeat, which is sent PARLOR_HEARTBEAT after the
// last sign of a client at the latest, and this time make PARLOR_PEER_TIMEOUT, but for a second: timers are late.
func (c *ServeCmd) unacked() time.Duration { return c.PeerTimeout - c.Heartbeat - time.Second }

// noticeSooner ends a request's connection when what was sent stays unacknowledged for so long.
func noticeSooner(ctx context.Context, unacked time.Duration) error {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return nil // no TCP, as in tests
	}
	socket, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("bound the time that a peer has: %w", err)
	}
	if err := limitUnacked(socket, unacked); err != nil {
		return fmt.Errorf("bound the time that a peer has: %w", err)
	}
	return nil
}
