package cluster

import (
	"context"
	"time"

	"parlor/hub"
)

// sendTimeout ends a Send without an answer, so that the next one uses a new connection.
const sendTimeout = 5 * time.Second

// send sends what waits until the context ends. While a Send is under way and until the interval of
// the carrier is over, everything waits, so that a slow carrier gets fewer and larger messages.
func (n *Node) send(ctx context.Context) {
	var last time.Time
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
		}
		if !sleep(ctx, time.Until(last.Add(n.carrier.Interval()))) {
			n.sayGone()
			return
		}
		last = time.Now()
		if packets := n.takePackets(); len(packets) > 0 && !n.sendPackets(ctx, packets) {
			n.sayGone()
			return
		}
	}
}

// takePackets returns the packets that wait to be sent, or none while the carrier does not listen.
func (n *Node) takePackets() (packets []Packet) {
	n.mu.Lock()
	if !n.listening {
		n.mu.Unlock()
		return nil
	}
	if n.missed && !n.alone.Load() {
		n.out.bytes = 0 // this record always fits
		n.post(0, recordMissed, nil)
	}
	if n.feedsBehind {
		n.post(n.route(hub.CommandsLog), recordFrames, nil)
	}
	out := n.out
	n.out, n.missed, n.feedsBehind = outbox{}, false, false
	n.mu.Unlock()
	for _, m := range out.messages {
		packets = append(packets, n.sent.packets(n.id, m, n.carrier.PacketBytes())...)
	}
	return packets
}

// sendPackets sends packets until the carrier takes them. After a failure, all of them are sent
// again: the other nodes ignore those that they have heard. It reports false if the context ends.
func (n *Node) sendPackets(ctx context.Context, packets []Packet) bool {
	for retry, failed := minRetry, false; ; retry, failed = min(2*retry, maxRetry), true {
		attempt, cancel := context.WithTimeout(ctx, sendTimeout)
		err := n.carrier.Send(attempt, packets)
		cancel()
		if err == nil {
			n.stats.published.Add(uint64(len(packets)))
			if failed {
				n.log.Info("send to other servers works again")
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !failed {
			n.log.Warn("send to other servers failed: retrying", "error", err)
		}
		if !sleep(ctx, retry) {
			return false
		}
	}
}

// sayGone sends what is left, and that this node is gone. The other nodes notice the end of the
// node without it, so one try is enough.
func (n *Node) sayGone() {
	if n.alone.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n.mu.Lock()
	n.post(0, recordGone, nil)
	n.mu.Unlock()
	packets := n.takePackets()
	if len(packets) == 0 {
		return
	}
	if err := n.carrier.Send(ctx, packets); err != nil {
		n.log.Warn("other servers not told that this one stops", "error", err)
	}
}
