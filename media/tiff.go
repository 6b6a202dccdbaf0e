package media

import "encoding/binary"

// The tags of TIFF 6.0 that Probe reads.
const (
	tiffWidth           = 256
	tiffHeight          = 257
	tiffStripOffsets    = 273
	tiffOrientation     = 274
	tiffStripByteCounts = 279
	tiffTileOffsets     = 324
	tiffTileByteCounts  = 325
)

// maxEntries is how many entries a TIFF directory may have. The specification and EXIF define about
// 200 tags. Lists of strips need no limit besides maxRead.
const maxEntries = 1024

// directory is the first directory of a TIFF structure, which is either a file or EXIF data in
// another one. Directories that it points to are further pages and are not followed, so a cycle of
// them does no harm.
//
// golang.org/x/image/tiff is not used, because it decodes only baseline TIFF and therefore rejects
// CMYK, YCbCr, and depths of 4 and 32 bits. EXIF data needs a parser anyway.
type directory struct {
	s         *source
	base, end int64 // offsets in the structure are relative to base; nothing beyond end is read
	order     binary.ByteOrder
	entries   int64 // offset of the first entry
	count     int
}

// The length of an entry, and of the values that fit in it. Longer lists of values are elsewhere.
const entryLen, valueLen = 12, 4

// entry is the directory's entry for a tag: count values of width bytes each.
type entry struct {
	width  int
	count  uint32
	values int64 // offset of the first value
}

func openDirectory(s *source, base, end int64) (directory, error) {
	d := directory{s: s, base: base, end: end}
	head, err := d.view(base, 8)
	if err != nil {
		return d, err
	}
	switch string(head[:4]) {
	case "II*\x00":
		d.order = binary.LittleEndian
	case "MM\x00*":
		d.order = binary.BigEndian
	default:
		return d, errUnreadable
	}
	at := base + int64(d.order.Uint32(head[4:]))
	count, err := d.view(at, 2)
	if err != nil {
		return d, err
	}
	d.entries, d.count = at+2, int(d.order.Uint16(count))
	if d.count > maxEntries {
		return d, errTooComplex
	}
	return d, nil
}

func (d directory) view(off int64, n int) ([]byte, error) {
	if off < d.base || int64(n) > d.end-off {
		return nil, errTruncated
	}
	return d.s.view(off, n)
}

// find returns the entry of a tag, or an entry without values if there is none.
func (d directory) find(tag uint16) (entry, error) {
	for i := range d.count {
		off := d.entries + int64(i)*entryLen
		b, err := d.view(off, entryLen)
		if err != nil {
			return entry{}, err
		}
		if d.order.Uint16(b) != tag {
			continue
		}
		e := entry{count: d.order.Uint32(b[4:])}
		switch d.order.Uint16(b[2:]) {
		case 1: // BYTE
			e.width = 1
		case 3: // SHORT
			e.width = 2
		case 4: // LONG
			e.width = 4
		default:
			return entry{}, errUnreadable
		}
		e.values = off + entryLen - valueLen
		if int64(e.count)*int64(e.width) > valueLen {
			e.values = d.base + int64(d.order.Uint32(b[entryLen-valueLen:]))
		}
		return e, nil
	}
	return entry{}, nil
}

// checkValues returns an error if a value of the directory is not in the file. Many programs write
// values last, so a truncated file lacks some of them.
func (d directory) checkValues() error {
	widths := [...]int64{1: 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8} // of BYTE, ASCII, SHORT, LONG, RATIONAL and so on
	for i := range d.count {
		b, err := d.view(d.entries+int64(i)*entryLen, entryLen)
		if err != nil {
			return err
		}
		kind, count := d.order.Uint16(b[2:]), int64(d.order.Uint32(b[4:]))
		if int(kind) >= len(widths) {
			continue // readers must skip unknown types
		}
		if length := count * widths[kind]; length > valueLen && d.base+int64(d.order.Uint32(b[8:]))+length > d.end {
			return errTruncated
		}
	}
	return nil
}

// value returns the i-th value of an entry.
func (d directory) value(e entry, i int) (int64, error) {
	b, err := d.view(e.values+int64(i)*int64(e.width), e.width)
	if err != nil {
		return 0, err
	}
	switch e.width {
	case 1:
		return int64(b[0]), nil
	case 2:
		return int64(d.order.Uint16(b)), nil
	}
	return int64(d.order.Uint32(b)), nil
}

// first returns the first value of a tag, or fallback if the tag is missing.
func (d directory) first(tag uint16, fallback int64) (int64, error) {
	e, err := d.find(tag)
	if err != nil || e.count == 0 {
		return fallback, err
	}
	return d.value(e, 0)
}

// probeTIFF reads the first page.
func probeTIFF(s *source) (Info, error) {
	d, err := openDirectory(s, 0, s.size)
	if err != nil {
		return Info{}, err
	}
	if err := d.checkValues(); err != nil {
		return Info{}, err
	}
	width, err := d.first(tiffWidth, 0)
	if err != nil {
		return Info{}, err
	}
	height, err := d.first(tiffHeight, 0)
	if err != nil {
		return Info{}, err
	}
	orientation, err := d.first(tiffOrientation, 1)
	if err != nil {
		return Info{}, err
	}
	if err := d.checkStrips(); err != nil {
		return Info{}, err
	}
	return picture(int(width), int(height), int(orientation))
}

// checkStrips returns an error if some of the pixels, which are in strips or tiles, are not in the
// file.
func (d directory) checkStrips() error {
	offsets, counts, err := d.strips(tiffStripOffsets, tiffStripByteCounts)
	if err == nil && offsets.count == 0 {
		offsets, counts, err = d.strips(tiffTileOffsets, tiffTileByteCounts)
	}
	if err != nil {
		return err
	}
	if offsets.count == 0 || counts.count != offsets.count {
		return errNoPicture
	}

	// Read the two lists in batches: alternating between them would refill the buffer for each
	// value.
	const batch = 256
	var starts [batch]int64
	for i := 0; i < int(offsets.count); i += batch {
		n := min(batch, int(offsets.count)-i)
		for j := range n {
			if starts[j], err = d.value(offsets, i+j); err != nil {
				return err
			}
		}
		for j := range n {
			length, err := d.value(counts, i+j)
			if err != nil {
				return err
			}
			if starts[j]+length > d.end {
				return errTruncated
			}
		}
	}
	return nil
}

func (d directory) strips(offsetsTag, countsTag uint16) (offsets, counts entry, err error) {
	if offsets, err = d.find(offsetsTag); err != nil {
		return offsets, counts, err
	}
	counts, err = d.find(countsTag)
	return offsets, counts, err
}

// exifOrientation returns the orientation in the EXIF data between start and end, or 0 if there is
// none. Invalid EXIF data does not make the picture invalid: decoders ignore it too.
func exifOrientation(s *source, start, end int64) int {
	const header = "Exif\x00\x00" // in JPEG, but not in PNG
	if b, err := s.view(start, len(header)); err == nil && string(b) == header {
		start += int64(len(header))
	}
	d, err := openDirectory(s, start, end)
	if err != nil {
		return 0
	}
	orientation, err := d.first(tiffOrientation, 0)
	if err != nil {
		return 0
	}
	return int(orientation)
}
