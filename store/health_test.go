package store_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// TestPingChecksWhatSendsNeed: Ping fails if the database accepts no writes, or if tables are
// missing.
func TestPingChecksWhatSendsNeed(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	conn, err := pgx.Connect(t.Context(), f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	ping := func() error { return f.Ping(t.Context()) }
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		breaks, mends string
		want          error
	}{
		{"ALTER DATABASE %s SET default_transaction_read_only = on", "ALTER DATABASE %s RESET default_transaction_read_only", store.ErrReadOnly},
		{"ALTER TABLE logs RENAME TO other", "ALTER TABLE other RENAME TO logs", room.ErrUnavailable},
	} {
		database := pgx.Identifier{conn.Config().Database}.Sanitize()
		change := func(sql string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), "SET default_transaction_read_only = off"); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "%s", database)); err != nil {
				t.Fatal(err)
			}
			f.Reconnect() // only new connections get new settings of a database
		}
		change(c.breaks)
		waitUntil(t, "the cached result has expired", func() bool { return ping() != nil })
		if err := ping(); !errors.Is(err, c.want) {
			t.Errorf("after %s: %v, want %v", c.breaks, err, c.want)
		}
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); !errors.Is(err, room.ErrUnavailable) {
			t.Errorf("a message after %s: %v", c.breaks, err)
		}
		change(c.mends)
		waitUntil(t, "the database is healthy again", func() bool { return ping() == nil })
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("hello")); err != nil {
			t.Errorf("a message after %s: %v", c.mends, err)
		}
	}
}

// TestClosedIdleConnectionsFailNoCall: after a restart of PostgreSQL, no call fails because its
// connection was closed while it was idle.
func TestClosedIdleConnectionsFailNoCall(t *testing.T) {
	t.Parallel()
	var unknownCommits atomic.Int64
	f := setup(t, store.Options{CommitUnknown: func() { unknownCommits.Add(1) }})
	alice := newSession(t, f.Store, "alice")
	enter(t, f, alice, "lobby")
	for range 5 {
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("before")); err != nil {
			t.Fatal(err)
		}
		if err := f.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		query[int](t, f, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		waitUntil(t, "the connections are closed", func() bool {
			return query[int](t, f, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()") == 0
		})
		if _, err := f.PostMessage(t.Context(), alice, "lobby", textDraft("after")); err != nil {
			t.Errorf("a message: %v", err)
		}
		if _, err := f.SessionRoom(t.Context(), alice.ID, "lobby"); err != nil {
			t.Errorf("a read: %v", err)
		}
		if err := f.EndSession(t.Context(), as(newSession(t, f.Store, "bob"))); err != nil {
			t.Errorf("a transaction: %v", err)
		}
	}
	if n := unknownCommits.Load(); n > 0 {
		t.Errorf("%d commits were unknown", n)
	}
}

// TestConnectionSettings: PostgreSQL itself releases what a vanished server holds, and shows the
// server's name.
func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	s := storetest.New(t, store.Options{})
	for setting, want := range map[string]string{
		"lock_timeout": "2s", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s",
	} {
		if got, err := s.Setting(t.Context(), setting); err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", setting, got, want, err)
		}
	}
	if got, err := s.Setting(t.Context(), "application_name"); err != nil || len(got) != len("parlor ")+36 {
		t.Errorf("the name is %q: %v", got, err)
	}
	if err := s.Abandon(t.Context(), 50*time.Millisecond); err == nil {
		t.Error("an abandoned transaction continues")
	}
}
