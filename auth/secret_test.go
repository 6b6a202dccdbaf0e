package auth

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestFolderSecretIsCreatedOnce(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	const processes = 16
	secrets := make([]Secret, processes)
	errs := make([]error, processes)
	begin := make(chan struct{})
	var done sync.WaitGroup
	for i := range processes {
		done.Go(func() {
			<-begin
			secrets[i], errs[i] = FolderSecret(folder, UserSecretFile)
		})
	}
	close(begin)
	done.Wait()

	for i := range processes {
		if errs[i] != nil || secrets[i] != secrets[0] {
			t.Errorf("process %d: same secret %t, error %v", i, secrets[i] == secrets[0], errs[i])
		}
	}
	if key, err := hex.DecodeString(string(secrets[0])); err != nil || len(key) != 32 {
		t.Errorf("the secret is not 32 bytes in hexadecimal: %d bytes, error %v", len(key), err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder contains %v, error %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Name() != UserSecretFile || info.Mode() != 0o600 {
		t.Errorf("the secret's file is %v, error %v", info, err)
	}

	other, err := FolderSecret(t.TempDir(), UserSecretFile)
	if err != nil || other == secrets[0] {
		t.Errorf("another folder has the same secret, or error %v", err)
	}
}

func TestFolderSecretErrors(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for text, want := range map[string]string{
		"hush\n":                     "has 4 bytes",
		"":                           "has 0 bytes",
		strings.Repeat("\x00", 4096): "has 0 bytes", // a crash of the machine
	} {
		if err := os.WriteFile(filepath.Join(folder, UserSecretFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := FolderSecret(folder, UserSecretFile)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "backup") || strings.Contains(err.Error(), "hush") {
			t.Errorf("the secret %q: %v", text, err)
		}
	}
	if _, err := FolderSecret(filepath.Join(folder, "absent"), UserSecretFile); err == nil {
		t.Error("a secret was created in a folder that does not exist")
	}
}
