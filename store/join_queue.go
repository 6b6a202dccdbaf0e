package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Group commit, as for messages: those who want into a room while others are
// being let in enter together in the next transaction. A thousand people who
// enter one room at the same time wait for a few commits, and not each for all
// the commits before theirs.
const (
	// maxEntryBatch bounds how long a room and the sessions of a batch stay
	// locked.
	maxJoinBatch = 128
)

// entry is a call that wants a session into a room.
type pendingJoin struct {
	ctx     context.Context
	by      room.Actor
	session room.SessionID
	// founds says that the call may create the room, by its opts.
	mayCreate bool
	opts      room.RoomOptions
	// done gets the outcome; it has room for it, so that a caller who gave up
	// holds up nobody.
	done chan joinResult

	// What a transaction made of it: again says that it is for the next one, and apart
	// that others have its session or user locked, so that it is for one of its own.
	joinResult
	retry, alone bool
}

type joinResult struct {
	room    room.Room
	created bool
	err     error
}

// doors is where those wait who want into rooms.
type joinQueue struct {
	mu sync.Mutex // guards waiting
	// waiting has a key for each room that a goroutine lets people into.
	waiting map[room.RoomID][]*pendingJoin
	running sync.WaitGroup // those goroutines
}

// arrive reports whether nobody was at the door: the caller then opens it.
func (d *joinQueue) add(id room.RoomID, e *pendingJoin) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = make(map[room.RoomID][]*pendingJoin)
	}
	before, open := d.waiting[id]
	d.waiting[id] = append(before, e)
	return !open
}

// next is who enters next, those who could not enter before first; nobody means
// that the door is closed.
func (d *joinQueue) next(id room.RoomID, again []*pendingJoin) []*pendingJoin {
	d.mu.Lock()
	defer d.mu.Unlock()
	batch := append(again, d.waiting[id]...)
	if len(batch) == 0 {
		delete(d.waiting, id)
		return nil
	}
	n := min(len(batch), maxJoinBatch)
	d.waiting[id] = batch[n:]
	return batch[:n:n]
}

// refuse answers those who wait at a door behind a transaction that failed, where they
// would fail too.
func (d *joinQueue) fail(id room.RoomID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.waiting[id] {
		e.done <- joinResult{err: err}
	}
	d.waiting[id] = nil
}

func (s *Store) waitForJoin(id room.RoomID, e *pendingJoin) joinResult {
	e.done = make(chan joinResult, 1)
	if s.joins.add(id, e) {
		s.joins.running.Go(func() {
			for batch := s.joins.next(id, nil); len(batch) > 0; {
				batch = s.joins.next(id, s.commitJoins(id, batch, false))
			}
		})
	}
	select {
	case o := <-e.done:
		return o
	case <-e.ctx.Done():
		// It may still be let in. The caller is told to try again, which changes
		// nothing then.
		return joinResult{err: translate(e.ctx.Err())}
	}
}

// letIn lets a batch into a room in one transaction, tells the callers, and
// returns those who are for the next one. Nobody waits for the locks of another's
// session: those whose session or user is locked by somebody else enter by
// themselves, and wait.
func (s *Store) commitJoins(id room.RoomID, batch []*pendingJoin, wait bool) (again []*pendingJoin) {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	locks := []lockKey{roomKey(id)}
	if wait { // while it waits for the session it is not to take a place of those who do not
		locks = []lockKey{sessionKey(batch[0].session), blockedJoinKey(id)}
	}
	var by room.Actor
	if len(batch) == 1 {
		by = batch[0].by
	}
	err := s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		for _, e := range batch { // whatever an earlier try did
			e.joinResult, e.retry, e.alone = joinResult{err: translate(e.ctx.Err())}, false, false
		}
		return s.decideJoins(ctx, tx, id, batch, wait)
	}, locks...)
	if lockRefused(err) && !wait {
		s.joins.fail(id, err)
	}
	for _, e := range batch {
		switch {
		case e.retry:
			again = append(again, e)
		case e.alone:
			s.joins.running.Go(func() { s.commitJoins(id, []*pendingJoin{e}, true) })
		case err != nil && e.err == nil:
			e.done <- joinResult{err: err}
		default:
			e.done <- e.joinResult
		}
	}
	return again
}

// admit decides over a batch, and writes what it decides.
func (s *Store) decideJoins(ctx context.Context, tx pgx.Tx, id room.RoomID, batch []*pendingJoin, wait bool) (room.Change, error) {
	now := s.now()
	at, err := s.lockJoinState(ctx, tx, id, batch, wait)
	if err != nil {
		return room.Change{}, err
	}
	admitted := at.eligible(id, batch, now)
	r, created := at.room, false
	if r.Generation == 0 {
		// A room begins with one session: where the rules refuse it, there is no
		// room for others either.
		founder := at.chooseCreator(id, admitted)
		if founder == nil {
			return room.Change{}, nil
		}
		admitted = []*pendingJoin{founder}
		if r, created, err = s.insertOrFindRoom(ctx, tx, id, founder.opts, at.sessions[founder.session].User.ID, now); err != nil {
			return room.Change{}, err
		}
		if at.requests[founder.session], err = s.joinRequest(ctx, tx, r, founder.session); err != nil {
			return room.Change{}, err
		}
	}
	var (
		b       pgx.Batch
		changes []room.Change
		events  []room.Event
	)
	for _, e := range admitted {
		entrant := at.requests[e.session]
		entrant.Call, entrant.Created = room.RoomEnter, created
		var c room.Change
		r, c, e.err = queueJoin(&b, r, entrant, now)
		if e.err != nil && created {
			return room.Change{}, e.err
		}
		if e.err != nil {
			continue
		}
		e.room, e.created = r, created
		changes = append(changes, c)
		events = append(events, c.Events...)
	}
	if b.Len() > 0 {
		if err := queueRoom(&b, r, events); err != nil {
			return room.Change{}, err
		}
	}
	if err := send(ctx, tx, &b); err != nil {
		return room.Change{}, err
	}
	var all room.Change // now that the stays have their numbers
	for _, c := range changes {
		all = all.And(c)
	}
	return all, nil
}

// chooseFounder says who creates a room, and leaves the others who may to the next
// transaction.
func (at joinState) chooseCreator(id room.RoomID, entries []*pendingJoin) (founder *pendingJoin) {
	for _, e := range entries {
		switch {
		case !e.mayCreate:
			e.err = room.ErrRoomNotFound
		case at.sessions[e.session].Grants.Check(room.ActionCreate, id) != nil:
			e.err = room.ErrNotGranted
		case founder == nil:
			founder = e
		default:
			e.retry = true
		}
	}
	return founder
}

// entrance is what a batch of entries finds. All that is in it is locked, but for the
// sessions that are busy: they, or their users, are locked by others.
type joinState struct {
	sessions map[room.SessionID]room.Session
	busy     map[room.SessionID]bool
	requests map[room.SessionID]room.JoinRequest
	room     room.Room // without a generation where there is none
}

// usable is those of a batch who may ask for the room. Of a user only one at a
// time: what the rules need to know of the second depends on the first.
func (at joinState) eligible(id room.RoomID, batch []*pendingJoin, now time.Time) []*pendingJoin {
	var usable []*pendingJoin
	users := make(map[room.UserID]bool, len(batch))
	for _, e := range batch {
		if e.err != nil {
			continue // the caller has given up
		}
		if at.busy[e.session] {
			e.alone = true
			continue
		}
		session, ok := at.sessions[e.session]
		if !ok {
			e.err = room.ErrUnauthenticated
			continue
		}
		if e.err = session.Usable(now); e.err != nil {
			continue
		}
		// Under the session's lock: a renewal that takes the grant away takes the
		// session out of its rooms, or has done so before.
		if e.err = session.Grants.Check(room.ActionJoin, id); e.err != nil {
			continue
		}
		if users[session.User.ID] {
			e.retry = true
			continue
		}
		users[session.User.ID] = true
		usable = append(usable, e)
	}
	return usable
}

// lockEntrance holds the sessions of a batch, their users and the room, and
// reads what the rules need to know, in one round trip: each statement has a
// snapshot that is taken under the locks of those before it. It waits for the room, and
// for sessions and users only where it is told to.
func (s *Store) lockJoinState(ctx context.Context, tx pgx.Tx, id room.RoomID, batch []*pendingJoin, wait bool) (joinState, error) {
	at := joinState{sessions: make(map[room.SessionID]room.Session, len(batch)), busy: make(map[room.SessionID]bool)}
	sessions := make([]room.SessionID, len(batch))
	for i, e := range batch {
		sessions[i] = e.session
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
				at.sessions[session.ID] = session
			}
			return rows.Err()
		})
	if wait {
		b.Queue(lockUsers, sessions)
	} else {
		b.Queue(tryLockUsers, sessions).Query(func(rows pgx.Rows) error {
			var (
				busy   room.SessionID
				locked bool // the user
			)
			_, err := pgx.ForEachRow(rows, []any{&busy, &locked}, func() error {
				if _, held := at.sessions[busy]; !held || !locked {
					at.busy[busy] = true
				}
				return nil
			})
			return err
		})
	}
	b.Queue(lockRoomLog, id)
	b.Queue("SELECT " + roomColumns + " FROM rooms r WHERE r.generation = " + lockedGeneration).
		QueryRow(func(row pgx.Row) (err error) {
			at.room, err = scanRoom(row)
			if errors.Is(err, pgx.ErrNoRows) {
				at.room, err = room.Room{}, nil
			}
			return err
		})
	b.Queue(joinRequestsQuery(lockedGeneration), sessions, id).
		Query(s.collectJoinRequests(&at.requests))
	return at, send(ctx, tx, &b)
}

// lockLiving is a statement of its own because its lock comes first: what comes
// after it in the same round trip, with a snapshot taken under it, sees every
// member that left before. It leaves behind which room is locked: a statement after
// it also sees one that came to life in between, and must not touch that.
const lockRoomLog = `
	SELECT set_config('parlor.locked', coalesce(max(generation)::text, ''), true) FROM (
		SELECT generation FROM logs
		WHERE generation = (SELECT generation FROM rooms WHERE room_id = $1 AND destroyed_at IS NULL) AND NOT closed FOR NO KEY UPDATE
	) locked`

// lockedRoom is the generation that lockLiving has locked; null where there is none.
const lockedGeneration = `nullif(current_setting('parlor.locked'), '')::bigint`
