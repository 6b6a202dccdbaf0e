package cluster

import (
	"context"
	"sync"
	"time"

	"parlor/room"
)

// spreadTime is how long servers of a NATS cluster may take to tell each other who follows a log.
const spreadTime = 250 * time.Millisecond

// follows holds what the other nodes and the carrier have to be told about logs, and the logs that are
// new.
type follows struct {
	wake chan struct{} // signaled when changed is not empty

	mu sync.Mutex // guards all below; acquired after the mutex of the hub
	// changed holds the logs that are followed (true) or not any more (false) since the others were
	// told, and since is when the first of them was followed.
	changed map[room.LogID]bool
	since   time.Time
	// fresh holds the logs whose packets were perhaps missed, with the time when they were
	// followed.
	fresh map[room.LogID]time.Time
}

func newFollows() follows {
	return follows{wake: make(chan struct{}, 1), changed: make(map[room.LogID]bool), fresh: make(map[room.LogID]time.Time)}
}

// Follow makes the other nodes send this one what concerns the room of a log. It does not block.
func (n *Node) Follow(log room.LogID) { n.setFollowed(log, true) }

// Unfollow undoes Follow.
func (n *Node) Unfollow(log room.LogID) { n.setFollowed(log, false) }

func (n *Node) setFollowed(log room.LogID, followed bool) {
	now := n.database.Now()
	n.follows.mu.Lock()
	defer n.follows.mu.Unlock()
	if len(n.follows.changed) == 0 || now.Before(n.follows.since) {
		n.follows.since = now
	}
	n.follows.changed[log] = followed
	n.signal(n.follows.wake)
}

// follow tells the carrier and the other nodes which logs are followed, until the context ends.
func (n *Node) follow(ctx context.Context) {
	for {
		select {
		case <-n.follows.wake:
		case <-ctx.Done():
			return
		}
		followed, unfollowed, since := n.follows.take()
		if n.router != nil {
			n.router.Unfollow(unfollowed)
			if err := n.router.Follow(ctx, followed); err != nil && ctx.Err() == nil {
				n.log.Warn("logs not followed on the bus yet", "error", err) // Listen fails too, and follows them again
			}
			n.follows.addFresh(followed, time.Now())
			n.signal(n.checks)
		}
		n.mu.Lock()
		for _, log := range unfollowed {
			delete(n.following.logs, log)
		}
		if n.following.add(followed, since) && len(n.peers) > 0 {
			n.postBeat()
		}
		n.mu.Unlock()
	}
}

// take returns the changes that the others have to be told, and when the first of them happened.
func (f *follows) take() (followed, unfollowed []room.LogID, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for log, is := range f.changed {
		if is {
			followed = append(followed, log)
		} else {
			unfollowed = append(unfollowed, log)
		}
	}
	clear(f.changed)
	return followed, unfollowed, f.since
}

// addFresh adds logs that the carrier follows from now on.
func (f *follows) addFresh(logs []room.LogID, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, log := range logs {
		f.fresh[log] = now
	}
}

// takeFresh returns the logs whose ends have to be compared: those that were followed lately. Each
// is compared at once, because the topic may have been loaded before the carrier followed it, and
// again after spreadTime.
func (f *follows) takeFresh(now time.Time) (logs []room.LogID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for log, at := range f.fresh {
		logs = append(logs, log)
		if now.Sub(at) >= spreadTime {
			delete(f.fresh, log)
		}
	}
	return logs
}
