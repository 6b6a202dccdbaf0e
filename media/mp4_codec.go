package media

import (
	"encoding/binary"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

const (
	codecH264  = "h264"
	codecH265  = "h265"
	codecOther = "other"
)

// maxParameterSet is the maximum length of a sequence parameter set, in bytes. Real ones have less
// than 200.
const maxParameterSet = 4 << 10

// videoCodec returns the name of the codec of a sample entry; empty for still pictures.
func videoCodec(kind string) string {
	switch kind {
	case "avc1", "avc3":
		return codecH264
	case "hvc1", "hev1", "dvh1", "dvhe": // the last two with Dolby Vision
		return codecH265
	case "av01":
		return "av1"
	case "vp08":
		return "vp8"
	case "vp09":
		return "vp9"
	case "mp4v":
		return "mpeg4"
	case "apch", "apcn", "apcs", "apco", "ap4h", "ap4x":
		return "prores"
	case "jpeg", "mjpa", "mjpb", "png ", "CRAW", "\x00\x00\x00\x00": // CRAW is that of Canon's raw photographs
		return ""
	}
	return codecOther
}

func audioCodec(kind string) string {
	switch kind {
	case "mp4a":
		return "aac"
	case "alac":
		return "alac"
	case ".mp3", "mp3 ":
		return "mp3"
	case "ac-3":
		return "ac3"
	case "ec-3":
		return "eac3"
	case "Opus":
		return "opus"
	case "fLaC":
		return "flac"
	case "sowt", "twos", "lpcm", "raw ", "in24", "in32", "fl32", "fl64", "ipcm", "fpcm":
		return "pcm"
	case "samr", "sawb":
		return "amr"
	}
	return codecOther
}

// dimensions returns the dimensions of the first frame before rotation: those of the sequence
// parameter set after cropping, or those of the sample entry if it contains no such set or one that
// the library cannot parse (it does not support long-term references in H.265).
//
// github.com/Eyevinn/mp4ff parses these sets too, but v0.47.0 allocates 512 MiB or more for twelve
// bytes that claim many reference frames. mediacommon limits all counts and is fuzzed.
func (m *movie) dimensions(t *track, codec string) (width, height int, err error) {
	const widthAt, fieldsLen = 24, 78 // in a visual sample entry
	v, err := m.field(t.entry, widthAt, 4)
	if err != nil {
		return 0, 0, err
	}
	width, height = int(binary.BigEndian.Uint16(v)), int(binary.BigEndian.Uint16(v[2:]))

	for b, err := range m.boxes(box{start: t.entry.start + fieldsLen, end: t.entry.end}) {
		if err != nil {
			return 0, 0, err
		}
		var set []byte
		switch kind := string(b.kind[:]); {
		case codec == codecH264 && kind == "avcC":
			if set, err = m.parameterSetH264(b); err != nil || set == nil {
				return width, height, err
			}
			var sps h264.SPS
			if sps.Unmarshal(set) == nil {
				width, height = sps.Width(), sps.Height()
			}
			return width, height, nil
		case codec == codecH265 && kind == "hvcC":
			if set, err = m.parameterSetH265(b); err != nil || set == nil {
				return width, height, err
			}
			var sps h265.SPS
			if sps.Unmarshal(set) == nil {
				width, height = sps.Width(), sps.Height()
			}
			return width, height, nil
		}
	}
	return width, height, nil
}

// parameterSetH264 returns the first sequence parameter set of an avcC box (ISO/IEC 14496-15,
// 5.3.3.1), or nil.
func (m *movie) parameterSetH264(b box) ([]byte, error) {
	const countAt = 5
	v, err := m.field(b, countAt, 1)
	if err != nil || v[0]&0x1f == 0 {
		return nil, err
	}
	return m.parameterSet(b, countAt+1)
}

// parameterSetH265 returns the first sequence parameter set of an hvcC box (ISO/IEC 14496-15,
// 8.3.3.1), or nil. It is in one of several arrays, each of which contains one type of unit.
func (m *movie) parameterSetH265(b box) ([]byte, error) {
	const countAt, typeMask, typeSPS = 22, 0x3f, 33
	v, err := m.field(b, countAt, 1)
	if err != nil {
		return nil, err
	}
	arrays, at := int(v[0]), int64(countAt+1)
	for range arrays {
		v, err := m.field(b, at, 3)
		if err != nil {
			return nil, err
		}
		kind, units := v[0]&typeMask, binary.BigEndian.Uint16(v[1:])
		at += 3
		if kind == typeSPS && units > 0 {
			return m.parameterSet(b, at)
		}
		for range units {
			v, err := m.field(b, at, 2)
			if err != nil {
				return nil, err
			}
			at += 2 + int64(binary.BigEndian.Uint16(v))
		}
	}
	return nil, nil
}

// parameterSet returns a unit that is preceded by its length in 16 bits.
func (m *movie) parameterSet(b box, at int64) ([]byte, error) {
	v, err := m.field(b, at, 2)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(v))
	if length > maxParameterSet {
		return nil, errTooComplex
	}
	return m.field(b, at+2, length)
}
