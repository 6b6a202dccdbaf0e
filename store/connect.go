package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/tcp"
)

const (
	// maxConns bounds the connections of a store. A transaction mostly waits for its commit, so a
	// few connections keep a machine busy, and PostgreSQL's default limit of 100 is enough for
	// several nodes and for psql. pool_max_conns in the URL overrides it.
	maxConns = 16
	// appendConns of them belong to the appender, one for each lane, so that messages do not wait
	// for the connections of other calls.
	appendConns = 2

	// connectTimeout is how soon a node that cannot reach PostgreSQL reports it.
	connectTimeout = 5 * time.Second
	// defaultLockTimeout is how long a statement waits for a lock. It is longer than PostgreSQL's
	// deadlock_timeout of a second, so that a deadlock is detected first.
	defaultLockTimeout = 2 * time.Second
	// appendLockTimeout is how long the messages of all rooms wait for the lock of one room. A join
	// or a leave holds that lock for some milliseconds.
	appendLockTimeout = 50 * time.Millisecond
	// statementTimeout also ends a statement whose client has vanished.
	statementTimeout = 10 * time.Second
	// transactionTimeout bounds how long a transaction that serves several callers waits for
	// PostgreSQL. After it, the callers get an error rather than wait for longer.
	transactionTimeout = 10 * time.Second
	// recentlyUsed is how long a connection is reused without a check. Under load it is used a
	// thousand times a second.
	recentlyUsed = 5 * time.Millisecond
	// idleInTransactionTimeout is how soon PostgreSQL ends a transaction, and releases its locks,
	// if the node vanished between two statements. It is shorter than the lease, so that the node
	// that takes over can write.
	idleInTransactionTimeout = 10 * time.Second
)

// ErrPooledTransactions means that a pooler gives a connection to other clients between two
// transactions. Prepared statements and the settings of the connection would be lost.
var ErrPooledTransactions = errors.New("a pooler in transaction or statement mode is in front of the database: " +
	"set pool_mode=session for Parlor, or connect to PostgreSQL itself")

// tracer traces all statements. Only tests set it.
var tracer pgx.QueryTracer

// sessionSettings returns the statements that set up a connection. The settings are not startup
// parameters, because PgBouncer rejects startup parameters that it does not know.
func sessionSettings(lockTimeout time.Duration) string {
	var b strings.Builder
	for _, setting := range []struct{ name, value string }{
		// Every statement finds its rows through an index, so one plan is right for all its values.
		// Planning an append takes longer than running it.
		{"plan_cache_mode", "force_generic_plan"},
		// The generic plan is cached, and often made while the tables are nearly empty and without
		// statistics, when a sequential scan looks as cheap as the index.
		{"enable_seqscan", "off"},
		// Joins are lookups by key, one for each row. Other kinds of join read a whole table or
		// index first, which looks as cheap while there is hardly anything in it.
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		// If there is no index, the penalty on sequential scans would make PostgreSQL compile a
		// statement that takes a millisecond.
		{"jit", "off"},
		// A transaction that holds a lock and does not proceed fails the calls that need the lock,
		// but must not use up the connections of others (docs/adr/0026).
		{"lock_timeout", milliseconds(lockTimeout)},
		{"statement_timeout", milliseconds(statementTimeout)},
		{"idle_in_transaction_session_timeout", milliseconds(idleInTransactionTimeout)},
	} {
		fmt.Fprintf(&b, "SET %s = '%s'; ", setting.name, setting.value)
	}
	return b.String() + tcp.PostgresSettings
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// ConnConfig returns the configuration of a connection outside the pools, with a name for
// pg_stat_activity unless the URL has one. The URL may contain settings of the pools, such as
// pool_max_conns, which PostgreSQL would reject.
func ConnConfig(url, name string) (*pgx.ConnConfig, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.DialFunc = tcp.Dial
	config.ConnConfig.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, tcp.PostgresSettings).ReadAll()
		return err
	}
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = name
	}
	return config.ConnConfig, nil
}

// newPools connects to a database with two pools: one for the appender's lanes, and one for
// everything else. check is called for each new connection before its first use. Errors:
// ErrPooledTransactions, room.ErrUnavailable.
func newPools(
	ctx context.Context, url, nodeID string, lockTimeout time.Duration, check func(context.Context, *pgx.Conn) error,
) (calls, appends *pgxpool.Pool, err error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, fmt.Errorf("database URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.AfterConnect = check
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.DialFunc = tcp.Dial
	config.ConnConfig.Tracer = tracer
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "parlor " + nodeID // PgBouncer accepts this startup parameter
	}
	// Half of a small pool belongs to the appender, so that both have a connection.
	lanes := max(1, min(appendConns, config.MaxConns/2))
	config.MaxConns = max(1, config.MaxConns-lanes)
	if calls, err = newPool(ctx, config, lockTimeout); err != nil {
		return nil, nil, err
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = lanes, 0, 0
	if appends, err = newPool(ctx, config, min(lockTimeout, appendLockTimeout)); err != nil {
		calls.Close()
		return nil, nil, err
	}
	if err := checkPooler(ctx, calls, poolerRounds); err != nil {
		calls.Close()
		appends.Close()
		return nil, nil, fmt.Errorf("connect to the database: %w", translate(err))
	}
	return calls, appends, nil
}

func newPool(ctx context.Context, config *pgxpool.Config, lockTimeout time.Duration) (*pgxpool.Pool, error) {
	config = config.Copy()
	settings := sessionSettings(lockTimeout)
	config.ConnConfig.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		pid, err := backend(ctx, conn, settings)
		if err != nil {
			return fmt.Errorf("set up the connection: %w", err)
		}
		conn.CustomData()[backendKey] = pid
		return nil
	}
	// A connection with unread data before a query was closed by PostgreSQL, as all connections are
	// during a restart. The check keeps such a connection from failing a call.
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || p.IdleDuration > recentlyUsed && readable(p.Conn.PgConn().Conn())
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	return pool, nil
}

// backendKey is the key under which a connection stores the PostgreSQL process that served it
// first.
const backendKey = "parlor backend"

// backend runs statements without parameters and returns the process that serves the connection.
// Behind a pooler that is not in session mode, the process changes.
func backend(ctx context.Context, conn *pgconn.PgConn, statements string) (pid uint32, err error) {
	results, err := conn.Exec(ctx, statements+"SELECT pg_backend_pid()").ReadAll()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(results[len(results)-1].Rows[0][0]), 10, 32)
	return uint32(n), err
}

// poolerRounds is how often the start checks whether two connections share a process. A pooler with
// other clients may give them different processes by chance.
const poolerRounds = 5

// checkPooler returns ErrPooledTransactions if two connections share a process, or if the process
// of one changes while the other is in a transaction.
func checkPooler(ctx context.Context, pool *pgxpool.Pool, rounds int) error {
	a, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer a.Release()
	first := a.Conn().PgConn()
	pid, _ := first.CustomData()[backendKey].(uint32)
	if pid == first.PID() {
		return nil // there is no pooler
	}
	if pool.Config().MaxConns == 1 {
		return checkBackend(ctx, first)
	}
	b, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer b.Release()
	for range rounds {
		// The open transaction forces a pooler in transaction mode to use another process for the
		// first connection.
		other, err := backend(ctx, b.Conn().PgConn(), "BEGIN; ")
		if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "08P01" {
			return fmt.Errorf("%w (%w)", ErrPooledTransactions, err) // statement mode allows no transactions
		}
		if err != nil {
			return err
		}
		err = checkBackend(ctx, first)
		if _, ended := backend(ctx, b.Conn().PgConn(), "ROLLBACK; "); err == nil {
			err = ended
		}
		if err == nil && other == pid {
			err = ErrPooledTransactions
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBackend returns ErrPooledTransactions if the process of a connection has changed.
func checkBackend(ctx context.Context, conn *pgconn.PgConn) error {
	pid, err := backend(ctx, conn, "")
	if err == nil && pid != conn.CustomData()[backendKey] {
		err = ErrPooledTransactions
	}
	return err
}

// maxTransactions returns how many transactions that take locks may run at once. The rest of the
// pool is for calls that only read, so that locks do not block them.
func maxTransactions(pool *pgxpool.Pool) int {
	return int(math.Ceil(float64(pool.Config().MaxConns) * 3 / 4))
}
