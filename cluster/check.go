package cluster

import (
	"context"
	"slices"
	"time"

	"parlor/room"
)

const (
	// doubtInterval is how often everything is compared with the database while changes of other
	// nodes may be getting lost.
	doubtInterval = 250 * time.Millisecond
	// endsInterval is how often the ends of logs are compared otherwise, in case something is lost
	// that nobody noticed.
	endsInterval = 5 * time.Second
	// checkTimeout ends a read without an answer.
	checkTimeout = 5 * time.Second
	// endsBatch and standingsBatch bound what one statement reads.
	endsBatch      = 1000
	standingsBatch = 500
)

// doubt records that something may have been missed.
func (n *Node) doubt() {
	n.stats.doubts.Add(1)
	n.database.Missed()
	n.mu.Lock()
	n.doubted = true
	n.mu.Unlock()
	n.signal(n.checks)
}

// check compares this node with the database until the context ends: at once when something may
// have been missed, every doubtInterval while that goes on, and the ends of logs every
// endsInterval.
func (n *Node) check(ctx context.Context) {
	ticker := time.NewTicker(doubtInterval)
	defer ticker.Stop()
	var endsAt time.Time // when the ends were last compared
	for {
		select {
		case <-n.checks:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		doubted, logs := n.takeDoubt(now), n.follows.takeFresh(now)
		if !doubted && n.alone.Load() {
			continue
		}
		if doubted || now.Sub(endsAt) >= endsInterval {
			logs, endsAt = n.hub.Logs(), now
		}
		err := n.compareEnds(ctx, logs)
		if err == nil && doubted {
			err = n.compareStandings(ctx)
		}
		if err != nil && ctx.Err() == nil { // tried again at the next tick
			n.mu.Lock()
			n.doubted = true
			n.mu.Unlock()
		}
	}
}

// takeDoubt reports whether changes of other nodes may have been missed, or may be getting lost.
func (n *Node) takeDoubt(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	doubted := n.doubted
	n.doubted = false
	return doubted || n.losing(now)
}

// losing reports whether changes of other nodes may be getting lost. The caller holds mu.
func (n *Node) losing(now time.Time) bool {
	return len(n.peers) > 0 && (!n.listening || len(n.peers.unheard(now)) > 0)
}

// compareEnds makes the topics of logs read what they lack. With an error, some of them may lack
// something.
func (n *Node) compareEnds(ctx context.Context, logs []room.LogID) error {
	for logs := range slices.Chunk(logs, endsBatch) {
		read, cancel := context.WithTimeout(ctx, checkTimeout)
		ends, err := n.database.LogEnds(read, logs)
		cancel()
		if err != nil {
			return err
		}
		n.stats.mended.Add(uint64(n.hub.Expect(ends...)))
	}
	return nil
}

// compareStandings makes streams reconnect that differ from the database.
func (n *Node) compareStandings(ctx context.Context) error {
	for sessions := range slices.Chunk(n.hub.Sessions(), standingsBatch) {
		read, cancel := context.WithTimeout(ctx, checkTimeout)
		standings, err := n.database.Standings(read, sessions)
		cancel()
		if err != nil {
			return err
		}
		n.hub.Compare(standings)
	}
	return nil
}
