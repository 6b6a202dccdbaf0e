package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"parlor/migrations"
)

// ErrNotMigrated says that the database's schema is not this program's.
var ErrNotMigrated = errors.New("the database is not migrated: run `parlor migrate`")

// Migrate brings the schema up to date and returns the names of the files it
// applied. Several processes may call it at once: a lock in the database lets
// one after the other in.
func Migrate(ctx context.Context, url string) ([]string, error) {
	p, done, err := migrator(url)
	if err != nil {
		return nil, err
	}
	defer done()
	results, err := p.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	applied := make([]string, 0, len(results))
	for _, r := range results {
		applied = append(applied, r.Source.Path)
	}
	return applied, nil
}

// Migrated returns ErrNotMigrated where migrations are pending.
func Migrated(ctx context.Context, url string) error {
	p, done, err := migrator(url)
	if err != nil {
		return err
	}
	defer done()
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if pending {
		return ErrNotMigrated
	}
	return nil
}

func migrator(url string) (*goose.Provider, func(), error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, fmt.Errorf("database URL: %w", err)
	}
	var db *sql.DB = stdlib.OpenDB(*config)
	done := func() { _ = db.Close() }
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("migrations' lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("migrations: %w", err)
	}
	return p, done, nil
}
