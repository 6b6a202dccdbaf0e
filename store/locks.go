package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"parlor/room"
)

const (
	// maxHolders is how many transactions may want the same lock at once: one that has it, and one
	// that PostgreSQL gives it to next.
	maxHolders = 2
	// maxLockWaiters bounds how many calls wait behind them.
	maxLockWaiters = 1000
)

// errLocked is returned to a call if another call that waited for the same lock did not get it, or
// if too many calls wait for it.
var errLocked = fmt.Errorf("%w: another transaction holds a lock that the call needs", room.ErrUnavailable)

// A lockKey names a lock of a transaction. The order of the keys is the order of the locks.
type lockKey string

func userKey(id room.UserID) lockKey       { return lockKey("0 user " + id) }
func sessionKey(id room.SessionID) lockKey { return lockKey("1 session " + id) }
func inboxKey(id room.UserID) lockKey      { return lockKey("2 inbox " + id) }
func roomKey(id room.RoomID) lockKey       { return lockKey("3 room " + id) }

// blockedJoinKey is for joins that wait for a session before they wait for the room.
func blockedJoinKey(id room.RoomID) lockKey { return lockKey("4 blocked join " + id) }

// A lockQueue makes calls wait here, rather than in PostgreSQL with a connection each, for a lock
// that another transaction holds. Calls for one room wait behind a few others, and fail when those
// do not get the lock. The queue also reserves a part of the pool for calls that take no locks.
type lockQueue struct {
	inFlight chan struct{} // contains an element for each transaction in flight

	mu   sync.Mutex // guards keys
	keys map[lockKey]*keyQueue
}

// A keyQueue holds the calls that want the same lock.
type keyQueue struct {
	holders int
	waiting []chan error // each buffered for its one answer
}

func newLockQueue(maxInFlight int) *lockQueue {
	return &lockQueue{inFlight: make(chan struct{}, maxInFlight), keys: make(map[lockKey]*keyQueue)}
}

// run runs a transaction that takes locks, after waiting for its turn for all of them.
func (q *lockQueue) run(ctx context.Context, locks []lockKey, transaction func() error) error {
	locks = slices.Clone(locks)
	slices.Sort(locks) // all calls acquire them in the same order
	locks = slices.Compact(locks)
	for i, key := range locks {
		if err := q.acquire(ctx, key); err != nil {
			q.release(locks[:i], nil)
			return err
		}
	}
	select {
	case q.inFlight <- struct{}{}:
	case <-ctx.Done():
		q.release(locks, nil)
		return ctx.Err()
	}
	var err error = errLocked // in case the transaction panics
	defer func() {
		<-q.inFlight
		q.release(locks, err)
	}()
	err = transaction()
	return err
}

func (q *lockQueue) acquire(ctx context.Context, key lockKey) error {
	q.mu.Lock()
	queue := q.keys[key]
	if queue == nil {
		queue = new(keyQueue)
		q.keys[key] = queue
	}
	if queue.holders < maxHolders {
		queue.holders++
		q.mu.Unlock()
		return nil
	}
	if len(queue.waiting) == maxLockWaiters {
		q.mu.Unlock()
		return errLocked
	}
	turn := make(chan error, 1)
	queue.waiting = append(queue.waiting, turn)
	q.mu.Unlock()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(queue.waiting, turn)
	if i >= 0 {
		queue.waiting = slices.Delete(queue.waiting, i, i+1)
	}
	q.mu.Unlock()
	if i < 0 && <-turn == nil { // the turn came at the same instant
		q.release([]lockKey{key}, nil)
	}
	return ctx.Err()
}

// release admits the next waiting calls. If the transaction did not get a lock, it fails the
// waiting calls, because they would not get it either.
func (q *lockQueue) release(locks []lockKey, err error) {
	if len(locks) == 0 {
		return
	}
	refused := lockRefused(err)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range locks {
		queue := q.keys[key]
		queue.holders--
		switch {
		case refused:
			for _, turn := range queue.waiting {
				turn <- errLocked
			}
			queue.waiting = nil
		case len(queue.waiting) > 0:
			queue.holders++
			queue.waiting[0] <- nil
			queue.waiting = queue.waiting[1:]
		}
		if queue.holders == 0 {
			delete(q.keys, key)
		}
	}
}
