// Package media stores uploaded files and determines from their bytes what kind of files they are.
//
// [Probe] does not trust names, request headers, or any field of the file that it can check. The
// first bytes alone determine the type: an HTML page that contains a GIF is not a GIF. Probe then
// walks the structure that a decoder needs, so that a file which only begins like a picture is
// rejected. Once it has found a complete picture or track, the bytes behind it do not matter:
// browsers display files with a missing end marker or an appended tag. SVG and HTML never count as
// pictures, because they can run scripts.
//
//	JPEG PNG GIF WebP BMP TIFF     dimensions
//	MP3                            duration
//	MP4 M4A MOV                    duration, codecs, dimensions of the first frame
//
// Everything else is application/octet-stream, which is not an error. This includes MP4 files from
// before the ftyp box or without a movie, MPEG audio with junk before its first frame, BigTIFF,
// HEIC and AVIF.
//
// # What the numbers mean
//
// Width and height are those of the picture as displayed, which is the space that a page reserves
// for it: the orientation of JPEG, PNG and TIFF files and the rotation of a video's track are
// applied. For an animation, they are those of its canvas, which for GIF is enlarged to contain the
// first frame. For H.264 and H.265, they are those of the sequence parameter set after cropping, or
// those of the track's sample entry if there is no such set. Pixels are assumed to be square.
//
// The duration is the time that the tracks play: their edit list if they have one, otherwise the
// sum of their samples. The duration in the movie's header is used only if the tracks have none.
// The duration of an MP3 is the sum of its frames.
//
// # What a hostile file costs
//
// Probe reads at most 12 MiB and allocates far less than 1 MiB, whatever the size of the file and
// the numbers in it. That is enough for every image and audio file that a message may contain, and
// for videos of any length, whose samples are skipped; larger images are rejected. Every loop
// advances through the file or counts down a limit, recursion is no deeper than the nesting of a
// movie's boxes, and no allocation is sized by a number in the file that was not compared with a
// limit first. A JPEG or GIF whose end is missing is read a second time and decompressed, which
// takes up to a second of CPU time, but not stored. The time depends on the storage behind the
// reader, so Probe takes a context.
package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits on what a file may claim. Files that exceed them are rejected, not truncated.
const (
	// maxSide is the longest side of a picture in pixels, which is the most that JPEG, GIF and most
	// decoders support.
	maxSide = 65_535

	// maxPixels is about 134 megapixels. The largest photographs that fit in 10 MB have 108.
	// Displaying 134 takes 512 MiB of a viewer's memory; more would harm viewers.
	maxPixels = 1 << 27

	// maxDuration is far beyond what fits in an upload, and prevents sums of durations from
	// overflowing.
	maxDuration = 30 * 24 * time.Hour
)

// Content types that Probe recognizes. All other files are Unknown.
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

// Info describes a file. Fields that do not apply to its type are zero.
type Info struct {
	ContentType string

	// Width and Height are in pixels, as displayed; see the package documentation.
	Width, Height int

	// Duration is that of audio or video. It is zero for animated pictures.
	Duration time.Duration

	// VideoCodec is h264, h265, av1, vp8, vp9, mpeg4, prores or other; empty for a file without
	// moving pictures.
	VideoCodec string

	// AudioCodec is aac, alac, mp3, ac3, eac3, opus, flac, pcm, amr or other; empty for a file
	// without sound.
	AudioCodec string
}

// BrokenError means that a file begins as a known type but is not a valid file of it: it is
// truncated, contains wrong numbers, or exceeds a limit. It may still be stored as a file of type
// Unknown.
type BrokenError struct {
	ContentType string // the type that it begins as
	Reason      string // a sentence for people
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("media: broken %s: %s", e.ContentType, e.Reason)
}

// Probe determines what kind of file the size bytes behind r are.
//
// A file of an unrecognized type is Unknown, without an error. A file that begins as a known type
// and is broken is Unknown, with a *BrokenError. Every other error is r's own or the context's, and
// says nothing about the file.
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
	case s.failed != nil: // checked first, because a library may have wrapped it or mistaken it for the end of the file
		return Info{ContentType: Unknown}, fmt.Errorf("media: read: %w", s.failed)
	case errors.Is(err, errUnknown):
		return Info{ContentType: Unknown}, nil
	case errors.As(err, &reason):
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(reason)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(errTruncated)}
	case err != nil: // an error of a library, which is not written for users
		return Info{ContentType: Unknown}, &BrokenError{ContentType: contentType, Reason: string(errUnreadable)}
	}
	if info.ContentType == "" {
		info.ContentType = contentType
	}
	return info, nil
}

// broken is the reason why a file is rejected, as a sentence for people.
type broken string

func (b broken) Error() string { return string(b) }

const (
	errTruncated  = broken("The file ends too early.")
	errUnreadable = broken("The file is damaged.")
	errNoPicture  = broken("The file contains no picture.")
	errTooComplex = broken("The structure of the file is too complex.")
	errTooLarge   = broken("The file is too large to be checked.")
	errTooLong    = broken("The file claims to be too long.")
)

// errUnknown means that a file turned out not to be of the type that its first bytes suggested.
var errUnknown = errors.New("unknown type")

// A prober reads a file whose first bytes have been recognized. It leaves the type empty if it is
// the one that was sniffed.
type prober func(*source) (Info, error)

// sniff determines the type from the first bytes. The prober is nil for a file of an unrecognized
// type.
//
// The nine signatures are spelled out here rather than taken from a library with about 170 of them.
// Such libraries guess: they recognize MP3 and BMP by two bytes and search for HTML, and those
// guesses would have to be undone here.
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
	case isID3(head), startsWithFrames(s): // last, because it reads further, which invalidates head
		return MP3, probeMP3
	}
	return Unknown, nil
}

// sniffLen is how many bytes determine the type. The header of BMP needs the most.
const sniffLen = 32

// checkDimensions rejects pictures that are empty, or larger than a viewer should have to display.
func checkDimensions(width, height int) error {
	if width <= 0 || height <= 0 {
		return errNoPicture
	}
	if width > maxSide || height > maxSide || width*height > maxPixels {
		return broken(fmt.Sprintf("The picture claims to have %d × %d pixels, which is too large.", width, height))
	}
	return nil
}

// picture returns the Info of an image after checking its dimensions. orientation is that of EXIF:
// from 5 to 8, the picture is rotated by 90 degrees.
func picture(width, height, orientation int) (Info, error) {
	if err := checkDimensions(width, height); err != nil {
		return Info{}, err
	}
	if orientation >= 5 && orientation <= 8 {
		width, height = height, width
	}
	return Info{Width: width, Height: height}, nil
}

// seconds converts units of a clock to a duration.
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
