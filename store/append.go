package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Group commit: appends that arrive while a transaction is under way become
// the next one. A lone append is one transaction in one round trip, and under
// load the cost of a commit is shared by up to maxAppendBatch of them.
const (
	// appendLanes is how many transactions may be under way. A room keeps to
	// its lane, so the lanes never wait for each other's rooms; a second lane
	// writes while the first one waits for the disk.
	appendLanes = 2
	// maxAppendBatch bounds how long the rows of a batch stay locked.
	maxAppendBatch = 256
	// appendTimeout ends a transaction that PostgreSQL does not answer, so
	// that callers hear of it rather than wait.
	appendTimeout = 10 * time.Second
)

// appendItem is one message on its way into a log.
type appendItem struct {
	room room.RoomID
	// session must be in the room; nil where the sender need not be.
	session *room.SessionID
	message room.Message
	body    string
	// done gets the outcome; it has room for it, so that a caller who gave up
	// holds up nobody.
	done chan appendOutcome
}

type appendOutcome struct {
	message room.Message
	err     error
}

type appender struct {
	store *Store
	seed  maphash.Seed
	lanes [appendLanes]chan appendItem
	// stopped is closed by each lane's goroutine when its channel is closed
	// and empty.
	stopped [appendLanes]chan struct{}
}

func newAppender(s *Store) *appender {
	a := &appender{store: s, seed: maphash.MakeSeed()}
	for i := range a.lanes {
		a.lanes[i] = make(chan appendItem, maxAppendBatch)
		a.stopped[i] = make(chan struct{})
		go a.run(i)
	}
	return a
}

// close waits until what was accepted is committed. The caller guarantees that
// append is not called any more.
func (a *appender) close() {
	for i := range a.lanes {
		close(a.lanes[i])
	}
	for i := range a.stopped {
		<-a.stopped[i]
	}
}

// append waits until the message is committed and returns it at its place; a
// message with the ClientMessageID of an earlier one returns the earlier one.
func (a *appender) append(ctx context.Context, item appendItem) (room.Message, error) {
	item.done = make(chan appendOutcome, 1)
	lane := a.lanes[maphash.String(a.seed, string(item.room))%appendLanes]
	select {
	case lane <- item:
	case <-ctx.Done():
		return room.Message{}, translate(ctx.Err())
	}
	select {
	case o := <-item.done:
		return o.message, o.err
	case <-ctx.Done():
		// It may still be committed. The caller is told to try again, which
		// the ClientMessageID makes safe.
		return room.Message{}, translate(ctx.Err())
	}
}

func (a *appender) run(lane int) {
	defer close(a.stopped[lane])
	in := a.lanes[lane]
	var batch, later []appendItem
	for {
		if len(later) == 0 {
			item, ok := <-in
			if !ok {
				return
			}
			later = append(later, item)
		}
		batch, later = splitRetries(a.gather(in, later))
		a.commit(batch)
	}
}

// gather adds what is waiting, without waiting for more.
func (a *appender) gather(in chan appendItem, batch []appendItem) []appendItem {
	for len(batch) < maxAppendBatch {
		select {
		case item, ok := <-in:
			if !ok {
				return batch
			}
			batch = append(batch, item)
		default:
			return batch
		}
	}
	return batch
}

// splitRetries holds back items that repeat another one's ClientMessageID: one
// statement cannot see the rows that it is itself about to insert.
func splitRetries(batch []appendItem) (now, later []appendItem) {
	type retryKey struct {
		room   room.RoomID
		sender room.UserID
		id     string
	}
	var seen map[retryKey]bool
	now = batch[:0]
	for _, item := range batch {
		if id := item.message.ClientMessageID; id != "" {
			key := retryKey{item.room, item.message.Sender.ID, id}
			if seen[key] {
				later = append(later, item)
				continue
			}
			if seen == nil {
				seen = make(map[retryKey]bool)
			}
			seen[key] = true
		}
		now = append(now, item)
	}
	return now, later
}

// commit appends a batch in one transaction, tells the hub, then the callers.
func (a *appender) commit(batch []appendItem) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	var (
		outcomes []appendOutcome
		change   room.Change
	)
	err := retryDeadlocks(func() (err error) {
		outcomes, change, err = a.write(ctx, batch)
		return err
	})
	if err != nil {
		err = a.store.failed(fmt.Errorf("append %d messages: %w", len(batch), err))
		for _, item := range batch {
			item.done <- appendOutcome{err: err}
		}
		return
	}
	a.store.o.Commit(change)
	for i, item := range batch {
		item.done <- outcomes[i]
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

// appendMessages decides over and stores a whole batch. A LATERAL with a LIMIT
// holds the planner to one index lookup an item, whatever it believes about
// tables that grow faster than their statistics.
const appendMessages = `
	WITH locked AS MATERIALIZED (
		SELECT ` + lockedRooms + ` AS generations
	), input AS (
		SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
			WITH ORDINALITY AS i (room_id, session_id, sender_id, client_message_id, at, body, ord)
	), checked AS (
		SELECT i.*, r.generation, r.last_seq, r.last_xact, a.attending OR i.session_id IS NULL AS attending, e.seq AS prior_seq, e.body AS prior_body
		FROM input i
		LEFT JOIN LATERAL (
			SELECT generation, last_seq, last_xact FROM rooms
			WHERE room_id = i.room_id AND destroyed_at IS NULL
				AND generation = ANY ((SELECT generations FROM locked)::bigint[]) LIMIT 1
		) r ON true
		LEFT JOIN LATERAL (
			SELECT true AS attending FROM attendances
			WHERE session_id = i.session_id AND generation = r.generation LIMIT 1
		) a ON true
		LEFT JOIN LATERAL (
			SELECT seq, body FROM events
			WHERE generation = r.generation AND sender_id = i.sender_id
				AND client_message_id = i.client_message_id LIMIT 1
		) e ON i.client_message_id IS NOT NULL
	), accepted AS (
		SELECT *, last_seq + row_number() OVER (PARTITION BY generation ORDER BY ord) AS seq, ` + nextXact + ` AS xact
		FROM checked WHERE generation IS NOT NULL AND attending AND prior_seq IS NULL
	), appended AS (
		INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
		SELECT generation, seq, $7, at, sender_id, client_message_id, body, xact FROM accepted
	), advanced AS (
		UPDATE rooms SET last_seq = n.last_seq, last_xact = n.xact
		FROM (SELECT generation, max(seq) AS last_seq, xact FROM accepted GROUP BY generation, xact) n
		WHERE rooms.generation = n.generation
	)
	SELECT coalesce(c.generation, 0), coalesce(c.attending, false), coalesce(a.seq, 0),
		coalesce(c.prior_seq, 0), coalesce(c.prior_body, '')
	FROM checked c LEFT JOIN accepted a USING (ord) ORDER BY ord`

// write runs both statements as one transaction in one round trip: PostgreSQL
// treats what is pipelined before a sync as one transaction.
func (a *appender) write(ctx context.Context, batch []appendItem) ([]appendOutcome, room.Change, error) {
	n := len(batch)
	var (
		rooms    = make([]string, n)
		sessions = make([]*room.SessionID, n)
		senders  = make([]string, n)
		retryIDs = make([]*string, n)
		times    = make([]time.Time, n)
		bodies   = make([]string, n)
	)
	for i, item := range batch {
		rooms[i], sessions[i], senders[i] = string(item.room), item.session, string(item.message.Sender.ID)
		times[i], bodies[i] = item.message.SentAt, item.body
		if item.message.ClientMessageID != "" {
			retryIDs[i] = &batch[i].message.ClientMessageID
		}
	}
	outcomes := make([]appendOutcome, 0, n)
	change := room.Change{Events: make([]room.Event, 0, n)}
	var b pgx.Batch
	b.Queue(lockLiving, rooms)
	b.Queue(appendMessages, rooms, sessions, senders, retryIDs, times, bodies, room.TypeMessagesReceived).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var p placement
				if err := rows.Scan(&p.generation, &p.attending, &p.seq, &p.priorSeq, &p.priorBody); err != nil {
					return err
				}
				item := batch[len(outcomes)]
				o, err := p.outcome(item)
				if err != nil {
					return err
				}
				outcomes = append(outcomes, o)
				if p.seq > 0 {
					change.Events = append(change.Events, room.Event{
						Room: item.room, Generation: p.generation, Seq: p.seq, At: item.message.SentAt,
						Body: room.MessagesReceived{MessageList: []room.Message{o.message}},
					})
				}
			}
			return rows.Err()
		})
	if err := a.store.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, room.Change{}, err
	}
	if len(outcomes) != n {
		return nil, room.Change{}, fmt.Errorf("%d outcomes for %d messages", len(outcomes), n)
	}
	return outcomes, change, nil
}

// placement is what the database found of one item.
type placement struct {
	generation room.Generation
	attending  bool
	seq        room.Seq // zero: not appended
	priorSeq   room.Seq // not zero: this message was stored before
	priorBody  string
}

func (p placement) outcome(item appendItem) (appendOutcome, error) {
	switch {
	case p.generation == 0:
		return appendOutcome{err: room.ErrRoomNotFound}, nil
	case !p.attending:
		return appendOutcome{err: room.ErrNotInRoom}, nil
	case p.priorSeq > 0:
		m, err := restoreMessage(room.Event{Room: item.room, Generation: p.generation, Seq: p.priorSeq},
			room.TypeMessagesReceived, p.priorBody)
		return appendOutcome{message: m}, err
	}
	return appendOutcome{message: item.message.In(item.room, p.seq)}, nil
}
