package media

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// identityFile is the file with the ID of a folder. Folders of the same name on two machines have
// different IDs, unless they are the same network file system.
const identityFile = ".parlor-folder-id"

// Identity returns a text that is the same wherever the same folder or bucket is opened: the ID of a
// folder, which Identity creates, or the name and the prefix of an S3 bucket.
func (b *Bucket) Identity() (string, error) {
	if b.folder == "" {
		return "s3://" + b.bucket + "/" + b.prefix, nil
	}
	path := filepath.Join(b.folder, identityFile)
	id, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.createIdentity(path); err == nil {
			id, err = readIdentity(path)
		}
	}
	if err != nil {
		return "", fmt.Errorf("media: ID of the folder: %w", err)
	}
	return id, nil
}

func readIdentity(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	id, err := uuid.Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return "", fmt.Errorf("%s is damaged: stop all servers and remove it, and a new one is created", path)
	}
	return id.String(), nil
}

// createIdentity creates the file unless another server has just created it: unlike a rename, a link
// never replaces a file. If it fails in between, RemoveStrays deletes what is left.
func (b *Bucket) createIdentity(path string) error {
	unfinished, err := os.CreateTemp(b.folder, "id-*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(unfinished.Name()) }()
	_, err = unfinished.WriteString(uuid.NewString() + "\n")
	if err := errors.Join(err, b.sync(unfinished), unfinished.Close()); err != nil {
		return err
	}
	err = os.Link(unfinished.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // some file systems have no links
		err = os.Rename(unfinished.Name(), path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return b.syncFolder(b.folder)
}
