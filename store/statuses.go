package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// The status of a user is not stored: it follows from the user's sessions. Only for users whom
// somebody subscribes to, watched_users has the status that was published last. Sweeps compare it
// with the sessions: those of users who may have changed, as far as this node knows, and step by
// step those of all watched users, in case a node crashed before it published a change.

const (
	// maxStatusHints bounds the users and sessions that a node remembers for the next sweep. Those
	// beyond it are found later, by the steps through all watched users.
	maxStatusHints = 100_000
	// watchedStep is how many watched users each sweep compares in any case.
	watchedStep = 500
	// maxStatusBatch bounds the users that are compared, and published, at once.
	maxStatusBatch = 500
	// statusBudget is how long a sweep publishes statuses. The rest is left to the next one.
	statusBudget = 500 * time.Millisecond
	// maxDetached bounds the sessions that a sweep looks at because they were detached
	// room.OfflineAfter ago.
	maxDetached = 20_000
	// detachedOverlap is how much later than others a detached session may be recorded to be found
	// at once.
	detachedOverlap = 10 * time.Second
	// maxEventsPerChange bounds the memory of one change.
	maxEventsPerChange = 500
	// subscribeTries bounds how often a subscription is tried while sweeps delete the watched users
	// that it needs.
	subscribeTries = 3
)

// almostOffline is how long a session has no stream before a new one may change the status of its
// user. It is less than room.OfflineAfter, because the clocks of nodes differ a little.
const almostOffline = room.OfflineAfter - 5*time.Second

// statusHints are the users whose status may have changed since the last sweep.
type statusHints struct {
	mu       sync.Mutex // guards users and sessions
	users    map[room.UserID]bool
	sessions map[room.SessionID]bool // sessions of such users

	// The fields below are used by Sweep only. detachedAt is until when detached sessions were
	// looked at, and watched is the last watched user that was compared in any case.
	detachedAt time.Time
	watched    room.UserID
}

// addUsers records that the statuses of users may have changed.
func (h *statusHints) addUsers(users ...room.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == nil {
		h.users = make(map[room.UserID]bool)
	}
	for _, user := range users {
		if len(h.users) < maxStatusHints {
			h.users[user] = true
		}
	}
}

// addEnded records that the statuses of the users of ended sessions may have changed.
func (h *statusHints) addEnded(c room.Change) {
	for _, ended := range c.Ended {
		h.addSessions(ended.Session)
	}
}

// addSessions records that the statuses of the users of sessions may have changed.
func (h *statusHints) addSessions(sessions ...room.SessionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions == nil {
		h.sessions = make(map[room.SessionID]bool)
	}
	for _, id := range sessions {
		if len(h.sessions) < maxStatusHints {
			h.sessions[id] = true
		}
	}
}

// take returns what was recorded since the last take.
func (h *statusHints) take() ([]room.UserID, []room.SessionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	users, sessions := slices.Collect(maps.Keys(h.users)), slices.Collect(maps.Keys(h.sessions))
	h.users, h.sessions = nil, nil
	return users, sessions
}

// statusFacts selects the facts that the statuses of the users $1 follow from, in their order, and
// whether the user $2 may know each status.
func statusFacts(visible string) string {
	return `
		SELECT u.user_id, i.user_id IS NOT NULL, coalesce(i.custom_status, ''), i.online_until, coalesce(i.logged_out, false),
			coalesce(o.connected, false), o.detached_at, ` + visible + `
		FROM unnest($1::text[]) WITH ORDINALITY AS u (user_id, n)
		LEFT JOIN LATERAL (SELECT user_id, custom_status, online_until, logged_out FROM inboxes WHERE user_id = u.user_id LIMIT 1) i ON true
		LEFT JOIN LATERAL (
			SELECT bool_or(node_id IS NOT NULL) AS connected, max(detached_at) AS detached_at
			FROM sessions WHERE user_id = u.user_id AND ended_at IS NULL OFFSET 0
		) o ON true
		ORDER BY u.n`
}

// newestEvents is how many events between two users are looked at to find out whether one has written
// to the other, and shortBody is how many bytes the body of such an event may have. They bound what
// a user who sends many long messages can make a lookup cost.
const (
	newestEvents = 50
	shortBody    = 4096
)

// visible returns the SQL condition that a user may know the status of another one.
func (s *Store) visible(subscriber, user string) string {
	own := subscriber + " = " + user
	switch s.opts.StatusVisible {
	case room.StatusForNobody:
		return own
	case room.StatusForAcquaintances:
		return fmt.Sprintf(`(%[3]s OR EXISTS (
			SELECT FROM members a
			CROSS JOIN LATERAL (SELECT FROM members WHERE generation = a.generation AND user_id = %[2]s LIMIT 1) b
			WHERE a.user_id = %[1]s OFFSET 0
		) OR EXISTS (
			SELECT FROM (
				SELECT body FROM events WHERE generation = (SELECT log FROM inboxes WHERE user_id = %[1]s) AND peer_id = %[2]s
				ORDER BY seq DESC LIMIT %[4]d
			) e WHERE CASE WHEN octet_length(body) <= %[5]d THEN body::json #>> '{messageList,0,sender,userID}' = %[2]s END OFFSET 0
		))`, subscriber, user, own, newestEvents, shortBody)
	default:
		return subscriber + " IS NOT NULL"
	}
}

// readStatuses returns the statuses of users as they are now, in their order. Those that the user by
// may not know are hidden. If by is empty, none is.
func (s *Store) readStatuses(
	ctx context.Context, q rowsQuerier, by room.UserID, users []room.UserID,
) (statuses []room.UserStatus, err error) {
	sql := statusFacts("$2::text IS NOT NULL")
	if by != "" {
		sql = statusFacts(s.visible("$2::text", "u.user_id"))
	}
	before := s.now()
	rows, err := q.Query(ctx, sql, users, by)
	if err != nil {
		return nil, err
	}
	facts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f room.StatusFacts, err error) {
		var (
			until, detached *time.Time
			visible         bool
		)
		err = row.Scan(&f.User, &f.Exists, &f.CustomStatus, &until, &f.LoggedOut, &f.Connected, &detached, &visible)
		f.OnlineUntil, f.DetachedAt = timeOrZero(until), timeOrZero(detached)
		f.Exists = f.Exists && visible
		return f, err
	})
	if err != nil {
		return nil, err
	}
	// A status that a client asked for has a time before it was read, and one that is published has
	// a time after it, so that a client never prefers an older one.
	at := before
	if by == "" {
		at = s.now()
	}
	for _, f := range facts {
		statuses = append(statuses, f.Status(at))
	}
	return statuses, nil
}

// Statuses returns the statuses of users as they are now, in their order, as far as the user by may
// know them.
func (s *Store) Statuses(ctx context.Context, by room.UserID, users []room.UserID) ([]room.UserStatus, error) {
	statuses, err := s.readStatuses(ctx, s.pool, by, users)
	return statuses, translate(err)
}

// UpdateStatus changes the custom status of a session's user.
func (s *Store) UpdateStatus(ctx context.Context, session room.Session, custom string) error {
	err := s.locks.run(ctx, []lockKey{inboxKey(session.User.ID)}, func() error {
		_, err := s.pool.Exec(ctx, "UPDATE inboxes SET custom_status = $2 WHERE log = $1 AND custom_status <> $2", session.Inbox, custom)
		return err
	})
	if err != nil {
		return translate(err)
	}
	s.statuses.addUsers(session.User.ID)
	return nil
}

// watchedColumns are those of a published status.
const watchedColumns = "w.user_id, w.state, w.custom_status, w.last_seen_at, w.updated_at"

func scanWatched(row pgx.Row, more ...any) (st room.UserStatus, err error) {
	var (
		seen    *time.Time
		updated time.Time
	)
	err = row.Scan(append([]any{&st.User, &st.State, &st.CustomStatus, &seen, &updated}, more...)...)
	st.UpdatedAt = room.InstantOf(updated)
	if seen != nil {
		st.LastSeenAt = room.InstantOf(*seen)
	}
	return st, err
}

func collectWatched(rows pgx.Rows) ([]room.UserStatus, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.UserStatus, error) { return scanWatched(row) })
}

// errNotWatched means that a sweep deleted a watched user meanwhile.
var errNotWatched = fmt.Errorf("%w: a watched user was deleted", room.ErrUnavailable)

// SubscribeStatuses subscribes a user to the statuses of others for a time, which replaces an earlier
// end of the same subscription. It returns the end, and the statuses of those users; users who do
// not exist, or whose status the subscriber may not know, are unknown and are not subscribed to.
// Errors: room.ErrStatusLimit.
func (s *Store) SubscribeStatuses(
	ctx context.Context, by room.UserID, users []room.UserID, duration time.Duration,
) (until time.Time, statuses []room.UserStatus, err error) {
	if statuses, err = s.Statuses(ctx, by, users); err != nil {
		return time.Time{}, nil, err
	}
	var known []room.UserStatus
	for _, st := range statuses {
		if st.State != room.StatusUnknown {
			known = append(known, st)
		}
	}
	until = s.now().Add(duration)
	if len(known) == 0 {
		return until, statuses, nil
	}
	var published []room.UserStatus
	for range subscribeTries {
		err = s.locks.run(ctx, []lockKey{userKey(by)}, func() error {
			return retryDeadlocks(func() error {
				return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
					published, err = s.insertSubscriptions(ctx, tx, by, known, until)
					return err
				})
			})
		})
		if !errors.Is(err, errNotWatched) {
			break
		}
	}
	if err != nil {
		return time.Time{}, nil, translate(err)
	}
	byUser := make(map[room.UserID]room.UserStatus, len(published))
	for _, st := range published {
		byUser[st.User] = st
		s.statuses.addUsers(st.User) // the status may have changed before the user was watched
	}
	for i, st := range statuses {
		if p, ok := byUser[st.User]; ok {
			statuses[i] = p
		}
	}
	return until, statuses, nil
}

// insertSubscriptions inserts or extends the subscriptions of a user to users with these statuses. It
// returns their published statuses. Errors: room.ErrStatusLimit, errNotWatched.
func (s *Store) insertSubscriptions(
	ctx context.Context, tx pgx.Tx, by room.UserID, to []room.UserStatus, until time.Time,
) (published []room.UserStatus, err error) {
	users := make([]room.UserID, len(to))
	for i, st := range to {
		users[i] = st.User
	}
	if _, err := tx.Exec(ctx, lockSubscriptions, by); err != nil { // so that the number is exact
		return nil, err
	}
	if err := insertWatched(ctx, tx, to); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, "SELECT "+watchedColumns+" FROM watched_users w WHERE user_id = ANY ($1) ORDER BY user_id FOR KEY SHARE", users)
	if err != nil {
		return nil, err
	}
	if published, err = collectWatched(rows); err != nil {
		return nil, err
	}
	if len(published) < len(to) {
		return nil, errNotWatched
	}
	var count int
	var b pgx.Batch
	b.Queue(`INSERT INTO status_subscriptions (subscriber_id, user_id, expires_at) SELECT $1, unnest($2::text[]), $3
		ON CONFLICT (subscriber_id, user_id) DO UPDATE SET expires_at = excluded.expires_at`, by, users, until)
	b.Queue("SELECT count(*) FROM status_subscriptions WHERE subscriber_id = $1 AND expires_at > $2", by, s.now()).
		QueryRow(func(row pgx.Row) error { return row.Scan(&count) })
	if err := sendBatch(ctx, tx, &b); err != nil {
		return nil, err
	}
	if count > s.opts.StatusSubscriptions {
		return nil, room.ErrStatusLimit
	}
	return published, nil
}

// lockSubscriptions locks the list of a user's subscriptions.
const lockSubscriptions = "SELECT pg_advisory_xact_lock(hashtextextended($1, 5))"

// insertWatched inserts watched users, in the order of their IDs, unless they exist.
func insertWatched(ctx context.Context, tx pgx.Tx, statuses []room.UserStatus) error {
	c := columnsOf(statuses)
	_, err := tx.Exec(ctx, `
		INSERT INTO watched_users (user_id, state, custom_status, last_seen_at, updated_at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) ORDER BY 1
		ON CONFLICT (user_id) DO NOTHING`, c.users, c.states, c.customs, c.seen, c.updated)
	return err
}

// statusColumns has statuses by column.
type statusColumns struct {
	users           []room.UserID
	states, customs []string
	seen            []*time.Time
	updated         []time.Time
}

func columnsOf(statuses []room.UserStatus) (c statusColumns) {
	for _, st := range statuses {
		c.users, c.states = append(c.users, st.User), append(c.states, string(st.State))
		c.customs, c.seen = append(c.customs, st.CustomStatus), append(c.seen, nullInstant(st.LastSeenAt))
		c.updated = append(c.updated, st.UpdatedAt.Time())
	}
	return c
}

// UnsubscribeStatuses ends subscriptions of a user. It ignores users who are not subscribed to.
func (s *Store) UnsubscribeStatuses(ctx context.Context, by room.UserID, users []room.UserID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM status_subscriptions WHERE subscriber_id = $1 AND user_id = ANY ($2)", by, users)
	return translate(err)
}

// StatusSubscriptions returns the subscriptions of a user to users with greater IDs than after, at
// most n, in the order of the IDs. Their statuses are those that were published last.
func (s *Store) StatusSubscriptions(
	ctx context.Context, by, after room.UserID, n int,
) ([]room.StatusSubscription, error) {
	return s.statusSubscriptions(ctx, by, "p.user_id > $3 ORDER BY p.user_id LIMIT $4", after, n)
}

// StatusSubscriptionsTo returns the subscriptions of a user to the given users, in the order of
// their IDs.
func (s *Store) StatusSubscriptionsTo(
	ctx context.Context, by room.UserID, users []room.UserID,
) ([]room.StatusSubscription, error) {
	return s.statusSubscriptions(ctx, by, "p.user_id = ANY ($3) ORDER BY p.user_id", users)
}

// MissedStatuses returns the statuses that were published since a time, of users whom a user
// subscribes to.
func (s *Store) MissedStatuses(ctx context.Context, by room.UserID, since time.Time) ([]room.UserStatus, error) {
	list, err := s.statusSubscriptions(ctx, by, "w.updated_at > $3", since)
	if err != nil {
		return nil, err
	}
	var missed []room.UserStatus
	for _, p := range list {
		if p.State != room.StatusUnknown {
			missed = append(missed, p.UserStatus)
		}
	}
	return missed, nil
}

func (s *Store) statusSubscriptions(
	ctx context.Context, by room.UserID, which string, args ...any,
) ([]room.StatusSubscription, error) {
	now := s.now()
	rows, err := s.pool.Query(ctx, "SELECT "+watchedColumns+", p.expires_at, "+s.visible("$1::text", "p.user_id")+`
		FROM status_subscriptions p
		CROSS JOIN LATERAL (SELECT * FROM watched_users WHERE user_id = p.user_id LIMIT 1) w
		WHERE p.subscriber_id = $1 AND p.expires_at > $2 AND `+which, append([]any{by, now}, args...)...)
	if err != nil {
		return nil, translate(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sub room.StatusSubscription, err error) {
		var (
			expires time.Time
			visible bool
		)
		if sub.UserStatus, err = scanWatched(row, &expires, &visible); err != nil {
			return sub, err
		}
		if !visible {
			sub.UserStatus = room.HiddenStatus(sub.User, now)
		}
		sub.ExpiresAt = room.InstantOf(expires)
		return sub, nil
	})
	return list, translate(err)
}

// findWatched selects the watched users among the users $1, those of the sessions $2, and those of
// sessions that were detached between $3 and $4.
const findWatched = `
	SELECT user_id FROM (
		SELECT unnest($1::text[]) AS user_id
		UNION SELECT s.user_id FROM unnest($2::uuid[]) AS i (id)
			CROSS JOIN LATERAL (SELECT user_id FROM sessions WHERE session_id = i.id LIMIT 1) s
		UNION (SELECT user_id FROM sessions WHERE ended_at IS NULL AND detached_at > $3 AND detached_at <= $4 ORDER BY detached_at LIMIT $5)
	) c
	CROSS JOIN LATERAL (SELECT FROM watched_users WHERE user_id = c.user_id LIMIT 1) w`

// publishStatuses publishes the statuses of watched users that have changed.
func (s *Store) publishStatuses(ctx context.Context, now time.Time) error {
	started := time.Now()
	h := &s.statuses
	until := now.Add(-room.OfflineAfter)
	if h.detachedAt.IsZero() {
		h.detachedAt = until.Add(-room.OfflineAfter)
	}
	hinted, ended := h.take()
	var users []room.UserID
	stepped, last, err := s.stepThroughWatched(ctx)
	if err == nil {
		users, err = s.watchedAmong(ctx, hinted, ended, h.detachedAt.Add(-detachedOverlap), until)
	}
	if err != nil {
		h.addUsers(hinted...)
		h.addSessions(ended...)
		return err
	}
	h.watched, h.detachedAt = last, until
	// In random order, so that nobody waits for ever if there are too many.
	rand.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	for batch := range slices.Chunk(append(users, stepped...), maxStatusBatch) {
		if time.Since(started) > statusBudget {
			h.addUsers(batch...)
			continue
		}
		changed, err := s.changedStatuses(ctx, batch)
		if err == nil && len(changed) > 0 {
			err = s.publishChanged(ctx, changed)
		}
		if lockRefused(err) {
			h.addUsers(batch...)
		}
		if err := s.ignoreLocked(err); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) watchedAmong(
	ctx context.Context, users []room.UserID, sessions []room.SessionID, from, until time.Time,
) ([]room.UserID, error) {
	rows, err := s.pool.Query(ctx, findWatched, users, sessions, from, until, maxDetached)
	if err != nil {
		return nil, translate(err)
	}
	watched, err := pgx.CollectRows(rows, pgx.RowTo[room.UserID])
	return watched, translate(err)
}

// stepThroughWatched returns the next watched users, and the last of them, or "" after the last
// watched user. Those whom nobody subscribes to any more are deleted.
func (s *Store) stepThroughWatched(ctx context.Context) (next []room.UserID, last room.UserID, err error) {
	rows, err := s.pool.Query(ctx, `
		SELECT w.user_id, EXISTS (SELECT FROM status_subscriptions p WHERE p.user_id = w.user_id OFFSET 0)
		FROM watched_users w WHERE w.user_id > $1 ORDER BY w.user_id LIMIT $2`, s.statuses.watched, watchedStep)
	if err != nil {
		return nil, "", translate(err)
	}
	var (
		unwatched  []room.UserID
		user       room.UserID
		subscribed bool
		n          int
	)
	if _, err = pgx.ForEachRow(rows, []any{&user, &subscribed}, func() error {
		n++
		if subscribed {
			next = append(next, user)
		} else {
			unwatched = append(unwatched, user)
		}
		return nil
	}); err != nil {
		return nil, "", translate(err)
	}
	if n == watchedStep {
		last = user
	}
	return next, last, s.ignoreLocked(s.deleteWatched(ctx, unwatched))
}

// deleteWatched deletes watched users whom nobody subscribes to. It skips those that are locked,
// because somebody may be about to subscribe to them.
func (s *Store) deleteWatched(ctx context.Context, users []room.UserID) error {
	if len(users) == 0 {
		return nil
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT user_id FROM watched_users WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE SKIP LOCKED", users)
		if err != nil {
			return err
		}
		locked, err := pgx.CollectRows(rows, pgx.RowTo[room.UserID])
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM watched_users w WHERE user_id = ANY ($1)
			AND NOT EXISTS (SELECT FROM status_subscriptions p WHERE p.user_id = w.user_id OFFSET 0)`, locked)
		return err
	})
}

const publishedStatuses = "SELECT " + watchedColumns + " FROM watched_users w WHERE user_id = ANY ($1) ORDER BY user_id"

// changedStatuses returns the users whose status is not the published one. It locks nothing.
func (s *Store) changedStatuses(ctx context.Context, users []room.UserID) (changed []room.UserID, err error) {
	rows, err := s.pool.Query(ctx, publishedStatuses, users)
	if err != nil {
		return nil, err
	}
	published, err := collectWatched(rows)
	if err != nil || len(published) == 0 {
		return nil, err
	}
	next, err := s.nextStatuses(ctx, s.pool, published)
	for _, st := range next {
		changed = append(changed, st.User)
	}
	return changed, err
}

// nextStatuses returns the statuses that differ from the published ones.
func (s *Store) nextStatuses(ctx context.Context, q rowsQuerier, published []room.UserStatus) (next []room.UserStatus, err error) {
	users := make([]room.UserID, len(published))
	for i, st := range published {
		users[i] = st.User
	}
	actual, err := s.readStatuses(ctx, q, "", users)
	if err != nil {
		return nil, err
	}
	for i, st := range actual {
		if was := published[i]; !st.SameAs(was) {
			st.UpdatedAt = max(st.UpdatedAt, was.UpdatedAt+1)
			next = append(next, st)
		}
	}
	return next, nil
}

// publishChanged stores and publishes the statuses of watched users, as far as they still are not
// the published ones.
func (s *Store) publishChanged(ctx context.Context, users []room.UserID) error {
	var next []room.UserStatus
	err := s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		rows, err := tx.Query(ctx, publishedStatuses+" FOR NO KEY UPDATE", users)
		if err != nil {
			return room.Change{}, err
		}
		published, err := collectWatched(rows)
		if err != nil || len(published) == 0 {
			return room.Change{}, err
		}
		if next, err = s.nextStatuses(ctx, tx, published); err != nil || len(next) == 0 {
			return room.Change{}, err
		}
		c := columnsOf(next)
		_, err = tx.Exec(ctx, `
			UPDATE watched_users w SET state = n.state, custom_status = n.custom_status, last_seen_at = n.last_seen_at, updated_at = n.updated_at
			FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
				AS n (user_id, state, custom_status, last_seen_at, updated_at)
			WHERE w.user_id = n.user_id`, c.users, c.states, c.customs, c.seen, c.updated)
		return room.Change{}, err
	})
	if err != nil || len(next) == 0 {
		return err
	}
	return s.notifySubscribers(ctx, next)
}

// notifySubscribers publishes statuses to the subscribers who have a stream and may know them.
func (s *Store) notifySubscribers(ctx context.Context, statuses []room.UserStatus) error {
	byUser, users := make(map[room.UserID]room.UserStatus, len(statuses)), make([]room.UserID, len(statuses))
	for i, st := range statuses {
		byUser[st.User], users[i] = st, st.User
	}
	now := s.now()
	rows, err := s.pool.Query(ctx, `
		SELECT i.log, array_agg(c.user_id ORDER BY c.user_id)
		FROM unnest($1::text[]) AS c (user_id)
		CROSS JOIN LATERAL (
			SELECT subscriber_id FROM status_subscriptions WHERE user_id = c.user_id AND expires_at > $2 OFFSET 0
		) p
		CROSS JOIN LATERAL (SELECT log FROM inboxes WHERE user_id = p.subscriber_id LIMIT 1) i
		WHERE EXISTS (SELECT FROM sessions o WHERE o.user_id = p.subscriber_id AND ended_at IS NULL AND (node_id IS NULL)::int = 0 OFFSET 0)
			AND `+s.visible("p.subscriber_id", "c.user_id")+`
		GROUP BY i.log`, users, now)
	if err != nil {
		return err
	}
	var (
		c       = room.Change{By: room.Server()}
		inbox   room.LogID
		changed []room.UserID
	)
	_, err = pgx.ForEachRow(rows, []any{&inbox, &changed}, func() error {
		for part := range slices.Chunk(changed, room.MaxStatusesPerEvent) {
			var list []room.UserStatus
			for _, user := range part {
				list = append(list, byUser[user])
			}
			c.Events = append(c.Events, room.Event{Log: inbox, At: now, Body: room.StatusesUpdated{StatusList: list}})
		}
		if len(c.Events) >= maxEventsPerChange {
			s.opts.Commit(c)
			c.Events = nil
		}
		return nil
	})
	if err == nil && len(c.Events) > 0 {
		s.opts.Commit(c)
	}
	return err
}
