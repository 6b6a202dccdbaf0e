package cluster

import (
	"context"
	"strconv"
	"time"

	"parlor/room"
)

// settleTimeout bounds the wait of Settle. A node that does not answer in this time finds out from
// the database, because it compares its streams every doubtInterval while it is not heard.
const settleTimeout = time.Second

// pings are the calls of Settle that wait for answers. Node.mu guards them.
type pings struct {
	last  uint64 // the number of the latest
	asked map[uint64]*ping
}

// ping is a call of Settle.
type ping struct {
	waiting map[room.NodeID]bool // the nodes that have not answered
	done    chan struct{}        // closed when all have
}

// Settle waits until all other nodes have heard what this one has published, at most settleTimeout.
// A call that removes a session from a room settles before it replies, so that the session does not
// receive what is sent afterwards, through whatever node.
func (n *Node) Settle(ctx context.Context) {
	if n.alone.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	n.mu.Lock()
	number, p := n.pings.add(n.peers)
	n.post(0, recordPing, strconv.AppendUint(nil, number, 10))
	n.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
		n.mu.Lock()
		delete(n.pings.asked, number)
		n.mu.Unlock()
	}
}

// add adds a ping of all other nodes.
func (ps *pings) add(others peers) (number uint64, p *ping) {
	ps.last++
	p = &ping{waiting: make(map[room.NodeID]bool, len(others)), done: make(chan struct{})}
	for node := range others {
		p.waiting[node] = true
	}
	ps.asked[ps.last] = p
	ps.finish(ps.last)
	return ps.last, p
}

// pong records the answer of a node.
func (ps *pings) pong(number uint64, node room.NodeID) {
	if p := ps.asked[number]; p != nil {
		delete(p.waiting, node)
		ps.finish(number)
	}
}

// forget stops waiting for a node that is gone.
func (ps *pings) forget(node room.NodeID) {
	for number, p := range ps.asked {
		delete(p.waiting, node)
		ps.finish(number)
	}
}

// finish ends a ping that all nodes have answered.
func (ps *pings) finish(number uint64) {
	if p := ps.asked[number]; len(p.waiting) == 0 {
		close(p.done)
		delete(ps.asked, number)
	}
}
