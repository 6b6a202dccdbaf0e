package media

import (
	"bytes"
	"encoding/binary"
)

const (
	// maxWalk is how many bytes of an MP3 are walked. It covers the largest audio message, of 6 MB, to its end; the
	// duration of what is longer is estimated from this much.
	maxWalk = 8 << 20

	// maxTags is how many ID3v2 tags may follow each other. Careless programs put a second one before the first.
	maxTags = 8

	// clock is in how many units per second an MP3's duration is added up: each of the nine rates divides it.
	clock = 14_112_000

	// maxPadding is how many zeros may follow the tags: some programs forget them in the tag's size.
	maxPadding = 64 << 10
)

// frame is what the header of an MPEG audio frame says.
type frame struct {
	length  int64 // bytes, header included
	samples uint64
	rate    uint64 // samples per second
	mpeg1   bool
	mono    bool
}

// frameHeaderLen is the part of a frame that says how long it is.
const frameHeaderLen = 4

// parseFrame reads the header of a frame of layer III in MPEG 1, 2 or 2.5 (ISO/IEC 11172-3 2.4.1.3, 13818-3 2.4.2.3, and
// the industry's addition of the lowest rates). Frames of the free format, whose length nothing says, are not taken.
//
// No kept library reads these headers rightly: mediacommon's knows no MPEG 2.5 and gives MPEG 2 frames twice their
// length, and go-mp3 decodes the sound.
func parseFrame(b []byte) (frame, bool) {
	if len(b) < frameHeaderLen || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return frame{}, false
	}
	const reserved, layer3 = 1, 1
	version, layer := b[1]>>3&3, b[1]>>1&3
	bitrate, rate, padding := b[2]>>4, b[2]>>2&3, b[2]>>1&1
	if version == reserved || layer != layer3 || bitrate == 0 || bitrate == 15 || rate == 3 {
		return frame{}, false
	}

	f := frame{mpeg1: version == 3, mono: b[3]>>6 == 3}
	f.rate = [...]uint64{44_100, 48_000, 32_000}[rate]
	var bitsPerSecond int64
	if f.mpeg1 {
		f.samples = 1152
		bitsPerSecond = 1000 * [...]int64{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}[bitrate]
	} else {
		f.samples = 576
		f.rate /= 2
		if version == 0 { // MPEG 2.5
			f.rate /= 2
		}
		bitsPerSecond = 1000 * [...]int64{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}[bitrate]
	}
	f.length = int64(f.samples)/8*bitsPerSecond/int64(f.rate) + int64(padding)
	return f, true
}

// continues tells whether a frame may follow another of the same stream.
func (f frame) continues(g frame) bool {
	return f.rate == g.rate && f.mpeg1 == g.mpeg1
}

// frameAt reads the header at off. Where there is none, it is not ok; an error is one of reading.
func frameAt(s *source, off int64) (f frame, ok bool, err error) {
	if off > s.size-frameHeaderLen {
		return frame{}, false, nil
	}
	b, err := s.view(off, frameHeaderLen)
	if err != nil {
		return frame{}, false, err
	}
	f, ok = parseFrame(b)
	return f, ok, nil
}

// twoFramesAt tells whether there is a frame at off and another right behind it: eleven bits alone are met by chance.
func twoFramesAt(s *source, off int64) (f frame, ok bool, err error) {
	f, ok, err = frameAt(s, off)
	if err != nil || !ok {
		return f, false, err
	}
	g, ok, err := frameAt(s, off+f.length)
	return f, ok && g.continues(f), err
}

// startsWithFrames tells whether a file without tags is an MP3.
func startsWithFrames(s *source) bool {
	_, ok, err := twoFramesAt(s, 0)
	return ok && err == nil
}

// probeMP3 counts the samples of all frames. What a Xing, Info or VBRI header says of their number is not asked, as
// whoever wants to pass for shorter would write it.
func probeMP3(s *source) (Info, error) {
	start, err := skipTags(s)
	if err != nil {
		return Info{}, err
	}
	first, ok, err := twoFramesAt(s, start)
	if err != nil {
		return Info{}, err
	}
	if !ok {
		return Info{}, broken("The file holds no MP3 sound.")
	}

	off := start
	if described, err := isDescription(s, off, first); err != nil {
		return Info{}, err
	} else if described {
		off += first.length
	}
	begin, end := off, min(s.size, start+maxWalk)
	var units uint64
	var sound int64
	for last := first; off < end; {
		f, ok, err := frameAt(s, off)
		if err == nil && ok && !f.continues(last) { // players follow a stream that changes
			f, ok, err = twoFramesAt(s, off)
		}
		if err != nil {
			return Info{}, err
		}
		if !ok {
			if off, err = nextFrame(s, off+1, end); err != nil {
				return Info{}, err
			}
			continue
		}
		if f.length > s.size-off { // cut, as recordings of streams are
			break
		}
		units += f.samples * (clock / f.rate)
		sound += f.length
		off += f.length
		last = f
	}
	walked := off - begin
	if sound < walked/2 || sound == 0 {
		return Info{}, broken("The file holds little MP3 sound among other data.")
	}
	if end < s.size {
		units = uint64(float64(units) / float64(walked) * float64(s.size-begin))
	}

	duration, err := seconds(units, clock)
	return Info{Duration: duration, AudioCodec: "mp3"}, err
}

// nextFrame looks for the next two frames from off on, and returns end where there are none. Players skip what lies
// between too, so that it would be of no use to hide sound behind a byte of junk.
func nextFrame(s *source, off, end int64) (int64, error) {
	for off < end {
		data, err := s.rest(off, end)
		if err != nil {
			return 0, err
		}
		at := bytes.IndexByte(data, 0xff)
		if at < 0 {
			off += int64(len(data))
			continue
		}
		off += int64(at)
		_, ok, err := twoFramesAt(s, off)
		if err != nil {
			return 0, err
		}
		if ok {
			return off, nil
		}
		off++
	}
	return end, nil
}

// isDescription tells whether the first frame has no sound but describes the others: Xing and Info stand after the side
// information, whose length depends on version and channels; VBRI stands at a fixed place.
func isDescription(s *source, off int64, f frame) (bool, error) {
	xing := frameHeaderLen + 32
	switch {
	case f.mpeg1 && f.mono, !f.mpeg1 && !f.mono:
		xing = frameHeaderLen + 17
	case !f.mpeg1:
		xing = frameHeaderLen + 9
	}
	const vbri, nameLen = frameHeaderLen + 32, 4
	if f.length < vbri+nameLen || f.length > s.size-off {
		return false, nil
	}
	b, err := s.view(off, vbri+nameLen)
	if err != nil {
		return false, err
	}
	name := string(b[xing : xing+nameLen])
	return name == "Xing" || name == "Info" || string(b[vbri:]) == "VBRI", nil
}

// id3HeaderLen is the length of the header of an ID3v2 tag, and of the footer that may repeat it.
const id3HeaderLen = 10

// isID3 tells whether an ID3v2 tag begins here. Its size has seven bits in each byte, so that no byte looks like the
// start of a frame.
func isID3(head []byte) bool {
	return len(head) >= id3HeaderLen && string(head[:3]) == "ID3" &&
		head[3] >= 2 && head[3] <= 4 && binary.BigEndian.Uint32(head[6:])&0x80808080 == 0
}

// skipTags returns the offset after the ID3v2 tags at the start. They are not read: however large the pictures in them
// are, they cost nothing.
func skipTags(s *source) (int64, error) {
	off := int64(0)
	for range maxTags {
		if off > s.size-id3HeaderLen {
			return 0, errCut
		}
		head, err := s.view(off, id3HeaderLen)
		if err != nil {
			return 0, err
		}
		if !isID3(head) {
			return skipZeros(s, off)
		}
		const hasFooter = 0x10
		size := int64(head[6])<<21 | int64(head[7])<<14 | int64(head[8])<<7 | int64(head[9])
		if head[5]&hasFooter != 0 {
			size += id3HeaderLen
		}
		off += id3HeaderLen + size
	}
	return 0, errTooComplex
}

func skipZeros(s *source, off int64) (int64, error) {
	for end := min(s.size, off+maxPadding); off < end; {
		data, err := s.rest(off, end)
		if err != nil {
			return 0, err
		}
		zeros := len(data) - len(bytes.TrimLeft(data, "\x00"))
		off += int64(zeros)
		if zeros < len(data) {
			break
		}
	}
	return off, nil
}
