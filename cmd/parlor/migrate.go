package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"parlor/auth"
	"parlor/localpg"
	"parlor/store"
)

// MigrateCmd shows and changes the schema of a database without starting a server.
type MigrateCmd struct {
	DatabaseURL auth.Secret `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"URL of the database. Empty: the private one in the data folder, which must not be in use."`
	Data        string      `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"Data folder of the private database."`

	Up     MigrateUpCmd     `cmd:"" default:"withargs" help:"Apply pending migrations and print their names. This is the default."`
	Status MigrateStatusCmd `cmd:"" help:"List all migrations and when each was applied."`
	Down   MigrateDownCmd   `cmd:"" help:"Undo the newest migration. Data that only the newer schema can hold is deleted."`
}

// MigrateUpCmd applies migrations.
type MigrateUpCmd struct {
	To     int64 `placeholder:"N" help:"Stop after migration number N."`
	DryRun bool  `help:"Print the SQL of the pending migrations without changing anything."`
}

// MigrateStatusCmd lists migrations.
type MigrateStatusCmd struct{}

// MigrateDownCmd undoes migrations.
type MigrateDownCmd struct {
	To     int64 `default:"-1" placeholder:"N" help:"Undo all migrations after number N, instead of only the newest."`
	Yes    bool  `help:"Confirm that rows and columns that the older schema does not have are deleted."`
	DryRun bool  `help:"Print the SQL that would undo the migrations without changing anything."`
}

// Run applies the pending migrations and prints their names.
func (c *MigrateUpCmd) Run(ctx context.Context, to console, parent *MigrateCmd) error {
	if c.To < 0 || c.To > store.SchemaVersion() {
		return usageError{fmt.Errorf("--to: %d is outside 1 to %d, the newest migration of this program", c.To, store.SchemaVersion())}
	}
	return parent.withMigrator(ctx, to, func(m *store.Migrator) error {
		all, err := m.Status(ctx)
		if err != nil {
			return err
		}
		if err := m.Check(ctx); err != nil && !errors.Is(err, store.ErrNotMigrated) {
			return err
		}
		var pending []store.Migration
		for _, migration := range all {
			if migration.AppliedAt.IsZero() && (c.To == 0 || migration.Version <= c.To) {
				pending = append(pending, migration)
			}
		}
		if len(pending) == 0 {
			return to.print("no pending migrations: the schema is up to date")
		}
		if c.DryRun {
			return printSQL(to, pending, true)
		}
		applied, err := m.Up(ctx, c.To)
		for _, name := range applied {
			err = errors.Join(err, to.print("applied", name))
		}
		return err
	})
}

// Run prints a line for each migration.
func (c *MigrateStatusCmd) Run(ctx context.Context, to console, parent *MigrateCmd) error {
	return parent.withMigrator(ctx, to, func(m *store.Migrator) error {
		all, err := m.Status(ctx)
		if err != nil {
			return err
		}
		for _, migration := range all {
			name, when := migration.Name, "pending"
			if name == "" {
				name = fmt.Sprintf("%05d (not in this program)", migration.Version)
			}
			if !migration.AppliedAt.IsZero() {
				when = migration.AppliedAt.UTC().Format(time.RFC3339)
			}
			if err := to.print(fmt.Sprintf("%-20s  %s", when, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Run undoes migrations, the newest first, and prints their names.
func (c *MigrateDownCmd) Run(ctx context.Context, to console, parent *MigrateCmd) error {
	return parent.withMigrator(ctx, to, func(m *store.Migrator) error {
		if err := m.Check(ctx); err != nil && !errors.Is(err, store.ErrNotMigrated) {
			return err // only the newer program can undo its migrations
		}
		all, err := m.Status(ctx)
		if err != nil {
			return err
		}
		var applied []store.Migration // the newest first
		for _, migration := range all {
			if !migration.AppliedAt.IsZero() {
				applied = append([]store.Migration{migration}, applied...)
			}
		}
		undo := applied[:min(1, len(applied))]
		if c.To >= 0 {
			for undo = applied; len(undo) > 0 && undo[len(undo)-1].Version <= c.To; {
				undo = undo[:len(undo)-1]
			}
		}
		switch {
		case len(undo) == 0:
			return to.print("nothing to undo")
		case c.DryRun:
			return printSQL(to, undo, false)
		case !c.Yes:
			return usageError{fmt.Errorf("migrate down would undo %s and delete data that only the newer schema can hold: "+
				"stop the servers, make a backup, and add --yes", names(undo))}
		}
		before := int64(0)
		if len(undo) < len(applied) {
			before = applied[len(undo)].Version
		}
		undone, err := m.Down(ctx, before)
		for _, name := range undone {
			err = errors.Join(err, to.print("undone", name))
		}
		return err
	})
}

// withMigrator calls fn with a migrator for the database that the flags select.
func (c *MigrateCmd) withMigrator(ctx context.Context, to console, fn func(*store.Migrator) error) (err error) {
	log := slog.New(slog.NewTextHandler(to.err, nil))
	address := string(c.DatabaseURL)
	if address == "" {
		lock, err := openDataFolder(c.Data)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.release()) }()
		database, err := startPrivate(ctx, c.Data, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, database.Stop()) }()
		address = database.URL()
	}
	m, err := store.NewMigrator(address, log)
	if err != nil {
		return err
	}
	return errors.Join(fn(m), m.Close())
}

// printSQL prints the statements of migrations, up or down.
func printSQL(to console, list []store.Migration, up bool) error {
	for _, migration := range list {
		sql, err := migration.SQL(up)
		if err != nil {
			return err
		}
		if err := to.print(fmt.Sprintf("-- %s\n\n%s\n", migration.Name, sql)); err != nil {
			return err
		}
	}
	return nil
}

func names(list []store.Migration) (text string) {
	for i, migration := range list {
		if i > 0 {
			text += ", "
		}
		text += migration.Name
	}
	return text
}

// startPrivate starts the data folder's private PostgreSQL. The caller holds the lock on the
// folder.
func startPrivate(ctx context.Context, folder string, log *slog.Logger) (*localpg.Server, error) {
	database, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(folder, "postgres"), Log: log})
	if err != nil {
		return nil, fmt.Errorf("private database: %w", err)
	}
	return database, nil
}
