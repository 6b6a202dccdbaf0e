package cluster

import (
	"slices"
	"time"

	"parlor/room"
)

const (
	// unheardAfter is how long a living node may be silent. After that, its packets are probably
	// getting lost.
	unheardAfter = 3 * time.Second
	// maxMessageBytes bounds a message that arrives in parts.
	maxMessageBytes = 2 * maxOutBytes
	// maxPeers bounds the nodes that are kept in memory, in case something else sends packets.
	maxPeers = 256
)

// peer is another node.
type peer struct {
	heardAt time.Time // when its last packet arrived; zero if none has
	// heardSince is when the first packet arrived after the node was not heard, or the first of all.
	heardSince time.Time
	number     uint64 // of its last packet
	parts      []byte // the first parts of a message whose last part has not arrived
	nextPart   uint64 // the next part of that message
	listed     bool   // the database lists it
	// interest is what it follows; nil if that is unknown, so that it hears everything.
	interest *interest
	// unheardSince is when a listed node was found unheard; zero if it is heard. reported says that
	// this was logged.
	unheardSince time.Time
	reported     bool
}

// peers are the other nodes, by ID: those that were heard, and those that the database lists. It
// has neither a clock nor a lock of its own.
type peers map[room.NodeID]*peer

// get returns a node, and adds it if it is new; nil if there are too many.
func (ps peers) get(node room.NodeID) *peer {
	p := ps[node]
	if p == nil && len(ps) < maxPeers {
		p = &peer{}
		ps[node] = p
	}
	return p
}

// hear records a packet of a node, and returns the message if the packet completes one. A repeated
// packet has no effect. missed reports that what the node published before may not have been heard:
// a packet for all nodes is missing, or a part of a message, or this is the first packet. Other
// packets may have been for logs that this node does not follow.
func (p *peer) hear(from packet, now time.Time) (message []byte, missed bool) {
	missed = p.heardAt.IsZero() || from.previous > p.number
	if !p.heard(now) {
		p.heardSince = now
	}
	p.heardAt, p.unheardSince, p.reported = now, time.Time{}, false
	if from.number <= p.number {
		return nil, false
	}
	if from.number != p.number+1 {
		p.parts, p.nextPart = nil, 0
	}
	p.number = from.number
	switch {
	case from.parts == 1:
		p.parts, p.nextPart = nil, 0
		return from.content, missed
	case from.part == 1:
		p.parts, p.nextPart = nil, 1
	case from.part != p.nextPart || len(p.parts)+len(from.content) > maxMessageBytes: // its beginning was lost
		p.parts, p.nextPart = nil, 0
		return nil, true
	}
	p.parts = append(p.parts, from.content...)
	p.nextPart++
	if from.part < from.parts {
		return nil, missed
	}
	message, p.parts, p.nextPart = p.parts, nil, 0
	return message, missed
}

// list records which nodes the database lists, and forgets those that are neither listed nor heard.
func (ps peers) list(nodes []room.NodeID, now time.Time) {
	for _, node := range nodes {
		if p := ps.get(node); p != nil {
			p.listed = true
		}
	}
	for node, p := range ps {
		if slices.Contains(nodes, node) {
			continue
		}
		p.listed = false
		if !p.heard(now) {
			delete(ps, node)
		}
	}
}

// heard reports whether the node was heard lately.
func (p *peer) heard(now time.Time) bool {
	return !p.heardAt.IsZero() && now.Sub(p.heardAt) < unheardAfter
}

// follow reports whether a node follows a log. All follow 0.
func (ps peers) follow(log room.LogID) bool {
	if log == 0 {
		return true
	}
	for _, p := range ps {
		if p.interest == nil || p.interest.has(log) {
			return true
		}
	}
	return false
}

// heardSince returns since when each node has been heard.
func (ps peers) heardSince(now time.Time) map[room.NodeID]time.Time {
	since := make(map[room.NodeID]time.Time, len(ps))
	for node, p := range ps {
		if p.heard(now) {
			since[node] = p.heardSince
		}
	}
	return since
}

// unheard returns the nodes that the database lists but that are not heard.
func (ps peers) unheard(now time.Time) (nodes []room.NodeID) {
	for node, p := range ps {
		if p.listed && !p.heard(now) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// unheardFor returns the nodes that have been unheard for a time, each only once.
func (ps peers) unheardFor(d time.Duration, now time.Time) (nodes []room.NodeID) {
	for _, node := range ps.unheard(now) {
		p := ps[node]
		switch {
		case p.unheardSince.IsZero():
			p.unheardSince = now
		case now.Sub(p.unheardSince) >= d && !p.reported:
			p.reported = true
			nodes = append(nodes, node)
		}
	}
	return nodes
}
