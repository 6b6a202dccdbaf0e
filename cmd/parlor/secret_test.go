package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func pid() string { return strconv.Itoa(os.Getpid()) }

func TestFolderSecretIsMadeOnce(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	const starters = 16
	secrets := make([]Secret, starters)
	errs := make([]error, starters)
	begin := make(chan struct{})
	var done sync.WaitGroup
	for i := range starters {
		done.Go(func() {
			<-begin
			secrets[i], errs[i] = folderSecret(folder, secretName)
		})
	}
	close(begin)
	done.Wait()

	for i := range starters {
		if errs[i] != nil || secrets[i] != secrets[0] {
			t.Errorf("starter %d: same secret %t, error %v", i, secrets[i] == secrets[0], errs[i])
		}
	}
	if key, err := hex.DecodeString(string(secrets[0])); err != nil || len(key) != 32 {
		t.Errorf("the secret is not 32 bytes in hexadecimal: %d bytes, error %v", len(key), err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left in the folder: %v, error %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Name() != secretName || info.Mode() != 0o600 {
		t.Errorf("the secret's file is %v, error %v", info, err)
	}

	other, err := folderSecret(t.TempDir(), secretName)
	if err != nil || other == secrets[0] {
		t.Errorf("another folder has the same secret, or error %v", err)
	}
}

func TestFolderSecretErrors(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, secretName), []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := folderSecret(folder, secretName); err == nil || !strings.Contains(err.Error(), "has 4 bytes") || strings.Contains(err.Error(), "hush") {
		t.Errorf("a short secret: %v", err)
	}
	if _, err := folderSecret(filepath.Join(folder, "absent"), secretName); err == nil {
		t.Error("an absent folder got a secret")
	}
}
