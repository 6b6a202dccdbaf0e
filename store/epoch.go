package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// A databaseEpoch is one history of the database. Each cursor belongs to an epoch: after a backup
// was restored, the database has a different history from there on. A seq or a feed position of the
// old history may mean something else in the new one, or may skip events.
type databaseEpoch struct {
	id string
	// origin identified the database when the epoch began.
	origin string
	// first is set if cursors without an epoch, from older servers, belong to this epoch.
	first bool
}

// includes reports whether a cursor with the epoch ID belongs to this epoch.
func (e *databaseEpoch) includes(id string) bool { return id == e.id || id == "" && e.first }

// epochs holds the epoch of the database that the pool is connected to.
type epochs struct {
	current atomic.Pointer[databaseEpoch]
	// serving is set when RenewLease was called, because streams may be open from then on.
	serving atomic.Bool
	mu      sync.Mutex // held while one connection begins an epoch
}

// epoch returns the current epoch of the database.
func (s *Store) epoch() *databaseEpoch { return s.epochs.current.Load() }

// Epoch returns the ID of the current epoch of the database.
func (s *Store) Epoch() string { return s.epoch().id }

// checkEpoch checks whether a new connection, before its first use, leads to the same history of
// the same database. Another history can only appear with a new connection, after a failover to a
// standby or the restore of a backup. The caches of this process are then invalid, and all its
// streams begin again.
func (s *Store) checkEpoch(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	origin, err := s.readOrigin(ctx, conn)
	if err != nil || origin == "" {
		return err
	}
	s.epochs.mu.Lock()
	defer s.epochs.mu.Unlock()
	before := s.epoch()
	if before != nil && before.origin == origin {
		return nil
	}
	e, drawn := databaseEpoch{origin: origin}, newEpochID()
	err = conn.QueryRow(ctx, `
		INSERT INTO epoch (id, origin, first) VALUES ($1, $2, true)
		ON CONFLICT (one) DO UPDATE SET
			id = CASE WHEN epoch.origin = excluded.origin THEN epoch.id ELSE excluded.id END,
			first = epoch.first AND epoch.origin = excluded.origin, origin = excluded.origin
		RETURNING id, first`, drawn, origin).Scan(&e.id, &e.first)
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	s.epochs.current.Store(&e)
	if e.id == drawn && !e.first {
		s.opts.Log.Warn("new epoch: the database was restored, moved or failed over, so older cursors are reset",
			"epoch", e.id, "origin", e.origin)
	}
	if before != nil && before.id != e.id && s.epochs.serving.Load() {
		s.resetState()
	}
	return nil
}

// newEpochID returns four random characters. The ID of a discarded history is drawn again once in
// 1.6 million times.
func newEpochID() string {
	const lowest, beyond = 36 * 36 * 36, 36 * 36 * 36 * 36
	return strconv.FormatInt(lowest+rand.Int64N(beyond-lowest), 36)
}

// readOrigin returns the properties that distinguish this database from a restored copy, as far as
// the database user may read them: the cluster and its timeline, which change with a point-in-time
// recovery or a promotion; the IDs of the database and of the table, which change if a dump is
// restored; and Options.Origin. It returns an empty string if the schema has no epochs, which other
// statements will report.
func (s *Store) readOrigin(ctx context.Context, conn *pgx.Conn) (string, error) {
	var (
		standby, control bool
		database, table  string
	)
	// A prepared statement is not worth it for a query that runs once per connection.
	const simple = pgx.QueryExecModeSimpleProtocol
	err := conn.QueryRow(ctx, `
		SELECT pg_is_in_recovery(), has_function_privilege('pg_control_system()', 'EXECUTE'),
			(SELECT oid FROM pg_database WHERE datname = current_database())::text, coalesce(to_regclass('epoch')::oid::text, '')`, simple).
		Scan(&standby, &control, &database, &table)
	switch {
	case err != nil:
		return "", err
	case standby:
		return "", fmt.Errorf("%w (the database is a standby)", room.ErrUnavailable)
	case table == "":
		return "", nil
	}
	cluster, timeline := "", ""
	if control {
		err = scanIfPermitted(conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()", simple), &cluster)
	}
	err = errors.Join(err, scanIfPermitted(conn.QueryRow(ctx, "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)", simple), &timeline))
	return strings.Join([]string{cluster, timeline, database, table, s.opts.Origin}, "/"), err
}

// scanIfPermitted scans a value that some database services do not let their users read. It stays
// empty then.
func scanIfPermitted(row pgx.Row, to *string) error {
	var refused *pgconn.PgError
	err := row.Scan(to)
	if errors.As(err, &refused) && refused.Severity == "ERROR" {
		return nil
	}
	return err
}
