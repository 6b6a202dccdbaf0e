package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// translate makes a database error one that callers understand: a database
// that cannot answer becomes room.ErrUnavailable, everything else stays as it
// is. A rule's error is for the caller; the rest is a fault of ours.
func translate(err error) error {
	var rule *room.Error
	if err == nil || errors.As(err, &rule) || !away(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", room.ErrUnavailable, err)
}

// away reports whether PostgreSQL could not be asked, or did not answer, or
// answered that it cannot serve, or has another program's schema.
func away(err error) bool {
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
func deadlocked(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "40P01"
}

// transient reports whether an SQLSTATE tells of the server's condition and
// not of the statement: connection exceptions, lack of resources, operator
// intervention, a standby that was not promoted yet, and a deadlock's victim.
func transient(code string) bool {
	switch {
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P"):
		return true
	case code == "25006", code == "40001", code == "40P01":
		return true
	}
	return false
}
