package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// JoinRoom lets the session into a room that exists. Errors: room.ErrNotGranted,
// room.ErrRoomNotFound, room.ErrRoomFull, room.ErrTooManyRooms and those of a
// session that is over.
func (s *Store) JoinRoom(ctx context.Context, by room.Actor, id room.RoomID) (room.Room, error) {
	o := s.waitForJoin(id, &pendingJoin{ctx: ctx, by: by, session: by.Session()})
	return o.room, s.refused(ctx, by, id, room.RoomEnter, o.err)
}

// EnterRoom lets the session into a room, which is created where there is none,
// and says whether it was. Errors: room.ErrNotGranted, room.ErrRoomFull, room.ErrTooManyRooms and
// those of a session that is over.
func (s *Store) EnterRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (entered room.Room, created bool, err error) {
	o := s.waitForJoin(id, &pendingJoin{ctx: ctx, by: by, session: by.Session(), mayCreate: true, opts: opts})
	return o.room, o.created, s.refused(ctx, by, id, room.RoomEnter, o.err)
}

// SwitchRoom takes the session out of one room and into another, both or
// neither; create says that the other may be created where there is none.
// Errors: room.ErrRoomNotFound for either, room.ErrNotInRoom for the first, and
// those of joining or creating the other.
func (s *Store) SwitchRoom(ctx context.Context, by room.Actor, from, to room.RoomID, create bool, opts room.RoomOptions) (entered room.Room, created bool, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		created = false // whatever an earlier try did
		now := s.now()
		who, err := lockJoiningSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		if err := who.Grants.Check(room.ActionJoin, to); err != nil {
			return c, err
		}
		rooms, err := lockRooms(ctx, tx, from, to)
		if err != nil {
			return c, err
		}
		old, ok := rooms[from]
		if !ok {
			return c, room.ErrRoomNotFound
		}
		if old, c, err = flushPresenceOfEmptying(ctx, tx, old, 1, now); err != nil {
			return c, err
		}
		l, err := leaveRequests(ctx, tx, old, bySession, []room.SessionID{who.ID})
		if err != nil {
			return c, err
		}
		if len(l) == 0 {
			return c, room.ErrNotInRoom
		}
		entered, ok = rooms[to]
		switch {
		case ok:
		case !create:
			return c, room.ErrRoomNotFound
		case who.Grants.Check(room.ActionCreate, to) != nil:
			return c, room.ErrNotGranted
		default:
			// Whichever room this finds is younger than the old one or it would
			// have been found before, so the locks are still in order.
			if entered, created, err = s.insertOrFindRoom(ctx, tx, to, opts, who.User.ID, now); err != nil {
				return c, err
			}
		}
		e, err := s.joinRequest(ctx, tx, entered, who.ID)
		if err != nil {
			return c, err
		}
		e.Call, e.Created = room.RoomSwitch, created
		if l[0].Last {
			e.Rooms-- // the old room makes place for the new one
		}
		var joined room.Change
		if entered, joined, err = join(ctx, tx, entered, e, now); err != nil {
			return c, err
		}
		left, err := leave(ctx, tx, old, l, room.ReasonSwitched, "", now)
		return c.And(joined).And(left), err
	}, sessionKey(by.Session()), roomKey(from), roomKey(to))
	return entered, created, s.refused(ctx, by, to, room.RoomSwitch, err)
}

// refused notifies a session that its call to join a room failed with err, and returns err. A session
// that is in the room stays there whatever was refused, such as to create the room once more, so it is
// not notified.
func (s *Store) refused(ctx context.Context, by room.Actor, id room.RoomID, call room.RoomEvent, err error) error {
	if err == nil {
		return nil
	}
	_, in := s.SessionRoom(ctx, by.Session(), id)
	if errors.Is(in, room.ErrNotInRoom) || errors.Is(in, room.ErrRoomNotFound) {
		public := room.Public(err)
		s.opts.Commit(room.Change{By: by, Refused: []room.RefusedJoin{{
			Session: by.Session(), Room: id, Call: call, Problem: room.Problem{Code: public.Code, Detail: public.Message},
		}}})
	}
	return err
}

// lockJoinRequest holds a session that wants into a room, and its user.
func lockJoiningSession(ctx context.Context, tx pgx.Tx, id room.SessionID, now time.Time) (room.Session, error) {
	session, err := lockSession(ctx, tx, id, now)
	if err != nil {
		return session, err
	}
	_, err = tx.Exec(ctx, lockUsers, []room.SessionID{id})
	return session, err
}

// lockUsers holds the users of sessions until the transaction ends, in the order
// in which everybody locks users. That makes the count of a user's rooms true
// while several sessions of the user enter several rooms.
const lockUsers = `SELECT pg_advisory_xact_lock(key) FROM (
	SELECT DISTINCT hashtextextended(user_id, 0) AS key FROM sessions WHERE session_id = ANY ($1) ORDER BY key
) users`

// tryUsers is lockUsers that waits for nobody: it says of each session that there is
// whether its user is locked now.
const tryLockUsers = `SELECT session_id, pg_try_advisory_xact_lock(hashtextextended(user_id, 0)) FROM sessions WHERE session_id = ANY ($1)`

// entrant reads what the rules need to know of a session that wants into a room.
// The transaction holds the session, its user and the room.
func (s *Store) joinRequest(ctx context.Context, tx pgx.Tx, r room.Room, session room.SessionID) (room.JoinRequest, error) {
	var (
		read map[room.SessionID]room.JoinRequest
		b    pgx.Batch
	)
	b.Queue(joinRequestsQuery("$3::bigint"), []room.SessionID{session}, r.ID, r.Generation).Query(s.collectJoinRequests(&read))
	err := send(ctx, tx, &b)
	return read[session], err
}

// entrants is the query for what the rules need to know of sessions that want
// into a room, of which generation is an SQL expression.
func joinRequestsQuery(generation string) string {
	return `SELECT s.session_id, s.user_id, s.user_name,
			EXISTS (SELECT FROM attendances a WHERE a.session_id = s.session_id AND a.generation = r.generation),
			ARRAY (SELECT a.session_id::text FROM attendances a
				WHERE a.generation = r.generation AND a.user_id = s.user_id AND a.session_id <> s.session_id ORDER BY a.stay),
			(SELECT count(*) FROM members m WHERE m.user_id = s.user_id),
			EXISTS (SELECT FROM partings p WHERE p.generation = r.generation AND p.user_id = s.user_id),
			(SELECT until FROM bans b WHERE b.room_id = $2 AND b.user_id = s.user_id)
		FROM sessions s, (SELECT ` + generation + ` AS generation) r WHERE s.session_id = ANY ($1)`
}

func (s *Store) collectJoinRequests(to *map[room.SessionID]room.JoinRequest) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*to = make(map[room.SessionID]room.JoinRequest)
		for rows.Next() {
			e := room.JoinRequest{MaxRooms: s.opts.RoomsPerUser}
			var bannedUntil *time.Time
			err := rows.Scan(&e.Session, &e.User.ID, &e.User.Name, &e.InRoom, &e.Others, &e.Rooms, &e.LeavePending, &bannedUntil)
			if err != nil {
				return err
			}
			e.BannedUntil = timeOrZero(bannedUntil)
			(*to)[e.Session] = e
		}
		return rows.Err()
	}
}

// insertOrFindRoom creates a room that was not there, and looks where somebody
// else created it first. The other one may be gone again by then, hence the
// loop; a few rounds mean that rooms of this name come and go faster than they
// can be entered.
func (s *Store) insertOrFindRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, opts room.RoomOptions, by room.UserID, now time.Time) (r room.Room, created bool, err error) {
	for range 5 {
		r, err = s.insertRoom(ctx, tx, id, opts, by, now)
		if !errors.Is(err, room.ErrRoomExists) {
			return r, true, err
		}
		r, err = lockRoom(ctx, tx, id)
		if !errors.Is(err, room.ErrRoomNotFound) {
			return r, false, err
		}
	}
	return room.Room{}, false, fmt.Errorf("room %q comes and goes too fast: %w", id, room.ErrUnavailable)
}

// join writes what the rules decide of an entrant.
func join(ctx context.Context, tx pgx.Tx, r room.Room, e room.JoinRequest, now time.Time) (room.Room, room.Change, error) {
	var b pgx.Batch
	r, c, err := queueJoin(&b, r, e, now)
	if err != nil {
		return r, room.Change{}, err
	}
	if b.Len() > 0 {
		if err := queueRoom(&b, r, c.Events); err != nil {
			return r, room.Change{}, err
		}
	}
	return r, c, send(ctx, tx, &b)
}

// queueJoin queues what the rules decide of an entrant, but for the room itself
// and its log; nothing where the entrant is in already. When the batch has been
// sent, the change has the numbers of the stays.
func queueJoin(b *pgx.Batch, r room.Room, e room.JoinRequest, now time.Time) (room.Room, room.Change, error) {
	later, members := r.BatchesPresence(), r.MemberCount
	r, c, err := r.Join(e, now) // which leaves the room as it is where it refuses
	if err != nil {
		return r, room.Change{}, err
	}
	if r.MemberCount > members {
		b.Queue("INSERT INTO members (generation, user_id, user_name, joined_seq, joined_at, announced) VALUES ($1, $2, $3, $4, $5, $6)",
			r.Generation, e.User.ID, e.User.Name, r.LastSeq, now, e.LeavePending || !later)
	}
	if e.LeavePending {
		b.Queue("DELETE FROM partings WHERE generation = $1 AND user_id = $2", r.Generation, e.User.ID)
	}
	for i, a := range c.Joined {
		b.Queue("INSERT INTO attendances (session_id, generation, user_id, from_seq) VALUES ($1, $2, $3, $4) RETURNING stay",
			a.Session, a.Generation, e.User.ID, a.From).
			QueryRow(func(row pgx.Row) error { return row.Scan(&c.Joined[i].Presence) })
		b.Queue("DELETE FROM departures WHERE session_id = $1 AND generation = $2", a.Session, a.Generation)
	}
	queueLeft(b, c.Left, now)
	return r, c, nil
}
