package media

import (
	"encoding/binary"

	"golang.org/x/image/webp"
)

// probeWebP reads the first chunk, which contains the dimensions or the canvas, with the library,
// and walks the chunks to the end of the RIFF container. It does not apply an orientation in EXIF
// data, because Chromium does not do so for WebP either.
func probeWebP(s *source) (Info, error) {
	const headerLen, chunkLen = 12, 8
	head, err := s.view(0, headerLen)
	if err != nil {
		return Info{}, err
	}
	end := int64(binary.LittleEndian.Uint32(head[4:])) + 8
	if end == s.size+1 { // the padding of the last chunk is missing
		end = s.size
	}
	if end > s.size {
		return Info{}, errTruncated
	}
	config, err := webp.DecodeConfig(s.reader(0, end))
	if err != nil {
		return Info{}, err
	}

	hasPicture := false
	for off := int64(headerLen); off < end; {
		chunk, err := s.view(off, chunkLen)
		if err != nil {
			return Info{}, err
		}
		kind, length := string(chunk[:4]), int64(binary.LittleEndian.Uint32(chunk[4:]))
		off += chunkLen
		if length > end-off {
			return Info{}, errTruncated
		}
		if kind == "VP8 " || kind == "VP8L" || kind == "ANMF" { // a lossy picture, a lossless one, and a frame of an animation
			hasPicture = hasPicture || length > 0
		}
		off += length + length%2 // chunks begin at even offsets
	}
	if !hasPicture {
		return Info{}, errNoPicture
	}
	return picture(config.Width, config.Height, 0)
}
