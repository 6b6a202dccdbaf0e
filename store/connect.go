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
)

const (
	// maxConns bounds the connections of a store. A transaction is mostly waiting for a
	// commit, so a few connections keep a machine busy, and PostgreSQL's default limit of
	// 100 leaves room for several nodes and for psql. pool_max_conns in the URL says
	// otherwise.
	maxConns = 16
	// appendConns of them are the appender's own, one for each lane: messages wait for no
	// other call's connection.
	appendConns = 2

	// connectTimeout is how soon a node that cannot reach PostgreSQL says so.
	connectTimeout = 5 * time.Second
	// defaultLockTimeout is how long a statement waits for a lock. It is longer than
	// PostgreSQL's deadlock_timeout of a second, so that a deadlock is found first.
	defaultLockTimeout = 2 * time.Second
	// appendLockTimeout is how long the messages of all rooms wait together for the lock of
	// one. A transaction that enters or leaves a room holds its lock for some milliseconds.
	appendLockTimeout = 50 * time.Millisecond
	// statementTimeout ends a statement whose client has vanished, too.
	statementTimeout = 10 * time.Second
	// transactionTimeout is how long a transaction of this process, rather than of one caller,
	// waits for PostgreSQL: its callers then get an error, instead of waiting for longer.
	transactionTimeout = 10 * time.Second
	// justUsed is for how long a connection is not looked at before it is used again: under
	// load it is used a thousand times a second.
	recentlyUsed = 5 * time.Millisecond
	// abandonedAfter is how soon PostgreSQL ends a transaction of a node that vanished
	// between two of its statements, and with it the locks. It is below the lease, so that
	// whoever takes over can write.
	idleInTransactionTimeout = 10 * time.Second
)

// ErrPooledTransactions says that a pooler gives a connection to somebody else between
// two transactions. Prepared statements and the connection's settings would be lost.
var ErrPooledTransactions = errors.New("a pooler in transaction or statement mode is in front of the database: " +
	"set pool_mode=session for Parlor, or connect to PostgreSQL itself")

// tracer is told of all statements. Only tests set it.
var tracer pgx.QueryTracer

// sessionSettings are the settings of a connection, as one text of statements. They are
// not startup parameters, because PgBouncer refuses those that it does not know.
func sessionSettings(lockTimeout time.Duration) string {
	var b strings.Builder
	for _, setting := range []struct{ name, value string }{
		// Every statement finds its rows through an index, so one plan is right for
		// all its values; planning an append anew takes longer than running it.
		{"plan_cache_mode", "force_generic_plan"},
		// That plan is kept, and is often made when the tables are nearly empty and have
		// no statistics, when reading one from end to end looks as good as its index.
		{"enable_seqscan", "off"},
		// Joins are lookups by key, one for each row. The others read all of a table or of an
		// index first, which looks as good while there is hardly anything in it.
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		// Where there is no index after all, the price that this puts on reading a table
		// would have a statement compiled that is done in a millisecond.
		{"jit", "off"},
		// Whoever holds a lock and does not go on costs those who need it an answer, and
		// nobody else a connection (docs/adr/0026).
		{"lock_timeout", milliseconds(lockTimeout)},
		{"statement_timeout", milliseconds(statementTimeout)},
		{"idle_in_transaction_session_timeout", milliseconds(idleInTransactionTimeout)},
		// PostgreSQL notices within 15 seconds that the machine of a node is gone, and gives
		// its places in max_connections to others. They do nothing on a Unix socket.
		{"tcp_keepalives_idle", "5"},
		{"tcp_keepalives_interval", "5"},
		{"tcp_keepalives_count", "2"},
		{"tcp_user_timeout", milliseconds(15 * time.Second)},
	} {
		fmt.Fprintf(&b, "SET %s = '%s'; ", setting.name, setting.value)
	}
	return b.String()
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// newPools connects to a database: one pool is for the appender's lanes, the other one
// for everything else. check looks at each new connection before anything else uses it.
// Errors: ErrPooledTransactions, room.ErrUnavailable.
func newPools(ctx context.Context, url, nodeID string, lockTimeout time.Duration, check func(context.Context, *pgx.Conn) error) (calls, appends *pgxpool.Pool, err error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, fmt.Errorf("database URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.AfterConnect = check
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.Tracer = tracer
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "parlor " + nodeID // PgBouncer knows this one
	}
	// Half of a small pool is for the appender, so that neither is left without one.
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
	// A connection that has something to read before anything was asked was closed by
	// PostgreSQL, as all are when it is started again. Asking first costs no call an answer.
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || p.IdleDuration > recentlyUsed && readable(p.Conn.PgConn().Conn())
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	return pool, nil
}

// backendKey is where a connection notes the process of PostgreSQL that it was given
// at first.
const backendKey = "parlor backend"

// backend runs statements without parameters and returns the process that serves the
// connection: another one each time where a pooler is in front, but for session mode.
func backend(ctx context.Context, conn *pgconn.PgConn, statements string) (pid uint32, err error) {
	results, err := conn.Exec(ctx, statements+"SELECT pg_backend_pid()").ReadAll()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(results[len(results)-1].Rows[0][0]), 10, 32)
	return uint32(n), err
}

// poolerRounds is how often two connections are looked at in turn, at the start, for whether
// they share a process. A pooler that others use as well may give them different ones by chance.
const poolerRounds = 5

// checkPooler returns ErrPooledTransactions where two connections share a process, or one
// does not keep its own while the other is in a transaction.
func checkPooler(ctx context.Context, pool *pgxpool.Pool, rounds int) error {
	a, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer a.Release()
	first := a.Conn().PgConn()
	pid, _ := first.CustomData()[backendKey].(uint32)
	if pid == first.PID() {
		return nil // nobody is in between
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
		// With a transaction open, a pooler has to find another process for the first one.
		other, err := backend(ctx, b.Conn().PgConn(), "BEGIN; ")
		if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "08P01" {
			return fmt.Errorf("%w (%w)", ErrPooledTransactions, err) // statement mode takes no transactions
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

// checkBackend returns ErrPooledTransactions where a connection has another process than
// at first.
func checkBackend(ctx context.Context, conn *pgconn.PgConn) error {
	pid, err := backend(ctx, conn, "")
	if err == nil && pid != conn.CustomData()[backendKey] {
		err = ErrPooledTransactions
	}
	return err
}

// callPlaces is how many transactions that take locks may be under way at once. The rest of
// the pool is for those that only read: they go on whatever is locked.
func maxTransactions(pool *pgxpool.Pool) int {
	return int(math.Ceil(float64(pool.Config().MaxConns) * 3 / 4))
}
