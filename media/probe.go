// Package media says what an uploaded file is, from its bytes alone.
//
// [Probe] never believes a name, a header of the request or a field of the file that it can check. The type is decided
// by the first bytes, and only by them: a page of HTML that has a GIF further in is no GIF. Then the structure that a
// decoder needs is walked to its end, so that a file which merely begins like a picture is refused as one. SVG and HTML
// are never pictures, as they run scripts.
//
//	JPEG PNG GIF WebP BMP TIFF     dimensions
//	MP3                            duration
//	MP4 M4A MOV                    duration, codecs, dimensions of the first frame
//
// Everything else is application/octet-stream, without an error. So are MP4 files of before the ftyp box, MPEG audio
// with junk before its first frame, BigTIFF, HEIC and AVIF.
//
// # What the numbers mean
//
// Width and height are those of the picture as it is displayed, which is what a page reserves room for: the orientation
// that JPEG, PNG and TIFF files ask for and the rotation of a video's track are applied. Those of an animation are its
// canvas. Those of H.264 and H.265 are what the sequence parameter set leaves after cropping, and those of the track's
// sample entry where there is no such set. Pixels are taken to be square.
//
// A duration is what the tracks play: their edit list where they have one, else the sum of their samples. What the
// movie's header says counts only where tracks say nothing. The duration of an MP3 is the sum of its frames.
//
// # What a hostile file costs
//
// At most 12 MiB are read and far less than 1 MiB is allocated, whatever the file's size and claims. That is enough for
// every picture and sound that a message may carry, and for films of any length, whose pictures and sound are skipped;
// larger pictures are refused. Every loop advances
// through the file or counts down a limit, nothing recurses deeper than boxes of a movie lie in each other, and nothing
// is sized by a number in the file that was not compared with a limit first. How long it takes depends on the storage
// behind the reader, so Probe takes a context.
package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of what is believed. Who exceeds them is refused, not cut.
const (
	// maxSide is the longest side of a picture in pixels: the most that JPEG, GIF and most decoders can hold.
	maxSide = 65_535

	// maxPixels is about 134 megapixels. The largest photographs that come in 10 MB have 108; shown, they take
	// 512 MiB of a viewer's memory, so more would harm those who look.
	maxPixels = 1 << 27

	// maxDuration is far beyond what fits into an upload, and keeps sums of durations from overflowing.
	maxDuration = 30 * 24 * time.Hour
)

// ContentTypes that Probe knows. Every other file is Unknown.
const (
	JPEG      = "image/jpeg"
	PNG       = "image/png"
	GIF       = "image/gif"
	WebP      = "image/webp"
	BMP       = "image/bmp"
	TIFF      = "image/tiff"
	MP3       = "audio/mpeg"
	M4A       = "audio/mp4" // also an MP4 file without a video track
	MP4       = "video/mp4"
	QuickTime = "video/quicktime" // also without a video track
	Unknown   = "application/octet-stream"
)

// Info is what the bytes say of a file. Fields that do not apply to its type are zero.
type Info struct {
	ContentType string

	// Width and Height are in pixels, as displayed: see the package's documentation.
	Width, Height int

	// Duration of sound and video. It is zero for animated pictures.
	Duration time.Duration

	// VideoCodec is empty for a file without moving pictures, else one of h264, h265, av1, vp8, vp9, mpeg4, prores
	// and other.
	VideoCodec string

	// AudioCodec is empty for a file without sound, else one of aac, alac, mp3, ac3, eac3, opus, flac, pcm, amr and
	// other.
	AudioCodec string
}

// BrokenError says that a file begins as a known type and is none: it was cut, it lies, or it wants more than the limits
// allow. It may still be kept as a file like any other, of type Unknown.
type BrokenError struct {
	ContentType string // the type that it begins as
	Reason      string // a sentence for people
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("media: broken %s: %s", e.ContentType, e.Reason)
}

// Probe says what the file of size bytes behind r is.
//
// A file of no known type is Unknown, without an error. One that begins as a known type and is broken is Unknown with a
// *BrokenError. Every other error is r's own or the context's, and says nothing about the file.
func Probe(ctx context.Context, r io.ReaderAt, size int64) (Info, error) {
	s := newSource(ctx, r, size)
	contentType, probe := sniff(s)
	if s.failed != nil {
		return Info{ContentType: Unknown}, fmt.Errorf("media: read: %w", s.failed)
	}
	if probe == nil {
		return Info{ContentType: Unknown}, nil
	}

	info, err := probe(s)
	var reason broken
	switch {
	case s.failed != nil: // first, as a library may have wrapped it, or taken it for the end of the file
		return Info{ContentType: Unknown}, fmt.Errorf("media: read: %w", s.failed)
	case errors.Is(err, errUnknown):
		return Info{ContentType: Unknown}, nil
	case errors.As(err, &reason):
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(reason)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(errCut)}
	case err != nil: // a library's, in words that are not for people
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(errUnreadable)}
	}
	if info.ContentType == "" {
		info.ContentType = contentType
	}
	return info, nil
}

// broken is the reason why a file is refused, a sentence for people.
type broken string

func (b broken) Error() string { return string(b) }

const (
	errCut        = broken("The file ends too early.")
	errUnreadable = broken("The file cannot be read.")
	errNoPicture  = broken("The file holds no picture.")
	errTooComplex = broken("The file is put together in too complicated a way.")
	errTooLarge   = broken("The file is too large to be looked through.")
	errTooLong    = broken("The file claims to last too long.")
)

// errUnknown says that a file is not of the type that it was taken for, and that nobody could have told sooner.
var errUnknown = errors.New("unknown type")

// prober reads a file whose first bytes are right. The type is left empty when it is the one that was sniffed.
type prober func(*source) (Info, error)

// sniff decides by the first bytes. The prober is nil for a file of no known type.
//
// Nine signatures are spelled out here rather than taken from a library of some hundred and seventy: those answer what a
// file might be, by two bytes for MP3 and BMP and by searches for HTML, and then a decision of theirs would have to be
// undone.
func sniff(s *source) (contentType string, probe prober) {
	head, err := s.view(0, int(min(s.size, sniffLen)))
	if err != nil {
		return Unknown, nil
	}
	starts := func(signature string) bool {
		return len(head) >= len(signature) && string(head[:len(signature)]) == signature
	}

	switch {
	case starts("\xff\xd8\xff"):
		return JPEG, probeJPEG
	case starts("\x89PNG\r\n\x1a\n"):
		return PNG, probePNG
	case starts("GIF87a"), starts("GIF89a"):
		return GIF, probeGIF
	case starts("II*\x00"), starts("MM\x00*"):
		return TIFF, probeTIFF
	case starts("RIFF") && len(head) >= 12 && string(head[8:12]) == "WEBP":
		return WebP, probeWebP
	case isBMP(head):
		return BMP, probeBMP
	case len(head) >= 12 && string(head[4:8]) == "ftyp":
		if string(head[8:12]) == brandQuickTime {
			return QuickTime, probeMP4
		}
		return MP4, probeMP4
	case isID3(head), startsWithFrames(s): // the last, as it reads on and head is gone then
		return MP3, probeMP3
	}
	return Unknown, nil
}

// sniffLen is how many bytes decide a type; BMP's header needs the most.
const sniffLen = 32

// checkDimensions refuses pictures that are empty, or larger than a viewer should be asked to show.
func checkDimensions(width, height int) error {
	if width <= 0 || height <= 0 {
		return errNoPicture
	}
	if width > maxSide || height > maxSide || width*height > maxPixels {
		return broken(fmt.Sprintf("The picture claims to have %d × %d pixels, which is too large.", width, height))
	}
	return nil
}

// picture is the info of an image, after its dimensions were checked. Orientation is that of EXIF: from 5 on, the picture
// lies on its side.
func picture(width, height, orientation int) (Info, error) {
	if err := checkDimensions(width, height); err != nil {
		return Info{}, err
	}
	if orientation >= 5 && orientation <= 8 {
		width, height = height, width
	}
	return Info{Width: width, Height: height}, nil
}

// seconds turns units of a clock into a duration.
func seconds(units, perSecond uint64) (time.Duration, error) {
	if perSecond == 0 || perSecond > 1<<32 {
		return 0, errUnreadable
	}
	whole := units / perSecond
	if whole > uint64(maxDuration/time.Second) {
		return 0, errTooLong
	}
	rest := units % perSecond * uint64(time.Second) / perSecond
	return time.Duration(whole)*time.Second + time.Duration(rest), nil
}
