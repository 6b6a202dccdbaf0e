package handlers

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"parlor/room"
)

const (
	// mediaURLTime is how long a signed URL is good for, at least.
	mediaURLTime = 24 * time.Hour
	// mediaURLStep is what ends of signed URLs are rounded up to: who asks again
	// within it gets the same URL, and the file from the browser's cache.
	mediaURLStep = time.Hour
)

// mediaSigner signs the URLs of files, for whoever cannot send a key along: an
// <img> or a <video>.
type mediaSigner struct{ key []byte }

// newMediaSigner derives a key of its own from the secret, so that no signature
// is ever good for anything else.
func newMediaSigner(secret []byte) mediaSigner {
	key, err := hkdf.Key(sha256.New, secret, nil, "parlor media url 1", sha256.Size)
	if err != nil {
		panic(fmt.Sprintf("derive the key of media URLs: %v", err)) // a length that SHA-256 does not have
	}
	return mediaSigner{key}
}

func (s mediaSigner) signature(id room.MediaID, expires int64) string {
	mac := hmac.New(sha256.New, s.key)
	_, _ = fmt.Fprintf(mac, "%s\n%d", id, expires) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sign is a file's URL with a signature, and when that expires.
func (s mediaSigner) sign(m room.Media, now time.Time) (signed string, expires time.Time) {
	expires = now.Add(mediaURLTime + mediaURLStep - 1).Truncate(mediaURLStep).UTC()
	query := url.Values{
		"expires":   {strconv.FormatInt(expires.Unix(), 10)},
		"signature": {s.signature(m.ID, expires.Unix())},
	}
	return m.URL + "?" + query.Encode(), expires
}

// verify is nil where a signature is ours and not expired. Errors:
// room.ErrMediaURLRefused.
func (s mediaSigner) verify(id room.MediaID, expires int64, signature string, now time.Time) error {
	if !hmac.Equal([]byte(s.signature(id, expires)), []byte(signature)) || now.Unix() >= expires {
		return room.ErrMediaURLRefused
	}
	return nil
}

// mediaPath is where a file's bytes are, on this server.
func mediaPath(id room.MediaID, fileName string) string {
	return "/v1/media/" + string(id) + "/" + url.PathEscape(fileName)
}
