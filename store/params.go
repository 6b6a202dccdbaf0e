package store

import (
	"encoding/binary"
	"time"
)

// params is the parameters of statements in PostgreSQL's binary format, one after
// the other in a buffer that is used again.
type params struct {
	buf  []byte
	ends []int // of each parameter in buf
}

// maxParams bounds the buffer that is kept for the next time.
const maxParams = 1 << 20

// binaryFormat says that all parameters or all columns are in binary.
var binaryFormat = []int16{1}

func (p *params) reset() {
	if cap(p.buf) > maxParams {
		p.buf = nil
	}
	p.buf, p.ends = p.buf[:0], p.ends[:0]
}

// values is the parameters. They are good until the next reset.
func (p *params) values() [][]byte {
	values := make([][]byte, len(p.ends))
	begin := 0
	for i, end := range p.ends {
		values[i] = p.buf[begin:end:end]
		begin = end
	}
	return values
}

func (p *params) text(s string) {
	p.buf = append(p.buf, s...)
	p.ends = append(p.ends, len(p.buf))
}

// array adds an array of elements of the type with the OID, as array_recv of
// PostgreSQL takes it: the number of dimensions, whether there may be nulls, the
// type, the dimension's length and lower bound, and the elements, each after its
// length.
func array[T any](p *params, oid uint32, elements []T, encode func(T, []byte) []byte) {
	if len(elements) == 0 {
		p.buf = appendWords(p.buf, 0, 0, oid)
	} else {
		p.buf = appendWords(p.buf, 1, 1, oid, uint32(len(elements)), 1)
	}
	for _, e := range elements {
		p.buf = encode(e, p.buf)
	}
	p.ends = append(p.ends, len(p.buf))
}

func appendWords(buf []byte, words ...uint32) []byte {
	for _, w := range words {
		buf = binary.BigEndian.AppendUint32(buf, w)
	}
	return buf
}

func appendInt(n int64, buf []byte) []byte {
	return binary.BigEndian.AppendUint64(appendWords(buf, 8), uint64(n))
}

func appendText[T string | []byte](s T, buf []byte) []byte {
	return append(appendWords(buf, uint32(len(s))), s...)
}

func appendNull(buf []byte) []byte { return appendWords(buf, 1<<32-1) }

// epoch is where PostgreSQL's time begins, which it counts in microseconds.
var epoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

func appendInstant(t time.Time, buf []byte) []byte {
	return appendInt(t.Sub(epoch).Microseconds(), buf)
}
