package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const roomColumns = `r.generation, r.room_id, r.room_name, r.destroy_delay, r.unused_timeout, r.member_timeout,
	r.max_members, r.same_user, r.history_visible, r.lifetime, r.history, r.retention_days, r.retention_count, r.presence,
	r.names_up_to, r.member_states, r.updated_seq, r.member_count, r.member_events,
	(SELECT last_seq FROM logs l WHERE l.generation = r.generation), r.oldest_seq, r.created_at, r.destroy_at, r.empty_since, r.untold,
	coalesce((SELECT version FROM room_attributes a WHERE a.generation = r.generation), 0),
	(SELECT pairs FROM room_attributes a WHERE a.generation = r.generation)`

func scanRoom(row pgx.Row, more ...any) (room.Room, error) {
	var (
		r         room.Room
		createdAt time.Time
		destroyAt *time.Time
		empty     *time.Time
		pairs     attributePairs // nil if the room never had attributes
	)
	err := row.Scan(append([]any{
		&r.Generation, &r.ID, &r.Name, &r.Config.DestroyDelay, &r.Config.UnusedTimeout, &r.Config.MemberTimeout,
		&r.Config.MaxMembers, &r.Config.SameUser, &r.Config.HistoryVisible, &r.Config.Lifetime, &r.Config.History,
		&r.Config.RetentionDays, &r.Config.RetentionCount, &r.Config.Presence, &r.Config.NamesUpTo, &r.Config.MemberStates,
		&r.SettingsVersion, &r.MemberCount, &r.MemberEvents, &r.LastSeq, &r.OldestSeq, &createdAt, &destroyAt, &empty, &r.PresencePending,
		&r.AttributesVersion, &pairs,
	}, more...)...)
	r.CreatedAt = room.InstantOf(createdAt)
	if destroyAt != nil {
		r.DestroyAt = room.InstantOf(*destroyAt)
	}
	if empty != nil {
		r.EmptySince = room.InstantOf(*empty)
	}
	r.Attributes = pairs.attributes()
	return r, err
}

// lockedRoomColumns is roomColumns for a room that the transaction has locked.
const lockedRoomColumns = roomColumns + `,
	(SELECT at FROM events e WHERE e.generation = r.generation ORDER BY at DESC LIMIT 1)`

func scanLockedRoom(row pgx.Row) (room.Room, error) {
	var last *time.Time // nil if the log has no events
	r, err := scanRoom(row, &last)
	if last != nil {
		r.LastAt = room.InstantOf(*last)
	}
	return r, err
}

// CreateRoom creates a room with the session in it. Settings that are not set get the defaults.
// Errors: room.ErrNotGranted, room.ErrRoomExists, room.ErrTooManyRooms and those of
// room.Session.Usable.
func (s *Store) CreateRoom(
	ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions,
) (room.Room, error) {
	var created room.Room
	err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		joining, err := lockJoiningSession(ctx, tx, by.Session(), now)
		if err != nil {
			return c, err
		}
		if err := joining.Grants.Check(room.ActionCreate, id); err != nil {
			return c, err
		}
		if created, err = s.insertRoom(ctx, tx, id, opts, joining.User.ID, now); err != nil {
			return c, err
		}
		request, err := s.joinRequest(ctx, tx, created, joining.ID)
		if err != nil {
			return c, err
		}
		request.Call, request.Created, request.UserData = room.RoomCreate, true, opts.UserData
		created, c, err = join(ctx, tx, created, request, now)
		return c, err
	}, sessionKey(by.Session()), roomKey(id))
	return created, s.notifyRefused(ctx, by, id, room.RoomCreate, err)
}

// insertRoom creates a room whose initial attributes are owned by the user, whom the transaction has
// locked; an admin has no ID. Errors: room.ErrRoomExists, room.ErrRoomLimit,
// room.ErrCreatorRoomLimit.
func (s *Store) insertRoom(
	ctx context.Context, tx pgx.Tx, id room.RoomID, opts room.RoomOptions, by room.UserID, now time.Time,
) (room.Room, error) {
	r := room.Room{ID: id, Name: opts.Name, Config: opts.Settings.Over(s.opts.Defaults), CreatedAt: room.InstantOf(now), OldestSeq: 1}
	r.MemberEvents = r.Config.FirstMemberEvents()
	r.Attributes = room.NewAttributes(opts.Attributes, by)
	err := tx.QueryRow(ctx, `
		WITH room AS (
			INSERT INTO rooms (room_id, room_name, destroy_delay, unused_timeout, member_timeout, max_members, same_user,
				history_visible, lifetime, history, retention_days, retention_count, creator_id, presence, names_up_to, member_states, member_events,
				member_count, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''), $15, $16, $17, $18, 0, $14)
			ON CONFLICT (room_id) WHERE destroyed_at IS NULL DO NOTHING
			RETURNING generation
		)
		INSERT INTO logs (generation, last_seq) SELECT generation, 0 FROM room RETURNING generation`,
		r.ID, r.Name, r.Config.DestroyDelay, r.Config.UnusedTimeout, r.Config.MemberTimeout, r.Config.MaxMembers,
		r.Config.SameUser, r.Config.HistoryVisible, r.Config.Lifetime, r.Config.History, r.Config.RetentionDays, r.Config.RetentionCount,
		by, now, r.Config.Presence, r.Config.NamesUpTo, r.Config.MemberStates, r.MemberEvents).Scan(&r.Generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Room{}, room.ErrRoomExists
	}
	if err != nil {
		return r, err
	}
	var b pgx.Batch
	if len(r.Attributes) > 0 {
		queueAttributes(&b, r)
	}
	var refused error
	s.queueRoomLimits(&b, by, &refused)
	if err := sendBatch(ctx, tx, &b); err != nil {
		return r, err
	}
	return r, refused
}

// queueRoomLimits counts the existing rooms after the transaction has created one, and sets refused
// to room.ErrRoomLimit or room.ErrCreatorRoomLimit if there are too many. The counts are exact: the
// transaction has locked the creator, and transactions that create rooms take turns if the server
// limits their number. It locks nothing after that.
func (s *Store) queueRoomLimits(b *pgx.Batch, creator room.UserID, refused *error) {
	check := func(limit int, tooMany error) func(pgx.Row) error {
		return func(row pgx.Row) error {
			var n int
			if err := row.Scan(&n); err != nil {
				return err
			}
			if n > limit {
				*refused = tooMany
			}
			return nil
		}
	}
	if limit := s.opts.RoomsPerCreator; limit > 0 && creator != "" {
		b.Queue("SELECT count(*) FROM (SELECT FROM rooms WHERE creator_id = $1 AND destroyed_at IS NULL LIMIT $2 + 1) r", creator, limit).
			QueryRow(check(limit, room.ErrCreatorRoomLimit))
	}
	if limit := s.opts.MaxRooms; limit > 0 {
		b.Queue("SELECT pg_advisory_xact_lock(hashtextextended('rooms', 4))")
		b.Queue("SELECT sum(rooms)::bigint FROM room_counts").QueryRow(check(limit, room.ErrRoomLimit))
	}
}

// lockRoom locks a room until the transaction ends. Errors: room.ErrRoomNotFound.
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

// lockRooms locks the rooms that exist, and omits the other IDs.
func lockRooms(ctx context.Context, tx pgx.Tx, ids ...room.RoomID) (map[room.RoomID]room.Room, error) {
	locked, err := lockRoomsByGeneration(ctx, tx, "ARRAY (SELECT generation FROM rooms WHERE room_id = ANY ($1) AND destroyed_at IS NULL)", ids)
	rooms := make(map[room.RoomID]room.Room, len(locked))
	for _, r := range locked {
		rooms[r.ID] = r
	}
	return rooms, err
}

// lockRoomsByGeneration locks rooms that are not destroyed, by the rows of their logs and in the
// same order in every transaction. generations is an SQL expression for an array of generations.
//
// The rooms are read by a second statement, whose snapshot is taken under the locks. A statement
// that waited for a lock sees the locked row as it is now, but all other rows as they were before
// the wait. This applies to the expression, too.
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
	rows, err = tx.Query(ctx, "SELECT "+lockedRoomColumns+" FROM rooms r WHERE r.generation = ANY ($1) ORDER BY r.generation", locked)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Room, error) { return scanLockedRoom(row) })
}

// SessionRooms returns the rooms that the session is in, the oldest first.
func (s *Store) SessionRooms(ctx context.Context, session room.SessionID) ([]room.Room, error) {
	return s.rooms(ctx, "JOIN attendances a USING (generation) WHERE a.session_id = $1 ORDER BY generation", session)
}

// SessionRoom returns a room that the session is in. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom.
func (s *Store) SessionRoom(ctx context.Context, session room.SessionID, id room.RoomID) (room.Room, error) {
	return sessionRoom(ctx, s.pool, session, id)
}

// rowQuerier is a pool or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func sessionRoom(ctx context.Context, db rowQuerier, session room.SessionID, id room.RoomID) (room.Room, error) {
	var in bool
	r, err := scanRoom(db.QueryRow(ctx, "SELECT "+roomColumns+`,
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

// Rooms returns a page of the rooms whose ID begins with a prefix, ordered by ID: at most limit
// rooms after an ID. more is false for the last page.
func (s *Store) Rooms(
	ctx context.Context, prefix string, after room.RoomID, limit int,
) (page []room.Room, more bool, err error) {
	// No ID has a character beyond '~'. One additional row shows whether there is a next page.
	page, err = s.rooms(ctx, `WHERE r.destroyed_at IS NULL AND r.room_id > $1
		AND r.room_id BETWEEN $2 AND $2 || chr(127) ORDER BY r.room_id LIMIT $3`, after, prefix, limit+1)
	if len(page) > limit {
		return page[:limit], true, err
	}
	return page, false, err
}

// UserRooms returns the rooms that the user is in, the oldest first.
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

// Room returns a room, whether or not the caller is in it. Errors: room.ErrRoomNotFound.
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

// CreateEmptyRoom creates a room without members. It is destroyed after its unusedTimeout unless
// somebody joins. Errors: room.ErrRoomExists, room.ErrRoomLimit.
func (s *Store) CreateEmptyRoom(
	ctx context.Context, by room.Actor, id room.RoomID, opts room.RoomOptions,
) (room.Room, error) {
	var created room.Room
	err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		if created, err = s.insertRoom(ctx, tx, id, opts, "", now); err != nil {
			return c, err
		}
		created = created.StartUnusedTimeout()
		_, err = tx.Exec(ctx, "UPDATE rooms SET destroy_at = $2 WHERE generation = $1", created.Generation, nullInstant(created.DestroyAt))
		return c, err
	}, roomKey(id))
	return created, err
}

// DestroyRoom destroys a room, with the reason that an admin gives, and removes its members.
// Errors: room.ErrRoomNotFound.
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

func destroy(ctx context.Context, tx pgx.Tx, r room.Room, adminReason string, now time.Time) (room.Change, error) {
	var (
		sessions []room.SessionID
		left     []room.LeftMember
		b        pgx.Batch
	)
	presences := make(map[room.SessionID]room.PresenceID)
	b.Queue("DELETE FROM attendances WHERE generation = $1 RETURNING session_id, stay", r.Generation).
		Query(func(rows pgx.Rows) error {
			var (
				session room.SessionID
				id      room.PresenceID
			)
			_, err := pgx.ForEachRow(rows, []any{&session, &id}, func() error {
				sessions = append(sessions, session)
				presences[session] = id
				return nil
			})
			return err
		})
	b.Queue("DELETE FROM members WHERE generation = $1 RETURNING user_id, user_name, $2::text, announced", r.Generation, room.ReasonRoomDestroyed).
		Query(collectLeft(&left))
	b.Queue("DELETE FROM partings WHERE generation = $1 RETURNING user_id, user_name, reason, true", r.Generation).
		Query(collectLeft(&left))
	if err := sendBatch(ctx, tx, &b); err != nil {
		return room.Change{}, err
	}
	r, c := r.Destroy(sessions, left, adminReason, now)
	for i, p := range c.Left {
		c.Left[i].Presence = presences[p.Session]
	}
	b = pgx.Batch{}
	b.Queue(`INSERT INTO departures (session_id, generation, room_id, reason, note, left_at)
		SELECT unnest($1::uuid[]), $2, $3, $4, $5, $6`, sessions, r.Generation, r.ID, room.ReasonRoomDestroyed, adminReason, now)
	if err := queueRoom(&b, r, c.Events); err != nil {
		return room.Change{}, err
	}
	return c, sendBatch(ctx, tx, &b)
}

// queueRoom queues the update of a room that the transaction has locked, and of its log, to which
// it adds events.
func queueRoom(b *pgx.Batch, r room.Room, events []room.Event) error {
	// This comes first, because the log's last_xact is the feed position of the rows below.
	b.Queue("UPDATE logs SET last_seq = $2, last_xact = "+nextXact+", closed = $3 WHERE generation = $1",
		r.Generation, r.LastSeq, !r.DestroyedAt.IsZero())
	b.Queue(`
		UPDATE rooms SET member_count = $2, destroy_at = $3, destroyed_at = $4, destroy_reason = nullif($5, ''), untold = $6, empty_since = $7, member_events = $8,
			destroyed_xact = CASE WHEN $4::timestamptz IS NOT NULL THEN (SELECT last_xact FROM logs WHERE generation = $1) END
		WHERE generation = $1`,
		r.Generation, r.MemberCount, nullInstant(r.DestroyAt), nullTime(r.DestroyedAt), r.DestroyReason, r.PresencePending,
		nullInstant(r.EmptySince), r.MemberEvents)
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

// lockJoinedRoom locks a room that the session is in. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom.
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
