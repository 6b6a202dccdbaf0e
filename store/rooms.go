package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const roomColumns = `r.generation, r.room_id, r.room_name, r.member_timeout, r.max_members,
	r.member_count, r.last_seq, r.oldest_seq, r.created_at`

func scanRoom(row pgx.Row, more ...any) (room.Room, error) {
	var r room.Room
	err := row.Scan(append([]any{
		&r.Generation, &r.ID, &r.Name, &r.Config.MemberTimeout, &r.Config.MaxMembers,
		&r.MemberCount, &r.LastSeq, &r.OldestSeq, &r.CreatedAt,
	}, more...)...)
	r.CreatedAt = r.CreatedAt.UTC()
	return r, err
}

// CreateRoom brings a room to life with the session in it. Settings that are
// unset become the defaults. Errors: room.ErrRoomExists, room.ErrTooManyRooms
// and those of a session that is over.
func (s *Store) CreateRoom(ctx context.Context, session room.SessionID, id room.RoomID, name string, config room.Config) (room.Room, error) {
	var created room.Room
	err := s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		if created, err = s.insertRoom(ctx, tx, id, name, config, now); err != nil {
			return c, err
		}
		created, c, err = s.join(ctx, tx, created, who, room.Entrant{Call: room.RoomCreate, Created: true}, now)
		return c, err
	})
	return created, err
}

// JoinRoom lets the session into a room that exists. Errors:
// room.ErrRoomNotFound, room.ErrRoomFull, room.ErrTooManyRooms and those of a
// session that is over.
func (s *Store) JoinRoom(ctx context.Context, session room.SessionID, id room.RoomID) (room.Room, error) {
	var joined room.Room
	err := s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		if joined, err = lockRoom(ctx, tx, id); err != nil {
			return c, err
		}
		joined, c, err = s.join(ctx, tx, joined, who, room.Entrant{Call: room.RoomEnter}, now)
		return c, err
	})
	return joined, err
}

// EnterRoom lets the session into a room, which is created where there is none,
// and says whether it was. Errors: room.ErrRoomFull, room.ErrTooManyRooms and
// those of a session that is over.
func (s *Store) EnterRoom(ctx context.Context, session room.SessionID, id room.RoomID, name string, config room.Config) (entered room.Room, created bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		if entered, created, err = s.findOrInsertRoom(ctx, tx, id, name, config, now); err != nil {
			return c, err
		}
		entered, c, err = s.join(ctx, tx, entered, who, room.Entrant{Call: room.RoomEnter, Created: created}, now)
		return c, err
	})
	return entered, created, err
}

// findOrInsertRoom looks, creates where nothing is found, and looks again where
// somebody else created it first. The other one may be gone again by then,
// hence the loop; a few rounds mean that rooms of this name come and go faster
// than they can be entered.
func (s *Store) findOrInsertRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, name string, config room.Config, now time.Time) (room.Room, bool, error) {
	for range 5 {
		r, err := lockRoom(ctx, tx, id)
		if !errors.Is(err, room.ErrRoomNotFound) {
			return r, false, err
		}
		r, err = s.insertRoom(ctx, tx, id, name, config, now)
		if !errors.Is(err, room.ErrRoomExists) {
			return r, true, err
		}
	}
	return room.Room{}, false, fmt.Errorf("room %q comes and goes too fast: %w", id, room.ErrUnavailable)
}

func (s *Store) insertRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, name string, config room.Config, now time.Time) (room.Room, error) {
	r := room.Room{ID: id, Name: name, Config: config.Or(s.o.Defaults), CreatedAt: now, OldestSeq: 1}
	err := tx.QueryRow(ctx, `
		INSERT INTO rooms (room_id, room_name, member_timeout, max_members, member_count, last_seq, created_at)
		VALUES ($1, $2, $3, $4, 0, 0, $5)
		ON CONFLICT (room_id) WHERE destroyed_at IS NULL DO NOTHING
		RETURNING generation`,
		r.ID, r.Name, r.Config.MemberTimeout, r.Config.MaxMembers, now).Scan(&r.Generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Room{}, room.ErrRoomExists
	}
	return r, err
}

// lockRoom holds the row of a living room until the transaction ends.
func lockRoom(ctx context.Context, tx pgx.Tx, id room.RoomID) (room.Room, error) {
	r, err := scanRoom(tx.QueryRow(ctx, "SELECT "+roomColumns+` FROM rooms r
		WHERE room_id = $1 AND destroyed_at IS NULL FOR NO KEY UPDATE`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Room{}, room.ErrRoomNotFound
	}
	return r, err
}

// join lets a session into a room whose row the transaction holds; e says how it
// comes.
func (s *Store) join(ctx context.Context, tx pgx.Tx, r room.Room, session room.Session, e room.Entrant, now time.Time) (room.Room, room.Change, error) {
	e.Session, e.User, e.MaxRooms = session.ID, session.User, s.o.RoomsPerUser
	// The user's lock makes the count of rooms true while several sessions of
	// the user enter several rooms.
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", session.User.ID)
	if err != nil {
		return r, room.Change{}, err
	}
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM attendances WHERE session_id = $1 AND generation = $2),
			EXISTS (SELECT FROM members WHERE generation = $2 AND user_id = $3),
			(SELECT count(*) FROM members WHERE user_id = $3)`,
		session.ID, r.Generation, session.User.ID).Scan(&e.InRoom, &e.Member, &e.Rooms)
	if err != nil {
		return r, room.Change{}, err
	}
	r, c, err := r.Join(e, now)
	if err != nil {
		return r, room.Change{}, err
	}
	var b pgx.Batch
	if len(c.Events) > 0 {
		b.Queue("INSERT INTO members (generation, user_id, user_name, joined_seq, joined_at) VALUES ($1, $2, $3, $4, $5)",
			r.Generation, session.User.ID, session.User.Name, r.LastSeq, now)
	}
	for _, a := range c.Arrivals {
		b.Queue("INSERT INTO attendances (session_id, generation, user_id, from_seq) VALUES ($1, $2, $3, $4)",
			session.ID, r.Generation, session.User.ID, a.From)
		b.Queue("DELETE FROM departures WHERE session_id = $1 AND generation = $2", session.ID, r.Generation)
	}
	if err := queueEvents(&b, r, c.Events); err != nil {
		return r, room.Change{}, err
	}
	return r, c, send(ctx, tx, &b)
}

// LeaveRoom takes the session out of a room. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom and those of a session that is over.
func (s *Store) LeaveRoom(ctx context.Context, session room.SessionID, id room.RoomID) error {
	return s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return c, err
		}
		if c, err = leaveRooms(ctx, tx, who, []room.Generation{r.Generation}, room.ReasonLeft, now); err != nil {
			return c, err
		}
		if len(c.Departures) == 0 {
			return c, room.ErrNotInRoom
		}
		return c, nil
	})
}

// leaveRooms takes a session, whose row the transaction holds, out of those of
// the rooms that it is in; nil means out of all.
func leaveRooms(ctx context.Context, tx pgx.Tx, session room.Session, rooms []room.Generation, reason room.LeaveReason, now time.Time) (room.Change, error) {
	rows, err := tx.Query(ctx, "SELECT "+roomColumns+` FROM rooms r JOIN attendances a USING (generation)
		WHERE a.session_id = $1 AND ($2::bigint[] IS NULL OR generation = ANY ($2))
		ORDER BY generation FOR NO KEY UPDATE OF r`, session.ID, rooms)
	if err != nil {
		return room.Change{}, err
	}
	locked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
	if err != nil {
		return room.Change{}, err
	}
	var c room.Change
	for _, r := range locked {
		left, err := leaveRoom(ctx, tx, r, session, reason, now)
		if err != nil {
			return room.Change{}, err
		}
		c = c.And(left)
	}
	return c, nil
}

// leaveRoom takes a session out of a room; the transaction holds both rows.
func leaveRoom(ctx context.Context, tx pgx.Tx, r room.Room, session room.Session, reason room.LeaveReason, now time.Time) (room.Change, error) {
	l := room.Leaver{Session: session.ID, User: session.User}
	err := tx.QueryRow(ctx, `
		SELECT user_name, NOT EXISTS (
			SELECT FROM attendances a WHERE a.generation = m.generation AND a.user_id = m.user_id AND a.session_id <> $3)
		FROM members m WHERE generation = $1 AND user_id = $2`,
		r.Generation, session.User.ID, session.ID).Scan(&l.User.Name, &l.Last)
	if err != nil {
		return room.Change{}, err
	}
	r, c := r.Leave(l, reason, now)
	var b pgx.Batch
	b.Queue("DELETE FROM attendances WHERE session_id = $1 AND generation = $2", session.ID, r.Generation)
	if l.Last {
		b.Queue("DELETE FROM members WHERE generation = $1 AND user_id = $2", r.Generation, session.User.ID)
	}
	b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, left_at) VALUES ($1, $2, $3, $4, $5)`,
		session.ID, r.Generation, r.ID, reason, now)
	if err := queueEvents(&b, r, c.Events); err != nil {
		return room.Change{}, err
	}
	return c, send(ctx, tx, &b)
}

// RoomByID is a living room that the session is in. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom.
func (s *Store) RoomByID(ctx context.Context, session room.SessionID, id room.RoomID) (room.Room, error) {
	var in bool
	r, err := scanRoom(s.pool.QueryRow(ctx, "SELECT "+roomColumns+`,
		EXISTS (SELECT FROM attendances a WHERE a.generation = r.generation AND a.session_id = $2)
		FROM rooms r WHERE room_id = $1 AND destroyed_at IS NULL`, id, session), &in)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return room.Room{}, room.ErrRoomNotFound
	case err != nil:
		return room.Room{}, translate(err)
	case !in:
		return room.Room{}, room.ErrNotInRoom
	}
	return r, nil
}
