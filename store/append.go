package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

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
	// session must be in the room; null where the sender need not be.
	session pgtype.UUID
	// message is what is to be stored, and in the end what is stored: an earlier
	// one where the sender repeats a ClientMessageID.
	message room.Message
	body    string
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
	session pgtype.UUID
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
			a.commit(batch.items)
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
		a.commit(batch.items)
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
// unless some of the batch cannot be stored.
func (a *appender) commit(batch []*appendItem) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	for len(batch) > 0 {
		var (
			w   appendWrite
			err error
		)
		if batch, err = a.locate(ctx, batch); err == nil && len(batch) > 0 {
			err = retryDeadlocks(func() error {
				w, err = a.write(ctx, batch)
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

// lookAppend is all that decides about messages, as it is before their rooms are
// locked. A LATERAL with a LIMIT holds the planner to one index lookup for each,
// here and below.
const lookAppend = `
	SELECT coalesce(r.generation, 0), coalesce(a.stay, 0), coalesce(e.seq, 0), coalesce(e.body, '')
	FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[])
		WITH ORDINALITY AS i (room_id, session_id, sender_id, client_message_id, ord)
	LEFT JOIN LATERAL (
		SELECT generation FROM rooms WHERE room_id = i.room_id AND destroyed_at IS NULL LIMIT 1
	) r ON true
	LEFT JOIN LATERAL (
		SELECT stay FROM attendances WHERE session_id = i.session_id AND generation = r.generation LIMIT 1
	) a ON true
	LEFT JOIN LATERAL (
		SELECT seq, body FROM events
		WHERE generation = r.generation AND sender_id = i.sender_id AND client_message_id = i.client_message_id LIMIT 1
	) e ON true
	ORDER BY ord`

// look finds where items go, and answers those that must not be stored: their room
// is not there, their sender is not in it, or has stored them before.
func (a *appender) look(ctx context.Context, items []*appendItem) (found []*appendItem, err error) {
	var (
		rooms    = make([]string, len(items))
		sessions = make([]pgtype.UUID, len(items))
		senders  = make([]string, len(items))
		retryIDs = make([]*string, len(items))
	)
	for i, item := range items {
		rooms[i], sessions[i], senders[i], retryIDs[i] = string(item.room), item.session, string(item.message.Sender.ID), item.retryID()
	}
	rows, err := a.store.pool.Query(ctx, lookAppend, rooms, sessions, senders, retryIDs)
	if err != nil {
		return nil, err
	}
	type sight struct {
		place appendPlace
		seq   room.Seq
		body  string
	}
	sights, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sight, err error) {
		return s, row.Scan(&s.place.generation, &s.place.stay, &s.seq, &s.body)
	})
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		switch s := sights[i]; {
		case s.place.generation == 0:
			item.fail(room.ErrRoomNotFound)
		case item.session.Valid && s.place.stay == 0:
			item.fail(room.ErrNotInRoom)
		case s.seq != 0:
			item.repeat(s.place.generation, s.seq, s.body)
		default:
			item.place = s.place
			found = append(found, item)
		}
	}
	return found, nil
}

// The statements of an append. PostgreSQL treats what is pipelined before a sync as
// one transaction, so all three take one round trip, and each sees what was committed
// before the locks of the first. If one message of the batch must not be stored, none
// is, and all of them are looked at again.
const (
	// lockLogs is a statement of its own because a statement's snapshot is from when
	// it begins: in the same one, members and messages from before the wait for the
	// lock would count.
	lockLogs = `
		SELECT generation, last_seq FROM logs WHERE generation = ANY ($1) AND NOT closed
		ORDER BY generation FOR NO KEY UPDATE`

	// advanceLogs does nothing where a stay is over or a message was stored before.
	advanceLogs = `
		UPDATE logs SET last_seq = last_seq + added, last_xact = ` + nextXact + `
		FROM unnest($1::bigint[], $2::bigint[]) AS i (log, added)
		WHERE generation = i.log AND NOT closed
			AND (SELECT count(*) FROM attendances WHERE stay = ANY ($3::bigint[])) = cardinality($3::bigint[])
			AND NOT EXISTS (
				SELECT FROM unnest($4::bigint[], $5::text[], $6::text[]) AS i (generation, sender_id, client_message_id)
				CROSS JOIN LATERAL (
					SELECT FROM events
					WHERE generation = i.generation AND sender_id = i.sender_id AND client_message_id = i.client_message_id LIMIT 1
				) e)`

	// insertMessages inserts into the logs that this transaction advanced, which their
	// rows tell by its number. It leaves what is stored in its parameters until it is
	// inserted, so that nothing copies it before. A message's place is counted from
	// the log's new end.
	insertMessages = `
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT l.generation, l.last_seq - i.later, $7, ($3::timestamptz[])[ord], ($4::text[])[ord], ($5::text[])[ord], ($6::text[])[ord], l.last_xact
		FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS i (generation, later, ord)
		CROSS JOIN LATERAL (
			SELECT generation, last_seq, last_xact FROM logs WHERE generation = i.generation AND xmin = pg_current_xact_id()::xid LIMIT 1
		) l`
)

// appendWrite is what a transaction of appends did.
type appendWrite struct {
	// lastSeq is the end that each living room had.
	lastSeq map[room.Generation]room.Seq
	// refused says that something was not as it was known, and that nothing was stored.
	refused bool
}

func (a *appender) write(ctx context.Context, batch []*appendItem) (appendWrite, error) {
	n := len(batch)
	var (
		rooms       []int64
		added       []int64
		placeOf     = make(map[room.Generation]int) // in rooms and added
		stays       = make([]int64, 0, n)
		generations = make([]int64, n)
		later       = make([]int64, n)
		senders     = make([]string, n)
		retryIDs    = make([]*string, n)
		times       = make([]time.Time, n)
		bodies      = make([]string, n)
		repeatable  retries
	)
	for i, item := range slices.Backward(batch) {
		place, known := placeOf[item.place.generation]
		if !known {
			place = len(rooms)
			placeOf[item.place.generation] = place
			rooms, added = append(rooms, int64(item.place.generation)), append(added, 0)
		}
		generations[i], later[i] = rooms[place], added[place]
		added[place]++
		if item.place.stay != 0 {
			stays = append(stays, item.place.stay)
		}
		senders[i], times[i], bodies[i] = string(item.message.Sender.ID), item.message.SentAt, item.body
		if retryIDs[i] = item.retryID(); retryIDs[i] != nil {
			repeatable.add(generations[i], senders[i], *retryIDs[i])
		}
	}
	slices.Sort(stays)
	stays = slices.Compact(stays) // they are counted
	var b pgx.Batch
	w := appendWrite{lastSeq: make(map[room.Generation]room.Seq, len(rooms))}
	b.Queue(lockLogs, rooms).Query(func(rows pgx.Rows) error {
		var (
			g    room.Generation
			last room.Seq
		)
		_, err := pgx.ForEachRow(rows, []any{&g, &last}, func() error {
			w.lastSeq[g] = last
			return nil
		})
		return err
	})
	b.Queue(advanceLogs, rooms, added, stays, repeatable.generations, repeatable.senders, repeatable.ids).
		Exec(func(advanced pgconn.CommandTag) error {
			w.refused = advanced.RowsAffected() < int64(len(w.lastSeq))
			return nil
		})
	b.Queue(insertMessages, generations, later, times, senders, retryIDs, bodies, room.TypeMessagesReceived)
	return w, a.store.pool.SendBatch(ctx, &b).Close()
}

// retries is the messages of a batch that may have been stored before, in columns.
type retries struct {
	generations  []int64
	senders, ids []string
}

func (r *retries) add(generation int64, sender, id string) {
	r.generations, r.senders, r.ids = append(r.generations, generation), append(r.senders, sender), append(r.ids, id)
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

// retryID is null where the sender gave none.
func (item *appendItem) retryID() *string {
	if item.message.ClientMessageID == "" {
		return nil
	}
	return &item.message.ClientMessageID
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
