package media

import "encoding/binary"

// maxJPEGBlocks is the most blocks that a minimum coded unit may have (ISO/IEC 10918-1, B.2.3).
const maxJPEGBlocks = 10

// jpegDecoder decodes the scans of a sequential JPEG, but none of its values, to determine whether
// the data of a file without an end marker are complete. It does not decode progressive JPEGs:
// their last scan depends on all coefficients of the picture, which take too much memory.
type jpegDecoder struct {
	width, height int
	hasFrame      bool
	components    []jpegComponent // none unless the frame is sequential
	dc, ac        [4]*huffmanTable
	interval      int // between restart markers, in units; zero if there are none

	scanned uint8     // a bit for each component that is in one of the scans so far
	last    *jpegScan // the scan after which all components are there; nil if there is none so far
}

type jpegComponent struct {
	id   byte
	h, v int // sampling factors
}

type jpegScan struct {
	off      int64 // of the coded data
	units    int   // minimum coded units
	interval int
	blocks   []jpegBlock // of each unit
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
		if !d.hasFrame && kind != jpegSOF2 {
			d.readFrame(content)
		}
		d.hasFrame = true
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

// readFrame reads the components in the header of a sequential frame.
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
	if len(b) == 0 || len(b) < 1+2*int(b[0]) || d.last != nil {
		return
	}
	hMax, vMax := 0, 0
	for _, c := range d.components {
		hMax, vMax = max(hMax, c.h), max(vMax, c.v)
	}
	scan := jpegScan{off: off, interval: d.interval}
	for i := range int(b[0]) {
		id, tables := b[1+2*i], b[2+2*i]
		for j, c := range d.components {
			if c.id != id || c.h == 0 || c.v == 0 {
				continue
			}
			d.scanned |= 1 << j
			block := jpegBlock{d.dc[tables>>4&3], d.ac[tables&3]}
			if block.dc == nil || block.ac == nil {
				return
			}
			if b[0] == 1 { // the units of a scan of one component are its blocks
				scan.units = ceilDiv(d.width*c.h, 8*hMax) * ceilDiv(d.height*c.v, 8*vMax)
				scan.blocks = []jpegBlock{block}
				break
			}
			scan.units = ceilDiv(d.width, 8*hMax) * ceilDiv(d.height, 8*vMax)
			for range c.h * c.v {
				scan.blocks = append(scan.blocks, block)
			}
		}
	}
	if d.scanned == 1<<len(d.components)-1 && scan.units > 0 && len(scan.blocks) <= maxJPEGBlocks {
		d.last = &scan
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// checkComplete returns an error if some of the picture's data are missing. Scans before the last
// one are complete, because another one follows them.
func (d *jpegDecoder) checkComplete(s *source) error {
	if d.last == nil {
		return errTruncated
	}
	bits := jpegBits{s: s, off: d.last.off}
	for i := range d.last.units {
		if d.last.interval > 0 && i > 0 && i%d.last.interval == 0 {
			if err := bits.skipRestart(); err != nil {
				return err
			}
		}
		for _, b := range d.last.blocks {
			if err := bits.skipBlock(b); err != nil {
				return err
			}
		}
	}
	return nil
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

// skipBlock skips the coefficients of a block (ISO/IEC 10918-1, F.2.2).
func (r *jpegBits) skipBlock(b jpegBlock) error {
	size, err := r.symbol(b.dc)
	if err != nil {
		return err
	}
	if err := r.skip(size & 15); err != nil {
		return err
	}
	const coefficients, zeros = 64, 0xf0
	for i := 1; i < coefficients; i++ {
		s, err := r.symbol(b.ac)
		if err != nil {
			return err
		}
		run, size := s>>4, s&15
		if size == 0 && s != zeros { // the others are zero
			break
		}
		if err := r.skip(size); err != nil {
			return err
		}
		i += int(run)
	}
	return nil
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
