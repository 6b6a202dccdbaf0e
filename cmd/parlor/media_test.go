package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"parlor/hub"
	"parlor/media"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// openBucket opens a folder of files.
func openBucket(t *testing.T, folder string) *media.Bucket {
	t.Helper()
	bucket, err := media.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bucket.Close() })
	return bucket
}

// saveFile stores a file of a user, as an upload does.
func saveFile(t *testing.T, s *store.Store, bucket *media.Bucket, owner room.UserID, data string) room.MediaID {
	t.Helper()
	id, err := s.AddMedia(t.Context(), owner, "a.txt", int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	size, info, err := bucket.Save(t.Context(), string(id), strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FinishMedia(t.Context(), room.Media{ID: id, Size: size, ContentType: info.ContentType}); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestMediaStorageFailure checks that a failure of the storage, at the start or later, is reported
// in the metrics, in one line of the log, and in /readyz, which stays 200 because messages still
// work.
func TestMediaStorageFailure(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	folder := filepath.Join(t.TempDir(), "media")
	s := &service{store: storetest.Open(t, storetest.Database(t), store.Options{}), hub: hub.New(nil, hub.Options{}), log: log}
	t.Cleanup(s.hub.Close)
	bucket := openBucket(t, folder)
	s.media = &mediaKeeper{store: s.store, bucket: bucket, log: log}
	metrics := newMetrics(s.hub)
	metrics.addMedia(s.media)
	checkReports := func(what, warning string) {
		t.Helper()
		s.media.check(t.Context())
		w := httptest.NewRecorder()
		s.ready(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		body := w.Body.String()
		if w.Code != http.StatusOK || !strings.HasPrefix(body, "ok\n") || strings.Contains(body, "warning:") != (warning != "") || !strings.Contains(body, warning) {
			t.Errorf("%s: /readyz is %d %q", what, w.Code, body)
		}
		w = httptest.NewRecorder()
		promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		up := "\nparlor_media_up 1\n"
		if warning != "" {
			up = "\nparlor_media_up 0\n"
		}
		if !strings.Contains(w.Body.String(), up) {
			t.Errorf("%s: the metrics do not contain %q", what, up)
		}
	}
	checkReports("a new folder", "")
	saveFile(t, s.store, bucket, "alice", "here")
	checkReports("a folder with a file", "")
	if err := os.Rename(folder, folder+"2"); err != nil {
		t.Fatal(err)
	}
	checkReports("no folder", "no such file")
	checkReports("still no folder", "no such file")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	checkReports("another folder", "right folder")
	if got := strings.Count(logged.String(), "media storage failed"); got != 1 {
		t.Errorf("%d lines of the log report the failure: %s", got, logged.String())
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"2", folder); err != nil {
		t.Fatal(err)
	}
	checkReports("the folder again", "")
	if !strings.Contains(logged.String(), "media storage works again") {
		t.Errorf("the log is %s", logged.String())
	}
	bucket.KeepFree = 1 << 62
	checkReports("a full disk", "no space left")

	// At the start: the folder of another server, or one that is not mounted.
	s.media = &mediaKeeper{store: s.store, bucket: openBucket(t, t.TempDir()), log: log}
	metrics = newMetrics(s.hub)
	metrics.addMedia(s.media)
	checkReports("an empty folder instead of that with the files", "right folder")
}
