package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const roomColumns = `r.generation, r.room_id, r.room_name, r.destroy_delay, r.unused_timeout, r.member_timeout,
	r.max_members, r.same_user, r.member_count, r.last_seq, r.oldest_seq, r.created_at, r.destroy_at`

func scanRoom(row pgx.Row, more ...any) (room.Room, error) {
	var (
		r         room.Room
		destroyAt *time.Time
	)
	err := row.Scan(append([]any{
		&r.Generation, &r.ID, &r.Name, &r.Config.DestroyDelay, &r.Config.UnusedTimeout, &r.Config.MemberTimeout,
		&r.Config.MaxMembers, &r.Config.SameUser, &r.MemberCount, &r.LastSeq, &r.OldestSeq, &r.CreatedAt, &destroyAt,
	}, more...)...)
	r.CreatedAt, r.DestroyAt = r.CreatedAt.UTC(), instant(destroyAt)
	return r, err
}

// CreateRoom brings a room to life with the session in it. Settings that are
// unset become the defaults. Errors: room.ErrRoomExists, room.ErrTooManyRooms
// and those of a session that is over.
func (s *Store) CreateRoom(ctx context.Context, session room.SessionID, id room.RoomID, blueprint room.Blueprint) (room.Room, error) {
	var created room.Room
	err := s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		if created, err = s.insertRoom(ctx, tx, id, blueprint, now); err != nil {
			return c, err
		}
		created, c, err = s.enter(ctx, tx, created, who, room.RoomCreate, true, now)
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
		joined, c, err = s.enter(ctx, tx, joined, who, room.RoomEnter, false, now)
		return c, err
	})
	return joined, err
}

// EnterRoom lets the session into a room, which is created where there is none,
// and says whether it was. Errors: room.ErrRoomFull, room.ErrTooManyRooms and
// those of a session that is over.
func (s *Store) EnterRoom(ctx context.Context, session room.SessionID, id room.RoomID, blueprint room.Blueprint) (entered room.Room, created bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return c, err
		}
		if entered, created, err = s.findOrInsertRoom(ctx, tx, id, blueprint, now); err != nil {
			return c, err
		}
		entered, c, err = s.enter(ctx, tx, entered, who, room.RoomEnter, created, now)
		return c, err
	})
	return entered, created, err
}

// findOrInsertRoom looks, creates where nothing is found, and looks again where
// somebody else created it first. The other one may be gone again by then,
// hence the loop; a few rounds mean that rooms of this name come and go faster
// than they can be entered.
func (s *Store) findOrInsertRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, blueprint room.Blueprint, now time.Time) (room.Room, bool, error) {
	for range 5 {
		r, err := lockRoom(ctx, tx, id)
		if !errors.Is(err, room.ErrRoomNotFound) {
			return r, false, err
		}
		r, err = s.insertRoom(ctx, tx, id, blueprint, now)
		if !errors.Is(err, room.ErrRoomExists) {
			return r, true, err
		}
	}
	return room.Room{}, false, fmt.Errorf("room %q comes and goes too fast: %w", id, room.ErrUnavailable)
}

func (s *Store) insertRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, blueprint room.Blueprint, now time.Time) (room.Room, error) {
	r := room.Room{ID: id, Name: blueprint.Name, Config: blueprint.Settings.Over(s.o.Defaults), CreatedAt: now, OldestSeq: 1}
	err := tx.QueryRow(ctx, `
		INSERT INTO rooms (room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user,
			member_count, last_seq, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8)
		ON CONFLICT (room_id) WHERE destroyed_at IS NULL DO NOTHING
		RETURNING generation`,
		r.ID, r.Name, r.Config.DestroyDelay, r.Config.UnusedTimeout, r.Config.MemberTimeout, r.Config.MaxMembers,
		r.Config.SameUser, now).Scan(&r.Generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Room{}, room.ErrRoomExists
	}
	return r, err
}

// lockRoom holds the row of a living room until the transaction ends. Errors:
// room.ErrRoomNotFound.
func lockRoom(ctx context.Context, tx pgx.Tx, id room.RoomID) (room.Room, error) {
	rooms, err := lockRooms(ctx, tx, id)
	if err != nil {
		return room.Room{}, err
	}
	r, ok := rooms[id]
	if !ok {
		return room.Room{}, room.ErrRoomNotFound
	}
	return r, nil
}

// lockRooms holds the rows of those of the rooms that live.
func lockRooms(ctx context.Context, tx pgx.Tx, ids ...room.RoomID) (map[room.RoomID]room.Room, error) {
	locked, err := lockRoomsWhere(ctx, tx, "r.room_id = ANY ($1) AND r.destroyed_at IS NULL", ids)
	rooms := make(map[room.RoomID]room.Room, len(locked))
	for _, r := range locked {
		rooms[r.ID] = r
	}
	return rooms, err
}

// lockRoomsWhere holds rooms' rows in the order in which everybody locks rooms.
// It reads them by a second statement, whose snapshot is taken under the locks:
// one that waits for a lock sees the row as it became, and everything else as it
// was before the wait.
func lockRoomsWhere(ctx context.Context, tx pgx.Tx, condition string, args ...any) ([]room.Room, error) {
	rows, err := tx.Query(ctx, "SELECT r.generation FROM rooms r WHERE "+condition+`
		ORDER BY r.generation FOR NO KEY UPDATE`, args...)
	if err != nil {
		return nil, err
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[room.Generation])
	if err != nil || len(locked) == 0 {
		return nil, err
	}
	rows, err = tx.Query(ctx, "SELECT "+roomColumns+" FROM rooms r WHERE r.generation = ANY ($1) ORDER BY r.generation", locked)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
}

// entrant reads what the rules need to know of a session that wants into a room
// whose row the transaction holds.
func (s *Store) entrant(ctx context.Context, tx pgx.Tx, r room.Room, session room.Session, call room.RoomEvent) (room.Entrant, error) {
	e := room.Entrant{Session: session.ID, User: session.User, Call: call, MaxRooms: s.o.RoomsPerUser}
	// The user's lock makes the count of rooms true while several sessions of
	// the user enter several rooms.
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", session.User.ID)
	if err != nil {
		return e, err
	}
	err = tx.QueryRow(ctx, `
		SELECT coalesce(bool_or(session_id = $1), false),
			coalesce(array_agg(session_id::text) FILTER (WHERE session_id <> $1), '{}'),
			(SELECT count(*) FROM members WHERE user_id = $3)
		FROM attendances WHERE generation = $2 AND user_id = $3`,
		session.ID, r.Generation, session.User.ID).Scan(&e.InRoom, &e.Others, &e.Rooms)
	return e, err
}

// enter lets a session into a room whose row the transaction holds.
func (s *Store) enter(ctx context.Context, tx pgx.Tx, r room.Room, session room.Session, call room.RoomEvent, created bool, now time.Time) (room.Room, room.Change, error) {
	e, err := s.entrant(ctx, tx, r, session, call)
	if err != nil {
		return r, room.Change{}, err
	}
	e.Created = created
	return join(ctx, tx, r, e, now)
}

// join writes what the rules decide of an entrant.
func join(ctx context.Context, tx pgx.Tx, r room.Room, e room.Entrant, now time.Time) (room.Room, room.Change, error) {
	r, c, err := r.Join(e, now)
	if err != nil {
		return r, room.Change{}, err
	}
	var b pgx.Batch
	if len(c.Events) > 0 {
		b.Queue("INSERT INTO members (generation, user_id, user_name, joined_seq, joined_at) VALUES ($1, $2, $3, $4, $5)",
			r.Generation, e.User.ID, e.User.Name, r.LastSeq, now)
	}
	for i, a := range c.Arrivals {
		b.Queue("INSERT INTO attendances (session_id, generation, user_id, from_seq) VALUES ($1, $2, $3, $4) RETURNING stay",
			a.Session, a.Generation, e.User.ID, a.From).
			QueryRow(func(row pgx.Row) error { return row.Scan(&c.Arrivals[i].Stay) })
		b.Queue("DELETE FROM departures WHERE session_id = $1 AND generation = $2", a.Session, a.Generation)
	}
	queueDepartures(&b, c.Departures, now)
	if err := queueEvents(&b, r, c.Events); err != nil {
		return r, room.Change{}, err
	}
	return r, c, send(ctx, tx, &b)
}

// queueDepartures takes sessions out of rooms and keeps why, for when they come
// back.
func queueDepartures(b *pgx.Batch, departures []room.Departure, now time.Time) {
	for i, d := range departures {
		b.Queue("DELETE FROM attendances WHERE session_id = $1 AND generation = $2 RETURNING stay", d.Session, d.Generation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&departures[i].Stay) })
		b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, left_at) VALUES ($1, $2, $3, $4, $5)`,
			d.Session, d.Generation, d.Room, d.Reason, now)
	}
}

// SwitchRoom takes the session out of one room and into another, both or
// neither; create says that the other may be created where there is none.
// Errors: room.ErrRoomNotFound for either, room.ErrNotInRoom for the first, and
// those of joining the other.
func (s *Store) SwitchRoom(ctx context.Context, session room.SessionID, from, to room.RoomID, create bool, blueprint room.Blueprint) (entered room.Room, created bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		created = false // whatever an earlier try did
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
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
		l, err := leaver(ctx, tx, old, who)
		if errors.Is(err, pgx.ErrNoRows) {
			return c, room.ErrNotInRoom
		}
		if err != nil {
			return c, err
		}
		entered, ok = rooms[to]
		switch {
		case ok:
		case !create:
			return c, room.ErrRoomNotFound
		default:
			// Whichever room this finds is younger than the old one or it would
			// have been found before, so the locks are still in order.
			if entered, created, err = s.findOrInsertRoom(ctx, tx, to, blueprint, now); err != nil {
				return c, err
			}
		}
		e, err := s.entrant(ctx, tx, entered, who, room.RoomSwitch)
		if err != nil {
			return c, err
		}
		e.Created = created
		if l.Last {
			e.Rooms-- // the old room makes place for the new one
		}
		if entered, c, err = join(ctx, tx, entered, e, now); err != nil {
			return c, err
		}
		left, err := leave(ctx, tx, old, l, room.ReasonSwitched, now)
		return c.And(left), err
	})
	return entered, created, err
}

// SessionRooms is the rooms that the session is in, by age.
func (s *Store) SessionRooms(ctx context.Context, session room.SessionID) ([]room.Room, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+roomColumns+` FROM rooms r JOIN attendances a USING (generation)
		WHERE a.session_id = $1 ORDER BY generation`, session)
	if err != nil {
		return nil, translate(err)
	}
	rooms, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
	return rooms, translate(err)
}

// LeaveAllRooms takes the session, and no other of its user, out of all its
// rooms and returns them. Errors: those of a session that is over.
func (s *Store) LeaveAllRooms(ctx context.Context, session room.SessionID) ([]room.RoomID, error) {
	var left []room.RoomID
	err := s.inTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		who, err := lockSession(ctx, tx, session, now)
		if err != nil {
			return room.Change{}, err
		}
		c, err := leaveRooms(ctx, tx, who, nil, room.ReasonLeft, now)
		left = make([]room.RoomID, 0, len(c.Departures)) // anew with each try
		for _, d := range c.Departures {
			left = append(left, d.Room)
		}
		return c, err
	})
	return left, err
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
	locked, err := lockRoomsWhere(ctx, tx, `r.generation IN (
		SELECT generation FROM attendances WHERE session_id = $1 AND ($2::bigint[] IS NULL OR generation = ANY ($2)))`,
		session.ID, rooms)
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
	l, err := leaver(ctx, tx, r, session)
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Change{}, nil // another session of the user took its place meanwhile
	}
	if err != nil {
		return room.Change{}, err
	}
	return leave(ctx, tx, r, l, reason, now)
}

// leaver reads what the rules need to know of a session that leaves. No rows
// mean that it is not in the room.
func leaver(ctx context.Context, tx pgx.Tx, r room.Room, session room.Session) (room.Leaver, error) {
	l := room.Leaver{Session: session.ID, User: session.User}
	err := tx.QueryRow(ctx, `
		SELECT m.user_name, NOT EXISTS (
			SELECT FROM attendances o WHERE o.generation = m.generation AND o.user_id = m.user_id AND o.session_id <> $2)
		FROM attendances a JOIN members m USING (generation, user_id)
		WHERE a.generation = $1 AND a.session_id = $2`,
		r.Generation, session.ID).Scan(&l.User.Name, &l.Last)
	return l, err
}

// leave writes what the rules decide of a leaver.
func leave(ctx context.Context, tx pgx.Tx, r room.Room, l room.Leaver, reason room.LeaveReason, now time.Time) (room.Change, error) {
	r, c := r.Leave(l, reason, now)
	var b pgx.Batch
	queueDepartures(&b, c.Departures, now)
	if l.Last {
		b.Queue("DELETE FROM members WHERE generation = $1 AND user_id = $2", r.Generation, l.User.ID)
	}
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
