package store_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"parlor/migrations"
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
	if err := store.Migrated(t.Context(), address); err != nil {
		t.Errorf("a migrated database: %v", err)
	}
	if _, err := p.DownTo(t.Context(), 0); err != nil {
		t.Fatalf("down: %v", err)
	}
	if n := tables(t, db); n != 1 { // goose's own stays
		t.Errorf("%d tables are left, want 1", n)
	}
	if err := store.Migrated(t.Context(), address); !errors.Is(err, store.ErrNotMigrated) {
		t.Errorf("an empty database: %v", err)
	}
	if applied, err := store.Migrate(t.Context(), address); err != nil || len(applied) != len(p.ListSources()) {
		t.Errorf("up again applied %v, %v", applied, err)
	}
	if applied, err := store.Migrate(t.Context(), address); err != nil || len(applied) != 0 {
		t.Errorf("once more applied %v, %v", applied, err)
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
