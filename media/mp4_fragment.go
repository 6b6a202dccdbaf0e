package media

import "encoding/binary"

// Flags of track fragments and their runs (ISO/IEC 14496-12, 8.8.7 and 8.8.8). They say which
// fields are present.
const (
	tfhdBaseOffset       = 0x000001
	tfhdDescriptionIndex = 0x000002
	tfhdSampleDuration   = 0x000008

	trunDataOffset     = 0x000001
	trunFirstFlags     = 0x000004
	trunSampleDuration = 0x000100
	trunSampleSize     = 0x000200
	trunSampleFlags    = 0x000400
	trunSampleOffset   = 0x000800
)

// trackByID returns nil if the movie has no such track.
func (m *movie) trackByID(id uint32) *track {
	for i := range m.tracks {
		if m.tracks[i].id == id {
			return &m.tracks[i]
		}
	}
	return nil
}

// readDefaults reads the defaults in mvex for samples in fragments.
func (m *movie) readDefaults(mvex box) error {
	for b, err := range m.boxes(mvex) {
		if err != nil {
			return err
		}
		if string(b.kind[:]) != "trex" {
			continue
		}
		v, err := m.field(b, 4, 12)
		if err != nil {
			return err
		}
		if t := m.trackByID(binary.BigEndian.Uint32(v)); t != nil {
			t.sampleUnits = uint64(binary.BigEndian.Uint32(v[8:]))
		}
	}
	return nil
}

// readFragment reads a moof box.
func (m *movie) readFragment(moof box) error {
	for b, err := range m.boxes(moof) {
		if err != nil {
			return err
		}
		if string(b.kind[:]) == "traf" {
			if err := m.readTrackFragment(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTrackFragment adds the samples of a traf box to its track.
func (m *movie) readTrackFragment(traf box) error {
	var t *track
	var sampleUnits, start, units uint64
	for b, err := range m.boxes(traf) {
		if err != nil {
			return err
		}
		switch kind := string(b.kind[:]); {
		case kind == "tfhd":
			if t, sampleUnits, err = m.readFragmentHeader(b); err != nil {
				return err
			}
			if t == nil {
				return nil
			}
			start = t.last
		case t == nil: // tfhd must come first
			return errUnreadable
		case kind == "tfdt":
			if start, err = m.readFragmentTime(b); err != nil {
				return err
			}
		case kind == "trun":
			if err := m.readRun(b, t, sampleUnits, &units); err != nil {
				return err
			}
		}
	}
	if t == nil || units == 0 {
		return nil
	}

	end := start
	if err := add(&end, 1, units); err != nil {
		return err
	}
	if !t.fragmented {
		t.fragmented, t.first, t.last = true, start, end
		if t.units > 0 { // the movie itself has samples before its fragments
			t.first = 0
		}
		return nil
	}
	t.first, t.last = min(t.first, start), max(t.last, end)
	return nil
}

// readFragmentHeader returns the track of a fragment, or nil if the movie does not have it, and the
// default duration of the fragment's samples.
func (m *movie) readFragmentHeader(b box) (*track, uint64, error) {
	_, flags, err := m.version(b)
	if err != nil {
		return nil, 0, err
	}
	id, err := m.uint32(b, 4)
	if err != nil {
		return nil, 0, err
	}
	t := m.trackByID(id)
	if t == nil {
		return nil, 0, nil
	}
	if flags&tfhdSampleDuration == 0 {
		return t, t.sampleUnits, nil
	}
	at := int64(8)
	if flags&tfhdBaseOffset != 0 {
		at += 8
	}
	if flags&tfhdDescriptionIndex != 0 {
		at += 4
	}
	units, err := m.uint32(b, at)
	return t, uint64(units), err
}

// readFragmentTime returns the time at which a fragment begins.
func (m *movie) readFragmentTime(b box) (uint64, error) {
	version, _, err := m.version(b)
	if err != nil {
		return 0, err
	}
	if version == 1 {
		v, err := m.field(b, 4, 8)
		if err != nil {
			return 0, err
		}
		if start := binary.BigEndian.Uint64(v); start <= maxUnits {
			return start, nil
		}
		return 0, errTooLong
	}
	v, err := m.uint32(b, 4)
	return uint64(v), err
}

// readRun adds the samples of a trun box to the track, and their durations to units.
func (m *movie) readRun(b box, t *track, sampleUnits uint64, units *uint64) error {
	_, flags, err := m.version(b)
	if err != nil {
		return err
	}
	count, err := m.uint32(b, 4)
	if err != nil {
		return err
	}
	at := int64(8)
	for _, flag := range []uint32{trunDataOffset, trunFirstFlags} {
		if flags&flag != 0 {
			at += 4
		}
	}
	entryLen := 0
	for _, flag := range []uint32{trunSampleDuration, trunSampleSize, trunSampleFlags, trunSampleOffset} {
		if flags&flag != 0 {
			entryLen += 4
		}
	}

	if err := add(&t.samples, 1, uint64(count)); err != nil {
		return err
	}
	if flags&trunSampleDuration == 0 {
		return add(units, uint64(count), sampleUnits)
	}
	return m.table(b, at, count, entryLen, func(v []byte) error { // the duration is the first field
		return add(units, 1, uint64(binary.BigEndian.Uint32(v)))
	})
}
