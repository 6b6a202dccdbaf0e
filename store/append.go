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

// Group commit: appends that arrive while a transaction is under way become
// the next one. A lone append is one transaction in one round trip, and under
// load the cost of a transaction is shared by up to maxAppendBatch of them.
const (
	// maxAppendBatch bounds how long the rows of a batch stay locked.
	maxAppendBatch = 256
	// minSplit is how many appends of its rooms have to wait until the second lane
	// takes them. A transaction costs as much as some dozens of messages: one that
	// is larger is better than two, until both processors are busy with them.
	minSplit = 64
	// appendTimeout ends a transaction that PostgreSQL does not answer, so
	// that callers hear of it rather than wait.
	appendTimeout = 10 * time.Second
)

// appendItem is one message on its way into a log. It belongs to its caller until
// it waits for a lane, to the lane until done is closed, and then to the caller
// again; one who gave up waiting leaves it to the lane.
type appendItem struct {
	room room.RoomID
	// session must be in the room; empty where the sender need not be.
	session room.SessionID
	// message is what is to be stored, and in the end what is stored: an earlier
	// one where the sender repeats a ClientMessageID.
	message room.Message
	body    []byte
	place   appendPlace
	// later is how many messages of the batch come after it in its log.
	later int64
	err   error
	done  chan struct{}
}

// appendPlace is from where to where messages go: a session's stay in a life of a
// room. The stay is 0 where the sender need not be in the room.
type appendPlace struct {
	generation room.LogID
	stay       int64
}

// appendRoute is who sends messages to which room.
type appendRoute struct {
	room    room.RoomID
	session room.SessionID
}

func (item *appendItem) route() appendRoute { return appendRoute{item.room, item.session} }

// appender commits appends in two lanes. Each room belongs to one, so that two
// transactions do not wait for each other's rooms. While few appends wait, the
// first lane takes those of both.
type appender struct {
	store *Store
	seed  maphash.Seed
	lanes sync.WaitGroup

	mu      sync.Mutex // guards all below
	waiting [2][]*appendItem
	// places is where messages went lately. That a stay or a room's life is over is
	// found out under the room's lock.
	places map[appendRoute]appendPlace
	// stalled is the rooms that another transaction keeps locked. Each has a lane of its
	// own, until it has stored something.
	stalled map[room.RoomID]*stalledRoom
	// wake tells the first lane that something waits, and split the second one that
	// it has to work; splitting says that it does.
	wake, split *sync.Cond
	splitting   bool
	closed      bool
}

// stalledRoom is the messages of a room that another transaction keeps locked. The
// appender's mu guards it.
type stalledRoom struct {
	waiting []*appendItem
	working bool // its lane
}

func newAppender(s *Store) *appender {
	a := &appender{store: s, seed: maphash.MakeSeed(), places: make(map[appendRoute]appendPlace), stalled: make(map[room.RoomID]*stalledRoom)}
	a.wake, a.split = sync.NewCond(&a.mu), sync.NewCond(&a.mu)
	a.lanes.Go(func() { a.first(&appendLane{appender: a, pool: s.appends}) })
	a.lanes.Go(func() { a.second(&appendLane{appender: a, pool: s.appends}) })
	return a
}

// close waits until what was accepted is committed. The caller guarantees that
// append is not called any more.
func (a *appender) close() {
	a.mu.Lock()
	a.closed = true
	a.wake.Signal()
	a.split.Signal()
	a.mu.Unlock()
	a.lanes.Wait()
}

// append waits until the message is committed and returns it at its place; a
// message with the ClientMessageID of an earlier one returns the earlier one.
func (a *appender) append(ctx context.Context, item *appendItem) (room.Message, error) {
	item.done = make(chan struct{})
	lane := maphash.String(a.seed, string(item.room)) % uint64(len(a.waiting))
	a.mu.Lock()
	switch stalled := a.stalled[item.room]; {
	case stalled == nil:
		a.waiting[lane] = append(a.waiting[lane], item)
		a.wake.Signal()
	case len(stalled.waiting) < maxStalled:
		a.wait(stalled, item)
	default:
		a.mu.Unlock()
		return room.Message{}, errCrowded
	}
	a.mu.Unlock()
	select {
	case <-item.done:
		return item.message, item.err
	case <-ctx.Done():
		// It may still be committed. The caller is told to try again, which
		// the ClientMessageID makes safe.
		return room.Message{}, translate(ctx.Err())
	}
}

// first is the lane that works whenever something waits.
func (a *appender) first(l *appendLane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		var batch appendBatch
		a.waiting[0] = batch.take(a.waiting[0])
		switch {
		case a.splitting:
		case len(a.waiting[1]) < minSplit:
			a.waiting[1] = batch.take(a.waiting[1])
		default:
			a.splitting = true
			a.split.Signal()
		}
		switch {
		case l.work(batch.items):
		case a.closed && !a.splitting: // then the second lane has left nothing behind
			return
		default:
			a.wake.Wait()
		}
	}
}

// second is the lane that works while its rooms are busy.
func (a *appender) second(l *appendLane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		var batch appendBatch
		if a.splitting {
			a.waiting[1] = batch.take(a.waiting[1])
		}
		switch {
		case l.work(batch.items):
		case a.splitting:
			a.splitting = false
			a.wake.Signal() // what comes from now on is the first lane's
		case a.closed:
			return
		default:
			a.split.Wait()
		}
	}
}

// appendBatch is what one transaction appends.
type appendBatch struct {
	items []*appendItem
	seen  map[retryKey]bool
}

// retryKey is what a message has in common with its repetition.
type retryKey struct {
	room   room.RoomID
	sender room.UserID
	id     string
}

// take moves items into the batch, as many as it may have, and returns the others.
// One that repeats another's ClientMessageID has to wait for it: a statement cannot
// see the rows that it is itself about to insert.
func (b *appendBatch) take(waiting []*appendItem) (rest []*appendItem) {
	for i, item := range waiting {
		if len(b.items) == maxAppendBatch {
			return append(rest, waiting[i:]...)
		}
		if id := item.message.ClientMessageID; id != "" {
			key := retryKey{item.room, item.message.Sender.ID, id}
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

// appendLane is what belongs to one lane.
type appendLane struct {
	*appender
	// pool is where its connections come from, which say how long it waits for locks.
	pool   *pgxpool.Pool
	params params
	// stored is what the last transaction stored, and nobody was told of yet: that is
	// done while PostgreSQL works on the next one.
	stored []*appendItem
}

// work does what there is to do, with the lock released, and says whether it was
// anything.
func (l *appendLane) work(batch []*appendItem) bool {
	if len(batch) == 0 && len(l.stored) == 0 {
		return false
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	if len(batch) > 0 {
		_ = l.commit(batch) // which the callers are told
	} else {
		l.tell()
	}
	return true
}

// commit appends a batch. It is one transaction unless some of the batch cannot be
// stored, or another had their rooms locked: those are tried with locks, and after
// that looked at again. Rooms that stay locked get lanes of their own, so that the
// others do not wait for them.
func (l *appendLane) commit(batch []*appendItem) error {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	refused := 0
	for lock := false; len(batch) > 0; lock = true {
		located, err := l.locate(ctx, batch)
		if len(located) == 0 {
			return nil
		}
		var ends logEnds
		if err == nil {
			err = retryDeadlocks(func() error {
				ends, err = l.write(ctx, located, lock)
				return err
			})
		}
		if lockRefused(err) && l.pool == l.store.appends {
			refused++
			batch = l.setAside(ctx, located, refused == maxTries)
			continue
		}
		if err != nil {
			err = l.store.failed(fmt.Errorf("append %d messages: %w", len(located), err))
			for _, item := range located {
				item.fail(err)
			}
			return err
		}
		l.stored, batch = settle(located, ends)
		if len(l.stored) == 0 { // readers of the feed may wait for this transaction to be over
			l.store.o.Commit(room.Change{})
		}
		if lock {
			l.forget(batch)
		}
	}
	return nil
}

// maxStalled bounds how many messages wait for a room that stays locked, and how many
// such rooms are remembered.
const maxStalled = 1000

// setAside gives the rooms of a batch that are locked lanes of their own, or all of
// its rooms, and returns the messages of the others.
func (l *appendLane) setAside(ctx context.Context, batch []*appendItem, all bool) (others []*appendItem) {
	var free map[room.LogID]bool
	if !all {
		var err error
		if free, err = l.freeLogs(ctx, batch); err != nil {
			free = nil // the whole table may be locked
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stalled) > maxStalled {
		maps.DeleteFunc(l.stalled, func(_ room.RoomID, r *stalledRoom) bool { return !r.working })
	}
	for _, item := range batch {
		if free[item.place.generation] {
			others = append(others, item)
			continue
		}
		if l.stalled[item.room] == nil {
			l.stalled[item.room] = new(stalledRoom)
		}
		l.wait(l.stalled[item.room], item)
	}
	for i, waiting := range l.waiting { // what came meanwhile comes after them
		l.waiting[i] = slices.DeleteFunc(waiting, func(item *appendItem) bool {
			stalled := l.stalled[item.room]
			if stalled != nil {
				l.wait(stalled, item)
			}
			return stalled != nil
		})
	}
	return others
}

// wait has a message wait for the lane of its room. The caller holds mu.
func (a *appender) wait(r *stalledRoom, item *appendItem) {
	r.waiting = append(r.waiting, item)
	if !r.working {
		r.working = true
		a.lanes.Go(func() { a.patient(item.room, r) })
	}
}

// patient is the lane of a room that another transaction keeps locked. It waits for
// the lock as other calls do, and ends when no message of the room waits.
func (a *appender) patient(id room.RoomID, r *stalledRoom) {
	l := &appendLane{appender: a, pool: a.store.pool}
	var err error
	for {
		a.mu.Lock()
		if lockRefused(err) { // those behind would not get it either
			a.store.o.Log.Warn("append failed: another transaction keeps the room locked", "room", id, "error", err)
			for _, item := range r.waiting {
				item.fail(errCrowded)
			}
			r.waiting = nil
		}
		var batch appendBatch
		r.waiting = batch.take(r.waiting)
		if len(batch.items) == 0 {
			r.working = false
			if err == nil {
				delete(a.stalled, id)
			}
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		err = a.commitInTurn(l, id, batch.items)
	}
}

// commitInTurn commits a batch of one room when it is its turn among those who lock it.
func (a *appender) commitInTurn(l *appendLane, id room.RoomID, batch []*appendItem) error {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	begun := false
	err := a.store.gate.run(ctx, []lockKey{roomKey(id)}, func() error {
		begun = true
		err := l.commit(batch)
		l.tell()
		return err
	})
	if !begun {
		for _, item := range batch {
			item.fail(translate(err))
		}
	}
	return err
}

// locate finds the places of a batch, most of which are known from their last
// message. Items that cannot go anywhere are done with.
func (l *appendLane) locate(ctx context.Context, batch []*appendItem) (located []*appendItem, err error) {
	var unknown []*appendItem
	l.mu.Lock()
	for _, item := range batch {
		if place, known := l.places[item.route()]; known {
			item.place = place
			located = append(located, item)
		} else {
			unknown = append(unknown, item)
		}
	}
	l.mu.Unlock()
	if len(unknown) == 0 {
		return batch, nil
	}
	l.tell() // looking takes as long as what they waited for
	found, err := l.look(ctx, unknown)
	if err != nil {
		return batch, err
	}
	l.mu.Lock()
	if len(l.places)+len(found) > maxCached {
		clear(l.places)
	}
	for _, item := range found {
		l.places[item.route()] = item.place
	}
	l.mu.Unlock()
	return append(located, found...), nil
}

// forgetPlaces makes locate look again for all places.
func (a *appender) forgetPlaces() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.places)
}

// settle gives messages the places in their logs that a transaction gave them, and
// parts them from those that it left: something was not as it was known.
func settle(batch []*appendItem, ends logEnds) (stored, left []*appendItem) {
	for _, item := range batch {
		end, advanced := ends[item.place.generation]
		if !advanced {
			left = append(left, item)
			continue
		}
		item.message = item.message.In(item.room, end-room.Seq(item.later))
		stored = append(stored, item)
	}
	return stored, left
}

// tell tells the hub and the callers of what the last transaction stored.
func (l *appendLane) tell() {
	if len(l.stored) == 0 {
		return
	}
	events := make([]room.Event, len(l.stored))
	for i, item := range l.stored {
		events[i] = room.Event{
			Room: item.room, Log: item.place.generation, Seq: item.message.Seq, At: item.message.SentAt,
			Body: room.MessagesReceived{MessageList: []room.Message{item.message}},
		}
	}
	l.store.o.Commit(room.Change{Events: events})
	for _, item := range l.stored {
		close(item.done)
	}
	l.stored = nil
}

// forget makes locate look again.
func (a *appender) forget(items []*appendItem) {
	if len(items) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, item := range items {
		delete(a.places, item.route())
	}
}

// repeat answers with what was stored before.
func (item *appendItem) repeat(g room.LogID, seq room.Seq, body string) {
	item.message, item.err = restoreMessage(room.Event{Room: item.room, Log: g, Seq: seq}, room.TypeMessagesReceived, body)
	close(item.done)
}

func (item *appendItem) fail(err error) {
	item.err = err
	close(item.done)
}
