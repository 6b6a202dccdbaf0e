package media

import (
	"bytes"
	"encoding/binary"
)

const (
	// maxWalk is how many bytes of an MP3 are walked. It covers the largest audio message, of 6 MB,
	// to its end. The duration of a longer file is estimated from these bytes.
	maxWalk = 8 << 20

	// maxTags is how many consecutive ID3v2 tags are skipped. Some programs add a second one before
	// the first.
	maxTags = 8

	// clock is the number of units per second in which the duration of an MP3 is added up. Each of
	// the nine sample rates divides it.
	clock = 14_112_000

	// maxPadding is how many zeros may follow the tags. Some programs do not count them in the size
	// of the tag.
	maxPadding = 64 << 10
)

// frame is the header of an MPEG audio frame.
type frame struct {
	length  int64 // bytes, including the header
	samples uint64
	rate    uint64 // samples per second
	mpeg1   bool
	mono    bool
}

// frameHeaderLen is the length of the part of a frame that contains its length.
const frameHeaderLen = 4

// parseFrame parses the header of a layer III frame of MPEG 1, 2 or 2.5 (ISO/IEC 11172-3, 2.4.1.3;
// ISO/IEC 13818-3, 2.4.2.3; and the unofficial extension to the lowest sample rates). Frames of the
// free format, which do not contain their length, are rejected.
//
// No maintained library parses these headers correctly: mediacommon does not support MPEG 2.5 and
// doubles the length of MPEG 2 frames, and go-mp3 decodes the audio.
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

// continues reports whether a frame can follow another one of the same stream.
func (f frame) continues(g frame) bool {
	return f.rate == g.rate && f.mpeg1 == g.mpeg1
}

// frameAt parses the header at off. ok is false if there is none; an error means that reading
// failed.
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

// twoFramesAt reports whether there is a frame at off, directly followed by another one. The eleven
// sync bits alone occur by chance.
func twoFramesAt(s *source, off int64) (f frame, ok bool, err error) {
	f, ok, err = frameAt(s, off)
	if err != nil || !ok {
		return f, false, err
	}
	g, ok, err := frameAt(s, off+f.length)
	return f, ok && g.continues(f), err
}

// startsWithFrames reports whether a file without tags is an MP3.
func startsWithFrames(s *source) bool {
	_, ok, err := twoFramesAt(s, 0)
	return ok && err == nil
}

// probeMP3 counts the samples of all frames. It ignores the number of frames in a Xing, Info or
// VBRI header, because a user could fake it to make the audio appear shorter.
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
		return Info{}, broken("The file contains no MP3 audio.")
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
		if err == nil && ok && !f.continues(last) { // players accept a stream that changes
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
		if f.length > s.size-off { // truncated, as recordings of streams are
			break
		}
		units += f.samples * (clock / f.rate)
		sound += f.length
		off += f.length
		last = f
	}
	walked := off - begin
	if sound < walked/2 || sound == 0 {
		return Info{}, broken("The file contains little MP3 audio among other data.")
	}
	if end < s.size {
		units = uint64(float64(units) / float64(walked) * float64(s.size-begin))
	}

	duration, err := seconds(units, clock)
	return Info{Duration: duration, AudioCodec: "mp3"}, err
}

// nextFrame returns the offset of the next two consecutive frames, or end if there are none.
// Players skip junk as well, so it cannot be used to hide sound.
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

// isDescription reports whether the first frame contains no sound but describes the others. Xing
// and Info follow the side information, whose length depends on the version and channels; VBRI is
// at a fixed offset.
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

// isID3 reports whether head begins with an ID3v2 tag. Each byte of its size has seven bits, so
// that no byte looks like the start of a frame.
func isID3(head []byte) bool {
	return len(head) >= id3HeaderLen && string(head[:3]) == "ID3" &&
		head[3] >= 2 && head[3] <= 4 && binary.BigEndian.Uint32(head[6:])&0x80808080 == 0
}

// skipTags returns the offset after the ID3v2 tags at the start. It does not read their content, so
// that large pictures in them cost nothing.
func skipTags(s *source) (int64, error) {
	off := int64(0)
	for range maxTags {
		if off > s.size-id3HeaderLen {
			return 0, errTruncated
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
