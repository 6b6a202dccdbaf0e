package servicetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parlor/handlers"
	"parlor/media"
	"parlor/room"
)

const uploadsPath = "/v1/media/uploads"

// tus sets the headers of a tus request.
func tus(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Tus-Resumable", "1.0.0")
		if r.Method == http.MethodPatch {
			r.Header.Set("Content-Type", "application/offset+octet-stream")
		}
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
}

func metadata(name string) string {
	return "filename " + base64.StdEncoding.EncodeToString([]byte(name)) + ",filetype aW1hZ2UvcG5n"
}

// create starts an upload and returns its path.
func (c *client) create(name string, length int64, pairs ...string) string {
	c.Helper()
	pairs = append([]string{"Upload-Length", strconv.FormatInt(length, 10), "Upload-Metadata", metadata(name)}, pairs...)
	at := c.call("POST", uploadsPath, nil, tus(pairs...)).is(http.StatusCreated).Header.Get("Location")
	if !strings.HasPrefix(at, uploadsPath+"/") {
		c.Fatalf("the upload is at %q", at)
	}
	return at
}

// patch sends bytes of an upload.
func (c *client) patch(at string, offset int64, data []byte, pairs ...string) reply {
	c.Helper()
	return c.call("PATCH", at, raw(data), tus(append([]string{"Upload-Offset", strconv.FormatInt(offset, 10)}, pairs...)...))
}

// patchStream sends bytes of an upload without holding them in memory.
func (c *client) patchStream(at string, offset int64, body io.Reader, length int64) reply {
	c.Helper()
	return c.unchecked().withKey(c.SessionKey).call("PATCH", at, nil, tus("Upload-Offset", strconv.FormatInt(offset, 10)), func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(body), length
	})
}

// offset returns how many bytes of an upload are stored.
func (c *client) offset(at string) int64 {
	c.Helper()
	n, err := strconv.ParseInt(c.call("HEAD", at, nil).is(http.StatusOK).Header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// finished returns the file of an upload.
func (c *client) finished(at string) uploaded {
	c.Helper()
	return c.media(c.call("GET", "/v1/media/"+path.Base(at), nil).is(http.StatusOK))
}

// expectBytes requires that a file has these bytes.
func (c *client) expectBytes(m uploaded, want []byte) {
	c.Helper()
	if got := c.anonymous().call("GET", m.SignedURL, nil).is(http.StatusOK).body; !bytes.Equal(got, want) {
		c.Errorf("the file of %d bytes differs from the %d bytes that were sent", len(got), len(want))
	}
}

// beginPatch sends some of the bytes that a request announces, on a separate connection.
func (c *client) beginPatch(at string, offset, length int64, some []byte) net.Conn {
	c.Helper()
	conn, err := net.Dial("tcp", c.server.Listener.Addr().String())
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: parlor\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"+
		"Content-Type: application/offset+octet-stream\r\nUpload-Offset: %d\r\nContent-Length: %d\r\n\r\n%s", at, c.SessionKey, offset, length, some)
	if err != nil {
		c.Fatal(err)
	}
	return conn
}

// numbered returns n bytes without any repetition.
func numbered(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		_, _ = fmt.Fprintf(&b, "%d ", i)
	}
	return b.Bytes()[:n]
}

// TestResumableUploads checks that the file is the same as with uploadMedia, however the bytes are
// sent.
func TestResumableUploads(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	picture := file(t, "alpha.png")
	size := int64(len(picture))
	want := alice.upload("é cat.png", picture).Media
	ways := []struct {
		how  string
		send func() string
	}{
		{"whole", func() string {
			at := alice.create("é cat.png", size)
			if r := alice.patch(at, 0, picture).is(http.StatusNoContent); r.Header.Get("Upload-Offset") != strconv.FormatInt(size, 10) {
				t.Errorf("headers at the end: %v", r.Header)
			}
			return at
		}},
		{"in parts", func() string {
			at := alice.create("é cat.png", size)
			for begin := int64(0); begin < size; begin += 100 {
				if got := alice.offset(at); got != begin {
					t.Fatalf("the offset is %d, want %d", got, begin)
				}
				alice.patch(at, begin, picture[begin:min(begin+100, size)]).is(http.StatusNoContent)
			}
			return at
		}},
		{"with its creation", func() string {
			r := alice.call("POST", uploadsPath, raw(picture), tus("Upload-Length", strconv.FormatInt(size, 10),
				"Upload-Metadata", metadata("é cat.png"), "Content-Type", "application/offset+octet-stream")).is(http.StatusCreated)
			if r.Header.Get("Upload-Offset") != strconv.FormatInt(size, 10) {
				t.Errorf("headers at the end: %v", r.Header)
			}
			return r.Header.Get("Location")
		}},
	}
	for _, way := range ways {
		at := way.send()
		m := alice.finished(at)
		got := m.Media
		got.ID, got.URL = want.ID, want.URL
		if got != want {
			t.Errorf("%s it is %+v, want %+v", way.how, got, want)
		}
		alice.expectBytes(m, picture)
		r := alice.call("HEAD", at, nil).is(http.StatusOK)
		if r.Header.Get("Upload-Offset") != r.Header.Get("Upload-Length") || r.Header.Get("Upload-Metadata") != strings.Split(metadata("é cat.png"), ",")[0] {
			t.Errorf("%s, afterwards: %v", way.how, r.Header)
		}
		alice.patch(at, size, nil).is(http.StatusNoContent) // a retry of the last request
	}
	empty := alice.create("empty.txt", 0)
	if m := alice.finished(empty); m.Media.Size != 0 || m.Media.FileName != "empty.txt" {
		t.Errorf("the empty file is %+v", m.Media)
	}
	large := numbered(10 << 20) // three parts in one request
	at := alice.create("large.txt", int64(len(large)))
	alice.patch(at, 0, large).is(http.StatusNoContent)
	alice.expectBytes(alice.finished(at), large)
	s.expectFiles(6)
	if n := s.rows("media_pieces"); n != 0 {
		t.Errorf("%d parts left", n)
	}
	r := s.anonymous().call("OPTIONS", uploadsPath, nil).is(http.StatusOK)
	if h := r.Header; h.Get("Tus-Version") != "1.0.0" || h.Get("Tus-Extension") != "creation,creation-with-upload,termination" || h.Get("Tus-Max-Size") != "104857600" {
		t.Errorf("tus is described as %v", h)
	}
}

// TestBrokenUploadsContinue checks that bytes that arrived before the connection broke do not have
// to be sent again.
func TestBrokenUploadsContinue(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	data := numbered(9 << 20)
	at := alice.create("a.txt", int64(len(data)))
	const sent = 5<<20 + 1234
	cut := alice.beginPatch(at, 0, int64(len(data)), data[:sent])
	_ = cut.Close()
	eventually(t, "what was sent is stored", func() bool { return s.rows(fmt.Sprintf("media WHERE uploaded = %d", sent)) == 1 })
	alice.patch(at, sent, data[sent:]).is(http.StatusNoContent)
	alice.expectBytes(alice.finished(at), data)

	// A new request takes over from one on a dead connection that the server has not noticed yet.
	at = alice.create("b.txt", int64(len(data)))
	dead := alice.beginPatch(at, 0, int64(len(data)), data[:sent])
	eventually(t, "a part is stored", func() bool { return s.rows("media_pieces") > 1 })
	begin := alice.offset(at)
	if begin < 4<<20 || begin > sent {
		t.Errorf("at the takeover %d bytes stored", begin)
	}
	reply := make([]byte, 1024)
	if err := dead.SetReadDeadline(time.Now().Add(waitTimeout)); err != nil {
		t.Fatal(err)
	}
	if n, err := dead.Read(reply); err != nil || !bytes.HasPrefix(reply, []byte("HTTP/1.1 409 ")) || !bytes.Contains(reply, []byte("upload_interrupted")) {
		t.Errorf("reply to the interrupted request: %q, %v", reply[:n], err)
	}
	alice.patch(at, begin, data[begin:]).is(http.StatusNoContent)
	alice.expectBytes(alice.finished(at), data)
}

// TestInterruptedUploadIsNotCanceled checks that the request of an interrupted upload is answered,
// and its connection closed. net/http cancels it and those that follow on the connection, as it
// does if the client has disconnected.
func TestInterruptedUploadIsNotCanceled(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{"when the last bytes have arrived": "somemore", "before": "some"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var interrupt func()
			s := newService(t, func(c *setup) {
				c.front = func(w http.ResponseWriter, r *http.Request, api http.Handler) {
					if r.Method == http.MethodPatch {
						canceled := r.Context().Done()
						r.Body = interruptedBody{r.Body, sync.OnceFunc(func() {
							interrupt()
							<-canceled
						})}
					}
					api.ServeHTTP(w, r)
				}
			})
			alice := s.login("alice")
			at := alice.create("a.txt", 8)
			var other sync.WaitGroup
			interrupt = func() { other.Go(func() { alice.offset(at) }) }
			body, sending := io.Pipe()
			t.Cleanup(func() { _ = sending.Close() })
			go func() { _, _ = sending.Write([]byte(sent)) }()
			r := alice.patchStream(at, 0, body, 8)
			r.refused(http.StatusConflict, "upload_interrupted")
			if !r.Close {
				t.Error("the connection stays open")
			}
			other.Wait()
			if got := alice.offset(at); got != int64(len(sent)) {
				t.Errorf("%d bytes are stored of %d", got, len(sent))
			}
		})
	}
}

// interruptedBody calls a function after its first bytes, before its reader has them.
type interruptedBody struct {
	io.ReadCloser
	read func()
}

func (b interruptedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.read()
	}
	return n, err
}

// TestStalledUploads checks that a stalled upload is interrupted and can continue.
func TestStalledUploads(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.UploadPause = 200 * time.Millisecond })
	alice := s.login("alice")
	at := alice.create("a.txt", 8)
	silent := func() io.Reader {
		r, w := io.Pipe()
		t.Cleanup(func() { _ = w.Close() })
		go func() { _, _ = w.Write([]byte("some")) }()
		return r
	}
	r := alice.patchStream(at, 0, silent(), 8)
	r.refused(http.StatusConflict, "upload_interrupted")
	seen.reply("continueUpload", r.StatusCode)
	if got := alice.offset(at); got != 4 {
		t.Errorf("%d bytes stored of four", got)
	}
	alice.patch(at, 4, []byte("more")).is(http.StatusNoContent)
	alice.expectBytes(alice.finished(at), []byte("somemore"))
	r = alice.unchecked().withKey(alice.SessionKey).call("POST", uploadsPath, nil, tus("Upload-Length", "8", "Content-Type", "application/offset+octet-stream"),
		func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(silent()), 8 })
	r.refused(http.StatusConflict, "upload_interrupted")
	if err := checkContract(r.Request, []byte("some"), r.Response, r.body); err != nil {
		t.Error(err)
	}
	s.expectFiles(1) // the client did not learn the ID of the other one
}

// TestRejectedUploads checks that rejected requests get Parlor's problems and store nothing.
func TestRejectedUploads(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	post := func(pairs ...string) reply { return alice.call("POST", uploadsPath, nil, tus(pairs...)) }
	for _, bad := range []string{"", "x", "-1", "1.5", "99999999999999999999"} {
		post("Upload-Length", bad).invalid("header/Upload-Length", "length")
	}
	post("Upload-Defer-Length", "1").invalid("header/Upload-Defer-Length", "extension")
	post("Upload-Length", "1", "Upload-Concat", "partial").invalid("header/Upload-Concat", "extension")
	post("Upload-Length", "104857601").refused(http.StatusRequestEntityTooLarge, "file_too_large")
	post("Upload-Length", "1", "Tus-Resumable", "0.2.2").refused(http.StatusPreconditionFailed, "tus_version")
	alice.call("POST", uploadsPath, nil, header("Upload-Length", "1")).refused(http.StatusPreconditionFailed, "tus_version")
	for _, bad := range []string{"filename ***", "filename YQ==,filename YQ==", ",", "filename YQ==,", "a b c", strings.Repeat("x,", 1000)} {
		post("Upload-Length", "1", "Upload-Metadata", bad).invalid("header/Upload-Metadata", "metadata")
	}
	alice.call("POST", uploadsPath, raw("too much"), tus("Upload-Length", "3", "Content-Type", "application/offset+octet-stream")).
		refused(http.StatusRequestEntityTooLarge, "upload_too_long")
	s.anonymous().call("POST", uploadsPath, nil, tus("Upload-Length", "1")).refused(http.StatusUnauthorized, "unauthenticated")

	at := alice.create("a.txt", 10)
	alice.patch(at, 0, []byte("some")).is(http.StatusNoContent)
	for _, offset := range []int64{0, 3, 5, 10, 11} {
		alice.patch(at, offset, []byte("more")).refused(http.StatusConflict, "upload_offset")
	}
	alice.patch(at, 4, []byte("too much")).refused(http.StatusRequestEntityTooLarge, "upload_too_long")
	for _, bad := range []string{"", "x", "-4", "4.0"} {
		alice.patch(at, 4, []byte("more"), "Upload-Offset", bad).invalid("header/Upload-Offset", "offset")
	}
	alice.patch(at, 4, []byte("more"), "Upload-Length", "8").invalid("header/Upload-Length", "length")
	alice.patch(at, 4, []byte("more"), "Content-Type", "text/plain").refused(http.StatusUnsupportedMediaType, "unsupported_media_type")
	alice.patch(at, 4, []byte("more"), "Content-Encoding", "gzip").refused(http.StatusUnsupportedMediaType, "unsupported_media_type")
	alice.call("POST", "/v1/media", raw("more"), header("Content-Encoding", "gzip")).refused(http.StatusUnsupportedMediaType, "unsupported_media_type")
	alice.patch(at, 4, []byte("more"), "Tus-Resumable", "2").refused(http.StatusPreconditionFailed, "tus_version")
	alice.call("DELETE", at, nil).refused(http.StatusPreconditionFailed, "tus_version")
	alice.call("POST", at, nil, tus("X-HTTP-Method-Override", "DELETE")).refused(http.StatusMethodNotAllowed, "method_not_allowed")
	// With a chunked body, the size is not known in advance.
	alice.patchStream(at, 4, strings.NewReader("too much"), -1).refused(http.StatusRequestEntityTooLarge, "upload_too_long")
	if got := alice.offset(at); got != 10 {
		t.Errorf("too long a body: %d bytes stored", got)
	}

	mine := alice.create("mine.txt", 4)
	for _, at := range []string{mine, uploadsPath + "/" + noMedia, uploadsPath + "/x", uploadsPath + "/%2e%2e"} {
		bob.call("HEAD", at, nil).is(http.StatusNotFound)
		bob.patch(at, 0, []byte("more")).refused(http.StatusNotFound, "media_not_found")
		bob.call("DELETE", at, nil, tus()).refused(http.StatusNotFound, "media_not_found")
	}
	s.anonymous().call("HEAD", mine, nil).is(http.StatusUnauthorized)
	s.anonymous().patch(mine, 0, []byte("more")).refused(http.StatusUnauthorized, "unauthenticated")
	s.anonymous().call("DELETE", mine, nil, tus()).refused(http.StatusUnauthorized, "unauthenticated")
	for _, c := range []*client{alice, bob} {
		c.call("GET", "/v1/media/"+path.Base(mine), nil).refused(http.StatusNotFound, "media_not_found")
	}
	// A forged host or scheme must not appear in a link.
	r := post("Upload-Length", "1", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "Forwarded", "host=evil.example").is(http.StatusCreated)
	if at := r.Header.Get("Location"); !strings.HasPrefix(at, uploadsPath+"/") || len(at) != len(mine) {
		t.Errorf("the upload is at %q", at)
	}
}

// TestConcurrentUploadProcesses checks that only one of two processes that receive the same bytes
// stores them, and that the other reports the wrong offset.
func TestConcurrentUploadProcesses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	open := func(c *setup) {
		b, err := media.Open(context.Background(), folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		c.api.Media = b
	}
	one := newService(t, open)
	two := newService(t, open, func(c *setup) { c.database = one.database })
	alice := one.login("alice")
	there := two.anonymous().withKey(alice.SessionKey)
	const size = 6 << 20
	for range 5 {
		at := alice.create("a.txt", size)
		letters := [2][]byte{bytes.Repeat([]byte("a"), size), bytes.Repeat([]byte("b"), size)}
		var replies [2]reply
		var sending sync.WaitGroup
		for i, c := range []*client{alice, there} {
			sending.Go(func() { replies[i] = c.patch(at, 0, letters[i]) })
		}
		sending.Wait()
		taken := 0
		for i, r := range replies {
			if r.StatusCode == http.StatusNoContent {
				taken++
				alice.expectBytes(there.finished(at), letters[i])
			} else {
				r.refused(http.StatusConflict, "upload_offset")
			}
		}
		if taken != 1 {
			t.Errorf("%d of two requests were accepted", taken)
		}
		alice.call("DELETE", at, nil, tus()).is(http.StatusNoContent)
	}
	// Any process can receive the next bytes.
	data := numbered(3 << 20)
	at := alice.create("b.txt", int64(len(data)))
	for i, begin := 0, 0; begin < len(data); i, begin = i+1, begin+1<<20 {
		[]*client{alice, there}[i%2].patch(at, int64(begin), data[begin:begin+1<<20]).is(http.StatusNoContent)
	}
	alice.expectBytes(alice.finished(at), data)
	one.expectFiles(1)
}

// beforeParts is a store that calls a function before it lists the parts of an upload.
type beforeParts struct {
	handlers.Store
	before func()
}

func (l beforeParts) Parts(ctx context.Context, id room.MediaID) (room.Parts, error) {
	l.before()
	return l.Store.Parts(ctx, id)
}

// TestUploadFinishedByAnotherProcess checks that a process that finds parts missing, because
// another one has assembled them, does not store the rest as the file.
func TestUploadFinishedByAnotherProcess(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	open := func(c *setup) { c.api.Media = openFolder(t, folder) }
	f := &failingStore{}
	one := newService(t, open, func(c *setup) {
		c.wrap = func(s handlers.Store) handlers.Store { f.Store = s; return f }
	})
	alice := one.login("alice")
	at := alice.create("a.txt", 4)
	f.set(func(f *failingStore) { f.finish = room.ErrUnavailable })
	alice.patch(at, 0, []byte("some")).refused(http.StatusServiceUnavailable, "unavailable")
	f.set(func(f *failingStore) { f.finish = nil })
	two := newService(t, open, func(c *setup) {
		c.database = one.database
		c.wrap = func(s handlers.Store) handlers.Store { return beforeParts{s, func() { alice.offset(at) }} }
	})
	if got := two.anonymous().withKey(alice.SessionKey).offset(at); got != 4 {
		t.Errorf("the offset is %d", got)
	}
	alice.expectBytes(alice.finished(at), []byte("some"))
}

// failingStore is a store that fails when a test says so.
type failingStore struct {
	handlers.Store
	mu     sync.Mutex // guards the fields below
	finish error
	known  error
	keep   chan struct{} // FinishPart waits for it
}

func (f *failingStore) set(change func(*failingStore)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *failingStore) FinishMedia(ctx context.Context, m room.Media) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finish != nil {
		return f.finish
	}
	return f.Store.FinishMedia(ctx, m)
}

func (f *failingStore) Upload(ctx context.Context, owner room.UserID, id room.MediaID) (room.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known != nil {
		return room.Upload{}, f.known
	}
	return f.Store.Upload(ctx, owner, id)
}

func (f *failingStore) FinishPart(ctx context.Context, id room.PartID, length int64) error {
	f.mu.Lock()
	keep := f.keep
	f.mu.Unlock()
	if keep != nil {
		<-keep
	}
	return f.Store.FinishPart(ctx, id, length)
}

// TestUploadsWithoutDatabase checks that a complete upload that could not be finished is finished
// by the next request, and that a hanging request does not block others forever.
func TestUploadsWithoutDatabase(t *testing.T) {
	t.Parallel()
	f := &failingStore{}
	s := newService(t, func(c *setup) {
		c.wrap = func(s handlers.Store) handlers.Store { f.Store = s; return f }
		c.api.UploadPause = 300 * time.Millisecond
	})
	alice := s.login("alice")
	at := alice.create("a.txt", 4)
	f.set(func(f *failingStore) { f.finish = room.ErrUnavailable })
	alice.patch(at, 0, []byte("some")).refused(http.StatusServiceUnavailable, "unavailable")
	alice.call("HEAD", at, nil).is(http.StatusServiceUnavailable)
	f.set(func(f *failingStore) { f.finish = nil })
	if got := alice.offset(at); got != 4 {
		t.Errorf("the offset is %d", got)
	}
	alice.expectBytes(alice.finished(at), []byte("some"))

	f.set(func(f *failingStore) { f.known = room.ErrUnavailable })
	alice.call("DELETE", at, nil, tus()).refused(http.StatusServiceUnavailable, "unavailable")
	f.set(func(f *failingStore) { f.known = nil })

	at = alice.create("b.txt", 4)
	f.set(func(f *failingStore) { f.keep = make(chan struct{}) })
	var hanging sync.WaitGroup
	hanging.Go(func() { alice.patch(at, 0, []byte("some")).is(http.StatusConflict) }) // other requests interrupted it
	eventually(t, "a part is stored", func() bool { return s.rows("media_pieces") > 0 })
	alice.call("HEAD", at, nil).is(http.StatusConflict)
	alice.call("DELETE", at, nil, tus()).refused(http.StatusConflict, "upload_interrupted")
	alice.patch(at, 0, []byte("some")).refused(http.StatusConflict, "upload_interrupted")
	f.set(func(f *failingStore) { close(f.keep); f.keep = nil })
	hanging.Wait()
	alice.expectBytes(alice.finished(at), []byte("some"))
}

// TestUploadsToFailingFolder checks that uploads continue when the folder is available again.
func TestUploadsToFailingFolder(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	s := newService(t, func(c *setup) { c.api.Media = openFolder(t, folder) })
	alice := s.login("alice")
	at := alice.create("a.txt", 8)
	alice.patch(at, 0, []byte("some")).is(http.StatusNoContent)
	if err := os.Rename(folder, folder+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alice.patch(at, 4, []byte("more")).refused(http.StatusServiceUnavailable, "unavailable")
	if got := alice.offset(at); got != 4 {
		t.Errorf("%d bytes stored of four", got)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"2", folder); err != nil {
		t.Fatal(err)
	}
	alice.patch(at, 4, []byte("more")).is(http.StatusNoContent)
	alice.expectBytes(alice.finished(at), []byte("somemore"))
	expectObjects(t, folder, 1)
}

// expectObjects requires this number of objects in a folder.
func expectObjects(t testing.TB, folder string, want int) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	if err != nil || len(left) != want {
		t.Errorf("stored: %v, want %d: %v", left, want, err)
	}
}

// TestUploadsAreDeleted checks that uploads are ended by their owner or after a day, and leave
// nothing behind.
func TestUploadsAreDeleted(t *testing.T) {
	t.Parallel()
	clock, folder := newClock(), t.TempDir()
	b, err := media.Open(context.Background(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s := newService(t, func(c *setup) { c.api.Media, c.store.Now = b, clock.Now })
	alice := s.loginWith(s.token("alice", 72*time.Hour))
	alice.enter("lobby")
	begun := func() string {
		at := alice.create("a.txt", 8)
		alice.patch(at, 0, []byte("some")).is(http.StatusNoContent)
		return at
	}
	done := begun()
	alice.patch(done, 4, []byte("more")).is(http.StatusNoContent)
	posted := uploadsPath + "/" + string(alice.upload("b.txt", []byte("posted")).Media.ID)
	for _, at := range []string{begun(), done, posted} {
		alice.call("DELETE", at, nil, tus()).is(http.StatusNoContent)
		alice.call("HEAD", at, nil).is(http.StatusNotFound)
		alice.patch(at, 4, []byte("more")).refused(http.StatusNotFound, "media_not_found")
		alice.call("DELETE", at, nil, tus()).refused(http.StatusNotFound, "media_not_found")
	}
	expectObjects(t, folder, 0)
	if media, parts := s.rows("media"), s.rows("media_pieces"); media+parts != 0 {
		t.Errorf("%d files and %d parts left", media, parts)
	}

	sent := begun()
	alice.patch(sent, 4, []byte("more")).is(http.StatusNoContent)
	alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": path.Base(sent)}).is(http.StatusCreated)
	alice.call("DELETE", sent, nil, tus()).refused(http.StatusConflict, "media_sent")

	left, active := begun(), begun()
	clock.advance(room.MediaKept - time.Minute)
	alice.patch(active, 4, []byte("x")).is(http.StatusNoContent)
	clock.advance(2 * time.Minute)
	s.sweepFiles(b)
	alice.call("HEAD", left, nil).is(http.StatusNotFound)
	if got := alice.offset(active); got != 5 {
		t.Errorf("the continued upload: %d bytes stored", got)
	}
	alice.expectBytes(alice.finished(sent), []byte("somemore"))
	expectObjects(t, folder, 1+2) // the sent file and two parts
}

// sweepFiles deletes what is due, as the program does.
func (s *service) sweepFiles(b *media.Bucket) {
	s.Helper()
	if err := s.store.SweepMedia(context.Background(), func(ctx context.Context, id room.MediaID) error { return b.Delete(ctx, string(id)) }); err != nil {
		s.Error(err)
	}
	if err := s.store.SweepParts(context.Background(), func(ctx context.Context, id room.PartID) error { return b.Delete(ctx, string(id)) }); err != nil {
		s.Error(err)
	}
}

// TestUnsentFileLimits checks the limits for each user on number, bytes and parts of unsent
// files, for both kinds of uploads.
func TestUnsentFileLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	var at sync.Map
	var sending sync.WaitGroup
	for i := range room.MaxUnsentFiles + 10 {
		sending.Go(func() {
			r := alice.call("POST", uploadsPath, nil, tus("Upload-Length", "1"))
			if i%2 == 0 {
				r = alice.call("POST", "/v1/media", raw("x"))
			}
			if r.StatusCode != http.StatusCreated {
				r.refused(http.StatusTooManyRequests, "media_quota")
			} else if i%2 == 1 {
				at.Store(r.Header.Get("Location"), true)
			}
		})
	}
	sending.Wait()
	if n := s.rows("media"); n != room.MaxUnsentFiles {
		t.Errorf("%d files exist", n)
	}
	alice.call("POST", "/v1/media", raw("x")).refused(http.StatusTooManyRequests, "media_quota")
	bob.upload("a.txt", []byte("x"))
	at.Range(func(first, _ any) bool { // sending one file and deleting another one makes space
		alice.patch(first.(string), 0, []byte("x")).is(http.StatusNoContent)
		alice.call("POST", roomPath("lobby", "/messages"), object{"kind": "file", "mediaID": path.Base(first.(string))}).is(http.StatusCreated)
		alice.upload("a.txt", []byte("x"))
		at.Delete(first)
		return false
	})
	at.Range(func(next, _ any) bool {
		alice.call("DELETE", next.(string), nil, tus()).is(http.StatusNoContent)
		alice.create("a.txt", 1)
		return false
	})
	alice.call("POST", uploadsPath, nil, tus("Upload-Length", "1")).refused(http.StatusTooManyRequests, "media_quota")

	for range room.MaxUnsentBytes / room.MaxMediaBytes {
		bob.create("a.txt", room.MaxMediaBytes)
	}
	bob.call("POST", uploadsPath, nil, tus("Upload-Length", strconv.Itoa(room.MaxMediaBytes))).refused(http.StatusTooManyRequests, "media_quota")
	// An upload of unknown length counts with the maximum size.
	bob.uploadStream(strings.NewReader("x"), -1).refused(http.StatusTooManyRequests, "media_quota")
	small := bob.create("b.txt", 4)
	s.exec("UPDATE media SET pieces = $2 WHERE media_id = $1", path.Base(small), room.MaxParts-1)
	bob.patch(small, 0, []byte("a")).is(http.StatusNoContent)
	bob.patch(small, 1, []byte("b")).refused(http.StatusTooManyRequests, "media_quota")
}

// TestConcurrentResumableUploads checks that concurrent uploads are not held in memory.
func TestConcurrentResumableUploads(t *testing.T) {
	// Not parallel, because it measures the memory of the whole process.
	testConcurrentUploads(t, func(alice *client, body io.Reader, size int64) uploaded {
		at := alice.create("a.bin", size)
		alice.patchStream(at, 0, body, size).is(http.StatusNoContent)
		return alice.finished(at)
	})
}
