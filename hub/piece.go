package hub

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
)

const (
	// maxHistory is how many bytes before a piece it may refer to. Twice as many make events smaller
	// by a fiftieth, and streams that got something else in between take longer to share pieces with
	// the others again.
	maxHistory = 1 << 10
	// maxGap is the longest line with an id that a piece refers across.
	maxGap = 128
	// maxPieceBytes bounds the memory of the pieces that were made last.
	maxPieceBytes = 512 << 10
	// recentPieces is how many pieces a worker looks at before it asks the others. The streams of a
	// room differ in the length of their ids, and in when they got something else last.
	recentPieces = 8
)

// history is the end of what a client has received. The bytes that differ between clients are NUL in
// it, which no event contains, so that no piece refers to them. It is never modified.
type history struct {
	tail []byte
	hash uint64
}

func (h *history) equal(o *history) bool {
	return h == o || h != nil && o != nil && h.hash == o.hash && bytes.Equal(h.tail, o.tail)
}

// piece is a part of a stream that was compressed for all streams whose clients have received the
// same before: DEFLATE blocks that begin and end at a byte, the last one empty and stored. It is
// never modified.
type piece struct {
	before *history
	gap    int // the bytes between before and plain, which differ between streams
	plain  []byte
	data   []byte
	after  *history
}

func (p *piece) is(before *history, gap int, plain []byte) bool {
	return p.gap == gap && len(p.plain) == len(plain) && p.before.equal(before) && bytes.Equal(p.plain, plain)
}

// size returns about how many bytes of memory the piece takes.
func (p *piece) size() int { return len(p.plain) + len(p.data) + maxHistory }

// pieces holds the pieces that were made last, for all workers of a hub.
type pieces struct {
	seed maphash.Seed

	mu           sync.Mutex // guards all below
	newer, older map[pieceKey]*piece
	newerBytes   int
}

type pieceKey struct {
	before, plain uint64 // hashes
	gap           int
}

func newPieces() *pieces {
	return &pieces{seed: maphash.MakeSeed(), newer: make(map[pieceKey]*piece)}
}

func (s *pieces) key(before *history, gap int, plain []byte) pieceKey {
	k := pieceKey{plain: maphash.Bytes(s.seed, plain), gap: gap}
	if before != nil {
		k.before = before.hash
	}
	return k
}

// find returns the piece for these bytes, or nil.
func (s *pieces) find(k pieceKey, before *history, plain []byte) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.newer[k]
	if p == nil {
		p = s.older[k]
	}
	if p == nil || !p.is(before, k.gap, plain) {
		return nil
	}
	return p
}

func (s *pieces) add(k pieceKey, p *piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newer[k] = p
	if s.newerBytes += p.size(); s.newerBytes > maxPieceBytes {
		s.ageLocked()
	}
}

// age evicts the pieces that were made before the last call. It is called once a second.
func (s *pieces) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.newer) > 0 || s.older != nil {
		s.ageLocked()
	}
}

// ageLocked is age for a caller that holds mu.
func (s *pieces) ageLocked() {
	s.older, s.newer, s.newerBytes = s.newer, make(map[pieceKey]*piece), 0
}

// compressor makes the pieces of one worker, which takes at most a quarter of the worker's time.
type compressor struct {
	all    *pieces
	recent [recentPieces]*piece
	next   int // the index of the oldest of recent
	spent  pace
	window []byte // a history and its gap
	out    bytes.Buffer
}

func newCompressor(all *pieces) *compressor {
	return &compressor{all: all, spent: pace{window: DefaultWindow}}
}

// piece returns the piece for bytes that follow a history and a gap, or nil if they should be sent
// as they are.
func (c *compressor) piece(before *history, gap int, plain []byte) *piece {
	if before == nil {
		gap = 0
	}
	for _, p := range c.recent {
		if p != nil && p.is(before, gap, plain) {
			return p
		}
	}
	k := c.all.key(before, gap, plain)
	p := c.all.find(k, before, plain)
	if p == nil {
		if p = c.make(before, gap, plain); p == nil {
			return nil
		}
		c.all.add(k, p)
	}
	c.recent[c.next] = p
	c.next = (c.next + 1) % recentPieces
	return p
}

func (c *compressor) make(before *history, gap int, plain []byte) *piece {
	c.window = c.window[:0]
	if before != nil {
		c.window = append(append(c.window, before.tail...), make([]byte, gap)...)
	}
	if bytes.IndexByte(plain, 0) >= 0 {
		return nil // it could be mistaken for a gap
	}
	data := c.deflate(plain, c.window)
	if data == nil {
		return nil
	}
	tail := append(c.window, plain...)
	c.window = tail
	tail = slices.Clone(tail[max(0, len(tail)-maxHistory):])
	return &piece{
		before: before, gap: gap, plain: slices.Clone(plain), data: slices.Clone(data),
		after: &history{tail, maphash.Bytes(c.all.seed, tail)},
	}
}

// deflateOwn returns bytes that only one stream gets as compressed blocks, or nil if they should be
// sent as they are. They are never compressed together with what others have written: the length
// would tell who sees the connection whether the texts are alike.
func (c *compressor) deflateOwn(plain []byte) []byte {
	if len(plain) < minCompressed {
		return nil
	}
	return c.deflate(plain, nil)
}

// deflate returns compressed blocks, until the next call, or nil if compression has taken too much
// time.
func (c *compressor) deflate(plain, window []byte) []byte {
	began := time.Now()
	if c.spent.wait(began, false) > 0 {
		return nil
	}
	c.out.Reset()
	err := flate.StatelessDeflate(&c.out, plain, false, window)
	c.spent.add(began, time.Now())
	if err != nil || !bytes.HasSuffix(c.out.Bytes(), []byte(flushBlock[1:])) {
		return nil
	}
	return c.out.Bytes()
}

// forget drops the pieces that the worker used last. It is called once a second.
func (c *compressor) forget() { clear(c.recent[:]) }
