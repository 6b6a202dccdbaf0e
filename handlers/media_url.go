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
	// mediaURLTime is the maximum lifetime of a signed URL.
	mediaURLTime = time.Hour
	// mediaURLStep is the interval to which expiry times are rounded down. A page that asks again
	// within it gets the same URL, for which its browser has cached the bytes.
	mediaURLStep = 15 * time.Minute
)

// mediaSigner signs the URLs of files for callers that cannot send a key, such as an <img> or a
// <video>. A URL contains the session that asked for it, and opens the file for as long as that
// session may read it, until it expires.
type mediaSigner struct{ key []byte }

// newMediaSigner derives a separate key from the secret, so that no signature can be used for
// anything else.
func newMediaSigner(secret []byte) mediaSigner {
	key, err := hkdf.Key(sha256.New, secret, nil, "parlor media url 2", sha256.Size)
	if err != nil {
		panic(fmt.Sprintf("derive the key of media URLs: %v", err)) // cannot happen: SHA-256 has this length
	}
	return mediaSigner{key}
}

func (s mediaSigner) signature(id room.MediaID, session room.SessionID, expires int64) string {
	mac := hmac.New(sha256.New, s.key)
	_, _ = fmt.Fprintf(mac, "%s\n%s\n%d", id, session, expires) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sign returns the URL of a file with a signature for a session, and when it expires.
func (s mediaSigner) sign(m room.Media, session room.SessionID, now time.Time) (signed string, expires time.Time) {
	expires = now.Add(mediaURLTime).Truncate(mediaURLStep).UTC()
	query := url.Values{
		"expires":   {strconv.FormatInt(expires.Unix(), 10)},
		"session":   {string(session)},
		"signature": {s.signature(m.ID, session, expires.Unix())},
	}
	return m.URL + "?" + query.Encode(), expires
}

// verify returns room.ErrMediaURLRefused if a signature is invalid or has expired.
func (s mediaSigner) verify(id room.MediaID, session room.SessionID, expires int64, signature string, now time.Time) error {
	if !hmac.Equal([]byte(s.signature(id, session, expires)), []byte(signature)) || now.Unix() >= expires {
		return room.ErrMediaURLRefused
	}
	return nil
}

// mediaPath returns the path at which this server serves the bytes of a file.
func mediaPath(id room.MediaID, fileName string) string {
	return "/v1/media/" + string(id) + "/" + url.PathEscape(fileName)
}
