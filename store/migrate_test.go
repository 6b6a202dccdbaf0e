package store_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"parlor/migrations"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

func TestMigrationsGoUpAndDown(t *testing.T) {
	t.Parallel()
	address := storetest.Database(t)
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CheckMigrated(t.Context(), address); err != nil {
		t.Errorf("a migrated database: %v", err)
	}
	if _, err := p.DownTo(t.Context(), 0); err != nil {
		t.Fatalf("down: %v", err)
	}
	if n := tables(t, db); n != 1 { // goose's own table remains
		t.Errorf("%d tables are left, want 1", n)
	}
	if err := store.CheckMigrated(t.Context(), address); !errors.Is(err, store.ErrNotMigrated) {
		t.Errorf("an empty database: %v", err)
	}
	if applied, err := store.Migrate(t.Context(), address, nil); err != nil || len(applied) != len(p.ListSources()) {
		t.Errorf("applied after down to 0: got %v, %v, want all", applied, err)
	}
	if applied, err := store.Migrate(t.Context(), address, nil); err != nil || len(applied) != 0 {
		t.Errorf("applied to a migrated database: got %v, %v, want none", applied, err)
	}
}

// TestMigrationCreatesInboxesForExistingUsers: users who logged in before the migration can receive
// messages. If the migration is undone, their messages are deleted with the inboxes.
func TestMigrationCreatesInboxesForExistingUsers(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newUser(t, f, "alice")
	phone, bob := newUser(t, f, "alice"), newUser(t, f, "bob")
	enter(t, f, alice, "lobby")
	postPeer(t, f, alice, "bob", textDraft("lost"))
	f.Close()
	down(t, f.address, 7)
	if _, err := store.Migrate(t.Context(), f.address, nil); err != nil {
		t.Fatalf("up: %v", err)
	}
	again := fixture{Store: openOn(t, f.address, store.Options{}), address: f.address}
	inboxes := map[room.LogID]bool{}
	for _, session := range []room.Session{alice, phone, bob} {
		now, err := again.SessionByID(t.Context(), session.ID)
		if err != nil {
			t.Fatal(err)
		}
		inboxes[now.Inbox] = true
	}
	if len(inboxes) != 2 || inboxes[alice.Inbox] || inboxes[bob.Inbox] {
		t.Errorf("the users have the inboxes %v, want %d and %d", inboxes, alice.Inbox, bob.Inbox)
	}
	if m := postPeer(t, again, alice, "bob", textDraft("kept")); m.Seq != 1 {
		t.Errorf("the first message is %+v", m)
	}
	if _, err := again.PostMessage(t.Context(), alice, "lobby", textDraft("in the room")); err != nil {
		t.Errorf("the room: %v", err)
	}
}

func tables(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMigrationOfMediaUsesIsUndone: without uses in inboxes, a file that has no other use is
// unused. Uses in rooms remain, and are released with the rooms' messages after the migration is
// applied again.
func TestMigrationOfMediaUsesIsUndone(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	alice := newUser(t, f, "alice")
	newUser(t, f, "bob")
	enter(t, f, alice, "lobby")
	private, both := upload(t, f, "alice"), upload(t, f, "alice")
	postPeer(t, f, alice, "bob", fileDraft(private))
	postPeer(t, f, alice, "bob", fileDraft(both))
	sent := postToLobby(t, f, alice, fileDraft(both))
	f.Close()
	down(t, f.address, 8)
	for id, want := range map[room.MediaID]int{private.ID: 0, both.ID: 1} {
		if got := query[int](t, f, "SELECT uses FROM media WHERE media_id = $1 AND (uses = 0) = (unused_since IS NOT NULL)", id); got != want {
			t.Errorf("the file has %d uses, want %d", got, want)
		}
	}
	if _, err := store.Migrate(t.Context(), f.address, nil); err != nil {
		t.Fatalf("up: %v", err)
	}
	if at := query[time.Time](t, f, "SELECT used_at FROM media_uses"); !at.Equal(sent.SentAt.Time()) {
		t.Errorf("the file was used at %s, want %s", at, sent.SentAt)
	}
}

// TestMigrationOfUserIDsIsUndone: users with longer IDs keep their sessions and can end them,
// although the earlier version accepts no such user.
func TestMigrationOfUserIDsIsUndone(t *testing.T) {
	t.Parallel()
	f := setup(t, store.Options{})
	long := strings.Repeat("x", room.MaxUserIDBytes)
	session, short := newUser(t, f, long), newUser(t, f, long[:32])
	enter(t, f, session, "lobby")
	enter(t, f, short, "lobby")
	f.Close()
	down(t, f.address, 15)
	if n := query[int](t, f, "WITH ended AS (UPDATE sessions SET ended_at = now(), end_reason = 'loggedOut' RETURNING 1) SELECT count(*) FROM ended"); n != 2 {
		t.Errorf("%d sessions can be ended, want 2", n)
	}
	if _, err := store.Migrate(t.Context(), f.address, nil); err != nil {
		t.Fatalf("up: %v", err)
	}
	again := fixture{Store: openOn(t, f.address, store.Options{}), address: f.address}
	newUser(t, again, long)
}
