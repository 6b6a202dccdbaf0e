package media

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
)

const (
	// maxBoxes is how many boxes of an MP4 are read at most. A fragment has about eight and lasts a
	// few seconds; a file without fragments has about a hundred.
	maxBoxes = 1 << 16

	// maxDepth is how deep the needed boxes are nested: moov, trak, mdia, minf, stbl.
	maxDepth = 5

	// maxTracks is how many tracks a movie may have. Phones write up to seven.
	maxTracks = 32

	// maxUnits prevents sums of durations, in units of a track's clock, from overflowing.
	maxUnits = 1 << 62
)

// brandQuickTime is the brand of video/quicktime files.
const brandQuickTime = "qt  "

// A box is a box of ISO/IEC 14496-12. start and end are the offsets of its content.
type box struct {
	kind       [4]byte
	start, end int64
}

// movie collects what one walk through the boxes of an MP4 file finds.
type movie struct {
	*source
	boxesLeft int
	clock     uint64 // units per second of the header and the edit lists
	duration  uint64 // in the header, in units of clock
	tracks    []track
	hasData   bool
}

// track is a track of a movie. Units are those of its own clock.
type track struct {
	id       uint32
	handler  string // vide, soun or something else
	sideways bool   // rotated by 90 or 270 degrees
	clock    uint64 // units per second
	samples  uint64
	units    uint64 // the sum of the samples' durations
	edited   uint64 // the duration of the edit list, in units of the movie's clock
	entry    box    // the sample entry, which names the codec

	sampleUnits uint64 // default duration of samples in fragments
	fragmented  bool
	first, last uint64 // begin of the first fragment and end of the last, in units
}

// probeMP4 walks the boxes of an MP4 or QuickTime file. The brands of the file are ignored: there
// are more than a hundred, and its tracks show whether it is a movie. Pictures in the same
// container, HEIC and AVIF, have no tracks, or tracks of another handler.
//
// It does not use github.com/abema/go-mp4: v1.5.0 loops forever on a size that points backwards,
// and its prober allocates a sample for each one that a file claims to have. Only a dozen fields at
// fixed offsets are needed here.
func probeMP4(s *source) (Info, error) {
	m := &movie{source: s, boxesLeft: maxBoxes}
	hasMovie := false
	for b, err := range m.boxes(box{end: s.size}) {
		if err != nil {
			if hasMovie && m.hasData && isTrailer(b, err) {
				break
			}
			return Info{}, err
		}
		switch string(b.kind[:]) {
		case "moov":
			if hasMovie {
				return Info{}, errUnreadable
			}
			hasMovie = true
			if err := m.readMovie(b); err != nil {
				return Info{}, err
			}
		case "moof":
			if err := m.readFragment(b); err != nil {
				return Info{}, err
			}
		case "mdat":
			m.hasData = m.hasData || b.end > b.start
		}
	}
	if !hasMovie {
		return Info{}, errUnknown
	}
	if !m.hasData {
		return Info{}, errTruncated
	}
	return m.info()
}

// isTrailer reports whether a box whose size is impossible is in fact a tag or other bytes that a
// program appended to the file, such as ID3v1, APE or text. Boxes that contain a part of the movie
// must be complete.
func isTrailer(b box, err error) bool {
	if !errors.Is(err, errTruncated) && !errors.Is(err, errUnreadable) {
		return false // the file could not be read
	}
	kind := string(b.kind[:])
	return kind != "moov" && kind != "moof" && kind != "mdat"
}

// boxes yields the boxes within b. Each ends within b and begins after the previous one, or the
// walk ends with an error.
func (m *movie) boxes(b box) iter.Seq2[box, error] {
	return func(yield func(box, error) bool) {
		for off := b.start; ; {
			next, err := m.boxAt(off, b.end)
			if err != nil {
				yield(next, err)
				return
			}
			if next.kind == [4]byte{} || !yield(next, nil) {
				return
			}
			off = next.end
		}
	}
}

// boxAt reads the header of the box at off. Padding, which is too short to be a box or begins with
// zeros, is returned as a box without a kind. If the size is impossible, boxAt returns the kind
// with the error.
func (m *movie) boxAt(off, end int64) (box, error) {
	const headerLen, largeHeaderLen = 8, 16
	if end-off < headerLen {
		return box{}, nil
	}
	if m.boxesLeft--; m.boxesLeft < 0 {
		return box{}, errTooComplex
	}
	head, err := m.view(off, headerLen)
	if err != nil {
		return box{}, err
	}
	b := box{kind: [4]byte(head[4:]), start: off + headerLen}
	size := uint64(binary.BigEndian.Uint32(head))
	switch size {
	case 0: // extends to the end
		size = uint64(end - off)
	case 1: // the size does not fit in 32 bits
		if head, err = m.view(off, largeHeaderLen); err != nil {
			return b, err
		}
		b.start = off + largeHeaderLen
		size = binary.BigEndian.Uint64(head[headerLen:])
	}
	if size > uint64(end-off) {
		return b, errTruncated
	}
	b.end = off + int64(size)
	if b.end < b.start {
		return b, errUnreadable
	}
	return b, nil
}

// field returns n bytes at an offset within a box.
func (m *movie) field(b box, at int64, n int) ([]byte, error) {
	if at+int64(n) > b.end-b.start {
		return nil, errTruncated
	}
	return m.view(b.start+at, n)
}

func (m *movie) uint32(b box, at int64) (uint32, error) {
	v, err := m.field(b, at, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(v), nil
}

// version reads the version and flags at the beginning of a full box.
func (m *movie) version(b box) (version byte, flags uint32, err error) {
	v, err := m.uint32(b, 0)
	return byte(v >> 24), v & 0xff_ffff, err
}

func (m *movie) readMovie(moov box) error {
	for b, err := range m.boxes(moov) {
		if err != nil {
			return err
		}
		switch string(b.kind[:]) {
		case "mvhd":
			m.clock, m.duration, err = m.readClock(b)
		case "trak":
			if len(m.tracks) == maxTracks {
				return errTooComplex
			}
			m.tracks = append(m.tracks, track{})
			err = m.readTrack(b, &m.tracks[len(m.tracks)-1], 1)
		case "mvex":
			err = m.readDefaults(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readClock reads the clock and the duration of mvhd or mdhd, which begin alike. A duration whose
// bits are all set means unknown, and is returned as 0.
func (m *movie) readClock(b box) (clock, duration uint64, err error) {
	version, _, err := m.version(b)
	if err != nil {
		return 0, 0, err
	}
	if version == 1 {
		v, err := m.field(b, 20, 12)
		if err != nil {
			return 0, 0, err
		}
		clock, duration = uint64(binary.BigEndian.Uint32(v)), binary.BigEndian.Uint64(v[4:])
		if duration == 1<<64-1 {
			duration = 0
		}
		return clock, duration, nil
	}
	v, err := m.field(b, 12, 8)
	if err != nil {
		return 0, 0, err
	}
	clock, duration = uint64(binary.BigEndian.Uint32(v)), uint64(binary.BigEndian.Uint32(v[4:]))
	if duration == 1<<32-1 {
		duration = 0
	}
	return clock, duration, nil
}

func (m *movie) readTrack(parent box, t *track, depth int) error {
	if depth > maxDepth {
		return errTooComplex
	}
	for b, err := range m.boxes(parent) {
		if err != nil {
			return err
		}
		switch string(b.kind[:]) {
		case "edts", "mdia", "minf", "stbl":
			err = m.readTrack(b, t, depth+1)
		case "tkhd":
			err = m.readTrackHeader(b, t)
		case "elst":
			err = m.readEdits(b, t)
		case "mdhd":
			t.clock, _, err = m.readClock(b)
		case "hdlr":
			var v []byte
			if v, err = m.field(b, 8, 4); err == nil && t.handler == "" { // QuickTime has a second one, in minf
				t.handler = string(v)
			}
		case "stsd":
			const entries = 8
			t.entry, err = m.boxAt(b.start+entries, b.end)
		case "stts":
			err = m.readSampleTimes(b, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readTrackHeader reads the ID of the track and whether its matrix rotates pictures by 90 or 270
// degrees.
func (m *movie) readTrackHeader(b box, t *track) error {
	version, _, err := m.version(b)
	if err != nil {
		return err
	}
	id, matrix := int64(12), int64(40)
	if version == 1 { // creation time, modification time and duration are twice as wide
		id, matrix = 20, 52
	}
	if t.id, err = m.uint32(b, id); err != nil {
		return err
	}
	v, err := m.field(b, matrix, 20) // a, b, u, c and d, of nine
	if err != nil {
		return err
	}
	at := func(i int) uint32 { return binary.BigEndian.Uint32(v[4*i:]) }
	t.sideways = at(0) == 0 && at(4) == 0 && at(1) != 0 && at(3) != 0
	return nil
}

// readEdits adds up the durations of an edit list.
func (m *movie) readEdits(b box, t *track) error {
	version, _, err := m.version(b)
	if err != nil {
		return err
	}
	entryLen := 12
	if version == 1 {
		entryLen = 20
	}
	return m.entries(b, 4, entryLen, func(v []byte) error {
		if version == 1 {
			return add(&t.edited, 1, binary.BigEndian.Uint64(v))
		}
		return add(&t.edited, 1, uint64(binary.BigEndian.Uint32(v)))
	})
}

// readSampleTimes adds up the runs of samples of equal duration.
func (m *movie) readSampleTimes(b box, t *track) error {
	return m.entries(b, 4, 8, func(v []byte) error {
		count := uint64(binary.BigEndian.Uint32(v))
		if err := add(&t.samples, 1, count); err != nil {
			return err
		}
		return add(&t.units, count, uint64(binary.BigEndian.Uint32(v[4:])))
	})
}

// entries calls visit with each entry of a table, whose length is at the given offset in the box,
// directly before the table.
func (m *movie) entries(b box, at int64, entryLen int, visit func([]byte) error) error {
	count, err := m.uint32(b, at)
	if err != nil {
		return err
	}
	return m.table(b, at+4, count, entryLen, visit)
}

// table calls visit with each of count entries, beginning at an offset in the box. The entries must
// be in the file, so a false count costs no more than reading the file.
func (m *movie) table(b box, at int64, count uint32, entryLen int, visit func([]byte) error) error {
	if int64(count)*int64(entryLen) > b.end-b.start-at {
		return errTruncated
	}
	for i := range int64(count) {
		v, err := m.field(b, at+i*int64(entryLen), entryLen)
		if err != nil {
			return err
		}
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

// add adds count times units to a sum, which must not exceed maxUnits. count has 32 bits.
func add(sum *uint64, count, units uint64) error {
	if units > maxUnits || count > 0 && units > (maxUnits-*sum)/count {
		return errTooLong
	}
	*sum += count * units
	return nil
}

// info returns the Info of the movie.
func (m *movie) info() (Info, error) {
	var info Info
	for i := range m.tracks {
		t := &m.tracks[i]
		if t.samples == 0 || t.handler != "vide" && t.handler != "soun" {
			continue
		}
		switch {
		case t.handler == "soun" && info.AudioCodec == "":
			info.AudioCodec = audioCodec(string(t.entry.kind[:]))
		case t.handler == "vide" && info.VideoCodec == "":
			info.VideoCodec = videoCodec(string(t.entry.kind[:]))
			if info.VideoCodec == "" { // a cover, or pictures of chapters
				continue
			}
			width, height, err := m.dimensions(t, info.VideoCodec)
			if err != nil {
				return Info{}, err
			}
			if err := checkDimensions(width, height); err != nil {
				return Info{}, err
			}
			if t.sideways {
				width, height = height, width
			}
			info.Width, info.Height = width, height
		}
		duration, err := m.trackDuration(t)
		if err != nil {
			return Info{}, err
		}
		info.Duration = max(info.Duration, duration)
	}
	if info.VideoCodec == "" && info.AudioCodec == "" {
		return Info{}, broken("The file contains neither audio nor moving pictures.")
	}

	if info.Duration == 0 {
		duration, err := seconds(m.duration, m.clock)
		if err != nil {
			return Info{}, err
		}
		info.Duration = duration
	}
	if info.VideoCodec == "" {
		brand, err := m.view(8, 4)
		if err != nil {
			return Info{}, err
		}
		if string(brand) != brandQuickTime {
			info.ContentType = M4A
		}
	}
	return info, nil
}

// trackDuration returns the time that the track plays; see the package documentation.
func (m *movie) trackDuration(t *track) (time.Duration, error) {
	if t.fragmented {
		return seconds(t.last-t.first, t.clock)
	}
	if t.edited > 0 {
		return seconds(t.edited, m.clock)
	}
	return seconds(t.units, t.clock)
}
