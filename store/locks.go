package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"parlor/room"
)

const (
	// gateWidth is how many transactions may want the same lock at once: one that has it, and
	// one that PostgreSQL gives it to next.
	maxHolders = 2
	// gateWaiting bounds how many calls wait behind them.
	maxLockWaiters = 1000
)

// errCrowded is the answer to a call that waits behind one that did not get its lock.
var errLocked = fmt.Errorf("%w: another transaction keeps locked what the call needs", room.ErrUnavailable)

// lockKey names what a transaction locks. Keys are ordered as the locks are.
type lockKey string

func userKey(id room.UserID) lockKey       { return lockKey("0 user " + id) }
func sessionKey(id room.SessionID) lockKey { return lockKey("1 session " + id) }
func inboxKey(id room.UserID) lockKey      { return lockKey("2 inbox " + id) }
func roomKey(id room.RoomID) lockKey       { return lockKey("3 room " + id) }

// apartKey is for those who wait for a session before they wait for the room.
func blockedJoinKey(id room.RoomID) lockKey { return lockKey("4 apart " + id) }

// gate keeps transactions from waiting in PostgreSQL, each with a connection, for a lock
// that does not come: calls for one room wait here, behind a few of them, and are refused
// when those are. It also leaves a part of the pool to calls that take no locks.
type lockQueue struct {
	inFlight chan struct{} // has an element for each transaction that is under way

	mu   sync.Mutex // guards turns
	keys map[lockKey]*keyQueue
}

// turn is those who want the same lock.
type keyQueue struct {
	holders int
	waiting []chan error // each with room for its one answer
}

func newLockQueue(places int) *lockQueue {
	return &lockQueue{inFlight: make(chan struct{}, places), keys: make(map[lockKey]*keyQueue)}
}

// run runs a transaction that takes locks when it is its turn for all of them.
func (g *lockQueue) run(ctx context.Context, locks []lockKey, transaction func() error) error {
	locks = slices.Clone(locks)
	slices.Sort(locks) // all take them in one order
	locks = slices.Compact(locks)
	for i, key := range locks {
		if err := g.acquire(ctx, key); err != nil {
			g.release(locks[:i], nil)
			return err
		}
	}
	select {
	case g.inFlight <- struct{}{}:
	case <-ctx.Done():
		g.release(locks, nil)
		return ctx.Err()
	}
	var err error = errLocked // should the transaction panic
	defer func() {
		<-g.inFlight
		g.release(locks, err)
	}()
	err = transaction()
	return err
}

func (g *lockQueue) acquire(ctx context.Context, key lockKey) error {
	g.mu.Lock()
	t := g.keys[key]
	if t == nil {
		t = new(keyQueue)
		g.keys[key] = t
	}
	if t.holders < maxHolders {
		t.holders++
		g.mu.Unlock()
		return nil
	}
	if len(t.waiting) == maxLockWaiters {
		g.mu.Unlock()
		return errLocked
	}
	mine := make(chan error, 1)
	t.waiting = append(t.waiting, mine)
	g.mu.Unlock()
	select {
	case err := <-mine:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(t.waiting, mine)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 && <-mine == nil { // the turn came in the same instant
		g.release([]lockKey{key}, nil)
	}
	return ctx.Err()
}

// leave lets the next ones in. Where a transaction did not get a lock, those that wait
// would not get it either.
func (g *lockQueue) release(locks []lockKey, err error) {
	if len(locks) == 0 {
		return
	}
	refused := lockRefused(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range locks {
		t := g.keys[key]
		t.holders--
		switch {
		case refused:
			for _, waiting := range t.waiting {
				waiting <- errLocked
			}
			t.waiting = nil
		case len(t.waiting) > 0:
			t.holders++
			t.waiting[0] <- nil
			t.waiting = t.waiting[1:]
		}
		if t.holders == 0 {
			delete(g.keys, key)
		}
	}
}
