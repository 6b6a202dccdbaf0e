package hub

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"parlor/room"
)

// Cursor is a session's position in each log that it is subscribed to, sorted by log. The SSE id
// contains it after the epoch: "1a:2f,1c:3", with both numbers in base 36, or "-" if there is no
// log. (An empty id would make EventSource discard the last one.)
type Cursor []room.Position

// ParseID parses an SSE id that appendID wrote, such as "k3x9.1a:2f,1c:3": the epoch that the
// cursor belongs to, and the cursor. An id that was written before there were epochs has none.
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

// appendID appends an id in the form that ParseID parses.
func appendID(b []byte, epoch string, c Cursor) []byte {
	if epoch != "" {
		b = append(append(b, epoch...), '.')
	}
	return c.AppendTo(b)
}

// epochBytes is the length of an epoch in an id.
const epochBytes = 4

// maxCursorBytes bounds the text that ParseCursor parses. The positions of 64 rooms and an inbox
// fit, however large their numbers are.
const maxCursorBytes = 2048

var errInvalidCursor = errors.New("not a cursor")

// ParseCursor parses a cursor that AppendTo wrote. Anything else is an error: there is exactly one
// way to write a cursor.
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
		logID, err := parseNumber(log)
		if err != nil || logID == 0 {
			return nil, errInvalidCursor
		}
		n, err := parseNumber(seq)
		if err != nil {
			return nil, errInvalidCursor
		}
		p := room.Position{Log: room.LogID(logID), Seq: room.Seq(n)}
		if len(c) > 0 && c[len(c)-1].Log >= p.Log {
			return nil, errInvalidCursor
		}
		c = append(c, p)
	}
	return c, nil
}

// parseNumber parses a number that is not negative and has no leading zeros.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 36, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 36) != s {
		return 0, errInvalidCursor
	}
	return n, nil
}

// AppendTo appends the cursor in the form that ParseCursor parses.
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

// Seq returns the position in a log, if the cursor has one.
func (c Cursor) Seq(log room.LogID) (room.Seq, bool) {
	if i, ok := c.find(log); ok {
		return c[i].Seq, true
	}
	return 0, false
}

// find returns the index of a log, or the index at which to insert it.
func (c Cursor) find(log room.LogID) (int, bool) {
	return slices.BinarySearchFunc(c, log, func(p room.Position, log room.LogID) int {
		return cmp.Compare(p.Log, log)
	})
}
