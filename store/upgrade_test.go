package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// oldSchema is the version of the schema that oldServer uses.
const oldSchema = 10

// An oldServer does to a database what a server with the oldSchema does: it locks rows of several
// tables, in an order of its own.
type oldServer struct {
	*pgxpool.Pool
	rooms, users int
}

// newOldServer returns a database with the oldSchema, in which every user is in every room.
func newOldServer(t *testing.T) oldServer {
	t.Helper()
	address := storetest.Database(t)
	down(t, address, oldSchema)
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	o := oldServer{Pool: pool, rooms: 3, users: 8}
	sql := fmt.Sprintf(`
		INSERT INTO rooms (room_id, room_name, member_timeout, max_members, member_count, last_seq, created_at,
			destroy_delay, unused_timeout, same_user, created_xact, last_xact, history_visible)
		SELECT 'room' || n, '', 300, 500, %[2]d, 0, now(), 0, 30, 'allow', pg_current_xact_id(), pg_current_xact_id(), 'all'
		FROM generate_series(0, %[1]d - 1) n;

		INSERT INTO inboxes (user_id) SELECT 'user' || n FROM generate_series(0, %[2]d - 1) n;

		INSERT INTO sessions (session_id, user_id, user_name, device, key_hash, stream_key_hash, created_at, token_expires_at, detached_at, inbox)
		SELECT gen_random_uuid(), user_id, user_id, '', sha256(user_id::bytea), sha256(('s' || user_id)::bytea),
			now(), now() + interval '1 hour', now(), log
		FROM inboxes;

		INSERT INTO members (generation, user_id, user_name, joined_seq, joined_at)
		SELECT generation, user_id, user_id, 0, now() FROM rooms, inboxes;

		INSERT INTO attendances (session_id, generation, user_id, from_seq)
		SELECT session_id, generation, user_id, 0 FROM rooms, sessions`, o.rooms, o.users)
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o oldServer) address() string { return o.Config().ConnString() }

// appendMessage appends a message to a room and returns its seq.
func (o oldServer) appendMessage(ctx context.Context, id, user, clientMessageID string) (seq room.Seq, err error) {
	err = pgx.BeginFunc(ctx, o, func(tx pgx.Tx) error {
		var generation int64
		if err := tx.QueryRow(ctx, `SELECT generation, last_seq + 1 FROM rooms WHERE room_id = $1 AND destroyed_at IS NULL FOR NO KEY UPDATE`,
			id).Scan(&generation, &seq); err != nil {
			return err
		}
		var stay int64
		if err := tx.QueryRow(ctx, `SELECT stay FROM attendances WHERE generation = $1 AND user_id = $2`, generation, user).Scan(&stay); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO events (generation, seq, type, at, sender_id, client_message_id, body, xact)
			VALUES ($1, $2, 'roomMessageReceived', now(), $3, $4, '{"messageList":[{"messageID":"01980000-0000-7000-8000-000000000000",
				"kind":"text","text":"hello","sender":{"userID":"user0","userName":"user0"},"priority":"medium","sentAt":"2026-01-01T00:00:00.000Z"}]}',
				pg_current_xact_id())`, generation, seq, user, clientMessageID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE rooms SET last_seq = $2, last_xact = pg_current_xact_id() WHERE generation = $1`, generation, seq)
		return err
	})
	return seq, err
}

// rejoin makes a session leave its rooms and join them again. It locks its presences before its
// rooms.
func (o oldServer) rejoin(ctx context.Context, user string) error {
	return pgx.BeginFunc(ctx, o, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`SELECT FROM sessions WHERE user_id = $1 FOR NO KEY UPDATE`,
			`UPDATE attendances SET from_seq = from_seq + 1 WHERE user_id = $1`,
			`SELECT FROM rooms JOIN members USING (generation) WHERE user_id = $1 ORDER BY generation FOR NO KEY UPDATE OF rooms`,
			`UPDATE rooms SET untold = untold FROM members m WHERE m.generation = rooms.generation AND user_id = $1`,
		} {
			if _, err := tx.Exec(ctx, sql, user); err != nil {
				return err
			}
		}
		return nil
	})
}

// ended reports whether an old server fails because the schema that it needs no longer exists.
func (oldServer) ended(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && strings.HasPrefix(refused.Code, "42")
}

// TestUpgradeUnderLoad migrates while servers of the previous release send messages, join and
// leave. No transaction is the victim of a deadlock, and all acknowledged messages are in the logs
// afterwards, with their seqs.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	old := newOldServer(t)
	type position struct {
		room string
		seq  room.Seq
	}
	var (
		working sync.WaitGroup
		sent    atomic.Int64
		stopped atomic.Bool
		mu      sync.Mutex // guards acknowledged
	)
	acknowledged := map[string]position{}
	for u := range old.users {
		user := fmt.Sprintf("user%d", u)
		working.Go(func() {
			for n := 0; !stopped.Load(); n++ {
				id, retryID := fmt.Sprintf("room%d", n%old.rooms), fmt.Sprintf("%s-%d", user, n)
				seq, err := old.appendMessage(context.Background(), id, user, retryID)
				if old.ended(err) {
					return
				}
				if err != nil {
					t.Errorf("%s in %s: %v", user, id, err)
					return
				}
				mu.Lock()
				acknowledged[retryID] = position{id, seq}
				mu.Unlock()
				sent.Add(1)
			}
		})
		working.Go(func() {
			for !stopped.Load() {
				if err := old.rejoin(context.Background(), user); err != nil && !old.ended(err) {
					t.Errorf("%s joins again: %v", user, err)
					return
				}
			}
		})
	}
	waitUntil(t, "the old servers send messages", func() bool { return sent.Load() > 100 })
	if _, err := store.Migrate(t.Context(), old.address(), slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Errorf("migrate: %v", err)
	}
	stopped.Store(true)
	working.Wait()
	if t.Failed() {
		return
	}

	f := fixture{Store: openOn(t, old.address(), store.Options{}), address: old.address()}
	for id, want := range acknowledged {
		got := query[room.Seq](t, f, `SELECT max(seq) FROM events JOIN rooms USING (generation)
			WHERE client_message_id = $1 AND room_id = $2 HAVING count(*) = 1`, id, want.room)
		if got != want.seq {
			t.Fatalf("message %s has seq %d, acknowledged as %d", id, got, want.seq)
		}
	}
	if bad := query[int](t, f, `SELECT count(*) FROM logs l WHERE last_seq <> (SELECT count(*) FROM events e WHERE e.generation = l.generation)
		OR last_seq <> (SELECT max(seq) FROM events e WHERE e.generation = l.generation)`); bad != 0 {
		t.Errorf("%d logs have gaps", bad)
	}
	session, err := f.SessionByID(t.Context(), query[room.SessionID](t, f, "SELECT session_id::text FROM sessions WHERE user_id = 'user0'"))
	if err != nil {
		t.Fatal(err)
	}
	end := query[room.Seq](t, f, "SELECT last_seq FROM logs JOIN rooms USING (generation) WHERE room_id = 'room0'")
	if m, err := f.PostMessage(t.Context(), session, "room0", textDraft("after")); err != nil || m.Seq != end+1 {
		t.Errorf("the next message is %+v, %v", m, err)
	}
	t.Logf("%d messages were acknowledged before", len(acknowledged))
}

// TestMigrationWaitsForTransactions: a transaction that has locked one table gets another one that
// a migration is about to change. The migration waits.
func TestMigrationWaitsForTransactions(t *testing.T) {
	t.Parallel()
	old := newOldServer(t)
	conn, err := old.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	do("BEGIN")
	do("UPDATE attendances SET from_seq = from_seq + 1")
	var migrating sync.WaitGroup
	migrating.Go(func() {
		if _, err := store.Migrate(context.Background(), old.address(), nil); err != nil {
			t.Errorf("migrate: %v", err)
		}
	})
	waitForLocks(t, fixture{address: old.address()}, 1)
	do("UPDATE rooms SET untold = true")
	do("COMMIT")
	migrating.Wait()
	if err := store.CheckMigrated(t.Context(), old.address()); err != nil {
		t.Error(err)
	}
}

// TestMigrationGivesUp: a migration that cannot lock a table names the transaction that holds it,
// and changes nothing. A server continues meanwhile.
func TestMigrationGivesUp(t *testing.T) {
	t.Parallel()
	old := newOldServer(t)
	f := fixture{address: old.address()}
	release := hold(t, f, "SELECT pg_sleep(1.1) FROM (SELECT FROM media LIMIT 1) AS m RIGHT JOIN (SELECT) AS one ON true")
	defer release()
	m := migrator(t, old.address())
	m.SetLockTimeout(time.Second)
	talking, stop := context.WithCancel(t.Context())
	var slowest time.Duration
	var server sync.WaitGroup
	server.Go(func() {
		for n := 0; talking.Err() == nil; n++ {
			began := time.Now()
			if _, err := old.appendMessage(context.Background(), "room0", "user0", fmt.Sprint(n)); err != nil {
				t.Errorf("a message meanwhile: %v", err)
				return
			}
			slowest = max(slowest, time.Since(began))
		}
	})
	applied, err := m.Up(t.Context(), 0)
	stop()
	server.Wait()
	if len(applied) != 0 || err == nil || !strings.Contains(err.Error(), "00011_one_order_of_room_ids.sql: other transactions kept the tables locked for 1s") ||
		!strings.Contains(err.Error(), ": pid ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("applied %v, error %v", applied, err)
	}
	if got := query[int](t, f, "SELECT max(version_id) FROM goose_db_version"); got != oldSchema {
		t.Errorf("the schema has version %d", got)
	}
	t.Logf("the slowest message meanwhile took %s", slowest)
}

// TestServerSurvivesMigrations undoes a migration under a running server and applies it again.
// Meanwhile the calls of the server succeed or fail with room.ErrUnavailable, and afterwards
// everything is as before.
func TestServerSurvivesMigrations(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	var (
		working sync.WaitGroup
		mu      sync.Mutex // guards acknowledged
		refused atomic.Int64
	)
	acknowledged := map[string]room.Seq{}
	ctx, stop := context.WithCancel(t.Context())
	for u := range 4 {
		session := newSession(t, f.Store, fmt.Sprintf("user%d", u))
		enter(t, f, session, "lobby")
		openStream(t, f, session)
		working.Go(func() {
			for n := 0; ctx.Err() == nil; {
				d := textDraft("hello")
				d.ClientMessageID = fmt.Sprintf("%d-%d", u, n)
				m, err := f.PostMessage(context.Background(), session, "lobby", d)
				switch {
				case err == nil:
					mu.Lock()
					acknowledged[d.ClientMessageID] = m.Seq
					mu.Unlock()
					n++
				case errors.Is(err, room.ErrUnavailable):
					refused.Add(1)
				default:
					t.Errorf("post: %v", err)
					return
				}
			}
		})
	}
	working.Go(func() {
		for ctx.Err() == nil {
			if err := f.Sweep(context.Background()); err != nil && !errors.Is(err, room.ErrUnavailable) {
				t.Errorf("sweep: %v", err)
				return
			}
		}
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	waitUntil(t, "messages flow", func() bool { return count() > 20 })
	down(t, f.address, 11) // without logs, a server of the newest schema can do nothing
	waitUntil(t, "messages are rejected", func() bool { return refused.Load() > 20 })
	if err := f.CheckSchema(t.Context()); !errors.Is(err, store.ErrNotMigrated) {
		t.Errorf("with an older schema: %v", err)
	}
	if _, err := store.Migrate(t.Context(), f.address, nil); err != nil {
		t.Fatalf("up again: %v", err)
	}
	before := count()
	waitUntil(t, "messages flow again", func() bool { return count() > before+20 })
	stop()
	working.Wait()
	if err := f.CheckSchema(t.Context()); err != nil {
		t.Errorf("with its own schema: %v", err)
	}
	for id, seq := range acknowledged {
		if got := query[room.Seq](t, f, "SELECT max(seq) FROM events WHERE client_message_id = $1 HAVING count(*) = 1", id); got != seq {
			t.Fatalf("message %s has seq %d, acknowledged as %d", id, got, seq)
		}
	}
}

// TestNewerSchema: programs that want to change or use the schema of a newer program are rejected.
// A running server notices it, and calls that fail because of it return room.ErrUnavailable.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newUser(t, f, "alice")
	enter(t, f, alice, "lobby")
	if err := f.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, f, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	m := migrator(t, f.address)
	_, migrated := store.Migrate(t.Context(), f.address, nil)
	for name, err := range map[string]error{
		"a server":    f.CheckSchema(t.Context()),
		"a start":     store.CheckMigrated(t.Context(), f.address),
		"a migration": migrated,
		"a check":     m.Check(t.Context()),
	} {
		if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "version 99999") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("still fits")); err != nil {
		t.Errorf("a message with a compatible schema: %v", err)
	}
	for name, change := range map[string]struct{ do, undo string }{
		"a missing column":  {"ALTER TABLE logs RENAME last_seq TO ends_at", "ALTER TABLE logs RENAME ends_at TO last_seq"},
		"a missing table":   {"ALTER TABLE events RENAME TO happenings", "ALTER TABLE happenings RENAME TO events"},
		"a required column": {"ALTER TABLE events ADD shard int NOT NULL DEFAULT 0; ALTER TABLE events ALTER shard DROP DEFAULT", "ALTER TABLE events DROP shard"},
	} {
		execute(t, f, change.do)
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("does not")); !errors.Is(err, room.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		execute(t, f, change.undo)
	}
	execute(t, f, "DELETE FROM goose_db_version WHERE version_id = 99999")
	if err := f.CheckSchema(t.Context()); err != nil {
		t.Errorf("back: %v", err)
	}
	if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("again")); err != nil {
		t.Errorf("again: %v", err)
	}
}

func migrator(t *testing.T, address string) *store.Migrator {
	t.Helper()
	m, err := store.NewMigrator(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func down(t *testing.T, address string, to int64) {
	t.Helper()
	if _, err := migrator(t, address).Down(t.Context(), to); err != nil {
		t.Fatalf("down to %d: %v", to, err)
	}
}
