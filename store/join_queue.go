package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Joins are committed in batches, as messages are: joins that arrive during a transaction for the
// same room are part of the next one. If a thousand users join one room at the same time, each of
// them waits for a few commits rather than for a thousand.

// maxJoinBatch bounds how long a room and the sessions of a batch stay locked.
const maxJoinBatch = 128

// A pendingJoin is a call that wants its session to join a room.
type pendingJoin struct {
	ctx context.Context
	by  room.Actor // a session
	// mayCreate is set if the call may create the room.
	mayCreate bool
	opts      room.RoomOptions
	// done receives the result. It is buffered, so that sending to a caller that gave up does not
	// block.
	done chan joinResult

	// The outcome of a transaction. retry means that the join is left to the next transaction.
	// alone means that another transaction holds the session or its user, so the join gets a
	// transaction of its own.
	joinResult
	retry, alone bool
}

// A joinResult is what the caller of a join gets.
type joinResult struct {
	room    room.Room
	created bool
	err     error
	// facts are those that permit messages. Their presence is 0 if the session was in the room before.
	facts room.RoomFacts
}

// A joinQueue holds the joins that wait for a transaction, by room.
type joinQueue struct {
	mu sync.Mutex // guards waiting
	// waiting has a key for each room for which a goroutine commits joins.
	waiting map[room.RoomID][]*pendingJoin
	running sync.WaitGroup // the goroutines that commit joins
}

// add adds a join. It reports whether no goroutine commits joins for the room: the caller then
// starts one.
func (q *joinQueue) add(id room.RoomID, j *pendingJoin) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = make(map[room.RoomID][]*pendingJoin)
	}
	waiting, running := q.waiting[id]
	q.waiting[id] = append(waiting, j)
	return !running
}

// next returns the joins of the next transaction, beginning with those to retry. If there are none,
// it returns nil and the goroutine of the room has to end.
func (q *joinQueue) next(id room.RoomID, retry []*pendingJoin) []*pendingJoin {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := append(retry, q.waiting[id]...)
	if len(batch) == 0 {
		delete(q.waiting, id)
		return nil
	}
	n := min(len(batch), maxJoinBatch)
	q.waiting[id] = batch[n:]
	return batch[:n:n]
}

// fail answers the joins that wait behind a transaction that did not get the room's lock: they
// would not get it either.
func (q *joinQueue) fail(id room.RoomID, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.waiting[id] {
		j.done <- joinResult{err: err}
	}
	q.waiting[id] = nil
}

// waitForJoin queues a join and waits for its result. A session that has joined may send messages at
// once, so that is cached.
func (s *Store) waitForJoin(id room.RoomID, j *pendingJoin) joinResult {
	cached := s.sessions.cached(j.by.Session())
	j.done = make(chan joinResult, 1)
	if s.joins.add(id, j) {
		s.joins.running.Go(func() {
			for batch := s.joins.next(id, nil); len(batch) > 0; {
				batch = s.joins.next(id, s.commitJoins(id, batch, false))
			}
		})
	}
	select {
	case result := <-j.done:
		if result.err == nil && result.facts.Presence != 0 {
			s.sessions.addFacts(cached, id, result.facts)
		}
		return result
	case <-j.ctx.Done():
		// The join may still succeed. The caller is asked to try again, which then changes nothing.
		return joinResult{err: translate(j.ctx.Err())}
	}
}

// commitJoins commits the joins of a batch in one transaction, answers their callers, and returns
// the joins that have to be retried. With wait set it waits for the locks of sessions and users.
// Without it, a join whose session or user is locked is committed in a transaction of its own, so
// that it delays no other.
func (s *Store) commitJoins(id room.RoomID, batch []*pendingJoin, wait bool) (retry []*pendingJoin) {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	locks := []lockKey{roomKey(id)}
	if wait { // not the room's key: while this call waits for its session, others may join
		locks = []lockKey{sessionKey(batch[0].by.Session()), blockedJoinKey(id)}
	}
	var by room.Actor
	if len(batch) == 1 {
		by = batch[0].by
	}
	err := s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		for _, j := range batch { // reset what an earlier try has set
			j.joinResult, j.retry, j.alone = joinResult{err: translate(j.ctx.Err())}, false, false
		}
		return s.decideJoins(ctx, tx, id, batch, wait)
	}, locks...)
	if lockRefused(err) && !wait {
		s.joins.fail(id, err)
	}
	for _, j := range batch {
		switch {
		case j.retry:
			retry = append(retry, j)
		case j.alone:
			s.joins.running.Go(func() { s.commitJoins(id, []*pendingJoin{j}, true) })
		case err != nil && j.err == nil:
			j.done <- joinResult{err: err}
		default:
			j.done <- j.joinResult
		}
	}
	return retry
}

// decideJoins decides about each join of a batch, and writes the result.
func (s *Store) decideJoins(
	ctx context.Context, tx pgx.Tx, id room.RoomID, batch []*pendingJoin, wait bool,
) (room.Change, error) {
	state, err := s.lockJoinState(ctx, tx, id, batch, wait)
	if err != nil {
		return room.Change{}, err
	}
	now := s.now() // after the wait for the locks
	joins := state.eligible(id, batch, now)
	r, created := state.room, false
	if r.Generation == 0 {
		// A room starts with one member. If that member may not join, the room is not created.
		creator := state.chooseCreator(id, joins)
		if creator == nil {
			return room.Change{}, nil
		}
		joins = []*pendingJoin{creator}
		session := creator.by.Session()
		if r, created, err = s.insertOrFindRoom(ctx, tx, id, creator.opts, state.sessions[session].User.ID, now); err != nil {
			return room.Change{}, err
		}
		if state.requests[session], err = s.joinRequest(ctx, tx, r, session); err != nil {
			return room.Change{}, err
		}
	}
	requests := make([]room.JoinRequest, len(joins))
	for i, j := range joins {
		requests[i] = state.requests[j.by.Session()]
	}
	r, all, err := flushPresenceBeforeJoin(ctx, tx, r, requests, now)
	if err != nil {
		return room.Change{}, err
	}
	var (
		b       pgx.Batch
		joined  []*pendingJoin
		changes []room.Change
		events  []room.Event
	)
	for i, j := range joins {
		request := requests[i]
		request.Call, request.Created, request.UserData = room.RoomEnter, created, j.opts.UserData
		var c room.Change
		r, c, j.err = queueJoin(&b, r, request, now)
		if j.err != nil && created {
			return room.Change{}, j.err
		}
		if j.err != nil {
			continue
		}
		j.room, j.created = r, created
		joined, changes = append(joined, j), append(changes, c)
		events = append(events, c.Events...)
	}
	if b.Len() > 0 {
		if err := queueRoom(&b, r, events); err != nil {
			return room.Change{}, err
		}
	}
	if err := sendBatch(ctx, tx, &b); err != nil {
		return room.Change{}, err
	}
	for i, c := range changes { // after the statements have returned the presence IDs
		for _, in := range c.Joined {
			joined[i].facts = room.RoomFacts{Log: in.Generation, Presence: in.Presence}
		}
		all = all.And(c)
	}
	return all, nil
}

// A joinState is all that the decisions about a batch of joins depend on. Everything in it is
// locked, except the busy sessions: another transaction has locked them or their users.
type joinState struct {
	sessions map[room.SessionID]room.Session
	busy     map[room.SessionID]bool
	requests map[room.SessionID]room.JoinRequest
	room     room.Room // its generation is 0 if it does not exist
}

// lockJoinState locks the sessions of a batch, their users and the room, and reads their state. It
// takes one round trip: each statement has a snapshot that is taken after the locks of the
// statements before it. It always waits for the lock of the room, but for sessions and users only
// if wait is set.
func (s *Store) lockJoinState(
	ctx context.Context, tx pgx.Tx, id room.RoomID, batch []*pendingJoin, wait bool,
) (joinState, error) {
	state := joinState{sessions: make(map[room.SessionID]room.Session, len(batch)), busy: make(map[room.SessionID]bool)}
	sessions := make([]room.SessionID, len(batch))
	for i, j := range batch {
		sessions[i] = j.by.Session()
	}
	skip := " SKIP LOCKED"
	if wait {
		skip = ""
	}
	var b pgx.Batch
	b.Queue("SELECT "+sessionColumns+" FROM sessions WHERE session_id = ANY ($1) ORDER BY session_id FOR NO KEY UPDATE"+skip, sessions).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				session, err := scanSession(rows)
				if err != nil {
					return err
				}
				state.sessions[session.ID] = session
			}
			return rows.Err()
		})
	if wait {
		b.Queue(lockUsers, sessions)
	} else {
		b.Queue(tryLockUsers, sessions).Query(func(rows pgx.Rows) error {
			var (
				busy   room.SessionID
				locked bool // whether the user was locked here
			)
			_, err := pgx.ForEachRow(rows, []any{&busy, &locked}, func() error {
				if _, held := state.sessions[busy]; !held || !locked {
					state.busy[busy] = true
				}
				return nil
			})
			return err
		})
	}
	b.Queue(lockRoomLog, id)
	b.Queue("SELECT " + lockedRoomColumns + " FROM rooms r WHERE r.generation = " + lockedGeneration).
		QueryRow(func(row pgx.Row) (err error) {
			state.room, err = scanLockedRoom(row)
			if errors.Is(err, pgx.ErrNoRows) {
				state.room, err = room.Room{}, nil
			}
			return err
		})
	b.Queue(joinRequestsQuery(lockedGeneration), sessions, id).
		Query(s.collectJoinRequests(&state.requests))
	return state, sendBatch(ctx, tx, &b)
}

// eligible returns the joins of a batch that can be decided now. It contains each user at most
// once, because the decision about a second session of the same user depends on the first.
func (state joinState) eligible(id room.RoomID, batch []*pendingJoin, now time.Time) []*pendingJoin {
	var eligible []*pendingJoin
	users := make(map[room.UserID]bool, len(batch))
	for _, j := range batch {
		if j.err != nil {
			continue // the caller has given up
		}
		if state.busy[j.by.Session()] {
			j.alone = true
			continue
		}
		session, ok := state.sessions[j.by.Session()]
		if !ok {
			j.err = room.ErrUnauthenticated
			continue
		}
		if j.err = session.Usable(now); j.err != nil {
			continue
		}
		// Checked under the session's lock: a renewal that revokes the grant either removes the
		// session from its rooms later, or has already done so.
		if j.err = session.Grants.Check(room.ActionJoin, id); j.err != nil {
			continue
		}
		if users[session.User.ID] {
			j.retry = true
			continue
		}
		users[session.User.ID] = true
		eligible = append(eligible, j)
	}
	return eligible
}

// chooseCreator returns the join that creates the room. Other joins that may create it are left to
// the next transaction, and those that may not get their errors.
func (state joinState) chooseCreator(id room.RoomID, joins []*pendingJoin) (creator *pendingJoin) {
	for _, j := range joins {
		switch {
		case !j.mayCreate:
			j.err = room.ErrRoomNotFound
		case state.sessions[j.by.Session()].Grants.Check(room.ActionCreate, id) != nil:
			j.err = room.ErrNotGranted
		case creator == nil:
			creator = j
		default:
			j.retry = true
		}
	}
	return creator
}

// lockRoomLog locks a room by the row of its log. It is a statement of its own, so that the
// statements after it in the same round trip have snapshots taken under the lock and see every
// member that left before. It stores the generation of the locked room in a setting: statements
// after it would also see a room that was created in between, which is not locked and must not be
// changed.
const lockRoomLog = `
	SELECT set_config('parlor.locked', coalesce(max(generation)::text, ''), true) FROM (
		SELECT generation FROM logs
		WHERE generation = (SELECT generation FROM rooms WHERE room_id = $1 AND destroyed_at IS NULL) AND NOT closed FOR NO KEY UPDATE
	) locked`

// lockedGeneration is the generation that lockRoomLog has locked, or null if there is none.
const lockedGeneration = `nullif(current_setting('parlor.locked'), '')::bigint`
