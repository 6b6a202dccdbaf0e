package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
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
	err     error
	done    chan struct{}
}

// appender commits appends in two lanes. Each room belongs to one, so that two
// transactions do not wait for each other's rooms. While few appends wait, the
// first lane takes those of both.
type appender struct {
	store *Store
	seed  maphash.Seed
	lanes sync.WaitGroup

	mu      sync.Mutex // guards all below
	waiting [2][]*appendItem
	// wake tells the first lane that something waits, and split the second one that
	// it has to work; splitting says that it does.
	wake, split *sync.Cond
	splitting   bool
	closed      bool
}

func newAppender(s *Store) *appender {
	a := &appender{store: s, seed: maphash.MakeSeed()}
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

// commit appends a batch in one transaction, tells the hub, then the callers.
func (a *appender) commit(batch []*appendItem) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	var (
		placements []placement
		change     room.Change
	)
	err := retryDeadlocks(func() (err error) {
		placements, err = a.write(ctx, batch)
		return err
	})
	if err != nil {
		err = a.store.failed(fmt.Errorf("append %d messages: %w", len(batch), err))
		for _, item := range batch {
			item.err = err
			close(item.done)
		}
		return
	}
	change.Events = make([]room.Event, 0, len(batch))
	for i, item := range batch {
		if item.place(placements[i]); placements[i].seq > 0 {
			change.Events = append(change.Events, room.Event{
				Room: item.room, Generation: placements[i].generation, Seq: item.message.Seq, At: item.message.SentAt,
				Body: room.MessagesReceived{MessageList: []room.Message{item.message}},
			})
		}
	}
	a.store.o.Commit(change)
	for _, item := range batch {
		close(item.done)
	}
}

// lockLiving is a statement of its own because its locks come first: what comes
// after it in the same round trip, with a snapshot taken under them, sees every
// member that left and every message that was stored before. It leaves behind
// which rooms are locked: a statement after it also sees rooms that came to life
// in between, and must not touch them.
const lockLiving = `
	SELECT set_config('parlor.locked', coalesce(string_agg(generation::text, ','), ''), true) FROM (
		SELECT generation FROM rooms WHERE room_id = ANY ($1) AND destroyed_at IS NULL
		ORDER BY generation FOR NO KEY UPDATE
	) locked`

// lockedRooms is the generations that lockLiving has locked.
const lockedRooms = `string_to_array(current_setting('parlor.locked'), ',')::bigint[]`

// appendMessages decides over and stores a whole batch. Each room is read once,
// into arrays in which a message's place names it; what is stored stays in the
// parameters until it is inserted, so that no step before that copies it. A LATERAL
// with a LIMIT holds the planner to one index lookup an item, whatever it believes
// about tables that grow faster than their statistics.
const appendMessages = `
	WITH locked AS MATERIALIZED (
		SELECT ` + lockedRooms + ` AS generations
	), places AS MATERIALIZED (
		SELECT array_agg(coalesce(r.generation, 0) ORDER BY place) AS generation,
			array_agg(coalesce(r.last_seq, 0) ORDER BY place) AS last_seq,
			array_agg(coalesce(r.xact, '0') ORDER BY place) AS xact
		FROM unnest($1::text[]) WITH ORDINALITY AS p (room_id, place)
		LEFT JOIN LATERAL (
			SELECT generation, last_seq, ` + nextXact + ` AS xact FROM rooms
			WHERE room_id = p.room_id AND destroyed_at IS NULL
				AND generation = ANY ((SELECT generations FROM locked)::bigint[]) LIMIT 1
		) r ON true
	), checked AS (
		SELECT i.ord, i.place, p.generation[i.place] AS generation,
			a.attending OR i.session_id IS NULL AS attending, e.seq AS prior_seq, e.body AS prior_body
		FROM places p
		CROSS JOIN unnest($2::integer[], $3::uuid[], $4::text[], $5::text[])
			WITH ORDINALITY AS i (place, session_id, sender_id, client_message_id, ord)
		LEFT JOIN LATERAL (
			SELECT true AS attending FROM attendances
			WHERE session_id = i.session_id AND generation = p.generation[i.place] LIMIT 1
		) a ON true
		LEFT JOIN LATERAL (
			SELECT seq, body FROM events
			WHERE generation = p.generation[i.place] AND sender_id = i.sender_id
				AND client_message_id = i.client_message_id LIMIT 1
		) e ON i.client_message_id IS NOT NULL
	), decided AS MATERIALIZED (
		SELECT *, CASE WHEN generation > 0 AND attending AND prior_seq IS NULL THEN
			count(*) FILTER (WHERE generation > 0 AND attending AND prior_seq IS NULL)
				OVER (PARTITION BY place ORDER BY ord ROWS UNBOUNDED PRECEDING) END AS nth
		FROM checked
	), appended AS (
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT d.generation, p.last_seq[place] + nth, $8, ($6::timestamptz[])[ord], ($4::text[])[ord], ($5::text[])[ord],
			($7::text[])[ord], p.xact[place]
		FROM decided d CROSS JOIN places p WHERE nth IS NOT NULL
	), advanced AS (
		UPDATE rooms SET last_seq = last_seq + n.added, last_xact = ` + nextXact + `
		FROM (SELECT generation, max(nth) AS added FROM decided WHERE nth IS NOT NULL GROUP BY generation) n
		WHERE rooms.generation = n.generation
	)
	SELECT d.generation, coalesce(attending, false), coalesce(p.last_seq[place] + nth, 0),
		coalesce(prior_seq, 0), coalesce(prior_body, '')
	FROM decided d CROSS JOIN places p ORDER BY ord`

// write runs both statements as one transaction in one round trip: PostgreSQL
// treats what is pipelined before a sync as one transaction.
func (a *appender) write(ctx context.Context, batch []*appendItem) ([]placement, error) {
	n := len(batch)
	var (
		rooms    []string
		placeOf  = make(map[room.RoomID]int32, n) // counted from 1, as arrays of SQL
		places   = make([]int32, n)
		sessions = make([]pgtype.UUID, n)
		senders  = make([]string, n)
		retryIDs = make([]*string, n)
		times    = make([]time.Time, n)
		bodies   = make([]string, n)
	)
	for i, item := range batch {
		place, known := placeOf[item.room]
		if !known {
			rooms = append(rooms, string(item.room))
			place = int32(len(rooms))
			placeOf[item.room] = place
		}
		places[i], sessions[i], senders[i] = place, item.session, string(item.message.Sender.ID)
		times[i], bodies[i] = item.message.SentAt, item.body
		if item.message.ClientMessageID != "" {
			retryIDs[i] = &item.message.ClientMessageID
		}
	}
	placements := make([]placement, 0, n)
	var b pgx.Batch
	b.Queue(lockLiving, rooms)
	b.Queue(appendMessages, rooms, places, sessions, senders, retryIDs, times, bodies, room.TypeMessagesReceived).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var p placement
				if err := rows.Scan(&p.generation, &p.attending, &p.seq, &p.priorSeq, &p.priorBody); err != nil {
					return err
				}
				placements = append(placements, p)
			}
			return rows.Err()
		})
	if err := a.store.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	if len(placements) != n {
		return nil, fmt.Errorf("%d outcomes for %d messages", len(placements), n)
	}
	return placements, nil
}

// placement is what the database found of one item.
type placement struct {
	generation room.Generation
	attending  bool
	seq        room.Seq // zero: not appended
	priorSeq   room.Seq // not zero: this message was stored before
	priorBody  string
}

// place is what became of the item.
func (item *appendItem) place(p placement) {
	switch {
	case p.generation == 0:
		item.err = room.ErrRoomNotFound
	case !p.attending:
		item.err = room.ErrNotInRoom
	case p.priorSeq > 0:
		item.message, item.err = restoreMessage(room.Event{Room: item.room, Generation: p.generation, Seq: p.priorSeq},
			room.TypeMessagesReceived, p.priorBody)
	default:
		item.message = item.message.In(item.room, p.seq)
	}
}
