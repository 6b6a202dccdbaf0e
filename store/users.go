package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// DefaultSessionIdle is how long a session without a stream and without a room lasts if the
	// configuration does not set it.
	DefaultSessionIdle = 7 * 24 * time.Hour
	// DefaultUserRetention is how long a user without a session can receive messages if the
	// configuration does not set it.
	DefaultUserRetention = 90 * 24 * time.Hour
	// seenEvery is the precision of the time at which a user last had a session. It saves a write
	// at most logins.
	seenEvery = 24 * time.Hour
	// maxInboxesScanned and maxUsersDeleted bound how many inboxes one sweep checks, and how many
	// users it deletes.
	maxInboxesScanned = 1000
	maxUsersDeleted   = 100
)

// Users returns a page of at most limit users in the order of their first logins, and the inbox of
// the last one if there are more users.
func (s *Store) Users(ctx context.Context, after room.LogID, limit int) (users []room.ListedUser, next room.LogID, err error) {
	rows, err := s.pool.Query(ctx, `
		SELECT i.log, i.user_id, i.seen_at, s.n, coalesce(s.online, false), s.detached
		FROM (SELECT log, user_id, seen_at FROM inboxes WHERE log > $1 ORDER BY log LIMIT $2) i
		LEFT JOIN LATERAL (
			SELECT count(*) AS n, bool_or(detached_at IS NULL) AS online, max(detached_at) AS detached FROM sessions
			WHERE user_id = i.user_id AND ended_at IS NULL AND token_expires_at > $3
		) s ON true ORDER BY i.log`, after, limit+1, s.now())
	if err != nil {
		return nil, 0, translate(err)
	}
	users = make([]room.ListedUser, 0, limit)
	var (
		log, last room.LogID
		u         room.ListedUser
		seen      time.Time
		detached  *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&log, &u.ID, &seen, &u.SessionCount, &u.Online, &detached}, func() error {
		if len(users) == limit {
			next = last
			return nil
		}
		u.LastSeenAt = 0
		if !u.Online {
			u.LastSeenAt = room.InstantOf(seen)
			if detached != nil && detached.After(seen) {
				u.LastSeenAt = room.InstantOf(*detached)
			}
		}
		users, last = append(users, u), log
		return nil
	})
	return users, next, translate(err)
}

// queueSeen records that the users of sessions have a session now, or had one until now. Inboxes
// are locked in their order, after everything else.
func queueSeen(b *pgx.Batch, sessions []room.SessionID, now time.Time) {
	b.Queue(`
		WITH stale AS (
			SELECT log FROM inboxes WHERE log IN (SELECT inbox FROM sessions WHERE session_id = ANY ($1)) AND seen_at < $2
			ORDER BY log FOR NO KEY UPDATE
		)
		UPDATE inboxes i SET seen_at = $3 FROM stale WHERE i.log = stale.log`, sessions, now.Add(-seenEvery), now)
}

// recordEnd records that the users of sessions had these until now, when the sessions ended for a
// reason, and until when they were online in them. A logout counts only if the session was online,
// so that nobody who is offline logs out later, by another client or because the session was idle.
func recordEnd(ctx context.Context, tx pgx.Tx, sessions []room.SessionID, reason room.EndReason, now time.Time) error {
	_, err := tx.Exec(ctx, `
		WITH ended AS (
			SELECT inbox, max(detached_at) AS until FROM sessions WHERE session_id = ANY ($1) GROUP BY inbox ORDER BY inbox
		), held AS (
			SELECT i.log, e.until FROM ended e
			CROSS JOIN LATERAL (SELECT log FROM inboxes WHERE log = e.inbox LIMIT 1 FOR NO KEY UPDATE) i
		)
		UPDATE inboxes i SET seen_at = $2, online_until = greatest(i.online_until, h.until),
			logged_out = CASE WHEN i.online_until > h.until THEN i.logged_out ELSE $3 AND h.until > $4 END
		FROM held h WHERE i.log = h.log`,
		sessions, now, reason == room.EndLoggedOut, now.Add(-room.OfflineAfter))
	return err
}

// absentUser is the condition for inboxes i of users who have had no session since $2, and whose
// inboxes contain no message.
const absentUser = `i.seen_at < $2 AND i.oldest_at IS NULL
	AND NOT EXISTS (SELECT FROM sessions s WHERE s.user_id = i.user_id AND s.ended_at IS NULL OFFSET 0)`

// deleteAbsentUsers deletes the inboxes of users who have had no session since a time, and whose
// inboxes contain no message. Each sweep continues where the previous one stopped, and starts again
// after the last inbox. Messages to such a user are rejected, as messages to an unknown user are.
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
		if len(users) < maxUsersDeleted { // the next sweep continues here, or starts again after the last inbox
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
		if err := s.deleteAbsentUser(ctx, user, before); err != nil && !lockRefused(err) { // a locked user is left to a later sweep
			return translate(err)
		}
	}
	return nil
}

// deleteAbsentUser deletes the inbox of a user, if the condition still holds while nobody can log
// in as the user.
func (s *Store) deleteAbsentUser(ctx context.Context, user room.UserID, before time.Time) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSessionList, user); err != nil {
			return err
		}
		deleted, err := tx.Exec(ctx, "DELETE FROM inboxes i WHERE user_id = $1 AND "+absentUser, user, before)
		if err != nil || deleted.RowsAffected() == 0 {
			return err
		}
		var b pgx.Batch
		b.Queue("DELETE FROM status_subscriptions WHERE subscriber_id = $1", user)
		b.Queue("DELETE FROM status_subscriptions WHERE user_id = $1", user)
		return sendBatch(ctx, tx, &b)
	})
}
