package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image/jpeg"
)

// Markers of JPEG (ISO/IEC 10918-1, table B.1). Each follows a byte 0xff.
const (
	jpegTEM  = 0x01
	jpegSOF0 = 0xc0
	jpegSOF1 = 0xc1
	jpegSOF2 = 0xc2
	jpegDHT  = 0xc4
	jpegRST0 = 0xd0
	jpegRST7 = 0xd7
	jpegSOI  = 0xd8
	jpegEOI  = 0xd9
	jpegSOS  = 0xda
	jpegDRI  = 0xdd
	jpegAPP1 = 0xe1
)

// probeJPEG reads the frame header with the standard library and walks the segments and scans to
// the end of the image. If the end marker is missing, it decodes the scans, to tell a complete
// picture from a truncated one.
func probeJPEG(s *source) (Info, error) {
	config, err := jpeg.DecodeConfig(s.reader(0, s.size))
	if err != nil {
		return Info{}, err
	}
	if err := checkDimensions(config.Width, config.Height); err != nil { // they bound the time for decoding
		return Info{}, err
	}
	decoder := jpegDecoder{width: config.Width, height: config.Height}
	orientation, err := walkJPEG(s, &decoder)
	if errors.Is(err, errTruncated) || errors.Is(err, errUnreadable) {
		*s.left = maxRead // the coded data are read again
		err = decoder.checkComplete(s)
	}
	if err != nil {
		return Info{}, err
	}
	return picture(config.Width, config.Height, orientation)
}

// walkJPEG walks to the end marker and returns the orientation. The decoder gets the headers.
func walkJPEG(s *source, decoder *jpegDecoder) (orientation int, err error) {
	scans := 0
	for off := int64(2); ; {
		marker, err := s.view(off, 2)
		if err != nil {
			return orientation, err
		}
		switch kind := marker[1]; {
		case marker[0] != 0xff, kind == 0xff: // stray bytes, which decoders skip, or fill bytes
			off++
			continue
		case kind == jpegEOI:
			if scans == 0 {
				return orientation, errNoPicture
			}
			return orientation, nil
		case kind == 0, kind == jpegTEM, kind >= jpegRST0 && kind <= jpegRST7: // these have no length
			off += 2
			continue
		case kind == jpegSOI:
			return orientation, errUnreadable
		}

		segment, err := s.view(off, 4)
		if err != nil {
			return orientation, err
		}
		kind, length := segment[1], int64(binary.BigEndian.Uint16(segment[2:]))
		start, end := off+4, off+2+length
		if length < 2 {
			return orientation, errUnreadable
		}
		off = end
		switch kind {
		case jpegAPP1:
			if orientation == 0 && scans == 0 {
				orientation = exifOrientation(s, start, end)
			}
		case jpegSOF0, jpegSOF1, jpegSOF2, jpegDHT, jpegDRI, jpegSOS:
			content, err := s.view(start, int(length-2))
			if err != nil {
				return orientation, err
			}
			decoder.readSegment(kind, content, end)
		}
		if kind == jpegSOS {
			scans++
			if off, err = skipScan(s, off); err != nil {
				return orientation, err
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
