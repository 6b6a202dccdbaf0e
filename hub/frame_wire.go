package hub

import (
	"bytes"
	"fmt"
	"strconv"

	"parlor/room"
)

// maxFrameFields bounds the line of a frame before its data: five numbers of at most 20 characters.
const maxFrameFields = 128

// AppendTo appends the frame as nodes exchange it: a line with log, seq, shedAbove, recalledSeq and
// the length of the data, and then the data. All of it is text, because a PostgreSQL notification
// is.
func (f *Frame) AppendTo(b []byte) []byte {
	for _, n := range [...]int64{int64(f.log), int64(f.seq), int64(f.shedAbove), int64(f.recalledSeq)} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	b = append(strconv.AppendInt(b, int64(len(f.data)), 10), '\n')
	return append(b, f.data...)
}

// ParseFrame parses what AppendTo appended at the beginning of b, and returns the bytes that
// follow. The frame refers to b.
func ParseFrame(b []byte) (f *Frame, rest []byte, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxFrameFields)], '\n')
	if end < 0 {
		return nil, nil, fmt.Errorf("frame without fields: %.40q", b)
	}
	var n [5]int64
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
	if n[0] == 0 || n[2] > 8 || n[4] > int64(len(b)) {
		return nil, nil, fmt.Errorf("frame of log %d with %d of %d bytes", n[0], len(b), n[4])
	}
	return &Frame{
		log: room.LogID(n[0]), seq: room.Seq(n[1]), carriesID: n[1] > 0, shedAbove: int(n[2]), recalledSeq: room.Seq(n[3]),
		data: b[:n[4]:n[4]],
	}, b[n[4]:], nil
}

// cloneFrames returns copies of frames that do not refer to the bytes they were parsed from.
func cloneFrames(frames []*Frame) []*Frame {
	copies := make([]*Frame, len(frames))
	for i, f := range frames {
		c := *f
		c.data = bytes.Clone(f.data)
		copies[i] = &c
	}
	return copies
}
