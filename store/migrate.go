package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"parlor/migrations"
)

const (
	// migrationLockTimeout is how long a migration tries to get its locks. Whatever holds a table
	// for longer is not a server: it is a dump, or a forgotten transaction.
	migrationLockTimeout = 2 * time.Minute
	// A try that did not get its locks is repeated after minLockRetry, which doubles with each try
	// up to maxLockRetry.
	minLockRetry = 200 * time.Millisecond
	maxLockRetry = 5 * time.Second
)

// A Migrator changes the schema of a database, one migration after the other, each in a transaction
// of its own. An advisory lock makes several processes take turns.
//
// A migration begins by locking every table. If it does not get the locks within seconds, it is
// tried again (docs/adr/0027), so that it and a running server cannot deadlock.
type Migrator struct {
	db          *sql.DB
	provider    *goose.Provider
	lockTimeout time.Duration
	log         *slog.Logger
}

// NewMigrator returns a Migrator, which connects with its first call. A nil log discards the
// messages for the operator, such as which transactions a migration waits for.
func NewMigrator(url string, log *slog.Logger) (*Migrator, error) {
	config, err := ConnConfig(url, "parlor migrate")
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	db := stdlib.OpenDB(*config)
	// It asks once a second for five minutes, because another process may be rewriting a large
	// table.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock of the migrations: %w", err), db.Close())
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, lockingFS{migrations.FS}, goose.WithSessionLocker(locker))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("migrations: %w", err), db.Close())
	}
	return &Migrator{db: db, provider: provider, lockTimeout: migrationLockTimeout, log: log}, nil
}

// Close closes the connections.
func (m *Migrator) Close() error { return m.db.Close() }

// Up applies the pending migrations up to a version, or all of them if it is 0. It returns the
// names of the files that it applied, also with an error.
func (m *Migrator) Up(ctx context.Context, to int64) ([]string, error) {
	if to == 0 {
		to = math.MaxInt64
	}
	return m.run(ctx, func() ([]*goose.MigrationResult, error) { return m.provider.UpTo(ctx, to) })
}

// Down undoes the migrations that are newer than a version, and returns the names of the files that
// it undid, also with an error. Data that only the newer schema can hold is lost.
func (m *Migrator) Down(ctx context.Context, to int64) ([]string, error) {
	return m.run(ctx, func() ([]*goose.MigrationResult, error) { return m.provider.DownTo(ctx, to) })
}

// run runs migrations until all are done. It retries a migration that did not get its locks.
func (m *Migrator) run(
	ctx context.Context, migrate func() ([]*goose.MigrationResult, error),
) (done []string, err error) {
	began, delay := time.Now(), minLockRetry
	for {
		results, err := migrate()
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, r := range results {
			done = append(done, r.Source.Path)
		}
		switch {
		case err == nil:
			return done, nil
		case ctx.Err() != nil || partial == nil || !locksRefused(err):
			return done, fmt.Errorf("migrate: %w", err)
		case len(results) > 0: // each migration has the whole timeout
			began, delay = time.Now(), minLockRetry
		}
		name, holders := partial.Failed.Source.Path, m.lockHolders(ctx)
		if time.Since(began) > m.lockTimeout {
			return done, fmt.Errorf("migrate: %s: other transactions kept the tables locked for %s, and it changed nothing: "+
				"end them and try again%s", name, m.lockTimeout, holders)
		}
		m.log.Info("migration waits for locks", "name", name, "retry", delay, "holders", strings.TrimPrefix(holders, ": "))
		select {
		case <-ctx.Done():
			return done, fmt.Errorf("migrate: %w", context.Cause(ctx))
		case <-time.After(delay + rand.N(delay/2)):
		}
		delay = min(2*delay, maxLockRetry)
	}
}

// locksRefused reports whether a migration did not get its locks: it waited too long, or was the
// victim of a deadlock.
func locksRefused(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "55P03" || refused.Code == "40P01")
}

// lockHolders returns the transactions that have held locks on tables for the longest time, as text
// for an error message. It is empty if they have ended meanwhile.
func (m *Migrator) lockHolders(ctx context.Context) string {
	rows, err := m.db.QueryContext(ctx, `
		SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), a.xact_start
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE l.granted AND l.locktype = 'relation' AND n.nspname = current_schema() AND a.datname = current_database()
			AND a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '1 second'
		ORDER BY a.xact_start LIMIT 3`)
	if err != nil {
		return ""
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var (
			pid   int
			name  string
			since time.Time
		)
		if err := rows.Scan(&pid, &name, &since); err != nil {
			return ""
		}
		found = append(found, fmt.Sprintf("pid %d (%s, since %s)", pid, name, since.UTC().Format(time.RFC3339)))
	}
	if rows.Err() != nil || len(found) == 0 {
		return ""
	}
	return ": " + strings.Join(found, ", ")
}

// Migrate brings the schema up to date, and returns the names of the files that it applied. Errors:
// ErrNewerSchema.
func Migrate(ctx context.Context, url string, log *slog.Logger) (applied []string, err error) {
	m, err := NewMigrator(url, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.Check(ctx); !errors.Is(err, ErrNotMigrated) {
		return nil, err
	}
	return m.Up(ctx, 0)
}

// CheckMigrated returns ErrNotMigrated if migrations are missing, and ErrNewerSchema if there are
// migrations that this program does not contain.
func CheckMigrated(ctx context.Context, url string) (err error) {
	m, err := NewMigrator(url, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Check(ctx)
}

// connectMigrated connects to a database that has this program's schema. Errors: those of
// CheckMigrated.
func connectMigrated(ctx context.Context, url, name string) (*pgx.Conn, error) {
	if err := CheckMigrated(ctx, url); err != nil {
		return nil, err
	}
	config, err := ConnConfig(url, name)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	return conn, translate(err)
}

// lockTables is inserted before the statements of each migration. It takes the locks in three
// steps:
//
//   - Locks that no server waits for, but that a vacuum conflicts with: PostgreSQL cancels an
//     autovacuum if somebody waits for it for longer than deadlock_timeout.
//   - The exclusive lock of the table that most transactions use first, in the store's order of
//     locks: transactions in flight finish, and no new ones begin. While the migration waits for
//     this lock, it holds nothing that a server needs. Transactions that wait behind it may
//     overtake it.
//   - The exclusive locks of the other tables, all of them within half of deadlock_timeout: a
//     transaction of a server that waits for one of them does not wait for long enough to check for
//     a deadlock and to become its victim.
const lockTables = `
-- +goose StatementBegin
DO $$
DECLARE
	tables regclass[] := ARRAY (
		SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND c.relname <> 'goose_db_version'
			AND pg_has_role(c.relowner, 'USAGE')
		ORDER BY array_position(ARRAY ['sessions', 'rooms', 'logs'], c.relname::text) NULLS LAST, c.relname);
	patience interval := interval '2 s';
	began timestamptz;
	t regclass;
BEGIN
	PERFORM set_config('statement_timeout', '0', true), set_config('lock_timeout', '5s', true);
	FOREACH t IN ARRAY tables LOOP
		EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', t);
	END LOOP;
	began := clock_timestamp();
	FOREACH t IN ARRAY tables LOOP
		PERFORM set_config('lock_timeout', greatest(1, ceil(1000 * extract(epoch FROM began + patience - clock_timestamp())))::int::text, true);
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', t);
		IF t = tables[1] THEN
			began := clock_timestamp();
			patience := least(interval '500 ms', current_setting('deadlock_timeout')::interval / 2);
		END IF;
	END LOOP;
	PERFORM set_config('lock_timeout', '0', true);
END $$;
-- +goose StatementEnd
`

// lockingFS contains the migrations, with lockTables before the statements of both directions. A
// file without a transaction would lose the locks at once, and is not changed.
type lockingFS struct{ embed.FS }

func (f lockingFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	locked := string(text)
	if !strings.Contains(locked, "+goose NO TRANSACTION") {
		locked = strings.NewReplacer(upMark, upMark+lockTables, downMark, downMark+lockTables).Replace(locked)
	}
	return textFile{strings.NewReader(locked), info}, nil
}

// The lines that begin the statements of a direction.
const (
	upMark   = "-- +goose Up\n"
	downMark = "-- +goose Down\n"
)

// A textFile is an open file whose text was changed.
type textFile struct {
	*strings.Reader
	info fs.FileInfo
}

func (f textFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (textFile) Close() error                 { return nil }
