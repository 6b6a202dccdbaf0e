package store

import "sync"

const (
	// maxBatch bounds how long the rows of a batch stay locked.
	maxBatch = 128
	// maxBatches is how many transactions of a queue run at once: while one waits for the disk, the
	// other works.
	maxBatches = 2
)

// A batchQueue collects calls that share transactions: when a server stops or a proxy fails,
// thousands of clients make the same call at once, and each transaction would wait for the disk by
// itself. A call that is alone does not wait for others.
type batchQueue[Call any] struct {
	mu      sync.Mutex // guards waiting and workers
	waiting []Call
	workers int            // goroutines that commit batches
	running sync.WaitGroup // these goroutines, and those that commit calls alone
}

// add adds a call to the next batch, which commit is called with.
func (q *batchQueue[Call]) add(call Call, commit func([]Call)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, call)
	if q.workers == maxBatches {
		return
	}
	q.workers++
	q.running.Go(func() {
		for batch := q.next(); len(batch) > 0; batch = q.next() {
			commit(batch)
		}
	})
}

// next returns the calls of the next transaction. If there are none, it returns nil and the
// goroutine that asks has to end.
func (q *batchQueue[Call]) next() []Call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxBatch)
	if n == 0 {
		q.workers--
		return nil
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}
