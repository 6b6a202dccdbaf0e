package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// A pendingLogin is a call that creates a session.
type pendingLogin struct {
	ctx            context.Context
	by             room.Actor
	session        room.Session
	naming         room.Naming
	key, streamKey room.KeyHash
	grants, peers  []byte
	created        time.Time
	// done receives the result. It is buffered, so that sending to a caller that gave up does not
	// block.
	done chan error

	// locked reports that the transaction has the lock of the user's list of sessions.
	locked bool
	// sessions is how many sessions the user has, counted up to as many as are allowed.
	sessions int
	profile  room.Profile
	void     bool // the token
	stored   bool // the profile
	inbox    room.LogID
}

// begin forgets what an earlier try has read.
func (p *pendingLogin) begin() {
	user := room.User{ID: p.session.User.ID}
	p.locked, p.sessions, p.void, p.stored = false, 0, false, false
	p.profile = room.Profile{User: user}.LogIn(p.naming)
}

// CreateSession stores a new session with the hashes of its keys. The session is detached until its
// stream is opened. The first session of a user creates the user's inbox and profile. If the user
// then has more sessions than allowed, the oldest are ended. naming is what the login says about the
// name of the user; CreateSession changes the profile if it says something new, and returns it.
// Errors: room.ErrTokenVoid.
func (s *Store) CreateSession(
	ctx context.Context, by room.Actor, session room.Session, naming room.Naming, key, streamKey room.KeyHash,
) (profile room.Profile, err error) {
	p := &pendingLogin{
		ctx: ctx, by: by, session: session, naming: naming, key: key, streamKey: streamKey, created: s.now(), done: make(chan error, 1),
	}
	if p.grants, p.peers, err = grantsColumns(session.Grants); err != nil {
		return profile, err
	}
	s.logins.add(p, s.logInBatch)
	select {
	case err = <-p.done:
	case <-ctx.Done():
		// The session may still be created. Nobody knows its keys, so it ends by itself.
		return profile, translate(ctx.Err())
	}
	if err != nil || p.profile.LogIn(naming) == p.profile {
		return p.profile, err
	}
	// This is another transaction, because it locks rooms after everything else. If it fails, so does
	// the login, whose client tries it again. An admin may have ended the session meanwhile.
	return s.changeProfile(ctx, by, "", session.User.ID, func(p room.Profile) (room.Profile, error) { return p.LogIn(naming), nil })
}

// logInBatch creates the sessions of a batch in one transaction, and answers their callers. A login
// that has to wait for a lock, or that ends other sessions, gets a transaction of its own.
func (s *Store) logInBatch(batch []*pendingLogin) {
	batch = slices.DeleteFunc(batch, func(p *pendingLogin) bool { return p.ctx.Err() != nil })
	if len(batch) == 0 {
		return
	}
	var by room.Actor
	if len(batch) == 1 {
		by = batch[0].by
	}
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	var alone []*pendingLogin
	mark := s.sessions.mark()
	err := s.inTx(ctx, by, func(tx pgx.Tx) (room.Change, error) {
		alone = nil
		setAside := func(p *pendingLogin, aside bool) bool {
			if aside {
				alone = append(alone, p)
			}
			return aside
		}
		seen := make(map[room.UserID]bool, len(batch))
		together := slices.DeleteFunc(slices.Clone(batch), func(p *pendingLogin) bool {
			again := seen[p.session.User.ID]
			seen[p.session.User.ID] = true
			return setAside(p, again)
		})
		if err := s.readLogins(ctx, tx, together, "pg_try_advisory_xact_lock"); err != nil {
			return room.Change{}, err
		}
		together = slices.DeleteFunc(together, func(p *pendingLogin) bool {
			return setAside(p, !p.locked || p.sessions >= s.opts.SessionsPerUser)
		})
		return room.Change{}, writeLogins(ctx, tx, together)
	})
	if err != nil && !errors.Is(err, room.ErrUnavailable) { // one of them is the cause
		alone = batch
	}
	for _, p := range batch {
		if slices.Contains(alone, p) {
			s.logins.running.Go(func() { s.logInAlone(p) })
		} else {
			s.answerLogin(p, err, mark)
		}
	}
}

// logInAlone creates a session in a transaction that waits for the lock of the user's list of
// sessions, and ends the user's oldest sessions if there are too many.
func (s *Store) logInAlone(p *pendingLogin) {
	mark := s.sessions.mark()
	err := s.inTx(p.ctx, p.by, func(tx pgx.Tx) (room.Change, error) {
		one := []*pendingLogin{p}
		// This lock differs from the lock of the user for joins: that one is taken after the row of
		// the session, and this one before it.
		if err := s.readLogins(p.ctx, tx, one, "pg_advisory_xact_lock"); err != nil {
			return room.Change{}, err
		}
		if err := writeLogins(p.ctx, tx, one); err != nil || p.sessions < s.opts.SessionsPerUser {
			return room.Change{}, err
		}
		return s.endOldestSessions(p.ctx, tx, p.session.User.ID)
	}, userKey(p.session.User.ID))
	s.answerLogin(p, err, mark)
}

// answerLogin answers the caller of a login. A session that was created is cached, because its
// client opens a stream and enters rooms next. The mark of the cache is from before the transaction.
func (s *Store) answerLogin(p *pendingLogin, err error, mark uint64) {
	s.statuses.addUsers(p.session.User.ID)
	switch {
	case err == nil && p.void:
		err = room.ErrTokenVoid
	case err == nil:
		session := p.session
		session.User, session.Inbox = p.profile.User, p.inbox
		session.CreatedAt = p.created.Truncate(time.Microsecond).UTC() // as PostgreSQL stores it
		session.DetachedAt = session.CreatedAt
		s.sessions.addSession(session, sessionKeySet{sessionKeys: p.key, streamKeys: p.streamKey}, mark, p.created)
	}
	p.done <- err
}

// lockSessionList locks the list of a user's sessions, so that none can be added.
var lockSessionList = "SELECT pg_advisory_xact_lock(" + sessionListKey("$1") + ")"

// sessionListKey returns the SQL expression of the key of that lock, from the expression of the user.
func sessionListKey(user string) string { return "hashtextextended(" + user + ", 1)" }

// readLogins locks the lists of sessions of the users of logins, with a function that waits or does
// not, and reads what the logins depend on.
func (s *Store) readLogins(ctx context.Context, tx pgx.Tx, logins []*pendingLogin, lock string) error {
	var (
		b      pgx.Batch
		users  = make([]room.UserID, len(logins))
		issued = make([]*time.Time, len(logins))
		of     = make(map[room.UserID]*pendingLogin, len(logins))
		n      int
	)
	for i, p := range logins {
		p.begin()
		users[i], issued[i], of[p.session.User.ID] = p.session.User.ID, nullTime(p.session.TokenIssuedAt), p
	}
	b.Queue("SELECT n - 1, "+lock+"("+sessionListKey("user_id")+")::text <> 'false' FROM unnest($1::text[]) WITH ORDINALITY AS a (user_id, n)", users).
		Query(func(rows pgx.Rows) error {
			var locked bool
			_, err := pgx.ForEachRow(rows, []any{&n, &locked}, func() error {
				logins[n].locked = locked
				return nil
			})
			return err
		})
	b.Queue(`SELECT n - 1, `+tokenVoid("a.user_id", "a.issued")+`,
			(SELECT count(*) FROM (SELECT FROM sessions WHERE user_id = a.user_id AND ended_at IS NULL LIMIT $3) s)
		FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS a (user_id, issued, n)`, users, issued, s.opts.SessionsPerUser).
		Query(func(rows pgx.Rows) error {
			var (
				void     bool
				sessions int
			)
			_, err := pgx.ForEachRow(rows, []any{&n, &void, &sessions}, func() error {
				logins[n].void, logins[n].sessions = void, sessions
				return nil
			})
			return err
		})
	b.Queue(selectProfiles, users).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, scanProfile)
		for _, profile := range found {
			p := of[profile.ID]
			p.profile, p.stored = profile.Profile, profile.stored
		}
		return err
	})
	return sendBatch(ctx, tx, &b)
}

// insertSessions creates sessions, and the inboxes of users who have none.
const insertSessions = `
	WITH added AS MATERIALIZED (
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::bytea[], $8::bytea[],
				$9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::boolean[], $13::boolean[], $14::json[])
			AS a (session_id, user_id, user_name, device, grants, peers, key_hash, stream_key_hash,
				created_at, token_expires_at, token_issued_at, media, profile, started)
	), first AS (
		INSERT INTO inboxes (user_id) SELECT user_id FROM added a
		WHERE NOT EXISTS (SELECT FROM inboxes WHERE user_id = a.user_id OFFSET 0) RETURNING user_id, log
	), told AS (
		INSERT INTO user_events (kind, type, at, body) SELECT 'session', $15, created_at, started FROM added
	)
	INSERT INTO sessions (session_id, user_id, user_name, device, grants, peers, key_hash, stream_key_hash,
		created_at, detached_at, token_expires_at, token_issued_at, media, profile, inbox)
	SELECT session_id, user_id, user_name, device, grants, peers, key_hash, stream_key_hash,
		created_at, created_at, token_expires_at, token_issued_at, media, profile,
		coalesce((SELECT log FROM first WHERE user_id = a.user_id), (SELECT log FROM inboxes WHERE user_id = a.user_id))
	FROM added a RETURNING session_id, inbox`

// writeLogins writes the sessions of logins whose tokens are not void.
func writeLogins(ctx context.Context, tx pgx.Tx, logins []*pendingLogin) error {
	var (
		ids                     []room.SessionID
		users                   []room.UserID
		names, devices, started []string
		grants, peers, keys     [][]byte
		streamKeys              [][]byte
		created, expires        []time.Time
		issued                  []*time.Time
		media, mayChange        []bool
		unstored                []room.Profile
		of                      = make(map[room.SessionID]*pendingLogin, len(logins))
	)
	for _, p := range logins {
		if p.void {
			continue
		}
		user, name := p.session.User.ID, p.profile.LogIn(p.naming).Name
		event, err := encodeBody(room.Started{
			SessionID: p.session.ID, UserID: user, UserName: name, Device: p.session.Device, StartedAt: room.InstantOf(p.created),
		})
		if err != nil {
			return fmt.Errorf("session %s: %w", p.session.ID, err)
		}
		ids, users, names, devices = append(ids, p.session.ID), append(users, user), append(names, name), append(devices, p.session.Device)
		grants, peers = append(grants, p.grants), append(peers, p.peers)
		keys, streamKeys = append(keys, p.key[:]), append(streamKeys, p.streamKey[:])
		created, expires = append(created, p.created), append(expires, p.session.TokenExpiresAt)
		issued = append(issued, nullTime(p.session.TokenIssuedAt))
		media, mayChange = append(media, p.session.Grants.CheckMedia() == nil), append(mayChange, p.session.Grants.CheckProfile() == nil)
		started, of[p.session.ID] = append(started, string(event)), p
		if !p.stored {
			unstored = append(unstored, p.profile)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var b pgx.Batch
	b.Queue(insertSessions, ids, users, names, devices, grants, peers, keys, streamKeys, created, expires, issued, media, mayChange,
		started, room.TypeSessionStarted).
		Query(func(rows pgx.Rows) error {
			var id room.SessionID
			var inbox room.LogID
			_, err := pgx.ForEachRow(rows, []any{&id, &inbox}, func() error {
				of[id].inbox = inbox
				return nil
			})
			return err
		})
	queueProfiles(&b, unstored...)
	queueSeen(&b, ids, created[0])
	return sendBatch(ctx, tx, &b)
}

// endOldestSessions ends the sessions of a user that exceed the limit.
func (s *Store) endOldestSessions(ctx context.Context, tx pgx.Tx, user room.UserID) (room.Change, error) {
	rows, err := tx.Query(ctx, `SELECT session_id FROM sessions WHERE session_id = ANY (ARRAY (
			SELECT session_id FROM sessions WHERE user_id = $1 AND ended_at IS NULL
			ORDER BY created_at DESC, session_id DESC OFFSET $2
		)) AND `+notEnded+` ORDER BY session_id FOR NO KEY UPDATE`, user, s.opts.SessionsPerUser)
	if err != nil {
		return room.Change{}, err
	}
	oldest, err := pgx.CollectRows(rows, pgx.RowTo[room.SessionID])
	if err != nil {
		return room.Change{}, err
	}
	return endSessions(ctx, tx, oldest, room.EndKickedOut, "", s.now())
}
