package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"parlor/auth"
)

// folderLock says that this process owns a data folder. It lasts until release or the end of the process, however that
// comes about, because the kernel holds it and not the file's existence.
type folderLock struct{ file *os.File }

// folderInUseError says that another process has the folder.
type folderInUseError struct{ error }

// openDataFolder creates the data folder where needed and locks it.
func openDataFolder(folder string) (folderLock, error) {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		// The user who runs the private PostgreSQL must pass through to its own folder, and need not look around.
		mode = 0o711
	}
	if err := os.MkdirAll(folder, mode); err != nil {
		return folderLock{}, fmt.Errorf("data folder: %w", err)
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return folderLock{}, err
	}
	if err := auth.RemoveUnfinishedSecrets(folder); err != nil {
		return folderLock{}, errors.Join(err, lock.release())
	}
	return lock, nil
}

func lockFolder(folder string) (folderLock, error) {
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return folderLock{}, fmt.Errorf("lock the data folder: %w: run Parlor as the owner of the folder, "+
			"or change its owner to this user (chown -R)", err)
	}
	if err != nil {
		return folderLock{}, fmt.Errorf("lock the data folder: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		defer file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return folderLock{}, folderInUseError{fmt.Errorf("data folder %s is in use by another parlor%s", folder, holder(file))}
		}
		return folderLock{}, fmt.Errorf("lock the data folder %s: %w", folder, err)
	}
	// For people only: the lock is what counts.
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		return folderLock{}, fmt.Errorf("lock the data folder: %w", errors.Join(err, file.Close()))
	}
	return folderLock{file}, nil
}

func writePID(file *os.File) error {
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process that wrote the lock file. It is silent in the instant before that process has.
func holder(file *os.File) string {
	text, err := io.ReadAll(file)
	pid := strings.TrimSpace(string(text))
	if err != nil || pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}

// release gives the folder free. The file stays: removing it would let two starters lock two different files.
func (l folderLock) release() error { return l.file.Close() }
