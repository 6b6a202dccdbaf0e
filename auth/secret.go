package auth

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Secret is text that logs and error messages do not show.
type Secret string

const redacted = "[redacted]"

// String returns "[redacted]", or "" if there is no secret. GoString, LogValue and MarshalText hide
// the secret in the same way, however it is printed.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString implements %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// The files of the secrets in a data folder. A token that is signed with one of them is not valid
// for the other.
const (
	UserSecretFile  = "secret"       // signs user tokens
	AdminSecretFile = "admin-secret" // signs admin tokens
)

// FolderSecret returns a secret of the data folder. If there is none, it creates one of 32 random
// bytes in hexadecimal. Programs that create it at the same time get the same one.
func FolderSecret(folder, name string) (Secret, error) {
	path := filepath.Join(folder, name)
	secret, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	if err := writeSecret(path); err != nil {
		return "", fmt.Errorf("create secret %s: %w", path, err)
	}
	return readSecret(path)
}

func readSecret(path string) (Secret, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	// After a crash some file systems return zeros for data that had not reached the disk.
	secret := Secret(strings.Trim(string(data), " \t\r\n\x00"))
	if len(secret) < MinSecretBytes {
		return "", fmt.Errorf("the secret in %s has %d bytes; at least %d are required: restore it from a backup, "+
			"or remove it to create a new one, which invalidates all tokens", path, len(secret), MinSecretBytes)
	}
	return secret, nil
}

// writeSecret stores a new secret at path durably, unless there is one already. It writes a
// temporary file and links it to the path: unlike a rename, a link never replaces a secret that
// another process has just created.
func writeSecret(path string) error {
	key := make([]byte, MinSecretBytes)
	_, _ = rand.Read(key)                                                              // never fails: it ends the program instead
	unfinished, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // 0600, O_EXCL
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(unfinished.Name()) }()
	_, err = unfinished.WriteString(hex.EncodeToString(key) + "\n")
	if err := errors.Join(err, unfinished.Sync(), unfinished.Close()); err != nil {
		return err
	}
	if err := os.Link(unfinished.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Without this, a power cut could undo the link, and tokens that were already signed with the
	// secret would become invalid.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// minUnfinishedAge is how old a temporary file must be before it is removed: a younger one may
// belong to a process that is still creating a secret.
const minUnfinishedAge = time.Minute

// RemoveUnfinishedSecrets removes the temporary files of programs that were killed while they
// created a secret.
func RemoveUnfinishedSecrets(folder string) error {
	for _, name := range []string{UserSecretFile, AdminSecretFile} {
		found, err := filepath.Glob(filepath.Join(folder, name+".*.new"))
		if err != nil {
			return nil // the folder's name is not a valid pattern
		}
		for _, path := range found {
			info, err := os.Lstat(path)
			if err == nil && time.Since(info.ModTime()) > minUnfinishedAge {
				err = os.Remove(path)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove an unfinished secret: %w", err)
			}
		}
	}
	return nil
}
