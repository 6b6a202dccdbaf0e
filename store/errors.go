package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// translate turns the error of a database that cannot answer into room.ErrUnavailable, and returns
// every other error as it is. A *room.Error is for the caller; all other errors are faults of the
// server.
func translate(err error) error {
	var rule *room.Error
	if err == nil || errors.As(err, &rule) || !unavailable(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
}

// unavailable reports whether PostgreSQL could not be asked, did not answer, answered that it
// cannot serve, or has the schema of another program.
func unavailable(err error) bool {
	var (
		connect *pgconn.ConnectError
		refused *pgconn.PgError
		network net.Error
	)
	if errors.As(err, &connect) {
		return true // even for a rejected password, because the call is not at fault
	}
	if errors.As(err, &refused) {
		return transient(refused.Code) || otherSchema(refused.Code)
	}
	return errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// deadlocked reports whether a transaction was the victim of a deadlock.
func deadlocked(err error) bool { return hasCode(err, "40P01") }

// transient reports whether an SQLSTATE is about the state of the server or about concurrent
// transactions, rather than about the statement: the same call can succeed later. Any other state
// is a bug, or data that only an operator can repair.
func transient(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", // connection exception
		"28", // invalid authorization: a password that is being changed
		"53", // insufficient resources: a full disk, too many connections
		"57", // operator intervention: shutting down, starting up, a statement that took too long
		"58": // system error: a disk that cannot be read
		return true
	case "40": // transaction rollback: a deadlock's victim, a serialization failure, an unknown commit
		return code != "40002" // integrity constraint violation
	}
	switch code {
	case "25006", // read-only transaction: a standby that was not promoted yet, or a failover
		"25P03", "25P04", // idle in transaction, or a transaction, for too long
		"26000", "42P05", // prepared statement missing, or already there: caused by a pooler
		"3D000", // database does not exist: it is being restored
		"55006", // object in use
		"55P02", // a setting that cannot be changed now
		"55P03", // lock not available
		"72000": // snapshot too old
		return true
	}
	return false
}

// lockRefused reports whether a statement did not get a lock in time.
func lockRefused(err error) bool { return hasCode(err, "55P03") }

// readOnly reports whether the database rejected a write, as a standby does.
func readOnly(err error) bool { return hasCode(err, "25006") }

func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// notCommitted reports whether a transaction was certainly not committed: PostgreSQL said so, or
// was not asked.
func notCommitted(err error) bool {
	var (
		connect *pgconn.ConnectError
		refused *pgconn.PgError
	)
	if errors.As(err, &refused) && refused.Code != "40003" { // statement completion unknown
		return refused.SeverityUnlocalized == "ERROR"
	}
	return errors.As(err, &connect) || pgconn.SafeToRetry(err) || errors.Is(err, errLocked)
}
