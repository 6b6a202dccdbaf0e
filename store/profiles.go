package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// selectProfiles selects the profiles of those of the users $1 that exist, in their order, and
// whether each is stored. A user who has not logged in since profiles are stored has none: the name
// is that of the newest session.
const selectProfiles = `
	SELECT i.user_id, coalesce(p.user_name, (SELECT user_name FROM sessions
			WHERE user_id = i.user_id AND ended_at IS NULL ORDER BY created_at DESC LIMIT 1), i.user_id),
		coalesce(p.avatar_url, ''), coalesce(p.extended_data, ''), coalesce(p.token_name, ''), p.user_name IS NOT NULL
	FROM unnest($1::text[]) WITH ORDINALITY AS asked (user_id, ord)
	CROSS JOIN LATERAL (SELECT user_id FROM inboxes WHERE user_id = asked.user_id LIMIT 1) i
	LEFT JOIN LATERAL (SELECT * FROM profiles WHERE user_id = asked.user_id LIMIT 1) p ON true
	ORDER BY ord`

func scanProfile(row pgx.CollectableRow) (p storedProfile, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.AvatarURL, &p.ExtendedData, &p.TokenName, &p.stored)
	return p, err
}

// storedProfile is the profile of an existing user.
type storedProfile struct {
	room.Profile
	stored bool // as a row of profiles
}

// Profiles returns the profiles of users, in their order, and omits users who do not exist.
func (s *Store) Profiles(ctx context.Context, users []room.UserID) ([]room.Profile, error) {
	rows, err := s.pool.Query(ctx, selectProfiles, users)
	if err != nil {
		return nil, translate(err)
	}
	profiles, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Profile, error) {
		p, err := scanProfile(row)
		return p.Profile, err
	})
	return profiles, translate(err)
}

// UpdateProfile changes the profile of a user, for the user or an admin, and returns it. Errors:
// room.ErrUserNotFound, room.ErrNameSigned and those of room.Session.Usable.
func (s *Store) UpdateProfile(
	ctx context.Context, by room.Actor, user room.UserID, u room.ProfileUpdate,
) (room.Profile, error) {
	return s.changeProfile(ctx, by, by.Session(), user, func(p room.Profile) (room.Profile, error) { return p.Update(u) })
}

// changeProfile changes the profile of a user, and publishes it in the user's rooms and inbox. It
// locks the user's list of sessions, so that the session caches of all nodes learn of a new name, and
// the user, so that no session joins a room with the old profile. session is the one that must not
// have ended, or "".
func (s *Store) changeProfile(
	ctx context.Context, by room.Actor, session room.SessionID, user room.UserID,
	change func(room.Profile) (room.Profile, error),
) (updated room.Profile, err error) {
	locks, err := s.profileLocks(ctx, session, user)
	if err != nil {
		return updated, err
	}
	err = s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		old, err := lockProfile(ctx, tx, session, user, now)
		if err != nil {
			return c, err
		}
		if updated, err = change(old.Profile); err != nil || updated == old.Profile {
			return c, err
		}
		var b pgx.Batch
		queueProfiles(&b, updated)
		visible := old.Profile
		visible.TokenName = updated.TokenName
		if updated == visible {
			return c, sendBatch(ctx, tx, &b)
		}
		if err := publishProfile(ctx, tx, &b, updated, now, &c); err != nil {
			return c, err
		}
		if updated.Name != old.Name {
			b.Queue("SELECT session_id FROM sessions WHERE user_id = $1 AND ended_at IS NULL", user).
				Query(func(rows pgx.Rows) (err error) {
					c.Renamed, err = pgx.CollectRows(rows, pgx.RowTo[room.SessionID])
					return err
				})
		}
		return c, sendBatch(ctx, tx, &b)
	}, locks...)
	return updated, err
}

// profileLocks returns the lock keys of a change of a profile.
func (s *Store) profileLocks(ctx context.Context, session room.SessionID, user room.UserID) ([]lockKey, error) {
	rows, err := s.pool.Query(ctx, `SELECT r.room_id FROM members m
		CROSS JOIN LATERAL (SELECT room_id FROM rooms WHERE generation = m.generation LIMIT 1) r WHERE m.user_id = $1`, user)
	if err != nil {
		return nil, translate(err)
	}
	rooms, err := pgx.CollectRows(rows, pgx.RowTo[room.RoomID])
	locks := []lockKey{userKey(user), inboxKey(user)}
	if session != "" {
		locks = append(locks, sessionKey(session))
	}
	for _, id := range rooms {
		locks = append(locks, roomKey(id))
	}
	return locks, translate(err)
}

// lockProfile locks a user and the user's list of sessions, and reads the profile. session is the one
// that must not have ended, or "". Errors: room.ErrUserNotFound and those of
// room.Session.Usable.
func lockProfile(
	ctx context.Context, tx pgx.Tx, session room.SessionID, user room.UserID, now time.Time,
) (storedProfile, error) {
	if _, err := tx.Exec(ctx, lockSessionList, user); err != nil {
		return storedProfile{}, err
	}
	if session != "" {
		if _, err := lockSession(ctx, tx, session, now); err != nil {
			return storedProfile{}, err
		}
	}
	var (
		found []storedProfile
		b     pgx.Batch
	)
	b.Queue("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", user) // as lockUsers does
	b.Queue(selectProfiles, []room.UserID{user}).Query(func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, scanProfile)
		return err
	})
	if err := sendBatch(ctx, tx, &b); err != nil {
		return storedProfile{}, err
	}
	if len(found) == 0 {
		return storedProfile{}, room.ErrUserNotFound
	}
	return found[0], nil
}

// queueProfiles writes the profiles of existing users.
func queueProfiles(b *pgx.Batch, profiles ...room.Profile) {
	if len(profiles) == 0 {
		return
	}
	var (
		users                                []room.UserID
		names, avatars, extended, tokenNames []string
	)
	for _, p := range profiles {
		users, names, avatars = append(users, p.ID), append(names, p.Name), append(avatars, p.AvatarURL)
		extended, tokenNames = append(extended, p.ExtendedData), append(tokenNames, p.TokenName)
	}
	b.Queue(`INSERT INTO profiles (user_id, user_name, avatar_url, extended_data, token_name)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
		ON CONFLICT (user_id) DO UPDATE SET user_name = excluded.user_name, avatar_url = excluded.avatar_url,
			extended_data = excluded.extended_data, token_name = excluded.token_name`, users, names, avatars, extended, tokenNames)
}

// publishProfile locks the rooms of a user whom the transaction has locked, and queues the new
// profile for them and for the user's inbox. c has the events after the batch has been sent.
func publishProfile(
	ctx context.Context, tx pgx.Tx, b *pgx.Batch, p room.Profile, now time.Time, c *room.Change,
) error {
	rooms, err := lockRoomsByGeneration(ctx, tx, "ARRAY (SELECT generation FROM members WHERE user_id = $1)", p.ID)
	if err != nil {
		return err
	}
	locked := make([]room.LogID, len(rooms))
	for i, r := range rooms {
		locked[i] = r.Generation
	}
	if len(rooms) > 0 {
		// The user may have left a room before it was locked.
		rows, err := tx.Query(ctx, `UPDATE members SET user_name = $3, avatar_url = $4 WHERE user_id = $1 AND generation = ANY ($2)
			RETURNING generation, announced`, p.ID, locked, p.Name, p.AvatarURL)
		if err != nil {
			return err
		}
		announced := make(map[room.LogID]bool, len(rooms))
		var (
			g  room.LogID
			is bool
		)
		if _, err := pgx.ForEachRow(rows, []any{&g, &is}, func() error {
			announced[g] = is
			return nil
		}); err != nil {
			return err
		}
		for _, r := range rooms {
			r, events := r.PublishProfile(p, announced[r.Generation], now)
			if len(events) == 0 {
				continue
			}
			if err := queueRoom(b, r, events); err != nil {
				return err
			}
			c.Events = slices.Concat(c.Events, events)
		}
	}
	body := room.ProfileUpdated{Profile: p}
	encoded, err := encodeBody(body)
	if err != nil {
		return err
	}
	b.Queue(`
		WITH advanced AS (
			UPDATE inboxes SET last_seq = last_seq + 1, oldest_at = coalesce(oldest_at, $3) WHERE user_id = $1
			RETURNING log, last_seq
		)
		INSERT INTO events (generation, seq, type, at, peer_id, body) SELECT log, last_seq, $2, $3, $1, $4 FROM advanced
		RETURNING generation, seq`, p.ID, body.Type(), now, string(encoded)).QueryRow(func(row pgx.Row) error {
		e := room.Event{At: now, Body: body}
		if err := row.Scan(&e.Log, &e.Seq); err != nil {
			return err
		}
		c.Events = append(c.Events, e)
		return nil
	})
	return nil
}
