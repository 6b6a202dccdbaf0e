package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"parlor/migrations"
	"parlor/room"
)

var (
	// ErrNotMigrated says that the database's schema lacks migrations of this program.
	ErrNotMigrated = errors.New("the database is not migrated: run `parlor migrate`")
	// ErrNewerSchema says that a newer program has migrated the database. Its rows
	// may mean what this program does not know.
	ErrNewerSchema = errors.New("the database's schema is newer than this program: start the newer one, " +
		"or undo its migrations with `parlor migrate down` of the newer one")
)

// Migration is a change of the schema.
type Migration struct {
	Version int64
	// Name is the file's; empty where this program does not have it.
	Name string
	// AppliedAt is when it was applied; zero where it is pending.
	AppliedAt time.Time
}

// ownMigrations is the migrations of this program, in order.
var ownMigrations = sync.OnceValue(func() []Migration {
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		panic(err) // an embedded folder is always there
	}
	var own []Migration
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic(err) // goose refuses such a name too, and every test fails
		}
		own = append(own, Migration{Version: version, Name: entry.Name()})
	}
	return own
})

// SchemaVersion is the version of the newest migration of this program.
func SchemaVersion() int64 {
	own := ownMigrations()
	return own[len(own)-1].Version
}

// SQL returns the migration's statements, up or down, for people to read.
func (m Migration) SQL(up bool) (string, error) {
	text, err := migrations.FS.ReadFile(m.Name)
	if err != nil {
		return "", err
	}
	before, after, _ := strings.Cut(string(text), downMark)
	if !up {
		return strings.TrimSpace(after), nil
	}
	_, before, _ = strings.Cut(before, upMark)
	return strings.TrimSpace(before), nil
}

// Status returns the migrations of this program and those of the database, in
// order. It changes nothing.
func (m *Migrator) Status(ctx context.Context) ([]Migration, error) {
	all := slices.Clone(ownMigrations())
	rows, err := m.db.QueryContext(ctx, "SELECT version_id, tstamp FROM goose_db_version WHERE is_applied AND version_id > 0")
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "42P01" { // no table: nothing was ever applied
			return all, nil
		}
		return nil, fmt.Errorf("migrations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var applied Migration
		if err := rows.Scan(&applied.Version, &applied.AppliedAt); err != nil {
			return nil, fmt.Errorf("migrations: %w", err)
		}
		i, found := slices.BinarySearchFunc(all, applied.Version, func(m Migration, v int64) int { return int(m.Version - v) })
		if found {
			all[i].AppliedAt = applied.AppliedAt
		} else {
			all = slices.Insert(all, i, applied)
		}
	}
	return all, rows.Err()
}

// Check returns ErrNotMigrated where migrations are missing, and ErrNewerSchema
// where there are some that this program does not know.
func (m *Migrator) Check(ctx context.Context) error {
	all, err := m.Status(ctx)
	if err != nil {
		return err
	}
	if newest := all[len(all)-1]; newest.Version > SchemaVersion() {
		return newerSchema(newest.Version)
	}
	if slices.ContainsFunc(all, func(m Migration) bool { return m.AppliedAt.IsZero() }) {
		return ErrNotMigrated
	}
	return nil
}

func newerSchema(version int64) error {
	return fmt.Errorf("%w (it has version %d, the program %d)", ErrNewerSchema, version, SchemaVersion())
}

// CheckSchema returns ErrNewerSchema or ErrNotMigrated where the schema has changed
// under this program: calls may fail until the right program runs. The log says so
// once, and once when it is right again.
func (s *Store) CheckSchema(ctx context.Context) error {
	var version int64
	err := s.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&version)
	switch {
	case err != nil:
		return translate(err)
	case version > SchemaVersion():
		err = newerSchema(version)
	case version < SchemaVersion():
		err = ErrNotMigrated
	}
	switch was := s.schemaChanged.Swap(err != nil); {
	case err != nil && !was:
		s.opts.Log.Error("the database's schema changed under this server: calls may fail", "error", err)
	case err == nil && was:
		s.opts.Log.Info("the database's schema is this server's again")
	}
	return err
}

// schemaInterval is the time between two looks at the schema, for the log of a
// server whose health nobody asks for.
const schemaInterval = 5 * time.Second

// watchSchema looks at the schema every now and then. Only Sweep uses it.
func (s *Store) watchSchema(ctx context.Context, now time.Time) error {
	if since := now.Sub(s.schemaCheckedAt); 0 <= since && since < schemaInterval {
		return nil
	}
	s.schemaCheckedAt = now
	if err := s.CheckSchema(ctx); errors.Is(err, room.ErrUnavailable) {
		return err
	}
	return nil
}

// blameSchema makes room.ErrUnavailable of an error that a newer schema may be the
// reason of: it demands of rows what this program does not know.
func (s *Store) blameSchema(err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Code, "23") { // integrity constraint violation
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	if changed := s.CheckSchema(ctx); changed != nil {
		return fmt.Errorf("%w (%w) (%w)", room.ErrUnavailable, changed, err)
	}
	return err
}

// otherSchema reports whether an SQLSTATE says that the schema is not the one that
// a statement was written for, or prepared for: the names in it are not there, or
// have another type. The program's statements are tested with its own schema, so
// it was changed under it.
func otherSchema(code string) bool {
	switch code {
	case "42P01", // undefined_table
		"42703", // undefined_column
		"42883", // undefined_function
		"42704", // undefined_object
		"42804", // datatype_mismatch
		"42P10", // invalid_column_reference: ON CONFLICT without its index
		"0A000": // feature_not_supported: "cached plan must not change result type"
		return true
	}
	return false
}
