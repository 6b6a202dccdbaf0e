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
	// ErrNotMigrated means that the database lacks migrations of this program.
	ErrNotMigrated = errors.New("the database is not migrated: run `parlor migrate`")
	// ErrNewerSchema means that a newer program has migrated the database. This program might
	// misread its rows.
	ErrNewerSchema = errors.New("the database's schema is newer than this program: start the newer one, " +
		"or undo its migrations with `parlor migrate down` of the newer one")
)

// A Migration is a change of the schema.
type Migration struct {
	Version int64
	// Name is the name of the file, or empty if this program does not contain it.
	Name string
	// AppliedAt is when the migration was applied; zero if it is pending.
	AppliedAt time.Time
}

// ownMigrations returns the migrations of this program, in order.
var ownMigrations = sync.OnceValue(func() []Migration {
	entries, err := migrations.FS.ReadDir(".")
	if err != nil {
		panic(err) // an embedded directory always exists
	}
	var own []Migration
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic(err) // goose rejects such a name too, so every test fails
		}
		own = append(own, Migration{Version: version, Name: entry.Name()})
	}
	return own
})

// SchemaVersion returns the version of this program's newest migration.
func SchemaVersion() int64 {
	own := ownMigrations()
	return own[len(own)-1].Version
}

// SQL returns the statements of the migration, up or down, for people to read.
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

// Status returns the migrations of this program and those of the database, in order. It changes
// nothing.
func (m *Migrator) Status(ctx context.Context) ([]Migration, error) {
	all := slices.Clone(ownMigrations())
	rows, err := m.db.QueryContext(ctx, "SELECT version_id, tstamp FROM goose_db_version WHERE is_applied AND version_id > 0")
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "42P01" { // without the table, no migration was ever applied
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

// Check returns ErrNotMigrated if migrations are missing, and ErrNewerSchema if there are
// migrations that this program does not contain.
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

// CheckSchema returns ErrNewerSchema or ErrNotMigrated if the schema was changed while this program
// runs: calls may fail until the right program runs. It logs the change once, and once more when
// the schema fits again.
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
		s.opts.Log.Error("schema changed under this server: calls may fail", "error", err)
	case err == nil && was:
		s.opts.Log.Info("schema is this server's again")
	}
	return err
}

// schemaInterval is how often a sweep checks the schema, for the log of a server without health
// checks.
const schemaInterval = 5 * time.Second

// watchSchema checks the schema once per schemaInterval. Only Sweep uses it.
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

// blameSchema returns room.ErrUnavailable if a newer schema may be the cause of an error: its
// constraints may require values that this program does not write.
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

// otherSchema reports whether an SQLSTATE means that the schema is not the one for which a
// statement was written or prepared: a name in it does not exist, or has another type. The tests
// run all statements with the schema of this program, so the schema was changed while it runs.
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
