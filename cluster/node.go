// Package cluster connects the servers that share a database, so that they behave as one. Each node
// publishes the changes that it commits on a bus, and delivers the changes of the others to its own
// streams. Events of a room are published only if another node follows its log.
//
// The bus may lose, repeat and reorder what it carries. Nothing depends on it but speed: a node
// that may have missed something compares its logs and streams with the database. A node that is
// alone publishes nothing.
package cluster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"parlor/hub"
	"parlor/room"
)

const (
	// maxOutBytes bounds the message that waits for a slow carrier. A change that does not fit is
	// not published, and the other nodes are told that they missed something.
	maxOutBytes = 8 << 20
	// gapTimeout is how long a missing event of another node may take before it is read from the
	// database. Under load a packet takes some tens of milliseconds.
	gapTimeout = 100 * time.Millisecond
)

// Carrier carries packets between nodes. One goroutine calls Listen, and another Send.
type Carrier interface {
	// Listen calls ready when it has begun to listen, and then hear for each packet, until ctx ends
	// or packets may have been lost. It finds out within seconds that a connection is dead.
	// Packets of this node may be among those that it hears. hear keeps nothing of a packet.
	Listen(ctx context.Context, ready func(), hear func(packet []byte)) error
	// Send sends packets in order, while Listen listens. If it fails, some of them may have been
	// sent. If Listen fails soon afterwards, some may have been lost.
	Send(ctx context.Context, packets []Packet) error
	// PacketBytes is the maximum size of a packet.
	PacketBytes() int
	// Interval is the shortest time between two calls of Send.
	Interval() time.Duration
}

// Packet is text that a node sends.
type Packet struct {
	Log  room.LogID // the log of the room that it concerns; 0 means that it is for all nodes
	Text []byte
}

// Router is a Carrier that carries the packets of a log only to the nodes that follow the log. Other
// carriers carry all packets to all nodes.
type Router interface {
	Carrier
	// Follow follows logs, also on later connections. When it returns without an error, packets of
	// these logs that are sent from now on are heard.
	Follow(ctx context.Context, logs []room.LogID) error
	Unfollow(logs []room.LogID)
}

// Database is what a node reads from the database.
type Database interface {
	// OtherNodes returns the other nodes that the database lists as alive. It does not block.
	OtherNodes() []room.NodeID
	LogEnds(ctx context.Context, logs []room.LogID) ([]room.Position, error)
	Standings(ctx context.Context, sessions []room.SessionID) ([]room.Standing, error)
	// Now returns the time by the database's clock.
	Now() time.Time
	// Heard evicts what is cached about the sessions of a change of another node. Missed evicts
	// everything, because changes of other nodes may have been missed, and HeardAll says that none
	// are getting lost. None of them blocks.
	Heard(c room.Change)
	Missed()
	HeardAll()
}

// Node is this server as one of several.
type Node struct {
	id       room.NodeID
	hub      *hub.Hub
	database Database
	carrier  Carrier
	router   Router // the carrier, if it is one; or nil
	log      *slog.Logger
	follows  follows

	// alone is set while there is no other node, so that nothing is published.
	alone atomic.Bool
	stats stats
	sent  numbering // only the goroutine of send uses it

	mu    sync.Mutex // guards all below
	peers peers
	// gone holds the nodes that said so and that the database still lists.
	gone map[room.NodeID]bool
	// out waits to be sent, and wake is signaled when there is something. missed is set if
	// something was dropped, or was committed but not published.
	out    outbox
	wake   chan struct{}
	missed bool
	// feedsBehind is set if nodes with feeds do not hear of something that was committed.
	feedsBehind bool
	following   following
	entered     entered
	withheld    withheld
	// listening is set while the carrier listens.
	listening bool
	// doubted is set if something may have been missed since the last check.
	doubted bool
	pings   pings

	checks chan struct{} // wakes the goroutine of check
}

// stats holds the counters of Stats.
type stats struct {
	published, heard, ignored, doubts, mended atomic.Uint64
}

// Stats describes the work of a node and what it knows of the others.
type Stats struct {
	Others    int    // other nodes that are heard
	Unheard   int    // other nodes that the database lists, but that are not heard
	Published uint64 // packets sent
	Heard     uint64 // packets of other nodes
	Ignored   uint64 // packets that were not understood
	Doubts    uint64 // how often something may have been missed
	Mended    uint64 // logs that had missed something
}

// New returns a node. Run has to be called.
func New(id room.NodeID, h *hub.Hub, database Database, carrier Carrier, log *slog.Logger) *Node {
	n := &Node{
		id: id, hub: h, database: database, carrier: carrier, log: log, follows: newFollows(),
		peers: make(peers), gone: make(map[room.NodeID]bool), following: following{logs: make(map[room.LogID]bool)},
		wake: make(chan struct{}, 1), pings: pings{asked: make(map[uint64]*ping)}, checks: make(chan struct{}, 1),
	}
	n.router, _ = carrier.(Router)
	n.alone.Store(true)
	return n
}

// Apply delivers a change that this node has committed to the streams of all nodes. It never
// blocks.
func (n *Node) Apply(c room.Change) {
	if n.alone.Load() {
		n.hub.Apply(c)
		return
	}
	at, frames := n.database.Now(), n.hub.Encode(c.Events)
	n.hub.ApplyEncoded(c, frames)
	notice, err := encodeNotice(c, at)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.log.Error("change not published to other servers", "error", err)
		n.missed = true
	}
	// The notice comes before the events, because a session that was removed must not receive
	// those.
	if notice != nil {
		n.post(0, recordNotice, notice)
	}
	for _, j := range c.Joined {
		n.entered.now.add(j.Generation)
	}
	n.publish(at, frames)
}

// Resync makes all nodes look for committed events that were not published.
func (n *Node) Resync() {
	n.hub.Resync()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed = true
	n.signal(n.wake)
}

// signal wakes the reader of a channel that has room for one signal.
func (n *Node) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run connects the node with the others until the context ends, and then says that it is gone.
func (n *Node) Run(ctx context.Context) {
	var listening, running sync.WaitGroup
	// The carrier sends while it listens, so it listens until the others are told.
	listen, stop := context.WithCancel(context.WithoutCancel(ctx))
	listening.Go(func() { n.listen(listen) })
	running.Go(func() { n.check(ctx) })
	running.Go(func() { n.beat(ctx) })
	running.Go(func() { n.send(ctx) })
	running.Go(func() { n.follow(ctx) })
	running.Wait()
	stop()
	listening.Wait()
}

// updateAlone finds out whether there are other nodes. The caller holds mu.
func (n *Node) updateAlone() {
	alone := len(n.peers) == 0
	if n.alone.Swap(alone) == alone {
		return
	}
	if alone {
		n.out, n.missed, n.withheld = outbox{}, false, withheld{}
		n.hub.SetGapTimeout(0)
		n.log.Info("no other servers")
	} else {
		n.missed = true // changes that this node committed while it was alone, unless the others are new
		n.hub.SetGapTimeout(gapTimeout)
		n.log.Info("other servers found", "servers", len(n.peers))
	}
}

// Stats returns the current statistics.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	unheard := len(n.peers.unheard(time.Now()))
	return Stats{
		Others: len(n.peers) - unheard, Unheard: unheard,
		Published: n.stats.published.Load(), Heard: n.stats.heard.Load(), Ignored: n.stats.ignored.Load(),
		Doubts: n.stats.doubts.Load(), Mended: n.stats.mended.Load(),
	}
}

// sleep waits, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
