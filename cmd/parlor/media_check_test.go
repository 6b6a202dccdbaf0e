package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"parlor/auth"
	"parlor/media/mediatest"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// Orphans of the tests: stored bytes without a row.
const oldOrphan, youngOrphan = "0f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "ff1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61"

// TestMediaCheck compares a database with a folder and with S3: every problem has a line, and only
// old orphans are deleted, even while uploads are in progress.
func TestMediaCheck(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		folder := t.TempDir()
		path := func(id string) string { return filepath.Join(folder, id[:2], id) }
		testMediaCheck(t, folder, func(id, data string, age time.Duration) {
			then := time.Now().Add(-age)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path(id)), 0o700), os.WriteFile(path(id), []byte(data), 0o600), os.Chtimes(path(id), then, then)); err != nil {
				t.Fatal(err)
			}
		}, func(id string) {
			if err := os.Remove(path(id)); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("S3", func(t *testing.T) {
		s3 := mediatest.NewS3(t)
		testMediaCheck(t, s3.URL, func(id, data string, age time.Duration) {
			s3.SetClockBack(age)
			s3.Do("PUT", "/"+id[:2]+"/"+id, strings.NewReader(data))
			s3.SetClockBack(0)
		}, func(id string) { s3.Do("DELETE", "/"+id[:2]+"/"+id, nil) })
	})
}

func testMediaCheck(t *testing.T, address string, put func(id, data string, age time.Duration), remove func(id string)) {
	database := storetest.Database(t)
	s := storetest.Open(t, database, store.Options{})
	bucket := openBucket(t, address)
	run := func(what string, deleting bool, want error, lines ...string) {
		t.Helper()
		var out bytes.Buffer
		c := MediaCheckCmd{BesideServer: BesideServer{DatabaseURL: auth.Secret(database)}, MediaURL: auth.Secret(address), Delete: deleting}
		if err := c.Run(t.Context(), console{out: &out, err: io.Discard}); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
		text := out.String()
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Errorf("%s: no %q in:\n%s", what, line, text)
			}
		}
		if got := strings.Count(text, "\n"); got != len(lines) {
			t.Errorf("%s: %d lines, want %d:\n%s", what, got, len(lines), text)
		}
	}
	whole := saveFile(t, s, bucket, "alice", "whole")
	saveFile(t, s, bucket, "alice", "")
	run("as it should be", true, nil, "2 files and upload parts in the database: 0 missing, 0 damaged; 0 orphans")

	// Uploads in progress: the row of one, and the row and bytes of another, even if they look old.
	if _, err := s.AddMedia(t.Context(), "bob", "b.txt", 1); err != nil {
		t.Fatal(err)
	}
	arriving, err := s.AddMedia(t.Context(), "bob", "b.txt", 1)
	if err != nil {
		t.Fatal(err)
	}
	put(string(arriving), "x", 48*time.Hour)
	id, err := s.AddUpload(t.Context(), "bob", "c.txt", 8)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Upload(t.Context(), "bob", id)
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.AddPart(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	put(string(part), "some", 48*time.Hour)
	run("beside uploads", true, nil, "6 files and upload parts in the database: 0 missing, 0 damaged; 0 orphans")
	if err := s.FinishPart(t.Context(), part, 4); err != nil {
		t.Fatal(err)
	}
	run("beside a part that is kept", true, nil, "0 orphans")

	put(oldOrphan, "old", 48*time.Hour)
	put(youngOrphan, "young", time.Hour)
	run("orphans", false, nil, "orphan   "+oldOrphan+", 3 bytes", "orphan   "+youngOrphan+", 5 bytes", "2 orphans in the bucket, 0 of them deleted")
	run("orphans are deleted", true, nil, "orphan   "+oldOrphan, "orphan   "+youngOrphan, "kept     "+youngOrphan, "deleted  "+oldOrphan, "2 orphans in the bucket, 1 of them deleted")
	run("and are gone", false, nil, "orphan   "+youngOrphan, "1 orphans")

	gone := saveFile(t, s, bucket, "alice", "gone")
	remove(string(gone))
	put(string(whole), "whol", 0)
	remove(string(part))
	run("lost bytes", false, errFilesMissing, "missing  "+string(gone)+", 4 bytes", "damaged  "+string(whole)+", 5 bytes: 4 are stored", "missing  "+string(part), "orphan   ", "2 missing, 1 damaged")

	// With another database no stored file has a row, and all of them would be deleted.
	put(oldOrphan, "old", 48*time.Hour)
	database = storetest.Database(t)
	var out bytes.Buffer
	c := MediaCheckCmd{BesideServer: BesideServer{DatabaseURL: auth.Secret(database)}, MediaURL: auth.Secret(address), Delete: true}
	if err := c.Run(t.Context(), console{out: &out, err: io.Discard}); err == nil || strings.Contains(out.String(), "deleted  ") {
		t.Errorf("with another database: %v\n%s", err, out.String())
	}
}

// TestMediaCheckOfManyFiles checks more rows than are read in one query.
func TestMediaCheckOfManyFiles(t *testing.T) {
	t.Parallel()
	database, folder := storetest.Database(t), t.TempDir()
	s := storetest.Open(t, database, store.Options{})
	const n = mediaPage + 10
	for range n {
		id, err := s.AddMedia(t.Context(), "alice", "a.txt", 1)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, string(id[:2]), string(id))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.FinishMedia(t.Context(), room.Media{ID: id, Size: 1}), s.AbandonMedia(t.Context(), id)); err != nil {
			t.Fatal(err) // an abandoned file does not count for the quota of alice
		}
	}
	var out bytes.Buffer
	c := MediaCheckCmd{BesideServer: BesideServer{DatabaseURL: auth.Secret(database)}, MediaURL: auth.Secret(folder)}
	if err := c.Run(t.Context(), console{out: &out, err: io.Discard}); err != nil || !strings.Contains(out.String(), "1010 files and upload parts in the database: 0 missing, 0 damaged; 0 orphans") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestMediaCheckOfPrivateDatabase checks the private database, with and without a running server.
func TestMediaCheckOfPrivateDatabase(t *testing.T) {
	t.Parallel()
	data := storetest.Folder(t)
	p := startParlor(t, data, "--log-level", "warn")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := login(ctx, t, p, "alice")
	c.tus(ctx, t, "POST", "/v1/media/uploads", bytes.NewReader(make([]byte, 1000)), "Upload-Length", "1000")
	check := func(what string, code int, want string) {
		t.Helper()
		got := parlor(ctx, t, nil, "media", "check", "--data", data)
		if got.code != code || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit code %d\n%s%s", what, got.code, got.out, got.err)
		}
	}
	check("beside a server", exitOK, "1 files and upload parts in the database: 0 missing, 0 damaged; 0 orphans")
	stored, err := filepath.Glob(filepath.Join(data, "media", "*", "*-*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("the files %v are stored: %v", stored, err)
	}
	if err := os.Truncate(stored[0], 10); err != nil {
		t.Fatal(err)
	}
	check("beside a server, with a damaged file", exitError, "1000 bytes: 10 are stored")
	p.signal(syscall.SIGTERM)
	check("without a server", exitError, "1000 bytes: 10 are stored")
	if got := parlor(ctx, t, nil, "media", "check", "--data", t.TempDir()); got.code == exitOK {
		t.Errorf("with an empty data folder: %s", got.out)
	}
}
