// Package mediatest provides an S3 server for tests.
package mediatest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

const bucket = "parlor"

// S3 is an S3 server in the process of the test, with one bucket.
type S3 struct {
	// URL is the URL of the bucket, as in PARLOR_MEDIA_URL.
	URL string

	testing.TB
	server *httptest.Server

	mu   sync.Mutex // guards the fields below
	deny func(*http.Request) bool
	full bool
	late time.Duration // by which the clock of the server is set back
}

// now is the clock of the server.
type now struct{ *S3 }

func (n now) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().UTC().Add(-n.late)
}

func (n now) Since(t time.Time) time.Duration { return n.Now().Sub(t) }

// NewS3 starts a server. It sets environment variables with the server's credentials, so the test
// must not be parallel.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "parlor", "AWS_SECRET_ACCESS_KEY": "a secret of this test", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	s := &S3{TB: t}
	files := s3mem.New(s3mem.WithTimeSource(now{s}))
	if err := files.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	serve := gofakes3.New(files, gofakes3.WithTimeSource(now{s}), gofakes3.WithTimeSkewLimit(0)).Server()
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.isFull() && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
			w.WriteHeader(http.StatusInsufficientStorage)
			_, _ = io.WriteString(w, `<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold.</Message></Error>`)
			return
		}
		if s.denies(r) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	// Clients that close the connection are no errors.
	s.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.server.Start()
	t.Cleanup(s.server.Close)
	s.URL = fmt.Sprintf("s3://%s?region=us-east-1&endpoint=%s&use_path_style=true&response_checksum_validation=when_required", bucket, s.server.URL)
	return s
}

func (s *S3) denies(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deny != nil && s.deny(r)
}

func (s *S3) isFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// Fill sets whether the server rejects writes because it is full.
func (s *S3) Fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// SetClockBack sets the server's clock back, so that files that are stored from now on look that
// old.
func (s *S3) SetClockBack(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = by
}

// Do sends a request to a path within the bucket.
func (s *S3) Do(method, path string, body io.Reader) {
	s.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.server.URL+"/"+bucket+path, body)
	if err != nil {
		s.Fatal(err)
	}
	reply, err := s.server.Client().Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode >= http.StatusBadRequest {
		s.Fatalf("%s %s: %s", method, path, reply.Status)
	}
}

// Deny makes the server reject the requests for which deny returns true. Requests are passed to
// deny one at a time. deny may panic with http.ErrAbortHandler to cut the connection. nil rejects
// none.
func (s *S3) Deny(deny func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deny = deny
}

var keys = regexp.MustCompile(`<Key>([^<]*)</Key>`)

// Keys returns the keys in the bucket, including those of unfinished uploads, which cost just as
// much.
func (s *S3) Keys() (all []string) {
	s.Helper()
	for _, query := range []string{"list-type=2", "uploads"} {
		reply, err := s.server.Client().Get(s.server.URL + "/" + bucket + "?" + query)
		if err != nil {
			s.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		if query == "uploads" && reply.StatusCode == http.StatusNotFound {
			continue // there are no unfinished uploads
		}
		if err != nil || reply.StatusCode != http.StatusOK {
			s.Fatalf("the bucket's list is %s: %s, %v", reply.Status, body, err)
		}
		for _, key := range keys.FindAllSubmatch(body, -1) {
			all = append(all, string(key[1]))
		}
	}
	return all
}
