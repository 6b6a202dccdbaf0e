package room_test

import (
	"errors"
	"strings"
	"testing"

	"parlor/room"
)

// TestMessageKindTakes tries files at each limit of each kind, and just beyond it.
func TestMessageKindTakes(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct {
		kind  room.MessageKind
		types string
		size  int64
		wrong string
	}{
		{room.KindImage, "image/jpeg image/png image/bmp image/tiff image/gif image/webp", 10 * mb, "image/svg+xml video/mp4 audio/mpeg application/octet-stream"},
		{room.KindFile, "image/jpeg video/mp4 audio/mpeg application/octet-stream", 100 * mb, ""},
		{room.KindAudio, "audio/mpeg audio/mp4", 6 * mb, "video/mp4 image/png application/octet-stream"},
		{room.KindVideo, "video/mp4 video/quicktime", 100 * mb, "audio/mp4 image/gif application/octet-stream"},
	} {
		file := room.Media{Size: c.size, VideoCodec: "h264"}
		for _, file.ContentType = range strings.Fields(c.types) {
			if err := c.kind.Takes(file); err != nil {
				t.Errorf("%s of %s: %v", c.kind, file.ContentType, err)
			}
			if c.size == room.MaxMediaBytes {
				continue // no file can be larger
			}
			larger := file
			larger.Size++
			if err := c.kind.Takes(larger); !errors.Is(err, room.ErrMediaSize) {
				t.Errorf("%s over the size limit: %v", c.kind, err)
			}
		}
		for _, file.ContentType = range strings.Fields(c.wrong) {
			if err := c.kind.Takes(file); !errors.Is(err, room.ErrMediaType) {
				t.Errorf("%s of %s: %v", c.kind, file.ContentType, err)
			}
		}
	}
	for duration, want := range map[float64]error{300: nil, 300.999: nil, 301: room.ErrMediaDuration} {
		if err := room.KindAudio.Takes(room.Media{ContentType: "audio/mpeg", Duration: duration}); !errors.Is(err, want) {
			t.Errorf("audio of %v s: %v", duration, err)
		}
	}
	if err := room.KindVideo.Takes(room.Media{ContentType: "video/quicktime", AudioCodec: "aac"}); !errors.Is(err, room.ErrMediaType) {
		t.Errorf("a video without a video track: %v", err)
	}
}
