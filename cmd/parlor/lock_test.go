package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUnfinishedSecretsAreRemoved(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, age := range map[string]time.Duration{"secret.1.new": time.Hour, "admin-secret.1.new": time.Hour, "secret.2.new": 0} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := openDataFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lock.release(); err != nil {
			t.Error(err)
		}
	}()
	left, err := filepath.Glob(filepath.Join(folder, "*.new"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "secret.2.new" {
		t.Errorf("the files %v are left, %v; want only the one that may still be written", left, err)
	}
}
