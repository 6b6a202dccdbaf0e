package room

import (
	"slices"
	"time"
)

// MaxMediaBytes is the largest size of an uploaded file.
const MaxMediaBytes = 100 << 20

// Limits of the files in messages, in addition to MaxMediaBytes.
const (
	MaxImageBytes   = 10 << 20
	MaxAudioBytes   = 6 << 20
	MaxAudioSeconds = 300
)

// MediaKept is how long a file that no message contains is stored. It is also how long the bytes of
// a file are stored after its last message was deleted: nobody can read them any more, but a backup
// of the database may still refer to them.
const MediaKept = 24 * time.Hour

// Limits of a user's unsent files, so that no user can fill the disk: the number of files, finished
// or not, and their bytes, stored or announced.
const (
	MaxUnsentFiles = 20
	MaxUnsentBytes = 1 << 30
)

// MaxParts is the largest number of parts of an upload. Each part is an object of its own, and uses
// at least one block of the disk.
const MaxParts = 10_000

// MediaID is the ID of an uploaded file. It is random, but not a secret.
type MediaID string

// Media describes an uploaded file, as determined from its bytes. Fields that do not apply to its
// type are zero.
type Media struct {
	ID          MediaID `json:"mediaID"`
	FileName    string  `json:"fileName"`
	Size        int64   `json:"size"` // bytes
	ContentType string  `json:"contentType"`
	// Width and Height are in pixels, as displayed.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
	// Duration is in seconds, to the millisecond.
	Duration   float64 `json:"duration,omitempty"`
	VideoCodec string  `json:"videoCodec,omitempty"`
	AudioCodec string  `json:"audioCodec,omitempty"`
	// URL returns the bytes to callers with a session key.
	URL string `json:"url"`
}

// mediaRule describes the files that a kind of message may contain. Zero means no limit.
type mediaRule struct {
	types      []string // nil means any type
	maxBytes   int64
	maxSeconds int // whole seconds, because encoders add a fraction of one
}

var mediaRules = map[MessageKind]mediaRule{
	KindImage: {types: []string{"image/jpeg", "image/png", "image/bmp", "image/tiff", "image/gif", "image/webp"}, maxBytes: MaxImageBytes},
	KindFile:  {},
	KindAudio: {types: []string{"audio/mpeg", "audio/mp4"}, maxBytes: MaxAudioBytes, maxSeconds: MaxAudioSeconds},
	KindVideo: {types: []string{"video/mp4", "video/quicktime"}},
}

// Takes returns nil if a message of the kind may contain the file. Errors: ErrMediaType,
// ErrMediaSize, ErrMediaDuration.
func (k MessageKind) Takes(m Media) error {
	rule := mediaRules[k]
	switch {
	case rule.types != nil && !slices.Contains(rule.types, m.ContentType), k == KindVideo && m.VideoCodec == "":
		return ErrMediaType
	case rule.maxBytes > 0 && m.Size > rule.maxBytes:
		return ErrMediaSize
	case rule.maxSeconds > 0 && int(m.Duration) > rule.maxSeconds:
		return ErrMediaDuration
	}
	return nil
}

// MediaIDs returns the files in a content and in the messages that it quotes, each once, in
// ascending order.
func (c *Content) MediaIDs() []MediaID {
	ids := c.appendMediaIDs(nil)
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (c *Content) appendMediaIDs(ids []MediaID) []MediaID {
	if c.Media != nil {
		ids = append(ids, c.Media.ID)
	}
	for i := range c.MessageList {
		ids = c.MessageList[i].appendMediaIDs(ids)
	}
	return ids
}

// StoredMedia is a file with the fields that clients do not see.
type StoredMedia struct {
	Media
	Owner     UserID
	CreatedAt time.Time
}

// PartID is the ID of a part: bytes of a file that one request uploaded.
type PartID string

// Upload is a file that is uploaded in parts, with one or more requests.
type Upload struct {
	ID       MediaID
	FileName string
	Length   int64 // bytes, as announced
	Offset   int64 // bytes that are stored
	Parts    int   // the number of stored parts
	Finished bool  // the file can be read and sent
}

// Parts are the stored parts of an upload, in order.
type Parts struct {
	IDs    []PartID
	Length int64 // bytes of all parts
}

// Whole reports whether all parts are stored, and have not been assembled yet.
func (u Upload) Whole() bool { return !u.Finished && u.Offset == u.Length }
