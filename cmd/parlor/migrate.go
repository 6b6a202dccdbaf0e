package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"parlor/store"
	"parlor/store/localpg"
)

// MigrateCmd brings a schema up to date without starting a server.
type MigrateCmd struct {
	DatabaseURL Secret `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"The database. Empty: the private one in the data folder."`
	Data        string `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"Data folder of the private database."`
}

// Run applies what is missing and prints the names of what it applied. The private database must not be in use.
func (c *MigrateCmd) Run(ctx context.Context, to console) (err error) {
	if c.DatabaseURL != "" {
		return migrate(ctx, string(c.DatabaseURL), to)
	}
	lock, err := openDataFolder(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	database, err := startPrivate(ctx, c.Data, slog.New(slog.NewTextHandler(to.err, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Stop()) }()
	return migrate(ctx, database.URL(), to)
}

func migrate(ctx context.Context, address string, to console) error {
	applied, err := store.Migrate(ctx, address)
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		_, err := fmt.Fprintln(to.out, "nothing to apply: the schema is up to date")
		return err
	}
	for _, name := range applied {
		if _, err := fmt.Fprintln(to.out, "applied", name); err != nil {
			return err
		}
	}
	return nil
}

// startPrivate starts the data folder's own PostgreSQL. The caller holds the folder's lock.
func startPrivate(ctx context.Context, folder string, log *slog.Logger) (*localpg.Server, error) {
	database, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(folder, "postgres"), Log: log})
	if err != nil {
		return nil, fmt.Errorf("private database: %w", err)
	}
	return database, nil
}
