package hub

import (
	"bytes"
	"fmt"
	"strconv"

	"parlor/room"
)

// maxFrameFields bounds the line of a frame before its data: seven numbers of at most 20
// characters.
const maxFrameFields = 160

// AppendTo appends the frame as nodes exchange it: a line with log, seq, shedAbove, recalledSeq and
// three lengths, those of the data, of what everybody outside of the audience receives, and of the
// audience, one user a line. Then come these three. All of it is text, because a PostgreSQL
// notification is.
func (f *Frame) AppendTo(b []byte) []byte {
	a := f.audience
	if a == nil {
		a = &audience{}
	}
	users := 0
	for _, user := range a.Users {
		users += len(user) + 1
	}
	for _, n := range [...]int64{
		int64(f.log), int64(f.seq), int64(f.shedAbove), int64(f.recalledSeq), int64(len(f.data)), int64(len(a.Others)),
	} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	b = append(strconv.AppendInt(b, int64(users), 10), '\n')
	b = append(append(b, f.data...), a.Others...)
	for _, user := range a.Users {
		b = append(append(b, user...), '\n')
	}
	return b
}

// ParseFrame parses what AppendTo appended at the beginning of b, and returns the bytes that
// follow. The frame refers to b.
func ParseFrame(b []byte) (f *Frame, rest []byte, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxFrameFields)], '\n')
	if end < 0 {
		return nil, nil, fmt.Errorf("frame without fields: %.40q", b)
	}
	var n [7]int64
	fields := b[:end]
	for i := range n {
		field, others, more := bytes.Cut(fields, []byte{' '})
		if more != (i < len(n)-1) {
			return nil, nil, fmt.Errorf("frame without %d fields: %q", len(n), b[:end])
		}
		if n[i], err = strconv.ParseInt(string(field), 10, 64); err != nil || n[i] < 0 {
			return nil, nil, fmt.Errorf("field %d of a frame is %q", i, field)
		}
		fields = others
	}
	b = b[end+1:]
	if n[0] == 0 || n[2] > 8 {
		return nil, nil, fmt.Errorf("frame of log %d that is shed above %d", n[0], n[2])
	}
	f = &Frame{log: room.LogID(n[0]), seq: room.Seq(n[1]), carriesID: n[1] > 0, shedAbove: int(n[2]), recalledSeq: room.Seq(n[3])}
	var parts [3][]byte
	for i, length := range n[4:] {
		if length > int64(len(b)) {
			return nil, nil, fmt.Errorf("frame with %d of %d bytes", len(b), length)
		}
		parts[i], b = b[:length:length], b[length:]
	}
	f.data = parts[0]
	if f.audience, err = parseAudience(parts[2], parts[1]); err != nil {
		return nil, nil, err
	}
	if (len(parts[1]) > 0) != (f.audience != nil && f.seq > 0) {
		return nil, nil, fmt.Errorf("frame of seq %d with %d bytes for others", f.seq, len(parts[1]))
	}
	return f, b, nil
}

// parseAudience parses the users who receive a frame; nil means all. They must be in ascending
// order, because dataFor would not find them otherwise.
func parseAudience(b, others []byte) (*audience, error) {
	if len(b) == 0 {
		return nil, nil
	}
	a := &audience{Others: others}
	if len(others) == 0 {
		a.Others = nil
	}
	for line := range bytes.Lines(b) {
		user, ends := bytes.CutSuffix(line, []byte{'\n'})
		if n := len(a.Users); !ends || n > 0 && string(user) <= string(a.Users[n-1]) {
			return nil, fmt.Errorf("frame for %.40q after %d other users", user, n)
		}
		a.Users = append(a.Users, room.UserID(user))
	}
	return a, nil
}

// cloneFrames returns copies of frames that do not refer to the bytes they were parsed from.
func cloneFrames(frames []*Frame) []*Frame {
	copies := make([]*Frame, len(frames))
	for i, f := range frames {
		c := *f
		c.data = bytes.Clone(f.data)
		if f.audience != nil {
			c.audience = &audience{f.audience.Users, bytes.Clone(f.audience.Others)}
		}
		copies[i] = &c
	}
	return copies
}
