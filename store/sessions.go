package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// sessionColumns has the name of the user's profile. Without one, it is the name at the login.
const sessionColumns = `session_id, user_id,
	coalesce((SELECT p.user_name FROM profiles p WHERE p.user_id = sessions.user_id LIMIT 1), user_name),
	device, grants, peers, media, profile, inbox, created_at, token_expires_at, token_issued_at,
	detached_at, ended_at, coalesce(end_reason, '')`

// notEnded is the condition that a session has not ended, for a session that is found by its ID.
// With IS NULL alone, a plan for an empty table may read an index of all such sessions.
const notEnded = "(ended_at IS NULL)::int = 1"

func scanSession(row pgx.Row) (room.Session, error) {
	var (
		s                room.Session
		grants, peers    []byte
		media, profile   bool
		issued           *time.Time
		detached, ended  *time.Time
		created, expires time.Time
	)
	err := row.Scan(&s.ID, &s.User.ID, &s.User.Name, &s.Device, &grants, &peers, &media, &profile, &s.Inbox, &created, &expires,
		&issued, &detached, &ended, &s.EndReason)
	if err != nil {
		return room.Session{}, err
	}
	if grants != nil {
		s.Grants = &room.Grants{Media: media, Profile: profile}
		if err := errors.Join(decodeGrants(grants, &s.Grants.Rooms), decodeGrants(peers, &s.Grants.Peers)); err != nil {
			return room.Session{}, fmt.Errorf("grants of session %s: %w", s.ID, err)
		}
	}
	s.TokenIssuedAt = timeOrZero(issued)
	s.CreatedAt, s.TokenExpiresAt = created.UTC(), expires.UTC()
	s.DetachedAt, s.EndedAt = timeOrZero(detached), timeOrZero(ended)
	return s, nil
}

func decodeGrants[T any](column []byte, list *[]T) error {
	if column == nil { // written by a release without this column
		return nil
	}
	return json.Unmarshal(column, list)
}

// grantsColumns returns the columns of grants. rooms is NULL only if the token names no grants,
// which means that nothing is restricted.
func grantsColumns(g *room.Grants) (rooms, peers []byte, err error) {
	if g == nil {
		return nil, nil, nil
	}
	rooms, err = json.Marshal(append([]room.Grant{}, g.Rooms...))
	if err == nil {
		peers, err = json.Marshal(append([]room.UserID{}, g.Peers...))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode grants: %w", err)
	}
	return rooms, peers, nil
}

// SessionByKey returns the session of a session key. It may return a cached session, so that a
// change by another node can go unnoticed for sessionCacheTime. Errors: room.ErrUnauthenticated,
// room.ErrStreamKeyRefused.
func (s *Store) SessionByKey(ctx context.Context, key room.KeyHash) (room.Session, error) {
	session, err := s.sessionByKey(ctx, sessionKeys, "key_hash = $1", key)
	if errors.Is(err, room.ErrUnauthenticated) {
		if _, err := s.SessionByStreamKey(ctx, key); err == nil {
			return room.Session{}, room.ErrStreamKeyRefused
		}
	}
	return session, err
}

// SessionByStreamKey returns the session of a stream key, which may be cached, as SessionByKey does.
// Errors: room.ErrUnauthenticated.
func (s *Store) SessionByStreamKey(ctx context.Context, key room.KeyHash) (room.Session, error) {
	return s.sessionByKey(ctx, streamKeys, "stream_key_hash = $1", key)
}

func (s *Store) sessionByKey(ctx context.Context, kind keyKind, condition string, key room.KeyHash) (room.Session, error) {
	now := s.now()
	if session, ok := s.sessions.session(kind, key, now); ok {
		return session, nil
	}
	mark := s.sessions.mark()
	session, err := s.sessionWhere(ctx, condition, key[:])
	if err != nil {
		return room.Session{}, err
	}
	var keys sessionKeySet
	keys[kind] = key
	s.sessions.addSession(session, keys, mark, now)
	return session, nil
}

// SessionByID returns a session as it is stored now. Errors: room.ErrUnauthenticated.
func (s *Store) SessionByID(ctx context.Context, id room.SessionID) (room.Session, error) {
	return s.sessionWhere(ctx, "session_id = $1", id)
}

func (s *Store) sessionWhere(ctx context.Context, condition string, arg any) (room.Session, error) {
	session, err := scanSession(s.pool.QueryRow(ctx, "SELECT "+sessionColumns+" FROM sessions WHERE "+condition, arg))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Session{}, room.ErrUnauthenticated
	}
	return session, translate(err)
}

// RenewSession extends a session by a newer token of the same user, and removes the session from
// rooms that the token does not grant. Errors: room.ErrTokenUserMismatch, room.ErrTokenVoid,
// room.ErrSessionEnded, room.ErrTokenExpired.
func (s *Store) RenewSession(ctx context.Context, by room.Actor, claims room.Claims) (room.Session, error) {
	id := by.Session()
	var session room.Session
	err := s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		now := s.now()
		var err error
		if session, err = lockSession(ctx, tx, id, now); err != nil {
			return room.Change{}, err
		}
		if session, err = session.Renew(claims); err != nil {
			return room.Change{}, err
		}
		grants, peers, err := grantsColumns(session.Grants)
		if err != nil {
			return room.Change{}, err
		}
		var b pgx.Batch
		var void bool
		b.Queue("SELECT "+tokenVoid("$1", "$2"), session.User.ID, nullTime(session.TokenIssuedAt)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&void) })
		b.Queue(`UPDATE sessions SET token_expires_at = $2, token_issued_at = $3, grants = $4, peers = $5, media = $6, profile = $7
			WHERE session_id = $1`, id, session.TokenExpiresAt, nullTime(session.TokenIssuedAt), grants, peers,
			session.Grants.CheckMedia() == nil, session.Grants.CheckProfile() == nil)
		if err := sendBatch(ctx, tx, &b); err != nil {
			return room.Change{}, err
		}
		if void {
			return room.Change{}, room.ErrTokenVoid
		}
		c := room.Change{Renewed: []room.RenewedToken{{Session: id, ExpiresAt: session.TokenExpiresAt}}}
		if session.Grants == nil {
			return c, nil
		}
		presences, err := presencesNotGranted(ctx, tx, session)
		if err != nil {
			return room.Change{}, err
		}
		left, err := leaveRooms(ctx, tx, presences, room.ReasonNotGranted, "", now)
		return c.And(left), err
	}, sessionKey(id))
	return session, err
}

// presencesNotGranted returns the presences in rooms that the session's grants do not cover.
func presencesNotGranted(ctx context.Context, tx pgx.Tx, session room.Session) ([]presence, error) {
	rows, err := tx.Query(ctx, "SELECT generation, room_id FROM attendances JOIN rooms USING (generation) WHERE session_id = $1", session.ID)
	if err != nil {
		return nil, err
	}
	var (
		presences  []presence
		generation room.LogID
		id         room.RoomID
	)
	_, err = pgx.ForEachRow(rows, []any{&generation, &id}, func() error {
		if !session.Grants.MayStay(id) {
			presences = append(presences, presence{session.ID, generation})
		}
		return nil
	})
	return presences, err
}

// EndSession removes a session from its rooms and invalidates its keys. It does nothing if the
// session has already ended.
func (s *Store) EndSession(ctx context.Context, by room.Actor) error {
	_, err := s.endSessionsWhere(ctx, by, "session_id = $1 AND "+notEnded, room.EndLoggedOut, "", by.Session())
	return err
}

// KickSession ends a session of a user, with the reason that an admin gives. Errors:
// room.ErrSessionNotFound.
func (s *Store) KickSession(
	ctx context.Context, by room.Actor, user room.UserID, id room.SessionID, reason string,
) error {
	ended, err := s.endSessionsWhere(ctx, by, "user_id = $1 AND session_id = $2 AND "+notEnded, room.EndKickedOut, reason, user, id)
	if err == nil && len(ended) == 0 {
		return room.ErrSessionNotFound
	}
	return err
}

// KickUser ends all sessions of a user, with the reason that an admin gives, and returns them.
func (s *Store) KickUser(
	ctx context.Context, by room.Actor, user room.UserID, reason string,
) ([]room.SessionID, error) {
	return s.endSessionsWhere(ctx, by, "user_id = $1 AND ended_at IS NULL", room.EndKickedOut, reason, user)
}

// endSessionsWhere ends sessions and returns them. The condition must not match sessions that have
// ended.
func (s *Store) endSessionsWhere(
	ctx context.Context, by room.Actor, condition string, reason room.EndReason, adminReason string, args ...any,
) ([]room.SessionID, error) {
	locks, err := s.lockKeysOf(ctx, condition, args...)
	if err != nil {
		return nil, err
	}
	var ended []room.SessionID
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		if ended, err = lockSessionsWhere(ctx, tx, condition, args...); err != nil {
			return c, err
		}
		return endSessions(ctx, tx, ended, reason, adminReason, s.now())
	}, locks...)
	return ended, err
}

// lockSessionsWhere locks sessions, in the same order in every transaction.
func lockSessionsWhere(ctx context.Context, tx pgx.Tx, condition string, args ...any) ([]room.SessionID, error) {
	rows, err := tx.Query(ctx, "SELECT session_id FROM sessions WHERE "+condition+
		" ORDER BY session_id FOR NO KEY UPDATE", args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[room.SessionID])
}

// lockKeysOf returns the lock keys of sessions and of the rooms that they are in.
func (s *Store) lockKeysOf(ctx context.Context, condition string, args ...any) (locks []lockKey, err error) {
	rows, err := s.pool.Query(ctx, `
		SELECT s.session_id, coalesce(r.room_id, '')
		FROM (SELECT session_id FROM sessions WHERE `+condition+`) s
		LEFT JOIN LATERAL (SELECT generation FROM attendances WHERE session_id = s.session_id OFFSET 0) a ON true
		LEFT JOIN LATERAL (SELECT room_id FROM rooms WHERE generation = a.generation LIMIT 1) r ON true`, args...)
	if err != nil {
		return nil, translate(err)
	}
	var (
		session room.SessionID
		id      room.RoomID
	)
	_, err = pgx.ForEachRow(rows, []any{&session, &id}, func() error {
		locks = append(locks, sessionKey(session))
		if id != "" {
			locks = append(locks, roomKey(id))
		}
		return nil
	})
	return locks, translate(err)
}

// endSessions ends sessions whose rows the transaction has locked.
func endSessions(
	ctx context.Context, tx pgx.Tx, sessions []room.SessionID, reason room.EndReason, adminReason string, now time.Time,
) (room.Change, error) {
	if len(sessions) == 0 {
		return room.Change{}, nil
	}
	presences, err := presencesOf(ctx, tx, sessions, "true")
	if err != nil {
		return room.Change{}, err
	}
	c, err := leaveRooms(ctx, tx, presences, reason.LeaveReason(), adminReason, now)
	if err != nil {
		return room.Change{}, err
	}
	for _, id := range sessions {
		c.Ended = append(c.Ended, room.EndedSession{Session: id, Reason: reason, AdminReason: adminReason})
	}
	_, err = tx.Exec(ctx, `
		WITH ended AS (
			UPDATE sessions SET ended_at = $2, end_reason = $3, node_id = NULL, detached_at = coalesce(detached_at, $2)
			WHERE session_id = ANY ($1) RETURNING session_id, user_id, user_name, device
		)
		INSERT INTO user_events (kind, type, at, body)
		SELECT 'session', $4, $2, json_build_object('sessionID', session_id, 'userID', user_id, 'userName', user_name,
			'device', device, 'reason', $3::text, 'adminReason', $5::text)
		FROM ended`, sessions, now, reason, room.TypeSessionEnded, adminReason)
	if err != nil {
		return room.Change{}, err
	}
	return c, recordEnd(ctx, tx, sessions, reason, now)
}

// UserSessions returns the sessions of a user that have not ended, the oldest first.
func (s *Store) UserSessions(ctx context.Context, user room.UserID) ([]room.Session, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+sessionColumns+` FROM sessions
		WHERE user_id = $1 AND ended_at IS NULL AND token_expires_at > $2 ORDER BY created_at, session_id`, user, s.now())
	if err != nil {
		return nil, translate(err)
	}
	sessions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Session, error) { return scanSession(row) })
	return sessions, translate(err)
}

// lockSession locks the row of a session until the transaction ends. Every transaction that changes
// the session or adds it to a room holds this lock. Errors: room.ErrUnauthenticated and those of
// room.Session.Usable.
func lockSession(ctx context.Context, tx pgx.Tx, id room.SessionID, now time.Time) (room.Session, error) {
	session, err := scanSession(tx.QueryRow(ctx,
		"SELECT "+sessionColumns+" FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE", id))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.Session{}, room.ErrUnauthenticated
	}
	if err != nil {
		return room.Session{}, err
	}
	return session, session.Usable(now)
}
