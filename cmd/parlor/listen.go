package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A peer that vanished without a word, as a phone in a tunnel, is noticed within 20 to 30 s: probes begin after 15 idle
// seconds and come every 5. The server's own heartbeats are unacknowledged data then, and TCP would go on sending them
// again for some 15 minutes; unackedTimeout bounds that where the system can (RFC 5482).
const (
	probeAfter     = 15 * time.Second
	probeInterval  = 5 * time.Second
	probeCount     = 3
	unackedTimeout = 20 * time.Second
)

// maxUnsent is how many bytes the system takes for a reader before the hub has to keep them. By itself it takes some
// megabytes: what waits there can no longer be shed, and nobody notices that its reader has stopped.
const maxUnsent = 128 << 10

// listen opens a TCP port whose connections are counted, and end soon after their peer has vanished.
func listen(ctx context.Context, address string, counted *connections) (net.Listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probeCount},
		Control:         limitUnsent, // connections inherit it from the listening socket
	}
	port, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the port: %w", err)
	}
	return listener{port, counted}, nil
}
