package media_test

import (
	"strings"
	"testing"
	"time"

	"parlor/media"
)

// maxSeed keeps the fuzzer fast. What is cut off are pixels and sound, which nobody looks at.
const maxSeed = 4 << 10

// FuzzProbe holds for all bytes whatsoever what callers rely on.
func FuzzProbe(f *testing.F) {
	seed(f, func(string) bool { return true })
	f.Fuzz(checkProbe)
}

// FuzzProbeMP3 puts a tag in front, so that no effort is lost on getting there.
func FuzzProbeMP3(f *testing.F) {
	seed(f, func(name string) bool { return strings.HasSuffix(name, ".mp3") })
	f.Add([]byte(strings.Repeat(string(mp3Frame()), 5)))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkProbe(t, append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), data...))
	})
}

// FuzzProbeMP4 makes a movie box of the data, and a movie of that.
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
		t.Fatalf("neither sound nor pictures: %+v", info)
	}
	if (info.VideoCodec == "") != (info.Width == 0) && !isPicture {
		t.Fatalf("a film without dimensions, or sound with them: %+v", info)
	}
}
