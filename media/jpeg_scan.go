package media

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

const (
	jpegCoefficients = 64 // of a block
	// maxJPEGRun is the longest run of zeros in a symbol. Without a coefficient after it, it stands
	// for 16 zeros, while a shorter run stands for a number of blocks.
	maxJPEGRun = 15
)

// maxJPEGBlocks is the most blocks that a minimum coded unit may have (ISO/IEC 10918-1, B.2.3).
const maxJPEGBlocks = 10

// maxJPEGScans is the largest number of scans of one component that are decoded together. Encoders
// write at most five.
const maxJPEGScans = 16

// jpegDecoder decodes the scans of a JPEG, but keeps none of its values, to determine whether the
// data of a file without an end marker are complete.
type jpegDecoder struct {
	width, height int
	hasFrame      bool
	progressive   bool
	components    []jpegComponent
	dc, ac        [4]*huffmanTable
	interval      int // between restart markers, in units; zero if there are none

	scans []*jpegScan // those so far with AC coefficients of a progressive frame
	last  *jpegScan   // the scan after which the picture is there; nil if there is none so far
}

type jpegComponent struct {
	id   byte
	h, v int // sampling factors
	// scanned has a bit for each coefficient that is there, with all its bits.
	scanned uint64
}

// jpegScan is a scan of a part of the coefficients of some components: all of them, unless the
// frame is progressive.
type jpegScan struct {
	off       int64 // of the coded data
	units     int   // minimum coded units
	interval  int
	blocks    []jpegBlock // of each unit
	component int         // of a scan of one component
	// from and to are the first and the last coefficient. refines says that the scan adds a bit to
	// coefficients of earlier scans.
	from, to int
	refines  bool
}

// jpegBlock contains the tables of a block of 8 × 8 pixels.
type jpegBlock struct{ dc, ac *huffmanTable }

// huffmanTable contains the number of codes of each length, and their symbols.
type huffmanTable struct {
	counts  [16]byte
	symbols [256]byte
}

// readSegment reads the content of a segment and the offset of its end.
func (d *jpegDecoder) readSegment(kind byte, content []byte, end int64) {
	switch kind {
	case jpegSOF0, jpegSOF1, jpegSOF2:
		if !d.hasFrame {
			d.hasFrame, d.progressive = true, kind == jpegSOF2
			d.readFrame(content)
		}
	case jpegDHT:
		d.readTables(content)
	case jpegDRI:
		if len(content) >= 2 {
			d.interval = int(binary.BigEndian.Uint16(content))
		}
	case jpegSOS:
		d.readScan(content, end)
	}
}

// readFrame reads the components in the header of a frame.
func (d *jpegDecoder) readFrame(b []byte) {
	const headerLen, componentLen = 6, 3
	if len(b) < headerLen || len(b) < headerLen+componentLen*int(b[5]) {
		return
	}
	for i := range min(4, int(b[5])) {
		c := b[headerLen+componentLen*i:]
		d.components = append(d.components, jpegComponent{id: c[0], h: int(c[1] >> 4), v: int(c[1] & 15)})
	}
}

// readTables reads Huffman tables.
func (d *jpegDecoder) readTables(b []byte) {
	const countsLen = 16
	for len(b) > countsLen {
		t, symbols := &huffmanTable{counts: [countsLen]byte(b[1:])}, 0
		for _, n := range t.counts {
			symbols += int(n)
		}
		if symbols > len(t.symbols) || len(b) < 1+countsLen+symbols {
			return
		}
		copy(t.symbols[:], b[1+countsLen:][:symbols])
		if isAC := b[0]>>4 != 0; isAC {
			d.ac[b[0]&3] = t
		} else {
			d.dc[b[0]&3] = t
		}
		b = b[1+countsLen+symbols:]
	}
}

// readScan reads the header of a scan whose coded data are at off.
func (d *jpegDecoder) readScan(b []byte, off int64) {
	if len(b) < 1 || len(b) < 4+2*int(b[0]) || d.last != nil {
		return
	}
	n := int(b[0])
	scan := &jpegScan{off: off, interval: d.interval, to: jpegCoefficients - 1}
	final := true // whether the coefficients have all their bits after this scan
	if d.progressive {
		header := b[1+2*n:]
		scan.from, scan.to, scan.refines = int(header[0]), int(header[1]), header[2]>>4 > 0
		final = header[2]&15 == 0
		if scan.from > scan.to || scan.to >= jpegCoefficients || scan.from == 0 && scan.to > 0 || scan.from > 0 && n != 1 {
			return
		}
	}
	hMax, vMax := 0, 0
	for _, c := range d.components {
		hMax, vMax = max(hMax, c.h), max(vMax, c.v)
	}
	for i := range n {
		id, tables := b[1+2*i], b[2+2*i]
		for j, c := range d.components {
			if c.id != id || c.h == 0 || c.v == 0 {
				continue
			}
			if final {
				d.components[j].scanned |= 2<<scan.to - 1<<scan.from
			}
			block := jpegBlock{d.dc[tables>>4&3], d.ac[tables&3]}
			if block.dc == nil && scan.from == 0 && !scan.refines || block.ac == nil && scan.to > 0 {
				return
			}
			if n == 1 { // the units of a scan of one component are its blocks
				scan.units = ceilDiv(d.width*c.h, 8*hMax) * ceilDiv(d.height*c.v, 8*vMax)
				scan.blocks = []jpegBlock{block}
				scan.component = j
				break
			}
			scan.units = ceilDiv(d.width, 8*hMax) * ceilDiv(d.height, 8*vMax)
			for range c.h * c.v {
				scan.blocks = append(scan.blocks, block)
			}
		}
	}
	if scan.units == 0 || len(scan.blocks) > maxJPEGBlocks {
		return
	}
	if scan.from > 0 {
		d.scans = append(d.scans, scan)
	}
	if !slices.ContainsFunc(d.components, func(c jpegComponent) bool { return c.scanned != math.MaxUint64 }) {
		d.last = scan
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// checkComplete returns an error if some of the picture's data are missing. Scans before the last
// one are complete, because another one follows them.
//
// In a scan that refines AC coefficients, the number of bits of a block depends on which of its
// coefficients are not zero. The earlier scans of that component are therefore decoded as well,
// block by block, so that nothing has to be stored.
func (d *jpegDecoder) checkComplete(s *source) error {
	if d.last == nil {
		return errTruncated
	}
	scans := []*jpegScan{d.last}
	if d.last.refines && d.last.from > 0 {
		scans = slices.DeleteFunc(slices.Clone(d.scans), func(scan *jpegScan) bool {
			return scan.component != d.last.component || scan.from > d.last.to || scan.to < d.last.from
		})
	}
	if len(scans) > maxJPEGScans {
		return errTruncated
	}
	readers := make([]*jpegScanReader, 0, len(scans))
	for _, scan := range scans {
		readers = append(readers, &jpegScanReader{jpegBits: jpegBits{s: s.fork(), off: scan.off}, scan: scan})
	}
	for unit := range d.last.units {
		for i := range d.last.blocks {
			var nonzero uint64 // a bit for each coefficient of the block
			for _, r := range readers {
				if err := r.skipBlock(unit, i, &nonzero); err != nil {
					s.failed = cmp.Or(s.failed, r.s.failed)
					return err
				}
			}
		}
	}
	return nil
}

// jpegScanReader decodes a scan.
type jpegScanReader struct {
	jpegBits
	scan *jpegScan
	// empty is the number of further blocks that have no more coefficients in this scan.
	empty int
}

// skipBlock skips the coefficients of block i of a unit, and notes which ones are not zero.
func (r *jpegScanReader) skipBlock(unit, i int, nonzero *uint64) error {
	scan := r.scan
	if scan.interval > 0 && i == 0 && unit > 0 && unit%scan.interval == 0 {
		if err := r.skipRestart(); err != nil {
			return err
		}
		r.empty = 0
	}
	block, first := scan.blocks[i], scan.from
	switch {
	case first > 0:
	case scan.refines:
		return r.skip(1)
	default:
		size, err := r.symbol(block.dc)
		if err != nil {
			return err
		}
		if err := r.skip(size & 15); err != nil || scan.to == 0 {
			return err
		}
		first = 1
	}
	if scan.refines {
		return r.refineAC(block.ac, nonzero)
	}
	return r.skipAC(block.ac, first, nonzero)
}

// skipAC skips the AC coefficients of a block from the first one on (ISO/IEC 10918-1, F.2.2.2 and
// G.1.2.2).
func (r *jpegScanReader) skipAC(table *huffmanTable, first int, nonzero *uint64) error {
	if r.empty > 0 {
		r.empty--
		return nil
	}
	for k := first; k <= r.scan.to; k++ {
		s, err := r.symbol(table)
		if err != nil {
			return err
		}
		run, size := int(s>>4), s&15
		if size == 0 && run < maxJPEGRun { // the others are zero
			r.empty, err = r.emptyBlocks(run)
			r.empty--
			return err
		}
		k += run
		if k <= r.scan.to && size > 0 {
			*nonzero |= 1 << k
		}
		if err := r.skip(size); err != nil {
			return err
		}
	}
	return nil
}

// refineAC skips the next bits of the AC coefficients of a block (G.1.2.3): one of each coefficient
// that is not zero so far, and those of the new ones.
func (r *jpegScanReader) refineAC(table *huffmanTable, nonzero *uint64) error {
	k := r.scan.from
	for r.empty == 0 && k <= r.scan.to {
		s, err := r.symbol(table)
		if err != nil {
			return err
		}
		run, size := int(s>>4), s&15
		if size == 0 && run < maxJPEGRun { // the others stay zero
			if r.empty, err = r.emptyBlocks(run); err != nil {
				return err
			}
			break
		}
		if err := r.skip(size); err != nil { // the sign of the new coefficient
			return err
		}
		for ; k <= r.scan.to; k++ { // to the zero after run others
			if *nonzero>>k&1 != 0 {
				if err := r.skip(1); err != nil {
					return err
				}
				continue
			}
			if run == 0 {
				break
			}
			run--
		}
		if size > 0 && k <= r.scan.to {
			*nonzero |= 1 << k
		}
		k++
	}
	if r.empty == 0 {
		return nil
	}
	r.empty--
	for ; k <= r.scan.to; k++ {
		if err := r.skip(byte(*nonzero >> k & 1)); err != nil {
			return err
		}
	}
	return nil
}

// emptyBlocks reads the number of blocks that have no more coefficients, this one included.
func (r *jpegScanReader) emptyBlocks(bits int) (int, error) {
	n := 1
	for range bits {
		bit, err := r.bit()
		if err != nil {
			return 0, err
		}
		n = n<<1 | bit
	}
	return n, nil
}

// jpegBits reads the bits of coded data.
type jpegBits struct {
	s    *source
	off  int64
	last byte
	left int // bits of last that were not read
}

func (r *jpegBits) bit() (int, error) {
	if r.left == 0 {
		b, err := r.s.view(r.off, 1)
		if err != nil {
			return 0, err
		}
		r.last, r.left = b[0], 8
		r.off++
		if r.last == 0xff { // a zero follows, unless it is a marker
			if b, err = r.s.view(r.off, 1); err != nil {
				return 0, err
			}
			if b[0] != 0 {
				return 0, errTruncated
			}
			r.off++
		}
	}
	r.left--
	return int(r.last >> r.left & 1), nil
}

func (r *jpegBits) skip(bits byte) error {
	for range bits {
		if _, err := r.bit(); err != nil {
			return err
		}
	}
	return nil
}

// symbol reads a Huffman code and returns its symbol.
func (r *jpegBits) symbol(t *huffmanTable) (byte, error) {
	code, first, index := 0, 0, 0 // first is the first code of the current length, and index that of its symbol
	for _, n := range t.counts {
		bit, err := r.bit()
		if err != nil {
			return 0, err
		}
		code, first = code<<1|bit, first<<1
		if code-first < int(n) {
			return t.symbols[index+code-first], nil
		}
		first, index = first+int(n), index+int(n)
	}
	return 0, errUnreadable
}

// skipRestart skips a restart marker, and the bits before it that fill a byte.
func (r *jpegBits) skipRestart() error {
	b, err := r.s.view(r.off, 2)
	if err != nil {
		return err
	}
	if b[0] != 0xff || b[1] < jpegRST0 || b[1] > jpegRST7 {
		return errUnreadable
	}
	r.off, r.left = r.off+2, 0
	return nil
}
