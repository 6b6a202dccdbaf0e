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

// translate makes a database error one that callers understand: a database
// that cannot answer becomes room.ErrUnavailable, everything else stays as it
// is. A rule's error is for the caller; the rest is a fault of ours.
func translate(err error) error {
	var rule *room.Error
	if err == nil || errors.As(err, &rule) || !unavailable(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
}

// away reports whether PostgreSQL could not be asked, or did not answer, or
// answered that it cannot serve, or has another program's schema.
func unavailable(err error) bool {
	var (
		connect *pgconn.ConnectError
		refused *pgconn.PgError
		network net.Error
	)
	if errors.As(err, &connect) {
		return true // whatever the reason: a password that was changed is no fault of the call
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

// transient reports whether an SQLSTATE tells of the server's condition, or of what others
// do at the same time, and not of the statement: the same call can succeed later. What is
// not listed is a fault of the program, or data that only an operator can mend.
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
		"26000", "42P05", // prepared statement not there, or there already: a pooler's doing
		"3D000", // a database that is just being restored
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

// readOnly reports whether the database took no writes, as a standby.
func readOnly(err error) bool { return hasCode(err, "25006") }

func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// undone reports whether it is certain that a transaction was not committed: PostgreSQL
// said so, or was not asked.
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
