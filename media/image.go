package media

import (
	"compress/lzw"
	"encoding/binary"
	"errors"
	"image/gif"
	"image/png"
	"io"
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
		if length > s.size-off-overhead && kind != "IEND" { // whose checksum does not matter
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

// probeGIF walks the blocks to the end of the first picture. What follows it, such as zeros,
// further frames or no trailer, does not matter: players display the frames that they find.
func probeGIF(s *source) (Info, error) {
	config, err := gif.DecodeConfig(s.reader(0, s.size))
	if err != nil {
		return Info{}, err
	}

	const (
		screenLen = 13
		extension = 0x21
		frame     = 0x2c
	)
	head, err := s.view(0, screenLen)
	if err != nil {
		return Info{}, err
	}
	for off := screenLen + gifTableLen(head[10]); ; {
		kind, err := s.view(off, 1)
		if err != nil {
			return Info{}, err
		}
		switch kind[0] {
		case extension:
			if off, err = skipSubBlocks(s, off+2); err != nil {
				return Info{}, err
			}
		case frame:
			return probeGIFFrame(s, off, config.Width, config.Height)
		default:
			return Info{}, errNoPicture
		}
	}
}

// probeGIFFrame returns the Info of a GIF whose first frame is at off. The screen of the file
// header is enlarged to contain that frame, as in browsers. Some encoders leave the screen empty.
func probeGIFFrame(s *source, off int64, screenWidth, screenHeight int) (Info, error) {
	const frameLen = 10
	b, err := s.view(off, frameLen)
	if err != nil {
		return Info{}, err
	}
	field := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	left, top, width, height, flags := field(1), field(3), field(5), field(7), b[frameLen-1]
	if width == 0 || height == 0 {
		return Info{}, errNoPicture
	}
	info, err := picture(max(screenWidth, left+width), max(screenHeight, top+height), 0)
	if err != nil {
		return Info{}, err
	}

	off += frameLen + gifTableLen(flags)
	codeSize, err := s.view(off, 1)
	if err != nil {
		return Info{}, err
	}
	size := int(codeSize[0])
	if size < 1 || size > 8 {
		return Info{}, errUnreadable
	}
	off++
	if _, err = skipSubBlocks(s, off); errors.Is(err, errTruncated) {
		// The file is complete if only the end of the list is missing, after the last pixel.
		*s.left = maxRead // the data are read again
		pixels := lzw.NewReader(&subBlocks{s: s, off: off}, lzw.LSB, size)
		_, err = io.CopyN(io.Discard, pixels, int64(width)*int64(height))
	}
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

// gifTableLen returns the length of a color table, which the flags of the screen or frame describe.
func gifTableLen(flags byte) int64 {
	const hasTable = 0x80
	if flags&hasTable == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
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

// subBlocks reads the bytes in a list of sub-blocks. If the file ends within the list, it fails
// with errTruncated.
type subBlocks struct {
	s    *source
	off  int64
	left int64 // bytes of the current sub-block, from off on
}

func (b *subBlocks) Read(p []byte) (int, error) {
	if b.left == 0 {
		length, err := b.s.view(b.off, 1)
		if err != nil {
			return 0, err
		}
		if length[0] == 0 {
			return 0, io.EOF
		}
		b.off, b.left = b.off+1, int64(length[0])
	}
	data, err := b.s.rest(b.off, min(b.off+b.left, b.s.size))
	if err != nil {
		return 0, err
	}
	n := copy(p, data)
	b.off, b.left = b.off+int64(n), b.left-int64(n)
	return n, nil
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
