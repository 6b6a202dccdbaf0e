package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const roomColumns = `r.generation, r.room_id, r.room_name, r.destroy_delay, r.unused_timeout, r.member_timeout,
	r.max_members, r.same_user, r.history_visible, r.member_count,
	(SELECT last_seq FROM logs l WHERE l.generation = r.generation), r.oldest_seq, r.created_at, r.destroy_at, r.untold,
	coalesce((SELECT version FROM room_attributes a WHERE a.generation = r.generation), 0),
	(SELECT pairs FROM room_attributes a WHERE a.generation = r.generation)`

func scanRoom(row pgx.Row, more ...any) (room.Room, error) {
	var (
		r         room.Room
		destroyAt *time.Time
		pairs     attributePairs // nil where the room never had attributes
	)
	err := row.Scan(append([]any{
		&r.Generation, &r.ID, &r.Name, &r.Config.DestroyDelay, &r.Config.UnusedTimeout, &r.Config.MemberTimeout,
		&r.Config.MaxMembers, &r.Config.SameUser, &r.Config.HistoryVisible, &r.MemberCount, &r.LastSeq, &r.OldestSeq, &r.CreatedAt, &destroyAt, &r.PresencePending,
		&r.AttributesVersion, &pairs,
	}, more...)...)
	r.CreatedAt, r.DestroyAt = r.CreatedAt.UTC(), timeOrZero(destroyAt)
	r.Attributes = pairs.attributes()
	return r, err
}

// CreateRoom brings a room to life with the session in it. Settings that are
// unset become the defaults. Errors: room.ErrNotGranted, room.ErrRoomExists, room.ErrTooManyRooms
// and those of a session that is over.
func (s *Store) CreateRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (room.Room, error) {
	var created room.Room
	err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		who, err := lockJoiningSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		if err := who.Grants.Check(room.ActionCreate, id); err != nil {
			return c, err
		}
		if created, err = s.insertRoom(ctx, tx, id, opts, who.User.ID, now); err != nil {
			return c, err
		}
		e, err := s.joinRequest(ctx, tx, created, who.ID)
		if err != nil {
			return c, err
		}
		e.Call, e.Created = room.RoomCreate, true
		created, c, err = join(ctx, tx, created, e, now)
		return c, err
	}, sessionKey(by.Session()), roomKey(id))
	return created, s.refused(ctx, by, id, room.RoomCreate, err)
}

// insertRoom brings a room to life; what it begins with belongs to by.
func (s *Store) insertRoom(ctx context.Context, tx pgx.Tx, id room.RoomID, opts room.RoomOptions, by room.UserID, now time.Time) (room.Room, error) {
	r := room.Room{ID: id, Name: opts.Name, Config: opts.Settings.Over(s.opts.Defaults), CreatedAt: now, OldestSeq: 1}
	r.Attributes = room.NewAttributes(opts.Attributes, by)
	err := tx.QueryRow(ctx, `
		WITH room AS (
			INSERT INTO rooms (room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user,
				history_visible, member_count, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)
			ON CONFLICT (room_id) WHERE destroyed_at IS NULL DO NOTHING
			RETURNING generation
		)
		INSERT INTO logs (generation, last_seq) SELECT generation, 0 FROM room RETURNING generation`,
		r.ID, r.Name, r.Config.DestroyDelay, r.Config.UnusedTimeout, r.Config.MemberTimeout, r.Config.MaxMembers,
		r.Config.SameUser, r.Config.HistoryVisible, now).Scan(&r.Generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Room{}, room.ErrRoomExists
	}
	if err != nil || len(r.Attributes) == 0 {
		return r, err
	}
	var b pgx.Batch
	queueAttributes(&b, r)
	return r, send(ctx, tx, &b)
}

// lockRoom holds a living room until the transaction ends. Errors:
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

// lockRooms holds those of the rooms that live.
func lockRooms(ctx context.Context, tx pgx.Tx, ids ...room.RoomID) (map[room.RoomID]room.Room, error) {
	locked, err := lockRoomsByGeneration(ctx, tx, "ARRAY (SELECT generation FROM rooms WHERE room_id = ANY ($1) AND destroyed_at IS NULL)", ids)
	rooms := make(map[room.RoomID]room.Room, len(locked))
	for _, r := range locked {
		rooms[r.ID] = r
	}
	return rooms, err
}

// lockRoomsOf holds living rooms, by the rows of their logs, in the order in
// which everybody locks them. Which they are says an SQL expression for an array of
// generations. It reads them by a second statement, whose snapshot is
// taken under the locks: one that waits for a lock sees the locked row as it became,
// and everything else as it was before the wait. The expression is such, too.
func lockRoomsByGeneration(ctx context.Context, tx pgx.Tx, generations string, args ...any) ([]room.Room, error) {
	rows, err := tx.Query(ctx, "SELECT generation FROM logs WHERE generation = ANY ("+generations+`)
		AND NOT closed ORDER BY generation FOR NO KEY UPDATE`, args...)
	if err != nil {
		return nil, err
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[room.LogID])
	if err != nil || len(locked) == 0 {
		return nil, err
	}
	rows, err = tx.Query(ctx, "SELECT "+roomColumns+" FROM rooms r WHERE r.generation = ANY ($1) ORDER BY r.generation", locked)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
}

// SessionRooms is the rooms that the session is in, by age.
func (s *Store) SessionRooms(ctx context.Context, session room.SessionID) ([]room.Room, error) {
	return s.rooms(ctx, "JOIN attendances a USING (generation) WHERE a.session_id = $1 ORDER BY generation", session)
}

// SessionRoom is a living room that the session is in. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom.
func (s *Store) SessionRoom(ctx context.Context, session room.SessionID, id room.RoomID) (room.Room, error) {
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

// attended is the life of a room that the session is in, or without a session
// that of any living room: all that a message needs to know which is not stored,
// and a crowd sends many of those. What another node did may go unseen for
// sessionCacheTime. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom.
func (s *Store) attended(ctx context.Context, session *room.SessionID, id room.RoomID) (g room.LogID, err error) {
	if session != nil {
		if g, ok := s.sessions.generation(*session, id, s.now()); ok {
			return g, nil
		}
	}
	since := s.sessions.mark()
	var in bool
	err = s.pool.QueryRow(ctx, `
		SELECT generation, $2::uuid IS NULL OR EXISTS (SELECT FROM attendances a WHERE a.generation = r.generation AND a.session_id = $2)
		FROM rooms r WHERE room_id = $1 AND destroyed_at IS NULL`, id, session).Scan(&g, &in)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, room.ErrRoomNotFound
	case err != nil:
		return 0, translate(err)
	case !in:
		return 0, room.ErrNotInRoom
	}
	if session != nil {
		s.sessions.addRoom(*session, id, g, since)
	}
	return g, nil
}

// Rooms is a page of the living rooms whose ID begins with a prefix, by ID: at
// most limit of them after an ID. more is false on the last page.
func (s *Store) Rooms(ctx context.Context, prefix string, after room.RoomID, limit int) (page []room.Room, more bool, err error) {
	// No ID has a character beyond '~'. One row more than asked for tells
	// whether there is a next page.
	page, err = s.rooms(ctx, `WHERE r.destroyed_at IS NULL AND r.room_id > $1
		AND r.room_id BETWEEN $2 AND $2 || chr(127) ORDER BY r.room_id LIMIT $3`, after, prefix, limit+1)
	if len(page) > limit {
		return page[:limit], true, err
	}
	return page, false, err
}

// UserRooms is the rooms that the user is in, by age.
func (s *Store) UserRooms(ctx context.Context, user room.UserID) ([]room.Room, error) {
	return s.rooms(ctx, "JOIN members m USING (generation) WHERE m.user_id = $1 ORDER BY generation", user)
}

func (s *Store) rooms(ctx context.Context, which string, args ...any) ([]room.Room, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+roomColumns+" FROM rooms r "+which, args...)
	if err != nil {
		return nil, translate(err)
	}
	rooms, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanRoom(row) })
	return rooms, translate(err)
}

// Room is a room, whoever asks. Errors: room.ErrRoomNotFound.
func (s *Store) Room(ctx context.Context, id room.RoomID) (room.Room, error) {
	found, err := s.rooms(ctx, "WHERE r.room_id = $1 AND r.destroyed_at IS NULL", id)
	if err == nil && len(found) == 0 {
		err = room.ErrRoomNotFound
	}
	if err != nil {
		return room.Room{}, err
	}
	return found[0], nil
}

// CreateEmptyRoom brings a room to life that nobody is in. It goes after its
// unusedTimeout unless somebody enters. Errors: room.ErrRoomExists.
func (s *Store) CreateEmptyRoom(ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions) (room.Room, error) {
	var opened room.Room
	err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		if opened, err = s.insertRoom(ctx, tx, id, opts, "", now); err != nil {
			return c, err
		}
		opened = opened.StartUnusedTimeout(now)
		_, err = tx.Exec(ctx, "UPDATE rooms SET destroy_at = $2 WHERE generation = $1", opened.Generation, opened.DestroyAt)
		return c, err
	}, roomKey(id))
	return opened, err
}

// DestroyRoom ends a room for the operator's reason, whoever is in it. Errors:
// room.ErrRoomNotFound.
func (s *Store) DestroyRoom(ctx context.Context, by room.Actor, id room.RoomID, reason string) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		r, err := lockRoom(ctx, tx, id)
		if err != nil {
			return room.Change{}, err
		}
		return destroy(ctx, tx, r, reason, now)
	}, roomKey(id))
}

func destroy(ctx context.Context, tx pgx.Tx, r room.Room, note string, now time.Time) (room.Change, error) {
	var (
		sessions []room.SessionID
		left     []room.LeftMember
		b        pgx.Batch
	)
	stays := make(map[room.SessionID]room.PresenceID)
	b.Queue("DELETE FROM attendances WHERE generation = $1 RETURNING session_id, stay", r.Generation).
		Query(func(rows pgx.Rows) error {
			var (
				id   room.SessionID
				stay room.PresenceID
			)
			_, err := pgx.ForEachRow(rows, []any{&id, &stay}, func() error {
				sessions = append(sessions, id)
				stays[id] = stay
				return nil
			})
			return err
		})
	b.Queue("DELETE FROM members WHERE generation = $1 RETURNING user_id, user_name, $2::text, announced", r.Generation, room.ReasonRoomDestroyed).
		Query(collectLeft(&left))
	b.Queue("DELETE FROM partings WHERE generation = $1 RETURNING user_id, user_name, reason, true", r.Generation).
		Query(collectLeft(&left))
	if err := send(ctx, tx, &b); err != nil {
		return room.Change{}, err
	}
	r, c := r.Destroy(sessions, left, note, now)
	for i, d := range c.Left {
		c.Left[i].Presence = stays[d.Session]
	}
	b = pgx.Batch{}
	b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, note, left_at)
		SELECT unnest($1::uuid[]), $2, $3, $4, $5, $6`, sessions, r.Generation, r.ID, room.ReasonRoomDestroyed, note, now)
	if err := queueRoom(&b, r, c.Events); err != nil {
		return room.Change{}, err
	}
	return c, send(ctx, tx, &b)
}

// queueRoom writes what a rule made of a room that the transaction holds: its new
// values, and the events that it appended to the log.
func queueRoom(b *pgx.Batch, r room.Room, events []room.Event) error {
	// First, because the log's last_xact is the place in the feed of what follows.
	b.Queue("UPDATE logs SET last_seq = $2, last_xact = "+nextXact+", closed = $3 WHERE generation = $1",
		r.Generation, r.LastSeq, !r.DestroyedAt.IsZero())
	b.Queue(`
		UPDATE rooms SET member_count = $2, destroy_at = $3, destroyed_at = $4, destroy_reason = nullif($5, ''), untold = $6,
			destroyed_xact = CASE WHEN $4::timestamptz IS NOT NULL THEN (SELECT last_xact FROM logs WHERE generation = $1) END
		WHERE generation = $1`,
		r.Generation, r.MemberCount, nullTime(r.DestroyAt), nullTime(r.DestroyedAt), r.DestroyReason, r.PresencePending)
	for _, e := range events {
		body, err := encodeBody(e.Body)
		if err != nil {
			return err
		}
		b.Queue(`INSERT INTO events (generation, seq, type, at, body, xact)
			SELECT generation, $2, $3, $4, $5, last_xact FROM logs WHERE generation = $1`,
			e.Log, e.Seq, e.Body.Type(), e.At, string(body))
	}
	return nil
}

// lockRoomWith holds a living room that the session is in, and with
// it who else is. Errors: room.ErrRoomNotFound, room.ErrNotInRoom.
func lockJoinedRoom(ctx context.Context, tx pgx.Tx, session room.SessionID, id room.RoomID) (room.Room, error) {
	r, err := lockRoom(ctx, tx, id)
	if err != nil {
		return room.Room{}, err
	}
	var in bool
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM attendances WHERE generation = $1 AND session_id = $2)",
		r.Generation, session).Scan(&in)
	if err == nil && !in {
		err = room.ErrNotInRoom
	}
	return r, err
}
