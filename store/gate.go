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
	gateWidth = 2
	// gateWaiting bounds how many calls wait behind them.
	gateWaiting = 1000
)

// errCrowded is the answer to a call that waits behind one that did not get its lock.
var errCrowded = fmt.Errorf("%w: another transaction keeps locked what the call needs", room.ErrUnavailable)

// lockKey names what a transaction locks. Keys are ordered as the locks are.
type lockKey string

func userKey(id room.UserID) lockKey       { return lockKey("0 user " + id) }
func sessionKey(id room.SessionID) lockKey { return lockKey("1 session " + id) }
func inboxKey(id room.UserID) lockKey      { return lockKey("2 inbox " + id) }
func roomKey(id room.RoomID) lockKey       { return lockKey("3 room " + id) }

// apartKey is for those who wait for a session before they wait for the room.
func apartKey(id room.RoomID) lockKey { return lockKey("4 apart " + id) }

// gate keeps transactions from waiting in PostgreSQL, each with a connection, for a lock
// that does not come: calls for one room wait here, behind a few of them, and are refused
// when those are. It also leaves a part of the pool to calls that take no locks.
type gate struct {
	places chan struct{} // has an element for each transaction that is under way

	mu    sync.Mutex // guards turns
	turns map[lockKey]*turn
}

// turn is those who want the same lock.
type turn struct {
	inside  int
	waiting []chan error // each with room for its one answer
}

func newGate(places int) *gate {
	return &gate{places: make(chan struct{}, places), turns: make(map[lockKey]*turn)}
}

// run runs a transaction that takes locks when it is its turn for all of them.
func (g *gate) run(ctx context.Context, locks []lockKey, transaction func() error) error {
	locks = slices.Clone(locks)
	slices.Sort(locks) // all take them in one order
	locks = slices.Compact(locks)
	for i, key := range locks {
		if err := g.enter(ctx, key); err != nil {
			g.leave(locks[:i], nil)
			return err
		}
	}
	select {
	case g.places <- struct{}{}:
	case <-ctx.Done():
		g.leave(locks, nil)
		return ctx.Err()
	}
	var err error = errCrowded // should the transaction panic
	defer func() {
		<-g.places
		g.leave(locks, err)
	}()
	err = transaction()
	return err
}

func (g *gate) enter(ctx context.Context, key lockKey) error {
	g.mu.Lock()
	t := g.turns[key]
	if t == nil {
		t = new(turn)
		g.turns[key] = t
	}
	if t.inside < gateWidth {
		t.inside++
		g.mu.Unlock()
		return nil
	}
	if len(t.waiting) == gateWaiting {
		g.mu.Unlock()
		return errCrowded
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
		g.leave([]lockKey{key}, nil)
	}
	return ctx.Err()
}

// leave lets the next ones in. Where a transaction did not get a lock, those that wait
// would not get it either.
func (g *gate) leave(locks []lockKey, err error) {
	if len(locks) == 0 {
		return
	}
	refused := lockRefused(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range locks {
		t := g.turns[key]
		t.inside--
		switch {
		case refused:
			for _, waiting := range t.waiting {
				waiting <- errCrowded
			}
			t.waiting = nil
		case len(t.waiting) > 0:
			t.inside++
			t.waiting[0] <- nil
			t.waiting = t.waiting[1:]
		}
		if t.inside == 0 {
			delete(g.turns, key)
		}
	}
}
