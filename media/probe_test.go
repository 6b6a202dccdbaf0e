package media_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parlor/media"
)

func image(contentType string, width, height int) media.Info {
	return media.Info{ContentType: contentType, Width: width, Height: height}
}

func mp3(duration time.Duration) media.Info {
	return media.Info{ContentType: media.MP3, Duration: duration, AudioCodec: "mp3"}
}

func video(contentType string, width, height int, duration time.Duration, videoCodec, audioCodec string) media.Info {
	return media.Info{
		ContentType: contentType, Width: width, Height: height,
		Duration: duration, VideoCodec: videoCodec, AudioCodec: audioCodec,
	}
}

// fixtures contains what Probe should find in each file of testdata, as determined by ffprobe and
// identify; see its README.
var fixtures = map[string]media.Info{
	"baseline.jpg":    image(media.JPEG, 67, 43),
	"progressive.jpg": image(media.JPEG, 67, 43),

	"progressive_cmyk.jpg":    image(media.JPEG, 67, 43),
	"progressive_restart.jpg": image(media.JPEG, 67, 43),

	"cmyk.jpg":         image(media.JPEG, 67, 43),
	"gray.jpg":         image(media.JPEG, 67, 43),
	"restart.jpg":      image(media.JPEG, 67, 43),
	"separate.jpg":     image(media.JPEG, 67, 43),
	"orientation3.jpg": image(media.JPEG, 67, 43), // upside down, but not rotated by 90 degrees
	"orientation6.jpg": image(media.JPEG, 43, 67),

	"rgb8.png":         image(media.PNG, 67, 43),
	"rgb16.png":        image(media.PNG, 67, 43),
	"interlaced.png":   image(media.PNG, 67, 43),
	"palette.png":      image(media.PNG, 67, 43),
	"alpha.png":        image(media.PNG, 67, 43),
	"orientation6.png": image(media.PNG, 43, 67),

	"bottomup.bmp":  image(media.BMP, 67, 43),
	"topdown.bmp":   image(media.BMP, 67, 43),
	"os2.bmp":       image(media.BMP, 67, 43),
	"runlength.bmp": image(media.BMP, 67, 43),
	"alpha.bmp":     image(media.BMP, 67, 43),

	"little.tif":       image(media.TIFF, 67, 43),
	"big.tif":          image(media.TIFF, 67, 43),
	"cmyk.tif":         image(media.TIFF, 67, 43),
	"tiled.tif":        image(media.TIFF, 67, 43),
	"strips.tif":       image(media.TIFF, 67, 43),
	"orientation8.tif": image(media.TIFF, 43, 67),

	"still.gif":           image(media.GIF, 67, 43),
	"interlaced.gif":      image(media.GIF, 67, 43),
	"animated.gif":        image(media.GIF, 61, 37),
	"animated_offset.gif": image(media.GIF, 61, 37),
	"oversized.gif":       image(media.GIF, 77, 63), // the frame, at (10, 20), is not within the screen

	"lossy.webp":        image(media.WebP, 67, 43),
	"lossless.webp":     image(media.WebP, 67, 43),
	"alpha.webp":        image(media.WebP, 67, 43),
	"animated.webp":     image(media.WebP, 61, 37),
	"orientation6.webp": image(media.WebP, 67, 43), // browsers do not rotate it

	"cbr.mp3":      mp3(2064 * time.Millisecond),
	"cbr_bare.mp3": mp3(2064 * time.Millisecond),
	"vbr.mp3":      mp3(3060 * time.Millisecond),
	"vbr_bare.mp3": mp3(3060 * time.Millisecond),
	"abr.mp3":      mp3(3060 * time.Millisecond),
	"mono.mp3":     mp3(2052 * time.Millisecond),
	"mpeg2.mp3":    mp3(2088 * time.Millisecond),
	"mpeg25.mp3":   mp3(2142 * time.Millisecond),
	"id3v1.mp3":    mp3(2037 * time.Millisecond),
	"cover.mp3":    mp3(2064 * time.Millisecond),

	"aac.m4a":        video(media.M4A, 0, 0, 2*time.Second, "", "aac"),
	"alac.m4a":       video(media.M4A, 0, 0, 2*time.Second, "", "alac"),
	"audio_only.mp4": video(media.M4A, 0, 0, 2*time.Second, "", "aac"),
	"audio_only.mov": video(media.QuickTime, 0, 0, 2*time.Second, "", "aac"),

	"moov_last.mp4":           video(media.MP4, 150, 82, 2*time.Second, "h264", "aac"),
	"moov_first.mp4":          video(media.MP4, 150, 82, 2*time.Second, "h264", "aac"),
	"rotated.mp4":             video(media.MP4, 82, 150, 2*time.Second, "h264", "aac"),
	"video_only.mp4":          video(media.MP4, 150, 82, 2*time.Second, "h264", ""),
	"edited.mp4":              video(media.MP4, 150, 82, 1050*time.Millisecond, "h264", "aac"),
	"odd_444.mp4":             video(media.MP4, 151, 83, time.Second, "h264", ""),
	"interlaced.mp4":          video(media.MP4, 150, 84, 2*time.Second, "h264", ""),
	"h265.mp4":                video(media.MP4, 150, 82, 2*time.Second, "h265", ""),
	"fragmented.mp4":          video(media.MP4, 150, 82, 2200*time.Millisecond, "h264", "aac"),
	"fragmented_hybrid.mp4":   video(media.MP4, 150, 82, 2200*time.Millisecond, "h264", "aac"),
	"fragmented_separate.mp4": video(media.MP4, 150, 82, 2*time.Second, "h264", ""),
	"h264.mov":                video(media.QuickTime, 150, 82, 2*time.Second, "h264", "pcm"),
	"h265.mov":                video(media.QuickTime, 150, 82, 2*time.Second, "h265", ""),
}

func TestProbeFixtures(t *testing.T) {
	t.Parallel()

	for name, data := range fixtureFiles(t) {
		want, ok := fixtures[name]
		if !ok {
			t.Errorf("%s is not in fixtures", name)
			continue
		}
		checkProbed(t, name, data, want)
	}
}

// displayable contains the lengths from which on a truncated picture is complete, because only what
// follows its data is missing: an end marker, further frames of a GIF, or padding.
var displayable = map[string]int{
	"baseline.jpg":     730,
	"cmyk.jpg":         1291,
	"gray.jpg":         482,
	"restart.jpg":      730,
	"separate.jpg":     1067,
	"orientation3.jpg": 830,
	"orientation6.jpg": 850,

	"progressive.jpg":         970,
	"progressive_cmyk.jpg":    1812,
	"progressive_restart.jpg": 1084,

	"rgb8.png":         6138,
	"rgb16.png":        16065,
	"interlaced.png":   16285,
	"palette.png":      1197,
	"alpha.png":        18138,
	"orientation6.png": 6240,

	"still.gif":           1603,
	"interlaced.gif":      1623,
	"oversized.gif":       1603,
	"animated.gif":        105,
	"animated_offset.gif": 105,
	"lossless.webp":       6115,
}

// TestProbePrefixes truncates each file at every byte of its headers, and at some positions in
// between. Only displayable pictures, MP3s and fragmented videos may be accepted, because they can
// be played up to that point, but never with a longer duration or other dimensions.
func TestProbePrefixes(t *testing.T) {
	t.Parallel()

	for name, data := range fixtureFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			const dense, sparse = 768, 127
			for n := 0; n < len(data); n++ {
				if n > dense && n < len(data)-dense/2 && n%sparse != 0 {
					continue
				}
				got, err := probe(t, data[:n])
				complete, listed := displayable[name]
				if listed && n >= complete {
					if err != nil || got != fixtures[name] {
						t.Fatalf("%d of %d bytes, which are displayable: %+v, %v", n, len(data), got, err)
					}
					continue
				}
				if err != nil || got.ContentType == media.Unknown {
					checkRefusal(t, got, err)
					continue
				}
				whole := fixtures[name]
				if got.ContentType != media.MP3 && !strings.HasPrefix(name, "fragmented") {
					t.Fatalf("%d of %d bytes are accepted as the whole file: %+v", n, len(data), got)
				}
				if got.Duration > whole.Duration+time.Millisecond || got.Width != whole.Width || got.Height != whole.Height {
					t.Fatalf("%d of %d bytes: %+v, want at most %+v", n, len(data), got, whole)
				}
			}
		})
	}
}

// TestProbeSurroundings checks that the bytes behind and around a complete picture or track do not
// matter. Chromium plays or displays these files, with two exceptions, which it leaves blank: a
// WebP without padding, and separate.jpg without an end marker.
func TestProbeSurroundings(t *testing.T) {
	t.Parallel()

	files := fixtureFiles(t)
	trailers := map[string][]byte{
		"ID3v1":          files["id3v1.mp3"][len(files["id3v1.mp3"])-128:],
		"APE":            append([]byte("APETAGEX\xd0\x07\x00\x00\x20\x00\x00\x00"), make([]byte, 16)...),
		"text":           []byte("These are no boxes."),
		"zeros":          make([]byte, 50),
		"a tiny box":     []byte("\x00\x00\x00\x04free, and more"),
		"half a box":     []byte("\x00\x00\x10\x00uuid"),
		"half a header":  []byte("\x00\x00\x00\x01uuid\x00\x00"),
		"a chunk's half": []byte("\x00\x00\x10\x00tEXt"),
	}
	for name, data := range files {
		if strings.HasSuffix(name, ".mp3") { // see TestProbeIgnoresFalseClaims
			continue
		}
		for kind, trailer := range trailers {
			checkProbed(t, name+" and "+kind, slices.Concat(data, trailer), fixtures[name])
		}
	}

	gif := files["still.gif"]
	screen := func(width, height byte) []byte {
		return slices.Concat(gif[:6], []byte{width, 0, height, 0}, gif[10:])
	}
	end := len(gif) - len(";")
	checkProbed(t, "GIF with zeros before the trailer", slices.Concat(gif[:end], []byte("\x00\x00\x00;")), fixtures["still.gif"])
	checkProbed(t, "GIF without a trailer", gif[:end], fixtures["still.gif"])
	checkProbed(t, "GIF with text for a trailer", slices.Concat(gif[:end], []byte("text")), fixtures["still.gif"])
	checkProbed(t, "GIF without a screen", screen(0, 0), fixtures["still.gif"])
	checkProbed(t, "GIF with a small screen", screen(5, 5), fixtures["still.gif"])
	checkProbed(t, "GIF with a screen without width", screen(0, 255), image(media.GIF, 67, 255))

	for _, name := range []string{"baseline.jpg", "progressive.jpg", "progressive_restart.jpg", "orientation6.jpg", "restart.jpg"} {
		data := files[name]
		for _, marker := range []string{"\xff\xdb", "\xff\xc4", "\xff\xda"} {
			at := bytes.Index(data, []byte(marker))
			for _, stray := range []string{"\x00", "stray bytes", "\xff\x00", "\xff\xff\xff"} {
				checkProbed(t, fmt.Sprintf("%s with %q before %q", name, stray, marker), slices.Concat(data[:at], []byte(stray), data[at:]), fixtures[name])
			}
		}
	}

	for name, length := range displayable {
		if strings.HasSuffix(name, ".jpg") {
			for kind, trailer := range trailers {
				checkProbed(t, name+" with "+kind+" for an end marker", slices.Concat(files[name][:length], trailer), fixtures[name])
			}
			checkProbed(t, name+" with another JPEG for an end marker", slices.Concat(files[name][:length], files["progressive.jpg"]), fixtures[name])
		}
	}

	webp := files["lossless.webp"] // its only chunk has an odd length
	unpadded := withUint32(webp[:len(webp)-1], 4, uint32(len(webp)-9))
	checkProbed(t, "WebP that does not count the missing padding", unpadded, fixtures["lossless.webp"])
}

// TestProbeBrands checks that the brands of an MP4 do not matter.
func TestProbeBrands(t *testing.T) {
	t.Parallel()

	for _, name := range []string{"moov_first.mp4", "moov_last.mp4", "fragmented.mp4", "aac.m4a"} {
		data := fixtureFiles(t)[name]
		end := binary.BigEndian.Uint32(data)
		for _, brand := range []string{"3gp4", "3gp6", "3g2a", "iso8", "iso9", "M4VP", "M4VH", "M4P ", "f4v ", "F4V ", "F4A ", "mmp4", "NDSC", "XAVC", "cmfc", "av01", "hvc1", "????"} {
			branded := slices.Concat(data[:8], []byte(brand), data[12:16], bytes.Repeat([]byte(brand), int(end-16)/4), data[end:])
			checkProbed(t, name+" of brand "+brand, branded, fixtures[name])
		}
	}
}

// TestProbeReader checks that failures of the storage are not mistaken for broken files.
func TestProbeReader(t *testing.T) {
	t.Parallel()

	data := fixtureFiles(t)["moov_last.mp4"]
	failure := errors.New("storage is gone")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()

	for name, test := range map[string]struct {
		ctx    context.Context
		reader io.ReaderAt
		want   error
	}{
		"at once":    {t.Context(), failingReader{data, 0, failure}, failure},
		"further in": {t.Context(), failingReader{data, 4096, failure}, failure},
		"shorter":    {t.Context(), bytes.NewReader(data[:len(data)-1]), io.ErrUnexpectedEOF},
		"canceled":   {canceled, bytes.NewReader(data), context.Canceled},
	} {
		info, err := media.Probe(test.ctx, test.reader, int64(len(data)))
		var refused *media.BrokenError
		if !errors.Is(err, test.want) || errors.As(err, &refused) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if info.ContentType != media.Unknown {
			t.Errorf("%s: %+v", name, info)
		}
	}
	if info, err := media.Probe(t.Context(), bytes.NewReader(nil), -1); err != nil || info.ContentType != media.Unknown {
		t.Errorf("a negative size: %+v, %v", info, err)
	}
}

// failingReader fails for reads beyond the first good bytes.
type failingReader struct {
	data []byte
	good int64
	err  error
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.good {
		return 0, r.err
	}
	return copy(p, r.data[off:]), nil
}

func probe(t testing.TB, data []byte) (media.Info, error) {
	t.Helper()
	return media.Probe(t.Context(), bytes.NewReader(data), int64(len(data)))
}

func checkProbed(t *testing.T, name string, data []byte, want media.Info) {
	t.Helper()
	got, err := probe(t, data)
	got.Duration = got.Duration.Truncate(time.Millisecond)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s: %v\n%s", name, err, diff)
	}
}

// checkRefusal checks what callers rely on: a rejected file is Unknown, and its error has a reason
// for people.
func checkRefusal(t testing.TB, info media.Info, err error) {
	t.Helper()
	if info != (media.Info{ContentType: media.Unknown}) {
		t.Fatalf("rejected with %v, but info is %+v", err, info)
	}
	var refused *media.BrokenError
	if err == nil {
		return
	}
	if !errors.As(err, &refused) {
		t.Fatalf("%v is not a *BrokenError", err)
	}
	if !strings.HasPrefix(refused.Reason, "The ") || !strings.HasSuffix(refused.Reason, ".") || refused.ContentType == "" {
		t.Fatalf("not a reason for people: %+v", refused)
	}
}

func fixtureFiles(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		if name := filepath.Base(path); name != "make.sh" && name != "README.md" {
			if files[name], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(files) < len(fixtures) {
		t.Fatalf("%d of %d files are missing", len(fixtures)-len(files), len(fixtures))
	}
	return files
}
