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
		want error // nil: as it is
	}{
		"a rule":                    {fmt.Errorf("join: %w", room.ErrRoomFull), nil},
		"a rule in a timeout":       {fmt.Errorf("%w: %w", room.ErrRoomFull, context.DeadlineExceeded), nil},
		"our statement":             {&pgconn.PgError{Code: "42601"}, nil},
		"our constraint":            {&pgconn.PgError{Code: "23505"}, nil},
		"no rows":                   {pgx.ErrNoRows, nil},
		"the caller went away":      {context.Canceled, nil},
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
			t.Errorf("%s: %v became %v, want %v around it", name, c.err, got, c.want)
		}
	}
}
