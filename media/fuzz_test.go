package media_test

import (
	"strings"
	"testing"
	"time"

	"parlor/media"
)

// maxSeed limits the size of seeds to keep the fuzzer fast. It cuts off only pixels and sound,
// which are not read.
const maxSeed = 4 << 10

// FuzzProbe checks what callers rely on for any bytes.
func FuzzProbe(f *testing.F) {
	seed(f, func(string) bool { return true })
	f.Fuzz(checkProbe)
}

// FuzzProbeMP3 prepends a tag, so that the fuzzer does not have to find one.
func FuzzProbeMP3(f *testing.F) {
	seed(f, func(name string) bool { return strings.HasSuffix(name, ".mp3") })
	f.Add([]byte(strings.Repeat(string(mp3Frame()), 5)))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkProbe(t, append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), data...))
	})
}

// FuzzProbeMP4 wraps the data in a movie box, and that in a movie.
func FuzzProbeMP4(f *testing.F) {
	for name, data := range fixtureFiles(f) {
		at := strings.Index(string(data), "moov")
		if fixtures[name].VideoCodec != "" && at > 0 {
			f.Add(data[at+4 : min(at+4+maxSeed, len(data))])
		}
	}
	f.Add(soundTrack())
	f.Fuzz(func(t *testing.T, data []byte) {
		checkProbe(t, mp4File(box("moov", data), box("mdat", text("x"))))
	})
}

func seed(f *testing.F, fits func(name string) bool) {
	for name, data := range fixtureFiles(f) {
		if fits(name) {
			f.Add(data[:min(maxSeed, len(data))])
		}
	}
	for name, data := range brokenFiles(f) {
		if fits(name) && len(data) <= maxSeed {
			f.Add(data)
		}
	}
}

func checkProbe(t *testing.T, data []byte) {
	info, err := probe(t, data)
	if err != nil || info.ContentType == media.Unknown {
		checkRefusal(t, info, err)
		return
	}
	if info.Width < 0 || info.Height < 0 || info.Width > 65_535 || info.Height > 65_535 || info.Width*info.Height > 1<<27 {
		t.Fatalf("dimensions beyond the limits: %+v", info)
	}
	if info.Duration < 0 || info.Duration > 30*24*time.Hour+time.Second {
		t.Fatalf("a duration beyond the limit: %+v", info)
	}
	isPicture := strings.HasPrefix(info.ContentType, "image/")
	if isPicture && (info.Width == 0 || info.Height == 0 || info.Duration != 0) {
		t.Fatalf("a picture without dimensions: %+v", info)
	}
	if !isPicture && info.VideoCodec == "" && info.AudioCodec == "" {
		t.Fatalf("neither audio nor pictures: %+v", info)
	}
	if (info.VideoCodec == "") != (info.Width == 0) && !isPicture {
		t.Fatalf("a video without dimensions, or audio with them: %+v", info)
	}
}
