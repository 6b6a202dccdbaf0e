package hub

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"parlor/room"
)

// Cursor is a session's position in all the logs it follows, ordered by log. It
// travels in the SSE id, after the epoch: "1a:2f,1c:3", both numbers in base 36, or "-" where
// there is no log yet (an empty id would tell EventSource to forget the last
// one).
type Cursor []room.Position

// ParseID reads an SSE id that appendID wrote: the epoch that the cursor belongs to
// and the cursor, as "k3x9.1a:2f,1c:3". An id of a server that knew no epochs has
// none.
func ParseID(id string) (epoch string, c Cursor, err error) {
	cursor := id
	if before, after, found := strings.Cut(id, "."); found {
		epoch, cursor = before, after
		n, err := parseNumber(epoch)
		if err != nil || len(epoch) != epochBytes || n == 0 {
			return "", nil, errInvalidCursor
		}
	}
	c, err = ParseCursor(cursor)
	if err != nil {
		return "", nil, err
	}
	return epoch, c, nil
}

// appendID writes an id as ParseID reads it.
func appendID(b []byte, epoch string, c Cursor) []byte {
	if epoch != "" {
		b = append(append(b, epoch...), '.')
	}
	return c.AppendTo(b)
}

// epochBytes is the length of an epoch.
const epochBytes = 4

// maxCursorBytes bounds what ParseCursor looks at: the positions of 64 rooms and
// of an inbox fit, whatever their numbers.
const maxCursorBytes = 2048

var errInvalidCursor = errors.New("not a cursor")

// ParseCursor reads a cursor that AppendTo wrote. Anything else is an error:
// there is exactly one way to write a cursor.
func ParseCursor(s string) (Cursor, error) {
	if s == "-" {
		return Cursor{}, nil
	}
	if len(s) > maxCursorBytes {
		return nil, errInvalidCursor
	}
	var c Cursor
	for part := range strings.SplitSeq(s, ",") {
		log, seq, ok := strings.Cut(part, ":")
		if !ok {
			return nil, errInvalidCursor
		}
		g, err := parseNumber(log)
		if err != nil || g == 0 {
			return nil, errInvalidCursor
		}
		n, err := parseNumber(seq)
		if err != nil {
			return nil, errInvalidCursor
		}
		p := room.Position{Log: room.LogID(g), Seq: room.Seq(n)}
		if len(c) > 0 && c[len(c)-1].Log >= p.Log {
			return nil, errInvalidCursor
		}
		c = append(c, p)
	}
	return c, nil
}

func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 36, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 36) != s {
		return 0, errInvalidCursor
	}
	return n, nil
}

// AppendTo writes the cursor as ParseCursor reads it.
func (c Cursor) AppendTo(b []byte) []byte {
	if len(c) == 0 {
		return append(b, '-')
	}
	for i, p := range c {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(p.Log), 36)
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(p.Seq), 36)
	}
	return b
}

// Seq is the position in a log, if the cursor has one.
func (c Cursor) Seq(log room.LogID) (room.Seq, bool) {
	if i, ok := c.find(log); ok {
		return c[i].Seq, true
	}
	return 0, false
}

func (c Cursor) find(log room.LogID) (int, bool) {
	return slices.BinarySearchFunc(c, log, func(p room.Position, log room.LogID) int {
		return cmp.Compare(p.Log, log)
	})
}
