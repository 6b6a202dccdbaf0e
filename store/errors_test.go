package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

func TestTranslate(t *testing.T) {
	t.Parallel()
	_, refused := pgx.Connect(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	for name, c := range map[string]struct {
		err  error
		want error // nil: unchanged
	}{
		"a rule":                    {fmt.Errorf("join: %w", room.ErrRoomFull), nil},
		"a rule in a timeout":       {fmt.Errorf("%w: %w", room.ErrRoomFull, context.DeadlineExceeded), nil},
		"our statement":             {&pgconn.PgError{Code: "42601"}, nil},
		"our constraint":            {&pgconn.PgError{Code: "23505"}, nil},
		"no rows":                   {pgx.ErrNoRows, nil},
		"the caller cancelled":      {context.Canceled, nil},
		"no connection":             {refused, room.ErrUnavailable},
		"shutting down":             {&pgconn.PgError{Code: "57P01"}, room.ErrUnavailable},
		"too many connections":      {&pgconn.PgError{Code: "53300"}, room.ErrUnavailable},
		"a full disk":               {&pgconn.PgError{Code: "53100"}, room.ErrUnavailable},
		"a deadlock":                {&pgconn.PgError{Code: "40P01"}, room.ErrUnavailable},
		"a standby":                 {&pgconn.PgError{Code: "25006"}, room.ErrUnavailable},
		"a connection that was cut": {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), room.ErrUnavailable},
		"a closed connection":       {net.ErrClosed, room.ErrUnavailable},
		"no answer in time":         {context.DeadlineExceeded, room.ErrUnavailable},
	} {
		got := translate(c.err)
		if c.want == nil && got != c.err { //nolint:errorlint // the very same
			t.Errorf("%s: %v became %v", name, c.err, got)
		}
		if c.want != nil && (!errors.Is(got, c.want) || !errors.Is(got, c.err)) {
			t.Errorf("%s: %v became %v, want it wrapped in %v", name, c.err, got, c.want)
		}
	}
}

// TestTransient covers the classes of SQLSTATE (PostgreSQL's appendix A): a transient error becomes
// 503, and every other error 500.
func TestTransient(t *testing.T) {
	t.Parallel()
	for want, codes := range map[bool][]string{
		true: {
			"08000", "08003", "08006", "08001", "08004", "08007", "08P01", // connection exception
			"25006",          // read-only transaction
			"25P03", "25P04", // a transaction was idle, or open, for too long
			"26000", "42P05", // prepared statements mixed up by a pooler
			"28000", "28P01", // authorization
			"3D000",                            // database does not exist
			"40000", "40001", "40003", "40P01", // transaction rollback
			"53000", "53100", "53200", "53300", "53400", // resources
			"55006", "55P02", "55P03", // in use, locked
			"57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05", // operator intervention
			"58000", "58030", "58P01", "58P02", // system error
			"72000", // snapshot too old
		},
		false: {
			"00000", "01000", "02000", "03000", "09000", "0A000", "0B000", "0F000", "0L000", "0P000", "0Z000",
			"20000", "21000", "22001", "22P02", "23502", "23503", "23505", "23514", "24000",
			"25000", "25001", "25P01", "25P02", "27000", "2B000", "2D000", "2F000", "34000", "38000", "39000", "3B000", "3F000",
			"40002", "42501", "42601", "42804", "42P01", "42703", "44000",
			"54000", "54001", "54023", "55000", "F0000", "HV000", "P0001", "XX000", "XX001", "XX002", "", "5",
		},
	} {
		for _, code := range codes {
			if got := transient(code); got != want {
				t.Errorf("%s: transient is %t", code, got)
			}
		}
	}
}

// TestNotCommitted: a transaction is only taken for uncommitted if that is certain.
func TestNotCommitted(t *testing.T) {
	t.Parallel()
	_, refused := pgx.Connect(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a lock timeout":            {&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "55P03"}, true},
		"no connection":             {refused, true},
		"no lock":                   {errLocked, true},
		"shut down":                 {&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "57P01"}, false},
		"an unknown commit":         {&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "40003"}, false},
		"a connection that was cut": {io.ErrUnexpectedEOF, false},
		"no answer in time":         {context.DeadlineExceeded, false},
	} {
		if got := notCommitted(translate(c.err)); got != c.want {
			t.Errorf("%s: notCommitted returns %t", name, got)
		}
	}
}
