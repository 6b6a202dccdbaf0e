package servicetest

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/media"
	"parlor/media/mediatest"
	"parlor/room"
)

const noMedia = "3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61"

// openFolder opens a bucket in a folder.
func openFolder(t testing.TB, path string) *media.Bucket {
	t.Helper()
	b, err := media.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// uploaded is the reply to an upload.
type uploaded struct {
	Media     room.Media
	SignedURL string
	ExpiresAt time.Time
}

func (c *client) media(r reply) uploaded {
	c.Helper()
	u := as[uploaded](r)
	c.log.secret(u.signature())
	return u
}

func (u uploaded) signature() string {
	address, err := url.Parse(u.SignedURL)
	if err != nil {
		return ""
	}
	return address.Query().Get("signature")
}

// upload uploads a file.
func (c *client) upload(name string, data []byte) uploaded {
	c.Helper()
	return c.media(c.call("POST", "/v1/media?fileName="+url.QueryEscape(name), raw(data)).is(http.StatusCreated))
}

// file returns one of the test files of package media.
func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "media", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestFileRoundTrips uploads files of each type in each way, and downloads them in each way.
func TestFileRoundTrips(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for _, c := range []struct {
		file, contentType string
		picture, played   bool
	}{
		{"baseline.jpg", "image/jpeg", true, false},
		{"alpha.png", "image/png", true, false},
		{"animated.gif", "image/gif", true, false},
		{"alpha.webp", "image/webp", true, false},
		{"alpha.bmp", "image/bmp", true, false},
		{"little.tif", "image/tiff", true, false},
		{"cbr.mp3", "audio/mpeg", false, true},
		{"aac.m4a", "audio/mp4", false, true},
		{"moov_last.mp4", "video/mp4", true, true},
		{"h265.mov", "video/quicktime", true, true},
		{"README.md", "application/octet-stream", false, false},
	} {
		data := file(t, c.file)
		m := alice.upload(c.file, data)
		if m.Media.ContentType != c.contentType || m.Media.Size != int64(len(data)) || m.Media.FileName != c.file ||
			m.Media.Width > 0 != c.picture || m.Media.Height > 0 != c.picture || m.Media.Duration > 0 != c.played {
			t.Errorf("%s is stored as %+v", c.file, m.Media)
		}
		for _, r := range []reply{
			s.anonymous().call("GET", m.SignedURL, nil), alice.call("GET", m.Media.URL, nil),
		} {
			r.is(http.StatusOK)
			if !bytes.Equal(r.body, data) || r.Header.Get("Content-Type") != c.contentType {
				t.Errorf("%s downloaded: %d bytes of %s", c.file, len(r.body), r.Header.Get("Content-Type"))
			}
		}
	}
}

// TestFilesCannotRunScripts checks that all files except images, audio and videos can only be
// saved, and that the policy of all files forbids scripts.
func TestFilesCannotRunScripts(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	const script = `<script>alert(1)</script>`
	cut := file(t, "alpha.png")
	for name, data := range map[string]string{
		"a.html": "<!doctype html>" + script, "a.svg": `<svg xmlns="http://www.w3.org/2000/svg">` + script + `</svg>`,
		"a.xml": `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">` + script + `</html>`, "a.js": "alert(1)", "a.pdf": "%PDF-1.7",
		"a.png": "GIF89a" + script, "cut.png": string(cut[:len(cut)/2]), "empty.png": "", "a.gif": script + string(file(t, "animated.gif")),
	} {
		r := alice.call("POST", "/v1/media?fileName="+name, raw(data), header("Content-Type", "text/html")).is(http.StatusCreated)
		m := alice.media(r)
		got := s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK)
		h := got.Header
		if h.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment;") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", name, h)
		}
		if string(got.body) != data {
			t.Errorf("%s is a different file now", name)
		}
	}
	m := alice.upload("a.png", file(t, "alpha.png"))
	h := s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK).Header
	if h.Get("Content-Disposition") != `inline; filename="a.png"` || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("a picture: %v", h)
	}
	elsewhere := newService(t, func(c *setup) { c.api.AllowedOrigins = []string{"https://app.example.com"} })
	m = elsewhere.login("alice").upload("a.png", file(t, "alpha.png"))
	if h := elsewhere.anonymous().call("GET", m.SignedURL, nil).Header; h.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
		t.Errorf("for pages of other origins: %v", h)
	}
}

// TestRangeRequests covers Range and the preconditions of RFC 9110, for GET and HEAD.
func TestRangeRequests(t *testing.T) {
	t.Parallel()
	s := newService(t)
	m := s.login("alice").upload("digits.bin", []byte("0123456789"))
	tag, since := `"`+string(m.Media.ID)+`"`, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		header, value string
		more          string // If-Range
		status        int
		body, rng     string
	}{
		{status: 200, body: "0123456789"},
		{header: "Range", value: "bytes=2-4", status: 206, body: "234", rng: "bytes 2-4/10"},
		{header: "Range", value: "bytes=-3", status: 206, body: "789", rng: "bytes 7-9/10"},
		{header: "Range", value: "bytes=9-", status: 206, body: "9", rng: "bytes 9-9/10"},
		{header: "Range", value: "bytes=0-99", status: 206, body: "0123456789", rng: "bytes 0-9/10"},
		{header: "Range", value: "bytes=2-4", more: tag, status: 206, body: "234", rng: "bytes 2-4/10"},
		{header: "Range", value: "bytes=2-4", more: `"other"`, status: 200, body: "0123456789"},
		{header: "If-None-Match", value: tag, status: 304},
		{header: "If-None-Match", value: `"other"`, status: 200, body: "0123456789"},
		{header: "If-Modified-Since", value: since, status: 304},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			change := func(r *http.Request) {
				if c.header != "" {
					r.Header.Set(c.header, c.value)
				}
				if c.more != "" {
					r.Header.Set("If-Range", c.more)
				}
			}
			r := s.anonymous().call(method, m.SignedURL, nil, change).is(c.status)
			want := c.body
			if method == "HEAD" {
				want = ""
			}
			if string(r.body) != want || r.Header.Get("Content-Range") != c.rng || r.Header.Get("ETag") != tag {
				t.Errorf("%s with %s %s: %q, %v", method, c.header, c.value, r.body, r.Header)
			}
			if c.status != 304 && r.ContentLength != int64(len(c.body)) {
				t.Errorf("%s with %s %s: Content-Length %d", method, c.header, c.value, r.ContentLength)
			}
		}
	}
	for _, bad := range []string{"bytes=10-", "bytes=5-2", "lines=1-2", "bytes=x"} {
		r := s.anonymous().call("GET", m.SignedURL, nil, header("Range", bad))
		r.refused(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
		if bad == "bytes=10-" && r.Header.Get("Content-Range") != "bytes */10" {
			t.Errorf("%s: Content-Range: %q", bad, r.Header.Get("Content-Range"))
		}
	}
	s.anonymous().call("GET", m.SignedURL, nil, header("If-Match", `"other"`)).refused(http.StatusPreconditionFailed, "precondition_failed")
	two := s.anonymous().call("GET", m.SignedURL, nil, header("Range", "bytes=0-1,8-9")).is(http.StatusPartialContent)
	if mediaType(two.Response) != "multipart/byteranges" || !strings.Contains(string(two.body), "89") {
		t.Errorf("two ranges: %s %q", two.Header.Get("Content-Type"), two.body)
	}
	if c := s.anonymous().call("GET", m.SignedURL, nil).Header.Get("Cache-Control"); c != "private, no-cache" {
		t.Errorf("Cache-Control: %q", c)
	}
}

// TestSignedURLs checks that a signed URL opens one file for a limited time, and that nobody else
// can create one.
func TestSignedURLs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	m, other := alice.upload("a b?c#d%é.txt", []byte("mine")), bob.upload("b.txt", []byte("his"))
	if left := time.Until(m.ExpiresAt); left < 44*time.Minute || left > time.Hour || m.ExpiresAt.Unix()%900 != 0 {
		t.Errorf("the URL expires at %s", m.ExpiresAt)
	}
	again := alice.media(alice.call("GET", "/v1/media/"+string(m.Media.ID), nil).is(http.StatusOK))
	if again.SignedURL != m.SignedURL && again.ExpiresAt.Equal(m.ExpiresAt) {
		t.Errorf("asked again, the URL is %s, want %s", again.SignedURL, m.SignedURL)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "parlor media url 2", 32)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key []byte, id room.MediaID, expires int64) string {
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s\n%s\n%d", id, alice.SessionID, expires)
		return fmt.Sprintf("?expires=%d&session=%s&signature=%s", expires, alice.SessionID, s.log.secret(base64.RawURLEncoding.EncodeToString(mac.Sum(nil))))
	}
	later, past := m.ExpiresAt.Unix(), time.Now().Add(-time.Second).Unix()
	s.anonymous().call("GET", m.Media.URL+sign(key, m.Media.ID, later), nil).is(http.StatusOK)
	_, query, _ := strings.Cut(m.SignedURL, "?")
	for what, query := range map[string]string{
		"expired": sign(key, m.Media.ID, past), "of another file": sign(key, other.Media.ID, later), "by the secret itself": sign(secret, m.Media.ID, later),
		"by nobody": fmt.Sprintf("?expires=%d&signature=", later), "without an end": "?signature=" + m.signature(), "without a signature": fmt.Sprintf("?expires=%d", later),
		"prolonged": fmt.Sprintf("?expires=%d&signature=%s", later+3600, m.signature()), "in capitals": "?" + strings.Replace(query, m.signature(), strings.ToUpper(m.signature()), 1),
		"padded": "?" + query + "=", "of another session": "?" + strings.Replace(query, string(alice.SessionID), string(bob.SessionID), 1),
		"without a session": fmt.Sprintf("?expires=%d&signature=%s", later, m.signature()),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			// The owner's key does not make up for a wrong signature.
			if r := alice.call(method, m.Media.URL+query, nil); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s with a signature %s: %d", method, what, r.StatusCode)
			}
		}
		s.anonymous().call("GET", m.Media.URL+query, nil).refused(http.StatusForbidden, "media_url_refused")
	}
	s.anonymous().call("GET", m.Media.URL+"?expires=x&signature=y", nil).invalid("query/expires", "range")
	for _, path := range []string{
		strings.Replace(m.SignedURL, "a%20b", "other", 1), strings.Replace(other.SignedURL, "b.txt", "b.html", 1),
	} {
		s.anonymous().call("GET", path, nil).refused(http.StatusNotFound, "media_not_found")
	}
	s.anonymous().call("GET", m.Media.URL, nil).refused(http.StatusUnauthorized, "unauthenticated")
	s.anonymous().call("HEAD", m.Media.URL, nil).is(http.StatusUnauthorized)
	for _, id := range []string{string(m.Media.ID), noMedia, "x", strings.ToUpper(string(m.Media.ID)), "%zz"} {
		if id != "%zz" {
			bob.call("GET", "/v1/media/"+id, nil).refused(http.StatusNotFound, "media_not_found")
		}
	}
	bob.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
	bob.call("HEAD", m.Media.URL, nil).is(http.StatusNotFound)
	if d := s.anonymous().call("GET", m.SignedURL, nil).Header.Get("Content-Disposition"); d != `attachment; filename="a b?c#d__.txt"; filename*=UTF-8''a%20b%3Fc#d%25%C3%A9.txt` {
		t.Errorf("Content-Disposition: %s", d)
	}
}

// TestSignedURLEndsWithAccess checks that a signed URL opens a file only while the session that
// asked for it may read the file. It is rejected immediately when a reader leaves or is removed,
// and for all users, including the sender, when none of the file's messages is left.
func TestSignedURLEndsWithAccess(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newService(t, func(c *setup) {
		c.store.Now, c.store.MessageRetention, c.store.PeerRetention = clock.Now, time.Hour, time.Hour
	})
	type world struct {
		room                room.RoomID
		alice, bob          *client
		message, toBob      room.Message
		alices, bobs, inbox uploaded // signed URLs of the room's file for alice and bob, and of the peer message's file for bob
	}
	type end struct {
		what                string
		do                  func(w world)
		bobs, inbox, alices int // expected statuses afterwards
		hersByKey, byInbox  bool
	}
	const ok, gone, refused = http.StatusOK, http.StatusNotFound, http.StatusForbidden
	for n, c := range []end{
		{"nothing", func(world) {}, ok, ok, ok, true, true},
		{"bob leaves", func(w world) { w.bob.leave(w.room) }, gone, ok, ok, true, true},
		{"bob is kicked", func(w world) {
			s.admin().call("DELETE", adminPath(w.room, "/members/"+string(w.bob.UserID)), nil).is(204)
		}, gone, ok, ok, true, true},
		{"bob is banned", func(w world) {
			s.admin().call("POST", adminPath(w.room, "/kick"), object{"userIDs": []string{string(w.bob.UserID)}, "banSeconds": 60}).is(200)
		}, gone, ok, ok, true, true},
		{"bob logs out", func(w world) { w.bob.call("DELETE", "/v1/sessions/current", nil).is(204) }, refused, refused, ok, true, true},
		{"bob's sessions end", func(w world) {
			s.admin().call("DELETE", "/v1/admin/users/"+string(w.bob.UserID)+"/sessions", nil).is(200)
		}, refused, refused, ok, true, true},
		{"alice leaves", func(w world) { w.alice.leave(w.room) }, ok, ok, ok, true, true},
		{"it is recalled", func(w world) {
			w.alice.call("DELETE", roomPath(w.room, "/messages/"+string(w.message.ID)), nil).is(204)
		}, gone, ok, gone, false, true},
		{"an operator recalls it", func(w world) {
			s.admin().call("DELETE", adminPath(w.room, "/messages/"+string(w.message.ID)), nil).is(204)
		}, gone, ok, gone, false, true},
		{"it is recalled from bob", func(w world) {
			w.alice.call("DELETE", peerPath(w.bob.UserID)+"/"+string(w.toBob.ID), nil).is(204)
		}, ok, gone, ok, true, false},
		{"the room is destroyed", func(w world) { s.admin().call("DELETE", adminPath(w.room, ""), nil).is(204) }, gone, ok, gone, false, true},
	} {
		w := world{room: room.RoomID(fmt.Sprint("room", n)), alice: s.login(room.UserID(fmt.Sprint("alice", n))), bob: s.login(room.UserID(fmt.Sprint("bob", n)))}
		w.alice.enter(w.room)
		w.bob.enter(w.room)
		data, other := file(t, "alpha.png"), []byte("for bob")
		w.alices = w.alice.upload("alpha.png", data)
		peers := w.alice.upload("b.txt", other)
		unsent := w.alice.upload("c.txt", []byte("unsent"))
		w.message = message(w.alice.call("POST", roomPath(w.room, "/messages"), object{"kind": "image", "mediaID": w.alices.Media.ID}).is(http.StatusCreated))
		w.toBob = message(w.alice.call("POST", peerPath(w.bob.UserID), object{"kind": "file", "mediaID": peers.Media.ID}).is(http.StatusCreated))
		w.bobs = w.bob.media(w.bob.call("GET", "/v1/media/"+string(w.alices.Media.ID), nil).is(http.StatusOK))
		w.inbox = w.bob.media(w.bob.call("GET", "/v1/media/"+string(peers.Media.ID), nil).is(http.StatusOK))
		tag := header("If-None-Match", `"`+string(w.alices.Media.ID)+`"`)
		s.anonymous().call("GET", w.bobs.SignedURL, nil, tag).is(http.StatusNotModified)

		c.do(w)
		for whose, check := range map[string]struct {
			url  string
			want int
		}{"bob's": {w.bobs.SignedURL, c.bobs}, "bob's, between users": {w.inbox.SignedURL, c.inbox}, "alice's": {w.alices.SignedURL, c.alices}, "alice's, unsent": {unsent.SignedURL, ok}} {
			for _, method := range []string{"GET", "HEAD"} {
				if got := s.anonymous().call(method, check.url, nil); got.StatusCode != check.want {
					t.Errorf("%s: %s of %s URL: %d, want %d", c.what, method, whose, got.StatusCode, check.want)
				}
			}
			// A browser must not display its cached bytes any more either.
			if got := s.anonymous().call("GET", check.url, nil, tag); check.want != ok && got.StatusCode != check.want {
				t.Errorf("%s: %s URL, asked again: %d", c.what, whose, got.StatusCode)
			}
		}
		if got := w.alice.call("GET", w.alices.Media.URL, nil).StatusCode == ok; got != c.hersByKey {
			t.Errorf("%s: alice reads the room's file by her key: %t", c.what, got)
		}
		if got := w.alice.call("GET", "/v1/media/"+string(peers.Media.ID), nil).StatusCode == ok; got != c.byInbox {
			t.Errorf("%s: alice asks for bob's file: %t", c.what, got)
		}
	}

	// The message becomes older than the retention.
	alice := s.loginWith(s.token("alice", 24*time.Hour))
	alice.enter("lobby")
	m := alice.upload("old.txt", []byte("old"))
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.Media.ID}).is(http.StatusCreated)
	s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK)
	// An open stream keeps her from timing out.
	alice.listen()
	clock.advance(time.Hour + time.Second)
	s.sweep()
	s.anonymous().call("GET", m.SignedURL, nil).refused(http.StatusNotFound, "media_not_found")
	alice.call("GET", m.Media.URL, nil).refused(http.StatusNotFound, "media_not_found")
}

// form returns a form with these parts. A part with a file name is a file.
func form(t testing.TB, parts ...[3]string) (body raw, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range parts {
		var err error
		var to io.Writer
		if part[1] != "" {
			to, err = w.CreateFormFile(part[0], part[1])
		} else {
			to, err = w.CreateFormField(part[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(to, part[2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return raw(b.String()), w.FormDataContentType()
}

// TestForms checks that a form must have exactly one part, which is the file.
func TestForms(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	picture := string(file(t, "alpha.png"))
	send := func(query string, parts ...[3]string) reply {
		body, contentType := form(t, parts...)
		return alice.call("POST", "/v1/media"+query, body, header("Content-Type", contentType))
	}
	m := alice.media(send("", [3]string{"file", "é cat.png", picture}).is(http.StatusCreated)).Media
	if m.FileName != "é cat.png" || m.ContentType != "image/png" || m.Size != int64(len(picture)) {
		t.Errorf("the form's file is %+v", m)
	}
	if m := alice.media(send("?fileName=dog.png", [3]string{"file", "cat.png", picture}).is(http.StatusCreated)).Media; m.FileName != "dog.png" {
		t.Errorf("the named file is %+v", m)
	}
	send("", [3]string{"picture", "cat.png", picture}).invalid("/file", "single")
	send("", [3]string{"file", "", "text"}).invalid("/file", "single")
	send("", [3]string{"file", "a", "1"}, [3]string{"file", "b", "2"}).invalid("/file", "single")
	send("").refused(http.StatusBadRequest, "upload_incomplete")
	body, contentType := form(t, [3]string{"file", "cat.png", picture})
	for what, cut := range map[string]raw{"within the file": body[:len(body)-100], "before the end": body[:len(body)-5], "in the header": body[:20]} {
		if r := alice.call("POST", "/v1/media", cut, header("Content-Type", contentType)); r.StatusCode != http.StatusBadRequest {
			t.Errorf("a form that ends %s: %d", what, r.StatusCode)
		}
	}
	alice.call("POST", "/v1/media", body, header("Content-Type", "multipart/form-data")).refused(http.StatusBadRequest, "upload_incomplete")
	s.expectFiles(2)
}

// expectFiles requires that exactly this number of files is known and stored, and nothing else.
func (s *service) expectFiles(files int) {
	s.Helper()
	eventually(s, fmt.Sprintf("%d files are left", files), func() bool { return s.rows("media WHERE NOT deleting") == files })
}

// rows returns the number of rows in a table.
func (s *service) rows(table string) (n int) {
	s.Helper()
	conn, err := pgx.Connect(context.Background(), s.database)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

func TestOddFileNames(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	for _, good := range []string{strings.Repeat("é", 127) + "x", "...", "名前.png", `"; x="`, "%2e%2e", "?", "a+b&c=d;e"} {
		m := alice.upload(good, []byte("x"))
		if m.Media.FileName != good {
			t.Errorf("%q is called %q", good, m.Media.FileName)
		}
		s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK)
		alice.call("GET", m.Media.URL, nil).is(http.StatusOK)
	}
	if m := alice.media(alice.call("POST", "/v1/media", raw("x")).is(http.StatusCreated)).Media; m.FileName != "file" {
		t.Errorf("without a name: %q", m.FileName)
	}
	alice.call("POST", "/v1/media?x=1", raw("x")).invalid("query/x", "unknown")
}

// zeros returns a reader of n zeros.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// uploadStream uploads a body without holding it in memory.
func (c *client) uploadStream(body io.Reader, length int64) reply {
	c.Helper()
	return c.unchecked().withKey(c.SessionKey).call("POST", "/v1/media", nil, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(body), length
	})
}

// TestLargestFile checks that 100 MB are accepted and one byte more is not, with and without an
// announced length.
func TestLargestFile(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	const most = 100 << 20
	m := alice.media(alice.uploadStream(zeros(most), most).is(http.StatusCreated))
	if m.Media.Size != most {
		t.Errorf("the largest file has %d bytes", m.Media.Size)
	}
	for _, length := range []int64{most + 1, -1} {
		r := alice.uploadStream(zeros(most+1), length)
		r.refused(http.StatusRequestEntityTooLarge, "file_too_large")
		if err := checkContract(r.Request, nil, r.Response, r.body); err != nil {
			t.Error(err)
		}
	}
	s.expectFiles(1)
	last := s.anonymous().call("GET", m.SignedURL, nil, header("Range", "bytes=104857599-")).is(http.StatusPartialContent)
	if !bytes.Equal(last.body, []byte{0}) {
		t.Errorf("it ends with %q", last.body)
	}
}

// TestInterruptedUploads checks that a client that disconnects or stalls leaves nothing behind.
func TestInterruptedUploads(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.UploadPause = 200 * time.Millisecond })
	alice := s.login("alice")
	begin := func() net.Conn {
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /v1/media HTTP/1.1\r\nHost: parlor\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nsome", alice.SessionKey)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the upload begins", func() bool { return s.rows("media") == 1 })
		return conn
	}
	_ = begin().Close()
	s.expectFiles(0)

	silent := begin()
	if err := silent.SetReadDeadline(time.Now().Add(waitTimeout)); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(silent)
	if !strings.HasPrefix(string(reply), "HTTP/1.1 408 ") || !strings.Contains(string(reply), "upload_stalled") {
		t.Errorf("reply to a stalled upload: %.200q, %v", reply, err)
	}
	seen.reply("uploadMedia", http.StatusRequestTimeout) // recorded by hand, because the reply came on a separate connection
	s.expectFiles(0)

	// A client that is slow but does not stall is waited for.
	slow, w := io.Pipe()
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 10 {
			<-tick.C
			_, _ = w.Write([]byte("x"))
		}
		_ = w.Close()
	}()
	if m := alice.media(alice.uploadStream(slow, -1).is(http.StatusCreated)); m.Media.Size != 10 {
		t.Errorf("the slow upload has %d bytes", m.Media.Size)
	}
}

// TestConcurrentUploads checks that concurrent uploads do not mix, and are not held in memory.
func TestConcurrentUploads(t *testing.T) {
	// Not parallel, because it measures the memory of the whole process.
	testConcurrentUploads(t, func(alice *client, body io.Reader, size int64) uploaded {
		return alice.media(alice.uploadStream(body, size).is(http.StatusCreated))
	})
}

// testConcurrentUploads makes uploads of large files with different first bytes, all at once.
func testConcurrentUploads(t *testing.T, upload func(alice *client, body io.Reader, size int64) uploaded) {
	s := newService(t)
	alice := s.login("alice")
	const uploads, size = 10, 20 << 20
	limitHeapGrowth(t, 30<<20, func() {
		var sending sync.WaitGroup
		for i := range uploads {
			sending.Go(func() {
				mark := []byte{byte(i)}
				m := upload(alice, io.MultiReader(bytes.NewReader(mark), zeros(size-1)), size)
				r := s.anonymous().call("GET", m.SignedURL, nil, header("Range", "bytes=0-0"))
				if m.Media.Size != size || !bytes.Equal(r.body, mark) {
					t.Errorf("upload %d is stored as %d bytes that begin with %v", i, m.Media.Size, r.body)
				}
			})
		}
		sending.Wait()
	})
}

// limitHeapGrowth requires that the heap grows by at most bound bytes meanwhile.
func limitHeapGrowth(t testing.TB, bound int64, meanwhile func()) {
	t.Helper()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before, most := heap(), int64(0)
	done := make(chan struct{})
	var measuring sync.WaitGroup
	measuring.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, heap())
			case <-done:
				return
			}
		}
	})
	meanwhile()
	close(done)
	measuring.Wait()
	if grown := most - before; grown > bound {
		t.Errorf("the heap grew by %d MB", grown>>20)
	} else {
		t.Logf("the heap grew by %d KB", grown>>10)
	}
}

// TestFailingFolder checks that uploads and downloads are rejected with a retry, and that no
// partial file is visible.
func TestFailingFolder(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	s := newService(t, func(c *setup) { c.api.Media = openFolder(t, folder) })
	alice := s.login("alice")
	m := alice.upload("a.txt", []byte("here"))
	if err := os.Rename(folder, folder+"2"); err != nil {
		t.Fatal(err)
	}
	s.anonymous().call("GET", m.SignedURL, nil).refused(http.StatusServiceUnavailable, "unavailable")
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusServiceUnavailable, "unavailable")
	if _, err := os.Stat(folder); err == nil {
		t.Error("the folder was created again")
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusServiceUnavailable, "unavailable")
	s.anonymous().call("GET", m.SignedURL, nil).refused(http.StatusServiceUnavailable, "unavailable")
	s.anonymous().call("HEAD", m.SignedURL, nil).is(http.StatusServiceUnavailable)
	s.expectFiles(1)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"2", folder); err != nil {
		t.Fatal(err)
	}
	if r := s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK); string(r.body) != "here" {
		t.Errorf("afterwards it is %q", r.body)
	}
}

// TestQuotaOfSentFiles checks that sending files does not free space for more of them, however they
// are uploaded.
func TestQuotaOfSentFiles(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.store.MediaPerUser = 3 * 4096 })
	alice := s.login("alice")
	alice.enter("lobby")
	var last room.Message
	for range 3 {
		m := alice.upload("a.txt", []byte("small"))
		last = message(alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.Media.ID}).is(http.StatusCreated))
	}
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusTooManyRequests, "media_quota")
	alice.call("POST", uploadsPath, nil, tus(), header("Upload-Length", "1")).refused(http.StatusTooManyRequests, "media_quota")
	s.login("bob").upload("b.txt", []byte("his own"))
	// Its bytes are kept for another day.
	alice.call("DELETE", roomPath("lobby", "/messages/"+string(last.ID)), nil).is(http.StatusNoContent)
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusTooManyRequests, "media_quota")
	// Messages without new files still work.
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "still here"}).is(http.StatusCreated)
}

// damage replaces or deletes the bytes of a stored file.
type damage struct {
	folder string
	s3     *mediatest.S3
}

func (d damage) write(t *testing.T, id room.MediaID, bytes string) {
	t.Helper()
	path := string(id[:2]) + "/" + string(id)
	if d.s3 != nil {
		d.s3.Do("PUT", "/"+path, strings.NewReader(bytes))
	} else if err := os.WriteFile(filepath.Join(d.folder, path), []byte(bytes), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d damage) remove(t *testing.T, id room.MediaID) {
	t.Helper()
	path := string(id[:2]) + "/" + string(id)
	if d.s3 != nil {
		d.s3.Do("DELETE", "/"+path, nil)
	} else if err := os.Remove(filepath.Join(d.folder, path)); err != nil {
		t.Fatal(err)
	}
}

// inFolderAndS3 runs a test with a service that stores files in a folder, and with one that stores
// them in S3.
func inFolderAndS3(t *testing.T, test func(t *testing.T, d damage, change func(*setup))) {
	t.Helper()
	t.Run("folder", func(t *testing.T) {
		folder := t.TempDir()
		test(t, damage{folder: folder}, func(c *setup) { c.api.Media = openFolder(t, folder) })
	})
	t.Run("S3", func(t *testing.T) {
		s3 := mediatest.NewS3(t)
		test(t, damage{s3: s3}, func(c *setup) { c.api.Media = openFolder(t, s3.URL) })
	})
}

// TestLostBytes checks that a file whose stored bytes do not match its row is reported as lost,
// rather than as not found, in all ways to read it. The log and the metric contain it, the log only
// once for many requests.
func TestLostBytes(t *testing.T) {
	inFolderAndS3(t, func(t *testing.T, d damage, change func(*setup)) {
		var lost atomic.Int64
		s := newService(t, change, func(c *setup) {
			c.allowErrors, c.api.MediaLost = true, func() { lost.Add(1) }
		})
		alice := s.login("alice")
		gone, cut, longer, empty := alice.upload("a.txt", []byte("gone")), alice.upload("b.txt", []byte("cut")), alice.upload("c.txt", []byte("longer")), alice.upload("d.txt", nil)
		whole := alice.upload("e.txt", []byte("whole"))
		d.remove(t, gone.Media.ID)
		d.write(t, cut.Media.ID, "cu")
		d.write(t, longer.Media.ID, "longer!")
		d.write(t, empty.Media.ID, "x")
		for _, m := range []uploaded{gone, cut, longer, empty} {
			for _, r := range []reply{
				s.anonymous().call("GET", m.SignedURL, nil), alice.call("GET", m.Media.URL, nil),
				s.anonymous().call("GET", m.SignedURL, nil, header("Range", "bytes=0-0")),
				s.anonymous().call("GET", m.SignedURL, nil, header("If-None-Match", `"`+string(m.Media.ID)+`"`)),
			} {
				r.refused(http.StatusGone, "media_lost")
				if c := r.Header.Get("Cache-Control"); c != "no-store" || r.Header.Get("ETag") != "" {
					t.Errorf("%s: Cache-Control: %q: %v", m.Media.FileName, c, r.Header)
				}
			}
			if r := s.anonymous().call("HEAD", m.SignedURL, nil).is(http.StatusGone); r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %v", m.Media.FileName, r.Header)
			}
		}
		if n := lost.Load(); n != 20 {
			t.Errorf("metric: %d", n)
		}
		if n := s.log.count(`"media bytes lost"`); n != 1 {
			t.Errorf("the log has %d lines about it", n)
		}
		s.anonymous().call("GET", whole.SignedURL, nil).is(http.StatusOK)
		d.write(t, cut.Media.ID, "cut")
		if r := s.anonymous().call("GET", cut.SignedURL, nil).is(http.StatusOK); string(r.body) != "cut" {
			t.Errorf("after restoring the backup: %q", r.body)
		}

		// An upload whose parts are lost has to be started again.
		at := alice.create("f.txt", 8)
		alice.patch(at, 0, []byte("some")).is(http.StatusNoContent)
		d.remove(t, room.MediaID(s.anyPartID()))
		alice.patch(at, 4, []byte("more")).refused(http.StatusGone, "media_lost")
		alice.call("HEAD", at, nil, tus()).is(http.StatusGone)
		alice.call("GET", "/v1/media/"+path.Base(at), nil).refused(http.StatusNotFound, "media_not_found")
		alice.call("DELETE", at, nil, tus()).is(http.StatusNoContent)
	})
}

// anyPartID returns the ID of one of the stored upload parts.
func (s *service) anyPartID() (id string) {
	s.Helper()
	conn, err := pgx.Connect(context.Background(), s.database)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "SELECT piece_id::text FROM media_pieces LIMIT 1").Scan(&id); err != nil {
		s.Fatal(err)
	}
	return id
}

// TestTruncatedFile checks that the connection is aborted if a file becomes shorter while it is
// sent, so that no client takes the part for the whole.
func TestTruncatedFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := newService(t, func(c *setup) { c.api.Media, c.allowErrors = openFolder(t, folder), true })
	alice := s.login("alice")
	const size = 32 << 20 // far more than the connection buffers
	m := alice.media(alice.uploadStream(zeros(size), size).is(http.StatusCreated))
	got, err := s.server.Client().Get(s.url + m.SignedURL)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if err := os.Truncate(filepath.Join(folder, string(m.Media.ID[:2]), string(m.Media.ID)), size/2); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, got.Body)
	if err == nil || n > size/2 || got.ContentLength != size {
		t.Errorf("of %d bytes, %d arrived, then %v", got.ContentLength, n, err)
	}
	eventually(t, "the log says so", func() bool { return s.log.contains(`"media bytes lost"`) })
}

// TestStorageFull checks that all kinds of uploads are rejected if there is no space, and that
// everything else still works.
func TestStorageFull(t *testing.T) {
	inFolderAndS3(t, func(t *testing.T, d damage, change func(*setup)) {
		s := newService(t, change)
		alice := s.login("alice")
		alice.enter("lobby")
		m := alice.upload("a.txt", []byte("here"))
		begun, whole := alice.create("b.txt", 8), alice.create("c.txt", 4)
		alice.patch(begun, 0, []byte("some")).is(http.StatusNoContent)
		fill := func(full bool) {
			s.media.KeepFree = 0
			switch {
			case d.s3 != nil:
				d.s3.Fill(full)
			case full:
				s.media.KeepFree = math.MaxInt64
			}
		}
		fill(true)
		alice.call("POST", "/v1/media", raw("x")).refused(http.StatusInsufficientStorage, "storage_full")
		post := alice.call("POST", uploadsPath, raw("x"), tus(), header("Upload-Length", "1"), header("Content-Type", "application/offset+octet-stream"))
		post.refused(http.StatusInsufficientStorage, "storage_full")
		alice.patch(begun, 4, []byte("more")).refused(http.StatusInsufficientStorage, "storage_full")
		alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": m.Media.ID}).is(http.StatusCreated)
		alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "text", "text": "still here"}).is(http.StatusCreated)
		s.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK)
		if got := alice.offset(begun); got != 4 {
			t.Errorf("%d bytes stored", got)
		}
		fill(false)
		alice.patch(begun, 4, []byte("more")).is(http.StatusNoContent)
		alice.expectBytes(alice.finished(begun), []byte("somemore"))

		// All bytes are stored, but there is no space to assemble them: HEAD reports it, and
		// assembles them later.
		if d.s3 != nil {
			d.s3.Deny(func(r *http.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.URL.Path, path.Base(whole))
			})
			alice.patch(whole, 0, []byte("some")).refused(http.StatusServiceUnavailable, "unavailable")
			d.s3.Deny(nil)
			fill(true)
			alice.call("HEAD", whole, nil, tus()).is(http.StatusInsufficientStorage)
			fill(false)
			if got := alice.offset(whole); got != 4 {
				t.Errorf("%d bytes stored", got)
			}
			alice.expectBytes(alice.finished(whole), []byte("some"))
		}
	})
}

// TestSweptFiles checks that unsent files are deleted after a day.
func TestSweptFiles(t *testing.T) {
	t.Parallel()
	clock, folder := newClock(), t.TempDir()
	b, err := media.Open(context.Background(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s := newService(t, func(c *setup) { c.api.Media, c.store.Now = b, clock.Now })
	alice := s.login("alice")
	alice.enter("lobby")
	unsent, sent := alice.upload("a.txt", []byte("unsent")), alice.upload("b.txt", []byte("sent"))
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": sent.Media.ID}).is(http.StatusCreated)
	clock.advance(room.MediaKept)
	err = s.store.SweepMedia(context.Background(), func(ctx context.Context, id room.MediaID) error { return b.Delete(ctx, string(id)) })
	if err != nil {
		t.Fatal(err)
	}
	s.anonymous().call("GET", unsent.SignedURL, nil).refused(http.StatusNotFound, "media_not_found")
	if r := s.anonymous().call("GET", sent.SignedURL, nil).is(http.StatusOK); string(r.body) != "sent" {
		t.Errorf("the sent file is %q", r.body)
	}
	left, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != string(sent.Media.ID) {
		t.Errorf("stored: %v: %v", left, err)
	}
}

// TestFilesInS3 checks that S3 works like a folder, and that nothing is left of an upload if S3
// fails in the middle.
func TestFilesInS3(t *testing.T) {
	// Not parallel, because the keys of S3 are in the environment.
	s3 := mediatest.NewS3(t)
	b, err := media.Open(context.Background(), s3.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	clock := newClock()
	s := newService(t, func(c *setup) { c.api.Media, c.store.Now = b, clock.Now })
	alice := s.login("alice")
	picture := alice.upload("alpha.png", file(t, "alpha.png"))
	if picture.Media.ContentType != "image/png" || picture.Media.Width != 67 {
		t.Errorf("the picture is %+v", picture.Media)
	}
	const size = 12 << 20
	big := alice.media(alice.uploadStream(io.MultiReader(strings.NewReader("begin"), zeros(size-8), strings.NewReader("end")), size).is(http.StatusCreated))
	for rng, want := range map[string]string{"bytes=0-4": "begin", "bytes=-3": "end", "bytes=5-6": "\x00\x00"} {
		if r := s.anonymous().call("GET", big.SignedURL, nil, header("Range", rng)).is(http.StatusPartialContent); string(r.body) != want {
			t.Errorf("%s is %q", rng, r.body)
		}
	}
	if r := s.unchecked().call("GET", big.SignedURL, nil).is(http.StatusOK); len(r.body) != size || !bytes.HasSuffix(r.body, []byte("\x00end")) {
		t.Errorf("the big file has %d bytes", len(r.body))
	}
	if r := alice.call("GET", picture.Media.URL, nil).is(http.StatusOK); !bytes.Equal(r.body, file(t, "alpha.png")) {
		t.Errorf("the picture has %d bytes", len(r.body))
	}
	s.anonymous().call("HEAD", picture.SignedURL, nil).is(http.StatusOK)
	s.anonymous().call("GET", picture.SignedURL, nil, header("Range", "bytes=9999999-")).refused(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")

	s3.Deny(func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" })
	alice.uploadStream(zeros(size), size).refused(http.StatusServiceUnavailable, "unavailable")
	s3.Deny(func(*http.Request) bool { return true })
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusServiceUnavailable, "unavailable")
	s.anonymous().call("GET", big.SignedURL, nil).refused(http.StatusServiceUnavailable, "unavailable")
	s3.Deny(nil)
	s.expectFiles(2)
	if keys := s3.Keys(); len(keys) != 2 {
		t.Errorf("stored: %v", keys)
	}

	alice.enter("lobby")
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "image", "mediaID": picture.Media.ID}).is(http.StatusCreated)
	clock.advance(room.MediaKept)
	sweep := func() error {
		return s.store.SweepMedia(context.Background(), func(ctx context.Context, id room.MediaID) error { return b.Delete(ctx, string(id)) })
	}
	s3.Deny(func(r *http.Request) bool { return r.Method == http.MethodDelete })
	if err := sweep(); err == nil {
		t.Error("a denied delete returned no error")
	}
	s3.Deny(nil)
	clock.advance(time.Hour)
	if err := sweep(); err != nil {
		t.Error(err)
	}
	s.anonymous().call("GET", big.SignedURL, nil).refused(http.StatusNotFound, "media_not_found")
	s.anonymous().call("GET", picture.SignedURL, nil).is(http.StatusOK)
	if keys := s3.Keys(); len(keys) != 1 || !strings.HasSuffix(keys[0], string(picture.Media.ID)) {
		t.Errorf("stored: %v", keys)
	}
}
