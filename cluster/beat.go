package cluster

import (
	"context"
	"maps"
	"slices"
	"time"

	"parlor/room"
)

const (
	// beatInterval is how often a node says that it is alive.
	beatInterval = time.Second
	// reportAfter is how long a node that the database lists may be unheard before that is logged
	// as an error. It is longer than a lease, so that a crashed node is not reported.
	reportAfter = 20 * time.Second
)

// beat says regularly that this node is alive, and finds out which other nodes there are.
func (n *Node) beat(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		now := time.Now()
		n.list(now)
		n.sayAlive()
		n.reportLosses(now)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// list compares the nodes that were heard with those that the database lists.
func (n *Node) list(now time.Time) {
	listed := n.database.OtherNodes()
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.gone, func(node room.NodeID, _ bool) bool { return !slices.Contains(listed, node) })
	n.peers.list(slices.DeleteFunc(slices.Clone(listed), func(node room.NodeID) bool { return n.gone[node] }), now)
	n.updateAlone()
	for _, node := range n.peers.unheardFor(reportAfter, now) {
		n.log.Error("another server is not heard: changes that it makes arrive late, and its barrage and command messages not at all", "node", node)
	}
}

// reportLosses tells the database whether what it caches may get stale without a notice. It does so
// here, because the goroutine of check may be waiting for the database.
func (n *Node) reportLosses(now time.Time) {
	n.mu.Lock()
	alone, losing := len(n.peers) == 0, n.losing(now)
	n.mu.Unlock()
	switch {
	case losing:
		n.database.Missed()
	case !alone:
		n.database.HeardAll()
	}
}

// sayAlive sends a beat if there are other nodes.
func (n *Node) sayAlive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.following.refresh()
	n.entered.age()
	if len(n.peers) > 0 {
		n.postBeat()
	}
}

// postBeat posts a beat, which says what this node follows. The caller holds mu.
func (n *Node) postBeat() {
	if n.postRecord(0, recordBeat, n.following.appendTo) {
		n.following.since = time.Time{}
	}
}

// heardBeat records what another node follows. It gets what was withheld since it has followed that.
func (n *Node) heardBeat(node room.NodeID, content []byte) error {
	since, now, err := parseInterest(content)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[node]
	if p == nil {
		return nil // it is gone
	}
	before := p.interest
	p.interest = now
	if before == nil || now == nil {
		return nil
	}
	added, none := now.without(before)
	if none {
		return nil
	}
	frames, complete := n.withheld.take(since, &added)
	n.postFrames(frames)
	if !complete {
		n.missed = true
		n.signal(n.wake)
	}
	return nil
}

// HeardSince returns since when this node has heard each of the others without a pause of
// unheardAfter, by the database's clock. Nodes that it does not hear are absent.
func (n *Node) HeardSince() map[room.NodeID]time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	since := n.peers.heardSince(now)
	for node, at := range since {
		since[node] = n.database.Now().Add(-now.Sub(at))
	}
	return since
}
