package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"parlor/auth"
	"parlor/localpg"
)

// BesideServer is the database of a command that reads it whether or not servers are running.
type BesideServer struct {
	DatabaseURL auth.Secret `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"URL of the database. Empty: the private one in the data folder."`
	Data        string      `env:"PARLOR_DATA" default:"./data" placeholder:"DIR" help:"Data folder."`
}

func (c *BesideServer) validate() error {
	if c.DatabaseURL == "" {
		return nil
	}
	if err := checkDatabaseURL(c.DatabaseURL); err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	return nil
}

// database returns the URL of the database, and a function that stops the database if database has
// started it.
func (c *BesideServer) database(ctx context.Context, to console) (url string, stop func() error, err error) {
	if c.DatabaseURL != "" {
		return string(c.DatabaseURL), func() error { return nil }, nil
	}
	folder := filepath.Join(c.Data, "postgres")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return "", nil, usageError{fmt.Errorf("%s contains no private database: set DATABASE_URL or --data", c.Data)}
	}
	lock, err := openDataFolder(c.Data)
	if errors.As(err, new(folderInUseError)) { // a running server has locked it, whose database can be used
		url, err := localpg.RunningURL(folder)
		return url, func() error { return nil }, err
	}
	if err != nil {
		return "", nil, err
	}
	private, err := startPrivate(ctx, c.Data, slog.New(slog.NewTextHandler(to.err, nil)))
	if err != nil {
		return "", nil, errors.Join(err, lock.release())
	}
	return private.URL(), func() error { return errors.Join(private.Stop(), lock.release()) }, nil
}
