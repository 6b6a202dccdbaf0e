package room

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxMediaBytes is how large an uploaded file may be.
const MaxMediaBytes = 100 << 20

// Limits of the files that messages carry, beside MaxMediaBytes.
const (
	MaxImageBytes   = 10 << 20
	MaxAudioBytes   = 6 << 20
	MaxAudioSeconds = 300
)

// MaxFileNameBytes is how long the name of a file may be: as long as file
// systems take.
const MaxFileNameBytes = 255

// ValidFileName reports whether a file may be called so: it is text of 1 to
// MaxFileNameBytes bytes, on one line, and no path.
func ValidFileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= MaxFileNameBytes && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(c rune) bool { return c == '/' || c == '\\' || unicode.IsControl(c) })
}

// MediaKept is how long a file is kept that nobody sends, and the bytes of one of
// which no message is left in the rooms and inboxes that there are: nobody may read
// those any more, and a backup of the database may still name them.
const MediaKept = 24 * time.Hour

// Limits of what a user may have stored that no message carries, so that nobody
// fills the disk: files, whether or not their uploads are done, and the bytes that
// they have or were announced to have.
const (
	MaxUnsentFiles = 20
	MaxUnsentBytes = 1 << 30
)

// MaxPieces is how many pieces an upload may come in. Each is an object of its
// own, and takes a block of the disk however small it is.
const MaxPieces = 10_000

// MediaID names an uploaded file. It is random, and no secret.
type MediaID string

// Media is an uploaded file, as its bytes tell; fields that do not apply to it are
// zero.
type Media struct {
	ID          MediaID `json:"mediaID"`
	FileName    string  `json:"fileName"`
	Size        int64   `json:"size"` // bytes
	ContentType string  `json:"contentType"`
	// Width and Height are pixels, as displayed.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
	// Duration is seconds, to the millisecond.
	Duration   float64 `json:"duration,omitempty"`
	VideoCodec string  `json:"videoCodec,omitempty"`
	AudioCodec string  `json:"audioCodec,omitempty"`
	// URL is where the bytes are, for callers with a session key.
	URL string `json:"url"`
}

// mediaRule is what files a kind takes; zero is no limit.
type mediaRule struct {
	types   []string
	maxSize int64 // bytes
	longest int   // whole seconds: encoders add a fraction of one
}

var mediaRules = map[MessageKind]mediaRule{
	KindImage: {types: []string{"image/jpeg", "image/png", "image/bmp", "image/tiff", "image/gif", "image/webp"}, maxSize: MaxImageBytes},
	KindFile:  {},
	KindAudio: {types: []string{"audio/mpeg", "audio/mp4"}, maxSize: MaxAudioBytes, longest: MaxAudioSeconds},
	KindVideo: {types: []string{"video/mp4", "video/quicktime"}},
}

// Takes is nil where a message of the kind may carry the file. Errors:
// ErrMediaType, ErrMediaSize, ErrMediaDuration.
func (k MessageKind) Takes(m Media) error {
	rule := mediaRules[k]
	switch {
	case rule.types != nil && !slices.Contains(rule.types, m.ContentType), k == KindVideo && m.VideoCodec == "":
		return ErrMediaType
	case rule.maxSize > 0 && m.Size > rule.maxSize:
		return ErrMediaSize
	case rule.longest > 0 && int(m.Duration) > rule.longest:
		return ErrMediaDuration
	}
	return nil
}

// MediaIDs is the files that a content and all that it quotes bring, each once, in
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

// StoredMedia is a file and what only the server knows of it.
type StoredMedia struct {
	Media
	Owner     UserID
	CreatedAt time.Time
}

// PieceID names the bytes that one request brought of a file, or a part of them.
type PieceID string

// Upload is a file that comes in pieces, with as many requests as it takes.
type Upload struct {
	ID       MediaID
	FileName string
	Length   int64 // bytes, as was announced
	Offset   int64 // bytes that are stored
	Pieces   int   // in which they are
	Finished bool  // the file can be read and sent
}

// Pieces is what is stored of an upload, in its order.
type Pieces struct {
	IDs    []PieceID
	Length int64 // bytes, all together
}

// Whole reports whether all bytes are there, which have yet to be put together.
func (u Upload) Whole() bool { return !u.Finished && u.Offset == u.Length }
