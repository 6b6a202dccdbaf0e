package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/room"
)

// Messages to rooms are committed in batches: the messages that arrive while a transaction is in
// flight become the batch of the next one. A single message takes one transaction and one round
// trip; under load, up to maxAppendBatch messages share the cost of a transaction.
//
//	append      queues a message and waits for its answer
//	runFirst    the first lane: takes batches whenever messages wait
//	runSecond   the second lane: takes the messages of its rooms under load
//	runStalled  the lane of one room that another transaction keeps locked
//	commit      what a lane does with a batch; append.go has the transaction

const (
	// maxAppendBatch bounds how long the rows of a batch stay locked.
	maxAppendBatch = 256
	// minSplit is the number of messages that have to wait for the second lane before it takes
	// them. A transaction costs as much as several dozen messages, so one larger transaction is
	// better than two until both processors are busy with them.
	minSplit = 64
	// maxStalled bounds the number of messages that wait for one locked room, and the number of
	// locked rooms that are remembered.
	maxStalled = 1000
)

// appender commits messages in two lanes. Each room belongs to one of them, so that two
// transactions never wait for each other's rooms. While few messages wait, the first lane commits
// them all.
type appender struct {
	store *Store
	seed  maphash.Seed
	lanes sync.WaitGroup // the goroutines of all lanes

	mu     sync.Mutex // guards all below
	queues [2][]*appendItem
	// facts caches the facts that permitted recent messages. Facts that have changed need not be
	// evicted: the permits based on them are stale, which the append finds out under the lock of
	// the room.
	facts map[roomSender]room.RoomFacts
	// stalled holds the rooms that another transaction keeps locked. Each has a lane of its own
	// until that lane has got the lock.
	stalled map[room.RoomID]*stalledRoom
	// wakeFirst wakes the first lane when a message waits, and wakeSecond the second lane when it
	// has work. close signals both.
	wakeFirst, wakeSecond *sync.Cond
	splitting             bool // the second lane is at work
	crowd                 crowd
	// gathering is the number of messages that the first lane waits for; 0 unless it gathers.
	gathering int
	closed    bool // close has been called
}

// roomSender is a session in a room, or all admins if session is empty.
type roomSender struct {
	room    room.RoomID
	session room.SessionID
}

func (item *appendItem) sender() roomSender {
	return roomSender{item.send.Room, item.send.Sender.Actor.Session()}
}

// stalledRoom is the queue of a room that another transaction keeps locked. The appender's mu
// guards it.
type stalledRoom struct {
	queue   []*appendItem
	running bool // the room's lane
}

func newAppender(s *Store) *appender {
	a := &appender{
		store: s, seed: maphash.MakeSeed(),
		facts: make(map[roomSender]room.RoomFacts), stalled: make(map[room.RoomID]*stalledRoom),
	}
	a.wakeFirst, a.wakeSecond = sync.NewCond(&a.mu), sync.NewCond(&a.mu)
	a.lanes.Go(func() { a.runFirst(&lane{appender: a, pool: s.appends}) })
	a.lanes.Go(func() { a.runSecond(&lane{appender: a, pool: s.appends}) })
	return a
}

// close waits until all accepted messages are committed. append must not be called any more.
func (a *appender) close() {
	a.mu.Lock()
	a.closed = true
	a.wakeFirst.Signal()
	a.wakeSecond.Signal()
	a.mu.Unlock()
	a.lanes.Wait()
}

// append waits until the message is committed and returns it with its seq. If its sender has stored
// a message under the same ClientMessageID before, append returns that one.
func (a *appender) append(ctx context.Context, item *appendItem) (room.Message, error) {
	item.done = make(chan struct{})
	queue := maphash.String(a.seed, string(item.send.Room)) % uint64(len(a.queues))
	a.crowd.callers.Add(1)
	defer a.crowd.callers.Add(-1)
	now := time.Now()
	a.mu.Lock()
	a.crowd.record(now)
	switch stalled := a.stalled[item.send.Room]; {
	case stalled == nil:
		a.queues[queue] = append(a.queues[queue], item)
		if a.queued() >= a.gathering {
			a.wakeFirst.Signal()
		}
	case len(stalled.queue) < maxStalled:
		a.queueStalled(stalled, item)
	default:
		a.mu.Unlock()
		return room.Message{}, errLocked
	}
	a.mu.Unlock()
	select {
	case <-item.done:
		return item.message, item.err
	case <-ctx.Done():
		// The message may still be committed. The caller is asked to try again, which is safe with
		// a ClientMessageID.
		return room.Message{}, translate(ctx.Err())
	}
}

// queued returns the number of messages that wait for a lane. The caller holds mu.
func (a *appender) queued() int { return len(a.queues[0]) + len(a.queues[1]) }

// worthGathering returns the number of messages that the first lane should wait for before it
// commits the waiting ones; 0 if it should not wait. The caller holds mu.
func (a *appender) worthGathering() int {
	want := min(a.crowd.half(), maxGather)
	if n := a.queued(); n == 0 || n >= want || a.closed {
		return 0
	}
	return want
}

// gather waits until enough messages wait, or gatherTime has passed. The caller holds mu, which is
// released meanwhile.
func (a *appender) gather() {
	a.gathering = a.worthGathering()
	if a.gathering == 0 {
		return
	}
	// If the timer of an earlier call ends this one, a batch is smaller than it could be.
	timer := time.AfterFunc(gatherTime, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.gathering = 0
		a.wakeFirst.Signal()
	})
	defer timer.Stop()
	for a.queued() < a.gathering && !a.closed {
		a.wakeFirst.Wait()
	}
	a.gathering = 0
}

// runFirst runs the first lane, which works whenever a message waits.
func (a *appender) runFirst(l *lane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		var b batch
		if len(l.stored) == 0 || a.worthGathering() == 0 { // otherwise they are published first
			a.gather()
			a.takeFirst(&b)
		}
		switch {
		case l.work(b.items):
		case a.closed && !a.splitting: // otherwise the second lane may still have work
			return
		default:
			a.wakeFirst.Wait()
		}
	}
}

// takeFirst moves messages into a batch of the first lane. The caller holds mu.
func (a *appender) takeFirst(b *batch) {
	a.queues[0] = b.take(a.queues[0])
	switch {
	case a.splitting:
	case len(a.queues[1]) < minSplit:
		a.queues[1] = b.take(a.queues[1])
	default:
		a.splitting = true
		a.wakeSecond.Signal()
	}
}

// runSecond runs the second lane, which works while its rooms are busy.
func (a *appender) runSecond(l *lane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		var b batch
		if a.splitting {
			a.queues[1] = b.take(a.queues[1])
		}
		switch {
		case l.work(b.items):
		case a.splitting:
			a.splitting = false
			a.wakeFirst.Signal() // the first lane takes the next messages
		case a.closed:
			return
		default:
			a.wakeSecond.Wait()
		}
	}
}

// batch is the messages of one transaction.
type batch struct {
	items []*appendItem
	seen  map[retryKey]bool
}

// retryKey is the same for a message and its retries.
type retryKey struct {
	room   room.RoomID
	sender room.UserID
	id     string
}

// take moves messages from a queue into the batch until it is full, and returns the rest. A message
// with the ClientMessageID of another one in the batch has to wait for it: a statement cannot see
// the rows that it inserts itself.
func (b *batch) take(queue []*appendItem) (rest []*appendItem) {
	for i, item := range queue {
		if len(b.items) == maxAppendBatch {
			return append(rest, queue[i:]...)
		}
		if id := item.message.ClientMessageID; id != "" {
			key := retryKey{item.send.Room, item.message.Sender.ID, id}
			if b.seen[key] {
				rest = append(rest, item)
				continue
			}
			if b.seen == nil {
				b.seen = make(map[retryKey]bool)
			}
			b.seen[key] = true
		}
		b.items = append(b.items, item)
	}
	return rest
}

// lane is the state of one lane. Only its goroutine uses it.
type lane struct {
	*appender
	pool   *pgxpool.Pool // its connections have the lock timeout of the lane
	params params
	// stored is the messages that the last transaction stored and that are not published yet. They
	// are published while PostgreSQL works on the next transaction.
	stored []*appendItem
}

// work commits a batch, or without one publishes what the last one stored. It reports whether there
// was anything to do. The caller holds mu, which is released meanwhile.
func (l *lane) work(items []*appendItem) bool {
	if len(items) == 0 && len(l.stored) == 0 {
		return false
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	if len(items) > 0 {
		_ = l.commit(items) // the callers get the error
	} else {
		l.publish()
	}
	return true
}

// commit appends messages in one transaction. Messages that it could not store, because a permit
// was stale or a room was locked, are retried with locks held. The messages of rooms that stay
// locked move to lanes of their own, so that they do not hold up the others.
func (l *lane) commit(items []*appendItem) error {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	timeouts := 0
	for lock := false; len(items) > 0; lock = true {
		permitted, err := l.permit(ctx, items)
		if len(permitted) == 0 {
			return nil
		}
		var ends logEnds
		if err == nil {
			err = retryDeadlocks(func() (err error) {
				ends, err = l.write(ctx, permitted, lock, l.publish)
				return err
			})
		}
		if lockRefused(err) && l.pool == l.store.appends { // the lane of a stalled room fails instead
			timeouts++
			items = l.setAside(ctx, permitted, timeouts == maxTries)
			continue
		}
		if err != nil {
			err = l.store.transactionFailed(fmt.Errorf("append %d messages: %w", len(permitted), err))
			for _, item := range permitted {
				item.answer(room.Message{}, err)
			}
			return err
		}
		l.stored, items = split(permitted, ends)
		if len(l.stored) == 0 { // the transaction held up the feed, so its readers are notified
			l.store.opts.Commit(room.Change{})
		}
		if lock {
			l.evictFacts(items)
		}
	}
	return nil
}

// split sets the seqs of the messages that a transaction stored, and separates them from those that
// it did not store because something had changed.
func split(items []*appendItem, ends logEnds) (stored, left []*appendItem) {
	for _, item := range items {
		end, ok := ends[item.permit.Log]
		if !ok {
			left = append(left, item)
			continue
		}
		item.message = item.message.In(item.send.Room, end-room.Seq(item.later))
		stored = append(stored, item)
	}
	return stored, left
}

// publish publishes the messages that the last transaction stored, and answers their callers.
func (l *lane) publish() {
	if len(l.stored) == 0 {
		return
	}
	events := make([]room.Event, len(l.stored))
	for i, item := range l.stored {
		events[i] = room.Event{
			Room: item.send.Room, Log: item.permit.Log, Seq: item.message.Seq, At: item.message.SentAt.Time(),
			Body: room.MessagesReceived{MessageList: []room.Message{item.message}},
		}
	}
	l.store.opts.Commit(room.Change{Events: events})
	for _, item := range l.stored {
		close(item.done)
	}
	l.stored = nil
}

// permit decides which messages may be stored, mostly by cached facts. It returns these, and
// answers the callers of the others. If the facts cannot be read, it returns all messages and
// answers none.
func (l *lane) permit(ctx context.Context, items []*appendItem) (permitted []*appendItem, err error) {
	var undecided []*appendItem
	l.mu.Lock()
	for _, item := range items {
		facts, cached := l.facts[item.sender()]
		if cached {
			item.permit, err = item.send.Permit(facts)
		}
		if cached && err == nil {
			permitted = append(permitted, item)
		} else {
			undecided = append(undecided, item)
		}
	}
	l.mu.Unlock()
	if len(undecided) == 0 {
		return items, nil
	}
	l.publish() // reading takes as long as a transaction
	sends := make([]*room.RoomSend, len(undecided))
	for i, item := range undecided {
		sends[i] = &item.send
	}
	found, err := readRoomFacts(ctx, l.pool, sends...)
	if err != nil {
		return items, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.facts)+len(found) > maxCached {
		clear(l.facts)
	}
	for i, item := range undecided {
		item.permit, err = item.send.Permit(found[i])
		switch {
		case err != nil:
			item.answer(room.Message{}, err)
		case item.permit.Earlier != nil:
			item.answer(*item.permit.Earlier, nil)
		default:
			l.facts[item.sender()] = found[i]
			permitted = append(permitted, item)
		}
	}
	return permitted, nil
}

// evictFacts makes permit read the facts about messages again.
func (a *appender) evictFacts(items []*appendItem) {
	if len(items) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, item := range items {
		delete(a.facts, item.sender())
	}
}

// evictAllFacts makes permit read all facts again.
func (a *appender) evictAllFacts() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.facts)
}

// setAside moves the messages of locked rooms to lanes of their own, and returns the other
// messages. If all is set, it moves all messages.
func (l *lane) setAside(ctx context.Context, items []*appendItem, all bool) (rest []*appendItem) {
	var free map[room.LogID]bool
	if !all {
		var err error
		if free, err = l.freeLogs(ctx, items); err != nil {
			free = nil // the whole table may be locked
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stalled) > maxStalled {
		maps.DeleteFunc(l.stalled, func(_ room.RoomID, r *stalledRoom) bool { return !r.running })
	}
	for _, item := range items {
		if free[item.permit.Log] {
			rest = append(rest, item)
			continue
		}
		if l.stalled[item.send.Room] == nil {
			l.stalled[item.send.Room] = new(stalledRoom)
		}
		l.queueStalled(l.stalled[item.send.Room], item)
	}
	for i, queue := range l.queues { // later messages of the same rooms have to stay behind these
		l.queues[i] = slices.DeleteFunc(queue, func(item *appendItem) bool {
			stalled := l.stalled[item.send.Room]
			if stalled != nil {
				l.queueStalled(stalled, item)
			}
			return stalled != nil
		})
	}
	return rest
}

// queueStalled queues a message for the lane of its room, and starts that lane if it is not
// running. The caller holds mu.
func (a *appender) queueStalled(r *stalledRoom, item *appendItem) {
	r.queue = append(r.queue, item)
	if !r.running {
		r.running = true
		a.lanes.Go(func() { a.runStalled(item.send.Room, r) })
	}
}

// runStalled runs the lane of a room that another transaction keeps locked. It waits for the lock
// as long as other calls do, and ends when the queue of the room is empty.
func (a *appender) runStalled(id room.RoomID, r *stalledRoom) {
	l := &lane{appender: a, pool: a.store.pool}
	var err error
	for {
		a.mu.Lock()
		if lockRefused(err) { // the messages behind it would not get the lock either
			a.store.opts.Log.Warn("append failed: room locked", "room", id, "error", err)
			for _, item := range r.queue {
				item.answer(room.Message{}, errLocked)
			}
			r.queue = nil
		}
		var b batch
		r.queue = b.take(r.queue)
		if len(b.items) == 0 {
			r.running = false
			if err == nil {
				delete(a.stalled, id)
			}
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		err = a.commitInTurn(l, id, b.items)
	}
}

// commitInTurn commits messages of one room, after it has waited for its turn in the lock queue.
func (a *appender) commitInTurn(l *lane, id room.RoomID, items []*appendItem) error {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	admitted := false
	err := a.store.locks.run(ctx, []lockKey{roomKey(id)}, func() error {
		admitted = true
		err := l.commit(items)
		l.publish()
		return err
	})
	if !admitted {
		for _, item := range items {
			item.answer(room.Message{}, translate(err))
		}
	}
	return err
}
