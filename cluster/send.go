package cluster

import (
	"context"
	"time"
)

// sendTimeout ends a Send without an answer, so that the next one uses a new connection.
const sendTimeout = 5 * time.Second

// send sends what waits until the context ends. While a Send is under way, everything else waits,
// so that a slow carrier gets fewer and larger messages.
func (n *Node) send(ctx context.Context) {
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			n.sayGone()
			return
		}
		if packets := n.packets(n.takeOut()); len(packets) > 0 && !n.sendPackets(ctx, packets) {
			n.sayGone()
			return
		}
	}
}

// packets returns the packets of a message. Only the goroutine of send calls it.
func (n *Node) packets(message []byte) []string {
	if len(message) == 0 {
		return nil
	}
	packets := splitMessage(n.id, n.sent+1, message, n.carrier.PacketBytes())
	n.sent += uint64(len(packets))
	return packets
}

// takeOut returns the message that waits to be sent.
func (n *Node) takeOut() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	message := n.out
	if n.missed && !n.alone.Load() {
		message = appendRecord(message, recordMissed, noContent)
	}
	n.out, n.missed = nil, false
	return message
}

// sendPackets sends packets until the carrier takes them. After a failure, all of them are sent
// again: the other nodes ignore those that they have heard. It reports false if the context ends.
func (n *Node) sendPackets(ctx context.Context, packets []string) bool {
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
	packets := n.packets(appendRecord(n.takeOut(), recordGone, noContent))
	if err := n.carrier.Send(ctx, packets); err != nil {
		n.log.Warn("other servers not told that this one stops", "error", err)
	}
}
