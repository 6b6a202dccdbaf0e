package cluster

import (
	"context"
	"time"
)

const (
	// beatInterval is how often a node says that it is alive.
	beatInterval = time.Second
	// listInterval is how often the database is asked for the other nodes.
	listInterval = 2 * time.Second
	// reportAfter is how long a node that the database lists may be unheard before that is logged
	// as an error. It is longer than a lease, so that a crashed node is not reported.
	reportAfter = 20 * time.Second
)

// beat says regularly that this node is alive, and finds out which other nodes there are.
func (n *Node) beat(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	var listedAt time.Time
	for {
		now := time.Now()
		if now.Sub(listedAt) >= listInterval {
			listedAt = now
			n.list(ctx)
		}
		n.sayAlive(now)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// list asks the database for the other nodes. Without an answer, nothing changes.
func (n *Node) list(ctx context.Context) {
	read, cancel := context.WithTimeout(ctx, listInterval)
	defer cancel()
	nodes, err := n.database.OtherNodes(read)
	if err != nil {
		return // the renewal of the lease logs it
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers.list(nodes, time.Now())
	n.updateAlone()
	for _, node := range n.peers.unheardFor(reportAfter, time.Now()) {
		n.log.Error("another server is not heard: changes that it makes arrive late, and its barrage and command messages not at all", "node", node)
	}
}

// sayAlive sends a beat if there are other nodes. If the node does not hear its own beats, it
// connects to the carrier again: the connection may be dead although nothing was reported.
func (n *Node) sayAlive(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.peers) == 0 {
		n.heardSelfAt = now
		return
	}
	n.setOut(appendRecord(n.out, recordBeat, noContent))
	if n.listening && now.Sub(n.heardSelfAt) >= unheardAfter {
		n.relisten()
	}
}
