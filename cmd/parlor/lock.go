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

// folderLock is the lock on a data folder. The kernel holds it until release or until the process
// ends, however it ends. The existence of the file means nothing.
type folderLock struct{ file *os.File }

// folderInUseError is the error if another process has locked the folder.
type folderInUseError struct{ error }

// openDataFolder creates the data folder if needed, and locks it.
func openDataFolder(folder string) (folderLock, error) {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		// The user that runs the private PostgreSQL must pass through to its own folder, but need
		// not list this one.
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
	// The process ID is only for people. The lock is what counts.
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		return folderLock{}, fmt.Errorf("lock the data folder: %w", errors.Join(err, file.Close()))
	}
	return folderLock{file}, nil
}

func writePID(file *os.File) error {
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder returns the process ID in the lock file, in parentheses. It is empty if that process has
// not written it yet.
func holder(file *os.File) string {
	text, err := io.ReadAll(file)
	pid := strings.TrimSpace(string(text))
	if err != nil || pid == "" {
		return ""
	}
	return " (pid " + pid + ")"
}

// release unlocks the folder. The file stays, because two processes could lock two different files
// if it were removed.
func (l folderLock) release() error { return l.file.Close() }
