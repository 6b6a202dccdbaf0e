package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// TestUploadSurvivesKilledServers kills the server repeatedly during an upload, and once stops it
// in order. The client resumes at the offset of HEAD, and the stored file is the one that it sent.
func TestUploadSurvivesKilledServers(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--log-level", "warn")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := login(ctx, t, p, "alice")

	data := make([]byte, 48<<20)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(data)
	at := c.tus(ctx, t, "POST", "/v1/media/uploads", nil, "Upload-Length", strconv.Itoa(len(data)), "Upload-Metadata", "filename YS5iaW4=").Get("Location")
	offset := func() int64 {
		n, err := strconv.ParseInt(c.tus(ctx, t, "HEAD", at, nil).Get("Upload-Offset"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for round, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		begin := offset()
		// The server has read all but what is in the buffers of the connection.
		body := &dying{Reader: bytes.NewReader(data[begin:]), left: 14 << 20, end: func() { p.signal(end) }}
		r, err := c.tusRequest(ctx, "PATCH", at, body, "Upload-Offset", strconv.FormatInt(begin, 10))
		if err != nil {
			t.Fatal(err)
		}
		if reply, err := c.http.Do(r); err == nil {
			_ = reply.Body.Close()
		}
		p.signal(end) // in case the upload ended before
		p.start(t, "--log-level", "warn")
		if now := offset(); now <= begin {
			t.Errorf("after end %d, at %d, %d bytes are stored", round, begin, now)
		}
	}
	begin := offset()
	c.tus(ctx, t, "PATCH", at, bytes.NewReader(data[begin:]), "Upload-Offset", strconv.FormatInt(begin, 10))
	var known struct{ SignedURL string }
	c.mustCall(ctx, t, "GET", "/v1/media/"+path.Base(at), nil, &known)
	reply, err := c.http.Get(p.url + known.SignedURL)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	sum := sha256.New()
	if n, err := io.Copy(sum, reply.Body); err != nil || n != int64(len(data)) || [32]byte(sum.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("the download of %d bytes is not the uploaded file: %v", n, err)
	}
	if t.Failed() {
		t.Log(p.logged())
	}
}

// dying is a request body that ends the server while it is read.
type dying struct {
	io.Reader
	left int
	end  func()
}

func (d *dying) Read(p []byte) (int, error) {
	if d.left <= 0 {
		d.end()
	}
	n, err := d.Reader.Read(p)
	d.left -= n
	return n, err
}

func (c *client) tusRequest(ctx context.Context, method, path string, body io.Reader, pairs ...string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Tus-Resumable", "1.0.0")
	if body != nil {
		r.Header.Set("Content-Type", "application/offset+octet-stream")
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	return r, nil
}

// tus makes a request that must succeed, and returns a header of the reply.
func (c *client) tus(ctx context.Context, t *testing.T, method, path string, body io.Reader, pairs ...string) http.Header {
	t.Helper()
	r, err := c.tusRequest(ctx, method, path, body, pairs...)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode/100 != 2 {
		body, err := io.ReadAll(reply.Body)
		t.Fatalf("%s %s: %s: %s, %v", method, path, reply.Status, body, err)
	}
	return reply.Header
}
