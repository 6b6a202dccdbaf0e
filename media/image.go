package media

import (
	"encoding/binary"
	"image/gif"
	"image/png"
)

// probePNG checks the header with the standard library and walks the chunks to the last one, IEND.
func probePNG(s *source) (Info, error) {
	config, err := png.DecodeConfig(s.reader(0, s.size))
	if err != nil {
		return Info{}, err
	}

	const signature, overhead = 8, 12 // overhead is the length, type and checksum of a chunk
	orientation, hasData := 0, false
	for off := int64(signature); ; {
		head, err := s.view(off, 8)
		if err != nil {
			return Info{}, err
		}
		length, kind := int64(binary.BigEndian.Uint32(head)), string(head[4:8])
		if length > s.size-off-overhead {
			return Info{}, errTruncated
		}
		switch kind {
		case "IDAT":
			hasData = hasData || length > 0
		case "eXIf":
			orientation = exifOrientation(s, off+8, off+8+length)
		case "IEND":
			if !hasData {
				return Info{}, errNoPicture
			}
			return picture(config.Width, config.Height, orientation)
		}
		off += overhead + length
	}
}

// probeGIF walks the blocks to the trailer. The canvas at the start does not say whether any
// pictures follow.
func probeGIF(s *source) (Info, error) {
	config, err := gif.DecodeConfig(s.reader(0, s.size))
	if err != nil {
		return Info{}, err
	}

	const (
		screenLen, imageLen = 13, 10 // the headers of the file and of a picture
		hasTable            = 0x80   // a flag in the third last byte of the first, and in the last byte of the second
		extension           = 0x21
		image               = 0x2c
		trailer             = 0x3b
	)
	tableLen := func(flags byte) int64 {
		if flags&hasTable == 0 {
			return 0
		}
		return 3 << (flags&7 + 1)
	}

	head, err := s.view(0, screenLen)
	if err != nil {
		return Info{}, err
	}
	off := screenLen + tableLen(head[10])
	for pictures := 0; ; {
		kind, err := s.view(off, 1)
		if err != nil {
			return Info{}, err
		}
		switch kind[0] {
		case extension:
			off += 2
		case image:
			frame, err := s.view(off, imageLen)
			if err != nil {
				return Info{}, err
			}
			off += imageLen + tableLen(frame[imageLen-1])
			codeSize, err := s.view(off, 1)
			if err != nil {
				return Info{}, err
			}
			if codeSize[0] < 1 || codeSize[0] > 8 {
				return Info{}, errUnreadable
			}
			off++
			pictures++
		case trailer:
			if pictures == 0 {
				return Info{}, errNoPicture
			}
			return picture(config.Width, config.Height, 0)
		default:
			return Info{}, errUnreadable
		}
		if off, err = skipSubBlocks(s, off); err != nil {
			return Info{}, err
		}
	}
}

// skipSubBlocks returns the offset after a list of sub-blocks. Each consists of its length and as
// many bytes; the list ends with length 0.
func skipSubBlocks(s *source, off int64) (int64, error) {
	for {
		length, err := s.view(off, 1)
		if err != nil {
			return 0, err
		}
		off += 1 + int64(length[0])
		if length[0] == 0 {
			return off, nil
		}
	}
}

// isBMP reports whether a file begins as a BMP. The letters BM alone are not enough, because texts
// begin with them too: the header must have a known length and one plane.
func isBMP(head []byte) bool {
	if len(head) < 28 || string(head[:2]) != "BM" {
		return false
	}
	switch binary.LittleEndian.Uint32(head[14:]) {
	case bmpCoreLen:
		return binary.LittleEndian.Uint16(head[22:]) == 1
	case 40, 52, 56, 64, 108, 124: // Windows 3, two intermediate versions, OS/2 2, Windows 4 and 5
		return binary.LittleEndian.Uint16(head[26:]) == 1
	}
	return false
}

// bmpCoreLen is the length of the header of OS/2 1, whose fields are half as wide.
const bmpCoreLen = 12

// probeBMP parses the header itself, because golang.org/x/image/bmp rejects run-length encoded,
// 16-bit and OS/2 files, which every viewer displays.
func probeBMP(s *source) (Info, error) {
	const fileHeaderLen = 14
	head, err := s.view(0, fileHeaderLen+bmpCoreLen)
	if err != nil {
		return Info{}, err
	}
	headerLen := binary.LittleEndian.Uint32(head[14:])
	if headerLen != bmpCoreLen {
		if head, err = s.view(0, fileHeaderLen+40); err != nil {
			return Info{}, err
		}
	}
	pixels := int64(binary.LittleEndian.Uint32(head[10:]))

	var width, height, depth int
	var compression, compressed uint32
	if headerLen == bmpCoreLen {
		width = int(binary.LittleEndian.Uint16(head[18:]))
		height = int(binary.LittleEndian.Uint16(head[20:]))
		depth = int(binary.LittleEndian.Uint16(head[24:]))
	} else {
		width = int(int32(binary.LittleEndian.Uint32(head[18:])))
		height = int(int32(binary.LittleEndian.Uint32(head[22:])))
		depth = int(binary.LittleEndian.Uint16(head[28:]))
		compression = binary.LittleEndian.Uint32(head[30:])
		compressed = binary.LittleEndian.Uint32(head[34:]) // bytes; often 0 for uncompressed pixels
	}
	if height < 0 { // rows are stored from top to bottom
		height = -height
	}
	if err := checkDimensions(width, height); err != nil {
		return Info{}, err
	}
	switch depth {
	case 1, 2, 4, 8, 16, 24, 32:
	default:
		return Info{}, errUnreadable
	}

	const runLength8, runLength4, alphaBitFields = 1, 2, 6
	need := int64((width*depth+31)/32*4) * int64(height)
	switch {
	case compression == runLength8, compression == runLength4:
		need = max(1, int64(compressed))
	case compression > alphaBitFields, compression == 4, compression == 5: // embedded JPEG and PNG, for printers
		return Info{}, errUnreadable
	}
	if pixels < fileHeaderLen+int64(headerLen) || need > s.size-pixels {
		return Info{}, errTruncated
	}
	return picture(width, height, 0)
}
