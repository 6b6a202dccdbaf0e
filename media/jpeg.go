package media

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
)

// Markers of JPEG (ISO/IEC 10918-1, table B.1). Each follows a byte 0xff.
const (
	jpegTEM  = 0x01
	jpegRST0 = 0xd0
	jpegRST7 = 0xd7
	jpegSOI  = 0xd8
	jpegEOI  = 0xd9
	jpegSOS  = 0xda
	jpegAPP1 = 0xe1
)

// probeJPEG reads the frame header with the standard library and walks the segments and scans to
// the end of the image.
func probeJPEG(s *source) (Info, error) {
	config, err := jpeg.DecodeConfig(s.reader(0, s.size))
	if err != nil {
		return Info{}, err
	}

	orientation, scans := 0, 0
	for off := int64(2); ; {
		marker, err := s.view(off, 2)
		if err != nil {
			return Info{}, err
		}
		switch kind := marker[1]; {
		case marker[0] != 0xff, kind == 0xff: // stray bytes, which decoders skip, or fill bytes
			off++
			continue
		case kind == jpegEOI:
			if scans == 0 {
				return Info{}, errNoPicture
			}
			return picture(config.Width, config.Height, orientation)
		case kind == 0, kind == jpegTEM, kind >= jpegRST0 && kind <= jpegRST7: // these have no length
			off += 2
			continue
		case kind == jpegSOI:
			return Info{}, errUnreadable
		}

		segment, err := s.view(off, 4)
		if err != nil {
			return Info{}, err
		}
		kind, length := segment[1], int64(binary.BigEndian.Uint16(segment[2:]))
		start, end := off+4, off+2+length
		if length < 2 {
			return Info{}, errUnreadable
		}
		off = end
		switch kind {
		case jpegAPP1:
			if orientation == 0 {
				orientation = exifOrientation(s, start, end)
			}
		case jpegSOS:
			scans++
			if off, err = skipScan(s, off); err != nil {
				return Info{}, err
			}
		}
	}
}

// skipScan returns the offset of the marker that ends the coded data at off. In coded data, an 0xff
// is followed by a zero; restart markers do not end it.
func skipScan(s *source, off int64) (int64, error) {
	for {
		data, err := s.rest(off, s.size)
		if err != nil {
			return 0, err
		}
		at := bytes.IndexByte(data, 0xff)
		if at < 0 {
			off += int64(len(data))
			continue
		}
		off += int64(at)
		marker, err := s.view(off, 2)
		if err != nil {
			return 0, err
		}
		switch kind := marker[1]; {
		case kind == 0, kind >= jpegRST0 && kind <= jpegRST7:
			off += 2
		case kind == 0xff:
			off++
		default:
			return off, nil
		}
	}
}
