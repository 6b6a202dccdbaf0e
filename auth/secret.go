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

// Secret is text that no log and no error message shows.
type Secret string

const redacted = "[redacted]"

// String, GoString, LogValue and MarshalText hide the secret from every way of printing it. Whether there is one may show.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String for %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue is String for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String for encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// The secrets of a data folder. What one of them signs, the other does not.
const (
	UserSecretFile  = "secret"       // signs user tokens
	AdminSecretFile = "admin-secret" // signs admin tokens
)

// FolderSecret returns a secret of the data folder. It makes one, 32 random bytes in hexadecimal, where there is none;
// several programs that do so at once get the same.
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
	// After a crash some file systems return zeros for what was not on the disk yet. They are no secret.
	secret := Secret(strings.Trim(string(data), " \t\r\n\x00"))
	if len(secret) < MinSecretBytes {
		return "", fmt.Errorf("the secret in %s has %d bytes; at least %d are required: restore it from a backup, "+
			"or remove it to create a new one, which invalidates all tokens", path, len(secret), MinSecretBytes)
	}
	return secret, nil
}

// writeSecret puts a new secret at path, complete and durable, unless there is one already. It writes a file beside it and
// links that to the name: unlike a rename, a link never replaces the secret of somebody who was faster.
func writeSecret(path string) error {
	key := make([]byte, MinSecretBytes)
	_, _ = rand.Read(key)                                                              // never fails: it ends the program rather than return few bytes
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
	// Tokens signed with a secret that a power cut took back would stop to work.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// unfinishedFor is how long an unfinished secret may belong to a program that is still making one.
const unfinishedFor = time.Minute

// RemoveUnfinishedSecrets removes what programs left that were killed while they made a secret: it looks like one.
func RemoveUnfinishedSecrets(folder string) error {
	for _, name := range []string{UserSecretFile, AdminSecretFile} {
		found, err := filepath.Glob(filepath.Join(folder, name+".*.new"))
		if err != nil {
			return nil // the folder's name is no pattern
		}
		for _, path := range found {
			info, err := os.Lstat(path)
			if err == nil && time.Since(info.ModTime()) > unfinishedFor {
				err = os.Remove(path)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove an unfinished secret: %w", err)
			}
		}
	}
	return nil
}
