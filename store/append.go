package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

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
	err     error
	done    chan struct{}
}

// appendPlace is from where to where messages go: a session's stay in a life of a
// room. The stay is 0 where the sender need not be in the room.
type appendPlace struct {
	generation room.Generation
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
	// wake tells the first lane that something waits, and split the second one that
	// it has to work; splitting says that it does.
	wake, split *sync.Cond
	splitting   bool
	closed      bool
}

func newAppender(s *Store) *appender {
	a := &appender{store: s, seed: maphash.MakeSeed(), places: make(map[appendRoute]appendPlace)}
	a.wake, a.split = sync.NewCond(&a.mu), sync.NewCond(&a.mu)
	a.lanes.Go(a.first)
	a.lanes.Go(a.second)
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
	a.waiting[lane] = append(a.waiting[lane], item)
	a.wake.Signal()
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
func (a *appender) first() {
	var p params
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
		case len(batch.items) > 0:
			a.mu.Unlock()
			a.commit(batch.items, &p)
			a.mu.Lock()
		case a.closed && !a.splitting: // then the second lane has left nothing behind
			return
		default:
			a.wake.Wait()
		}
	}
}

// second is the lane that works while its rooms are busy.
func (a *appender) second() {
	var p params
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for !a.splitting {
			if a.closed {
				return
			}
			a.split.Wait()
		}
		var batch appendBatch
		if a.waiting[1] = batch.take(a.waiting[1]); len(batch.items) == 0 {
			a.splitting = false
			a.wake.Signal() // what comes from now on is the first lane's
			continue
		}
		a.mu.Unlock()
		a.commit(batch.items, &p)
		a.mu.Lock()
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

// commit appends a batch, tells the hub, then the callers. It is one transaction
// unless some of the batch cannot be stored. p is the lane's.
func (a *appender) commit(batch []*appendItem, p *params) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	for len(batch) > 0 {
		var (
			w   appendWrite
			err error
		)
		if batch, err = a.locate(ctx, batch); err == nil && len(batch) > 0 {
			err = retryDeadlocks(func() error {
				w, err = a.write(ctx, batch, p)
				return err
			})
		}
		if err != nil {
			err = a.store.failed(fmt.Errorf("append %d messages: %w", len(batch), err))
			for _, item := range batch {
				item.fail(err)
			}
			return
		}
		batch = a.settle(batch, w)
	}
}

// locate finds the places of a batch, most of which are known from their last
// message. Items that cannot go anywhere are done with.
func (a *appender) locate(ctx context.Context, batch []*appendItem) (located []*appendItem, err error) {
	var unknown []*appendItem
	a.mu.Lock()
	for _, item := range batch {
		if place, known := a.places[item.route()]; known {
			item.place = place
			located = append(located, item)
		} else {
			unknown = append(unknown, item)
		}
	}
	a.mu.Unlock()
	if len(unknown) == 0 {
		return batch, nil
	}
	found, err := a.look(ctx, unknown)
	if err != nil {
		return batch, err
	}
	a.mu.Lock()
	if len(a.places)+len(found) > maxKnown {
		clear(a.places)
	}
	for _, item := range found {
		a.places[item.route()] = item.place
	}
	a.mu.Unlock()
	return append(located, found...), nil
}

// settle tells the hub and the callers what a transaction did with their messages,
// and returns those that it left: something was not as it was known.
func (a *appender) settle(batch []*appendItem, w appendWrite) (left []*appendItem) {
	var (
		events = make([]room.Event, 0, len(batch))
		stored = make([]*appendItem, 0, len(batch))
	)
	for _, item := range batch {
		last, living := w.lastSeq[item.place.generation]
		if !living || w.refused {
			left = append(left, item)
			continue
		}
		last++
		w.lastSeq[item.place.generation] = last
		item.message = item.message.In(item.room, last)
		events = append(events, room.Event{
			Room: item.room, Generation: item.place.generation, Seq: last, At: item.message.SentAt,
			Body: room.MessagesReceived{MessageList: []room.Message{item.message}},
		})
		stored = append(stored, item)
	}
	a.forget(left)
	// Also where nothing was stored: readers of the feed may wait for this transaction
	// to be over.
	a.store.o.Commit(room.Change{Events: events})
	for _, item := range stored {
		close(item.done)
	}
	return left
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
func (item *appendItem) repeat(g room.Generation, seq room.Seq, body string) {
	item.message, item.err = restoreMessage(room.Event{Room: item.room, Generation: g, Seq: seq}, room.TypeMessagesReceived, body)
	close(item.done)
}

func (item *appendItem) fail(err error) {
	item.err = err
	close(item.done)
}
