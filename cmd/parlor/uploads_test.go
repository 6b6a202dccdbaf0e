package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"parlor/room"
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

// tryTus makes a request.
func (c *client) tryTus(ctx context.Context, method, path string, body io.Reader, pairs ...string) (status int, header http.Header, err error) {
	r, err := c.tusRequest(ctx, method, path, body, pairs...)
	if err != nil {
		return 0, nil, err
	}
	reply, err := c.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	_ = reply.Body.Close()
	return reply.StatusCode, reply.Header, nil
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

// TestUploadsOverTwoServers sends the requests of uploads to two servers at once.
func TestUploadsOverTwoServers(t *testing.T) {
	t.Parallel()
	c := startNodes(t, 2, nil)
	var files string
	for _, setting := range c.env {
		if _, folder, found := strings.Cut(setting, "PARLOR_MEDIA_URL=file://"); found {
			files = folder
		}
	}
	alice := c.clients("alice")
	data := make([]byte, 20<<20)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(data)

	// Four requests at once continue one upload where it is. Each is accepted, or told to ask for the
	// offset, or interrupted.
	upload := alice[0].tus(c.ctx, t, "POST", "/v1/media/uploads", nil, "Upload-Length", strconv.Itoa(len(data)), "Upload-Metadata", "filename YS5iaW4=").Get("Location")
	var uploading sync.WaitGroup
	var accepted, refused, interrupted atomic.Int64
	for i := range 4 {
		random := rand.New(rand.NewPCG(7, uint64(i)))
		uploading.Go(func() {
			for n := i; c.ctx.Err() == nil; n++ {
				offset, err := alice[n%2].offset(c.ctx, upload)
				if err != nil {
					t.Error(err)
					return
				}
				if offset == len(data) {
					return
				}
				rest := data[offset:min(len(data), offset+1+random.IntN(6<<20))]
				breaks := random.IntN(4) == 0
				status, err := alice[random.IntN(2)].patch(c.ctx, upload, offset, rest, breaks)
				switch {
				case err != nil && (breaks || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
					interrupted.Add(1) // a server that refuses a part does not read the rest of it
				case err == nil && status == http.StatusNoContent:
					accepted.Add(1)
				case err == nil && status == http.StatusConflict:
					refused.Add(1)
				default:
					t.Errorf("%d bytes at %d: status %d, %v", len(rest), offset, status, err)
					return
				}
			}
		})
	}
	uploading.Wait()
	t.Logf("%d requests were accepted, %d refused, %d interrupted", accepted.Load(), refused.Load(), interrupted.Load())
	if refused.Load() == 0 {
		t.Error("no two requests met")
	}
	for _, at := range alice {
		if got, status, err := download(c.ctx, at, path.Base(upload)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the file of %d bytes is not the one that was sent: status %d, %v", len(got), status, err)
		}
	}
	// awaitFiles waits until only these files are stored.
	awaitFiles := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		for {
			var names []string
			err := filepath.WalkDir(files, func(_ string, file fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) { // deleted a moment ago
					return nil
				}
				if err == nil && !file.IsDir() && !strings.HasPrefix(file.Name(), ".") {
					names = append(names, file.Name())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(names)
			if slices.Equal(names, want) {
				return
			}
			if c.ctx.Err() != nil {
				t.Fatalf("stored are %q, want %q", names, want)
			}
			wait(c.ctx, 20*time.Millisecond)
		}
	}
	awaitFiles(path.Base(upload))

	// Uploads that begin at once are different ones, and count for one quota.
	bob, part := c.clients("bob"), data[:1<<20]
	begun := make(chan string, 2*room.MaxUnsentFiles)
	for i := range cap(begun) {
		uploading.Go(func() {
			status, header, err := bob[i%2].tryTus(c.ctx, http.MethodPost, "/v1/media/uploads", nil, "Upload-Length", strconv.Itoa(len(part)))
			if err != nil || status != http.StatusCreated && status != http.StatusTooManyRequests {
				t.Errorf("an upload begins: status %d, %v", status, err)
			}
			begun <- header.Get("Location")
		})
	}
	uploading.Wait()
	close(begun)
	var uploads []string
	for location := range begun {
		if location != "" && !slices.Contains(uploads, location) {
			uploads = append(uploads, location)
		}
	}
	if len(uploads) != room.MaxUnsentFiles {
		t.Errorf("%d uploads have begun", len(uploads))
	}

	// An upload that one server deletes while another stores it is gone, with all its parts.
	for i, upload := range uploads {
		uploading.Go(func() {
			status, err := bob[i%2].patch(c.ctx, upload, 0, part, false)
			if err != nil || status != http.StatusNoContent && status != http.StatusConflict && status != http.StatusNotFound {
				t.Errorf("an upload that is deleted: status %d, %v", status, err)
			}
		})
		uploading.Go(func() {
			wait(c.ctx, time.Duration(i)*2*time.Millisecond)
			if status, _, err := bob[(i+1)%2].tryTus(c.ctx, http.MethodDelete, upload, nil); err != nil || status != http.StatusNoContent {
				t.Errorf("the end of an upload: status %d, %v", status, err)
			}
		})
	}
	uploading.Wait()
	awaitFiles(path.Base(upload))
	for _, upload := range uploads {
		for _, at := range bob {
			if _, status, err := download(c.ctx, at, path.Base(upload)); err != nil || status != http.StatusNotFound {
				t.Errorf("a deleted upload: status %d, %v", status, err)
			}
		}
	}
}

// clients returns a session of a user, as it calls each server.
func (c *nodes) clients(user string) (at []*client) {
	c.t.Helper()
	m := c.login(user, 0, 0)
	for _, p := range c.servers {
		other := *m.client
		other.base = p.url
		at = append(at, &other)
	}
	return at
}

// offset returns how much of an upload is stored.
func (c *client) offset(ctx context.Context, upload string) (int, error) {
	status, header, err := c.tryTus(ctx, http.MethodHead, upload, nil)
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("the offset of an upload: status %d, %w", status, err)
	}
	return strconv.Atoi(header.Get("Upload-Offset"))
}

// patch continues an upload. If it breaks, the body ends in the middle.
func (c *client) patch(ctx context.Context, upload string, offset int, data []byte, breaks bool) (status int, err error) {
	body := io.Reader(bytes.NewReader(data))
	if breaks {
		body = io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(errors.New("interrupted")))
	}
	r, err := c.tusRequest(ctx, http.MethodPatch, upload, body, "Upload-Offset", strconv.Itoa(offset))
	if err != nil {
		return 0, err
	}
	r.ContentLength = int64(len(data))
	reply, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	_ = reply.Body.Close()
	return reply.StatusCode, nil
}
