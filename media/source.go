package media

import (
	"context"
	"fmt"
	"io"
)

const (
	// maxRead is the maximum number of bytes of a file that are read. Walking through a picture of
	// 10 MB, the largest that a message may contain, reads all of it and needs no more.
	maxRead = 12 << 20

	// minFill and maxFill bound the size of a read. A walk that jumps reads little at each
	// position; a walk that goes straight on doubles the size of its reads, so that remote storage
	// gets few requests.
	minFill = 1 << 10
	maxFill = 64 << 10
)

// source reads a file through a buffer, and at most maxRead bytes of it. All walks through a file
// use it, so that this limit applies to all of them.
type source struct {
	ctx    context.Context // that of the one call of Probe that uses this source
	r      io.ReaderAt
	size   int64
	left   *int64 // what is left of maxRead
	buf    []byte // the bytes at offset
	offset int64
	failed error // the first error of r or ctx, which says nothing about the file
}

func newSource(ctx context.Context, r io.ReaderAt, size int64) *source {
	return &source{ctx: ctx, r: r, size: size, left: new(int64(maxRead))}
}

// fork returns a source of the same file with a buffer of its own, for a walk that takes turns with
// another one.
func (s *source) fork() *source {
	return &source{ctx: s.ctx, r: s.r, size: s.size, left: s.left}
}

// view returns the n bytes at off, which are valid until the next call. It fails with errTruncated
// if the file does not have as many, and with errTooLarge when maxRead is used up. n is never more
// than maxFill.
func (s *source) view(off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > s.size || int64(n) > s.size-off {
		return nil, errTruncated
	}
	if off < s.offset || off+int64(n) > s.offset+int64(len(s.buf)) {
		if err := s.fill(off, n); err != nil {
			return nil, err
		}
	}
	at := int(off - s.offset)
	return s.buf[at : at+n], nil
}

// rest returns the buffered bytes from off on, but not beyond end: at least one byte.
func (s *source) rest(off, end int64) ([]byte, error) {
	if off >= end {
		return nil, errTruncated
	}
	if _, err := s.view(off, 1); err != nil {
		return nil, err
	}
	have := s.buf[off-s.offset:]
	return have[:min(int64(len(have)), end-off)], nil
}

// fill fills the buffer with the n bytes at off, and as many after them as seem useful.
func (s *source) fill(off int64, n int) error {
	want := minFill
	if ahead := off - s.offset; ahead >= 0 && ahead <= 2*int64(len(s.buf)) {
		// A small step beyond the buffer is not a jump.
		want = min(2*len(s.buf), maxFill)
	}
	want = int(min(int64(max(want, n, minFill)), s.size-off))
	if *s.left < int64(want) {
		return errTooLarge
	}
	if s.failed == nil {
		s.failed = s.ctx.Err()
	}
	if s.failed != nil {
		return s.failed
	}

	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.offset = s.buf[:want], off
	read, err := s.r.ReadAt(s.buf, off)
	*s.left -= int64(read)
	if read < want {
		s.buf = s.buf[:0]
		if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt returns io.EOF itself
			err = fmt.Errorf("the file is shorter than its size: %w", io.ErrUnexpectedEOF)
		}
		s.failed = err
		return err
	}
	return nil
}

// ReadAt implements io.ReaderAt for the decoders of libraries.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	read := 0
	for read < len(p) {
		at := off + int64(read)
		if at >= s.size {
			return read, io.EOF
		}
		have, err := s.rest(at, s.size)
		if err != nil {
			return read, err
		}
		read += copy(p[read:], have)
	}
	return read, nil
}

// reader returns a reader of the bytes from start to end.
func (s *source) reader(start, end int64) *io.SectionReader {
	return io.NewSectionReader(s, start, end-start)
}
