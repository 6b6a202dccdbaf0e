package store

import (
	"encoding/binary"
	"time"
)

// params are the parameters of statements in PostgreSQL's binary format, one after the other in a
// buffer that is reused.
type params struct {
	buf []byte
	// values are slices of buf, valid until the next reset; nil is null.
	values [][]byte
}

// maxReusedBuffer bounds the bytes of a buffer that is reused for the next batch.
const maxReusedBuffer = 1 << 20

// binaryFormat selects the binary format for all parameters or columns.
var binaryFormat = []int16{1}

func (p *params) reset() {
	if cap(p.buf) > maxReusedBuffer {
		p.buf = nil
	}
	p.buf, p.values = p.buf[:0], p.values[:0]
}

// value adds a single value, which is encoded like an element of an array.
func value[T any](p *params, v T, encode func(T, []byte) []byte) {
	begin := len(p.buf)
	p.buf = encode(v, p.buf)
	if encoded := p.buf[begin:]; binary.BigEndian.Uint32(encoded) == null {
		p.values = append(p.values, nil)
	} else {
		p.values = append(p.values, encoded[wordSize:])
	}
}

// array adds an array of elements of the type with the OID, in the format of PostgreSQL's
// array_recv: the number of dimensions, whether there may be nulls, the type, the length and lower
// bound of the dimension, and the elements, each after its length.
func array[T any](p *params, oid uint32, elements []T, encode func(T, []byte) []byte) {
	begin := len(p.buf)
	if len(elements) == 0 {
		p.buf = appendWords(p.buf, 0, 0, oid)
	} else {
		p.buf = appendWords(p.buf, 1, 1, oid, uint32(len(elements)), 1)
	}
	for _, e := range elements {
		p.buf = encode(e, p.buf)
	}
	p.values = append(p.values, p.buf[begin:])
}

// null is the length that stands for a null value. A length takes wordSize bytes.
const (
	null     = 1<<32 - 1
	wordSize = 4
)

func appendWords(buf []byte, words ...uint32) []byte {
	for _, w := range words {
		buf = binary.BigEndian.AppendUint32(buf, w)
	}
	return buf
}

func appendInt[T ~int64](n T, buf []byte) []byte {
	return binary.BigEndian.AppendUint64(appendWords(buf, 8), uint64(n))
}

func appendText[T ~string | []byte](s T, buf []byte) []byte {
	return append(appendWords(buf, uint32(len(s))), s...)
}

func appendNull(buf []byte) []byte { return appendWords(buf, null) }

// postgresEpoch is the beginning of PostgreSQL's time, which is counted in microseconds.
var postgresEpoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

func appendInstant(t time.Time, buf []byte) []byte {
	return appendInt(t.Sub(postgresEpoch).Microseconds(), buf)
}
