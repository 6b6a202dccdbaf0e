package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// JoinRoom adds the session to an existing room. Errors: room.ErrNotGranted, room.ErrRoomNotFound,
// room.ErrRoomFull, room.ErrTooManyRooms and those of room.Session.Usable.
func (s *Store) JoinRoom(
	ctx context.Context, by room.Actor, id room.RoomID, userData string,
) (room.Room, error) {
	result := s.waitForJoin(id, &pendingJoin{ctx: ctx, by: by, opts: room.RoomOptions{UserData: userData}})
	return result.room, s.notifyRefused(ctx, by, id, room.RoomEnter, result.err)
}

// EnterRoom adds the session to a room, and creates the room if it does not exist. It reports
// whether it created the room. Errors: room.ErrNotGranted, room.ErrRoomFull, room.ErrTooManyRooms
// and those of room.Session.Usable.
func (s *Store) EnterRoom(
	ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions,
) (entered room.Room, created bool, err error) {
	result := s.waitForJoin(id, &pendingJoin{ctx: ctx, by: by, mayCreate: true, opts: opts})
	return result.room, result.created, s.notifyRefused(ctx, by, id, room.RoomEnter, result.err)
}

// SwitchRoom moves the session from one room to another, in one transaction. With create set, the
// other room is created if it does not exist. Errors: room.ErrRoomNotFound for either room,
// room.ErrNotInRoom for the first, and those of joining or creating the second.
func (s *Store) SwitchRoom(
	ctx context.Context, by room.Actor, from, to room.RoomID, create bool, opts room.RoomOptions,
) (entered room.Room, created bool, err error) {
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		created = false // reset what an earlier try has set
		now := s.now()
		joining, err := lockJoiningSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		if err := joining.Grants.Check(room.ActionJoin, to); err != nil {
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
		leaving, err := leaveRequests(ctx, tx, old, bySession, []room.SessionID{joining.ID})
		if err != nil {
			return c, err
		}
		if len(leaving) == 0 {
			return c, room.ErrNotInRoom
		}
		entered, ok = rooms[to]
		switch {
		case ok:
		case !create:
			return c, room.ErrRoomNotFound
		case joining.Grants.Check(room.ActionCreate, to) != nil:
			return c, room.ErrNotGranted
		default:
			// A room that is found here was created after the old one, or lockRooms would have
			// found it, so the locks are still taken in order.
			if entered, created, err = s.insertOrFindRoom(ctx, tx, to, opts, joining.User.ID, now); err != nil {
				return c, err
			}
		}
		request, err := s.joinRequest(ctx, tx, entered, joining.ID)
		if err != nil {
			return c, err
		}
		request.Call, request.Created, request.UserData = room.RoomSwitch, created, opts.UserData
		if leaving[0].Last {
			request.Rooms-- // leaving the old room makes space for the new one
		}
		var joined room.Change
		if entered, joined, err = join(ctx, tx, entered, request, now); err != nil {
			return c, err
		}
		left, err := leave(ctx, tx, old, leaving, room.ReasonSwitched, "", now)
		return joined.And(left), err
	}, sessionKey(by.Session()), roomKey(from), roomKey(to))
	return entered, created, s.notifyRefused(ctx, by, to, room.RoomSwitch, err)
}

// notifyRefused notifies a session that its call to join a room failed with err, and returns err. A
// session that is already in the room is not notified, because it stays there: the call was, for
// example, to create the room again.
func (s *Store) notifyRefused(
	ctx context.Context, by room.Actor, id room.RoomID, call room.RoomEvent, err error,
) error {
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

// lockJoiningSession locks a session that is about to join a room, and its user.
func lockJoiningSession(ctx context.Context, tx pgx.Tx, id room.SessionID, now time.Time) (room.Session, error) {
	session, err := lockSession(ctx, tx, id, now)
	if err != nil {
		return session, err
	}
	_, err = tx.Exec(ctx, lockUsers, []room.SessionID{id})
	return session, err
}

// lockUsers locks the users of sessions until the transaction ends, in the same order in every
// transaction. It makes the count of a user's rooms exact while several sessions of the user join
// rooms.
const lockUsers = `SELECT pg_advisory_xact_lock(key) FROM (
	SELECT DISTINCT hashtextextended(user_id, 0) AS key FROM sessions WHERE session_id = ANY ($1) ORDER BY key
) users`

// tryLockUsers is lockUsers without waiting: for each session that exists it returns whether its
// user is locked now.
const tryLockUsers = `SELECT session_id, pg_try_advisory_xact_lock(hashtextextended(user_id, 0)) FROM sessions WHERE session_id = ANY ($1)`

// joinRequest reads the join request of a session. The transaction has locked the session, its user
// and the room.
func (s *Store) joinRequest(
	ctx context.Context, tx pgx.Tx, r room.Room, session room.SessionID,
) (room.JoinRequest, error) {
	var (
		read map[room.SessionID]room.JoinRequest
		b    pgx.Batch
	)
	b.Queue(joinRequestsQuery("$3::bigint"), []room.SessionID{session}, r.ID, r.Generation).Query(s.collectJoinRequests(&read))
	err := sendBatch(ctx, tx, &b)
	return read[session], err
}

// joinRequestsQuery returns the query for the join requests of sessions. generation is an SQL
// expression for the generation of the room.
func joinRequestsQuery(generation string) string {
	return `SELECT s.session_id, s.user_id, coalesce(p.user_name, s.user_name), coalesce(p.avatar_url, ''),
			EXISTS (SELECT FROM attendances a WHERE a.session_id = s.session_id AND a.generation = r.generation),
			ARRAY (SELECT a.session_id::text FROM attendances a
				WHERE a.generation = r.generation AND a.user_id = s.user_id AND a.session_id <> s.session_id ORDER BY a.stay),
			(SELECT count(*) FROM members m WHERE m.user_id = s.user_id),
			EXISTS (SELECT FROM partings p WHERE p.generation = r.generation AND p.user_id = s.user_id),
			(SELECT until FROM bans b WHERE b.room_id = $2 AND b.user_id = s.user_id)
		FROM sessions s CROSS JOIN (SELECT ` + generation + ` AS generation) r
		LEFT JOIN LATERAL (SELECT user_name, avatar_url FROM profiles WHERE user_id = s.user_id LIMIT 1) p ON true
		WHERE s.session_id = ANY ($1)`
}

func (s *Store) collectJoinRequests(to *map[room.SessionID]room.JoinRequest) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*to = make(map[room.SessionID]room.JoinRequest)
		for rows.Next() {
			request := room.JoinRequest{MaxRooms: s.opts.RoomsPerUser}
			var bannedUntil *time.Time
			err := rows.Scan(&request.Session, &request.User.ID, &request.User.Name, &request.AvatarURL, &request.InRoom, &request.Others,
				&request.Rooms, &request.LeavePending, &bannedUntil)
			if err != nil {
				return err
			}
			request.BannedUntil = timeOrZero(bannedUntil)
			(*to)[request.Session] = request
		}
		return rows.Err()
	}
}

// insertOrFindRoom creates a room, or locks the room that another transaction has created first. It
// tries again if that room is destroyed before it is locked.
func (s *Store) insertOrFindRoom(
	ctx context.Context, tx pgx.Tx, id room.RoomID, opts room.RoomOptions, by room.UserID, now time.Time,
) (r room.Room, created bool, err error) {
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
	return room.Room{}, false, fmt.Errorf("room %q is created and destroyed too fast: %w", id, room.ErrUnavailable)
}

// join decides about a join request and writes the result. The transaction has locked the room.
func join(
	ctx context.Context, tx pgx.Tx, r room.Room, request room.JoinRequest, now time.Time,
) (room.Room, room.Change, error) {
	r, flushed, err := flushPresenceBeforeJoin(ctx, tx, r, []room.JoinRequest{request}, now)
	if err != nil {
		return r, room.Change{}, err
	}
	var b pgx.Batch
	r, c, err := queueJoin(&b, r, request, now)
	if err != nil {
		return r, room.Change{}, err
	}
	if b.Len() > 0 {
		if err := queueRoom(&b, r, c.Events); err != nil {
			return r, room.Change{}, err
		}
	}
	if err := sendBatch(ctx, tx, &b); err != nil { // it sets the presence IDs in c
		return r, room.Change{}, err
	}
	return r, flushed.And(c), nil
}

// queueJoin decides about a join request and queues the result, except for the update of the room
// and its log. It queues nothing if the session is already in the room. The change contains the
// presence IDs only after the batch has been sent.
func queueJoin(b *pgx.Batch, r room.Room, request room.JoinRequest, now time.Time) (room.Room, room.Change, error) {
	batched, members := r.BatchesJoin(), r.MemberCount
	r, c, err := r.Join(request, now) // returns the room unchanged if it rejects the request
	if err != nil {
		return r, room.Change{}, err
	}
	if r.MemberCount > members {
		b.Queue("INSERT INTO members (generation, user_id, user_name, avatar_url, user_data, joined_seq, joined_at, announced) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			r.Generation, request.User.ID, request.User.Name, request.AvatarURL, request.UserData, r.LastSeq, r.LastAt.Time(), !batched)
	}
	for i, joined := range c.Joined {
		b.Queue("INSERT INTO attendances (session_id, generation, user_id, from_seq) VALUES ($1, $2, $3, $4) RETURNING stay",
			joined.Session, joined.Generation, request.User.ID, joined.From).
			QueryRow(func(row pgx.Row) error { return row.Scan(&c.Joined[i].Presence) })
		b.Queue("DELETE FROM departures WHERE session_id = $1 AND generation = $2", joined.Session, joined.Generation)
	}
	queueLeft(b, c.Left, now)
	return r, c, nil
}
