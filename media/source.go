package media

import (
	"context"
	"fmt"
	"io"
)

const (
	// maxRead is how many bytes of a file are read at most. The walk through a picture of 10 MB, the largest that a
	// message takes, reads all of it and needs no more.
	maxRead = 12 << 20

	// minPage and maxPage bound what one read asks for. A walk that jumps reads little at each place; one that goes
	// straight on doubles what it reads, so that storage far away is asked seldom.
	minPage = 1 << 10
	maxPage = 64 << 10
)

// source reads a file in pages, and no more of it than maxRead. Walks through a file stand on it, because it is what
// bounds them all.
type source struct {
	ctx    context.Context // of the one call of Probe that this source lives in
	r      io.ReaderAt
	size   int64
	left   int64  // what remains of maxRead
	page   []byte // the bytes at offset
	offset int64
	failed error // the first error of r or ctx, which says nothing about the file
}

func newSource(ctx context.Context, r io.ReaderAt, size int64) *source {
	return &source{ctx: ctx, r: r, size: size, left: maxRead}
}

// view returns n bytes at offset off, which stay valid until the next call. It fails with errCut where the file has not
// as many, and with errTooLarge when maxRead is used up. More than maxPage bytes are never asked for.
func (s *source) view(off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > s.size || int64(n) > s.size-off {
		return nil, errCut
	}
	if off < s.offset || off+int64(n) > s.offset+int64(len(s.page)) {
		if err := s.turn(off, n); err != nil {
			return nil, err
		}
	}
	at := int(off - s.offset)
	return s.page[at : at+n], nil
}

// rest returns what of the file is at hand from off on, at least one byte, up to end.
func (s *source) rest(off, end int64) ([]byte, error) {
	if off >= end {
		return nil, errCut
	}
	if _, err := s.view(off, 1); err != nil {
		return nil, err
	}
	have := s.page[off-s.offset:]
	return have[:min(int64(len(have)), end-off)], nil
}

// turn makes the page hold the n bytes at off, and as much after them as seems useful.
func (s *source) turn(off int64, n int) error {
	want := minPage
	if ahead := off - s.offset; ahead >= 0 && ahead <= 2*int64(len(s.page)) { // a small step over what was read is no jump
		want = min(2*len(s.page), maxPage)
	}
	want = int(min(int64(max(want, n, minPage)), s.size-off))
	if s.left < int64(want) {
		return errTooLarge
	}
	if s.failed == nil {
		s.failed = s.ctx.Err()
	}
	if s.failed != nil {
		return s.failed
	}

	if cap(s.page) < want {
		s.page = make([]byte, want)
	}
	s.page, s.offset = s.page[:want], off
	read, err := s.r.ReadAt(s.page, off)
	s.left -= int64(read)
	if read < want {
		s.page = s.page[:0]
		if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt returns io.EOF itself
			err = fmt.Errorf("the file is shorter than its size: %w", io.ErrUnexpectedEOF)
		}
		s.failed = err
		return err
	}
	return nil
}

// ReadAt serves the decoders of libraries.
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

// reader reads the bytes from start to end.
func (s *source) reader(start, end int64) *io.SectionReader {
	return io.NewSectionReader(s, start, end-start)
}
