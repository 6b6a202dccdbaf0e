package bench

import (
	"compress/gzip"
	"errors"
	"io"
	"iter"
)

// gunzip decompresses a stream as it arrives. It takes about 45 KiB.
type gunzip struct {
	in, out []byte // not read yet; decompressed since the last call of write
	err     error
	next    func() (struct{}, bool)
	stop    func()
}

func newGunzip() *gunzip {
	g := &gunzip{}
	g.next, g.stop = iter.Pull(g.run)
	return g
}

// run decompresses, and yields when it needs more bytes.
func (g *gunzip) run(yield func(struct{}) bool) {
	r, err := gzip.NewReader(pulled{g, yield})
	for buf := make([]byte, 8<<10); err == nil; {
		var n int
		n, err = r.Read(buf)
		g.out = append(g.out, buf[:n]...)
	}
	if !errors.Is(err, io.EOF) {
		g.err = err
	}
}

// pulled reads what the stream has received.
type pulled struct {
	*gunzip
	yield func(struct{}) bool
}

func (p pulled) Read(b []byte) (int, error) {
	if len(p.in) == 0 && !p.yield(struct{}{}) {
		return 0, io.EOF
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

// write returns what the stream says up to these bytes, until the next call.
func (g *gunzip) write(p []byte) ([]byte, error) {
	g.in, g.out = p, g.out[:0]
	g.next()
	return g.out, g.err
}
