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

// databaseEpoch is one history of the database. Cursors belong to one: a restored backup
// goes on differently from where it ends, so that a seq or a place in the feed may
// stand for something else, or skip what was written since.
type databaseEpoch struct {
	id string
	// origin is what the database looked like when the epoch began.
	origin string
	// first says that cursors without an epoch, of older servers, belong to it.
	first bool
}

// has reports whether a cursor's epoch is this one.
func (e *databaseEpoch) includes(id string) bool { return id == e.id || id == "" && e.first }

// epochs is the epoch of the database that the pool is connected to.
type epochs struct {
	now atomic.Pointer[databaseEpoch]
	// serving says that RenewLease was called: streams may be open.
	serving atomic.Bool
	mu      sync.Mutex // one connection begins an epoch at a time
}

// epoch is the database's.
func (s *Store) epoch() *databaseEpoch { return s.epochs.now.Load() }

// checkEpoch looks at a new connection, before anything else uses it, whether it
// leads to the same history of the same database. Another one can only come with a
// new connection: after a failover to a standby, or a restored backup. What this
// process knows is of no use then, and all its streams begin again.
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
	s.epochs.now.Store(&e)
	if e.id == drawn && !e.first {
		s.opts.Log.Warn("the database was restored, moved or failed over: a new epoch begins, and cursors of before are reset",
			"epoch", e.id, "origin", e.origin)
	}
	if before != nil && before.id != e.id && s.epochs.serving.Load() {
		s.resetState()
	}
	return nil
}

// newEpochID draws four digits. One that was drawn before and was lost with its
// future comes again once in 1.6 million times.
func newEpochID() string {
	const lowest, beyond = 36 * 36 * 36, 36 * 36 * 36 * 36
	return strconv.FormatInt(lowest+rand.Int64N(beyond-lowest), 36)
}

// readOrigin is what tells this database from a restored one, as far as its user may
// see that: the cluster and its timeline, which a recovery to a point in time and a
// promotion change; the database and the table, which a restored dump makes anew;
// and Options.Origin. It is empty where the schema has no epochs, which statements
// will say.
func (s *Store) readOrigin(ctx context.Context, conn *pgx.Conn) (string, error) {
	var (
		standby, control bool
		database, table  string
	)
	// Nothing is prepared for what runs once on a connection.
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

// readSome reads what not every service lets its users read; then it is empty.
func scanIfPermitted(row pgx.Row, to *string) error {
	var refused *pgconn.PgError
	err := row.Scan(to)
	if errors.As(err, &refused) && refused.Severity == "ERROR" {
		return nil
	}
	return err
}
