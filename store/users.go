package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// DefaultSessionIdle is how long a session without a stream and without a room
	// lasts where nobody says otherwise.
	DefaultSessionIdle = 7 * 24 * time.Hour
	// DefaultUserRetention is how long a user without a session is known where nobody
	// says otherwise.
	DefaultUserRetention = 90 * 24 * time.Hour
	// seenEvery is how often it is noted that a user has a session. It saves a write
	// at most logins.
	seenEvery = 24 * time.Hour
	// forgetLook and forgetMost bound how many inboxes one sweep looks at, and how
	// many it deletes.
	maxInboxesScanned = 1000
	maxUsersDeleted   = 100
)

// noteSeen notes that the users of sessions have one, or had until now. Inboxes are
// locked in their order, after everything else.
func recordSeen(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, now time.Time) error {
	_, err := tx.Exec(ctx, `
		WITH stale AS (
			SELECT log FROM inboxes WHERE log IN (SELECT inbox FROM sessions WHERE session_id = ANY ($1)) AND seen_at < $2
			ORDER BY log FOR NO KEY UPDATE
		)
		UPDATE inboxes i SET seen_at = $3 FROM stale WHERE i.log = stale.log`, sessions, now.Add(-seenEvery), now)
	return err
}

// forgettable is the inboxes i of users who have had no session since $2, and keep no
// message.
const absentUser = `i.seen_at < $2 AND i.oldest_at IS NULL
	AND NOT EXISTS (SELECT FROM sessions s WHERE s.user_id = i.user_id AND s.ended_at IS NULL OFFSET 0)`

// forgetUsers deletes the inboxes of users who have had no session since an instant,
// and keep no message. It goes round all inboxes, a piece with each sweep. Messages
// to such a user are refused, as to one who never was here.
func (s *Store) deleteAbsentUsers(ctx context.Context, before time.Time) error {
	rows, err := s.pool.Query(ctx, `
		WITH looked AS (
			SELECT * FROM inboxes WHERE log > $1 ORDER BY log LIMIT $3
		)
		(SELECT log, user_id FROM looked i WHERE `+absentUser+` ORDER BY log LIMIT $4)
		UNION ALL SELECT coalesce(max(log), 0), NULL FROM looked`, s.inboxCursor, before, maxInboxesScanned, maxUsersDeleted)
	if err != nil {
		return translate(err)
	}
	var (
		log   room.LogID
		user  *room.UserID
		users []room.UserID
	)
	if _, err := pgx.ForEachRow(rows, []any{&log, &user}, func() error {
		if len(users) < maxUsersDeleted { // the next sweep goes on here, or begins again after the last
			s.inboxCursor = log
		}
		if user != nil {
			users = append(users, *user)
		}
		return nil
	}); err != nil {
		return translate(err)
	}
	for _, user := range users {
		if err := s.deleteAbsentUser(ctx, user, before); err != nil && !lockRefused(err) { // else the next round finds it
			return translate(err)
		}
	}
	return nil
}

// forgetUser deletes a user's inbox, if it still may go when nobody can log in with it.
func (s *Store) deleteAbsentUser(ctx context.Context, user room.UserID, before time.Time) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSessionList, user); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM inboxes i WHERE user_id = $1 AND "+absentUser, user, before)
		return err
	})
}
