package localpg

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// mend makes good what a crash of the machine or a full disk left of the cluster's small files: they are there and have
// no bytes, or only zeros where the file system kept the length. Each is written anew with what it must have said. What
// cannot be known that way is left to PostgreSQL, which names it. Nothing may serve the folder.
func (c cluster) mend(log *slog.Logger) error {
	files := map[string]string{
		// initdb's settings are repeated on the command line where they matter, or are PostgreSQL's defaults.
		"postgresql.conf": "",
		// What ALTER SYSTEM had set is lost. Parlor sets nothing there.
		"postgresql.auto.conf": "",
		// As initdb writes it: whoever reaches the socket may log in, and only this user reaches it.
		"pg_hba.conf":   "local all all trust\n",
		"pg_ident.conf": "",
	}
	// Each database says its version again.
	version := strconv.Itoa(c.install.major) + "\n"
	files[versionFile] = version
	databases, err := os.ReadDir(filepath.Join(c.dir, "base"))
	if err != nil {
		return fmt.Errorf("database folder: %w", err)
	}
	for _, database := range databases {
		if name := filepath.Join("base", database.Name(), versionFile); exists(filepath.Join(c.dir, name)) {
			files[name] = version
		}
	}
	for name, text := range files {
		path := filepath.Join(c.dir, name)
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("database folder: %w", err)
		}
		if err == nil && (len(old) == 0 && text == "" || !blank(old)) {
			continue
		}
		log.Warn("writing a file of the database anew that has lost its text", "file", path)
		if err := c.replace(path, text); err != nil {
			return fmt.Errorf("mend the database: %w", err)
		}
	}
	return nil
}

// versionFile holds the major version, in the cluster's folder and in that of each database.
const versionFile = "PG_VERSION"

// lostVersion returns the major version of a cluster whose own PG_VERSION is blank, or 0: initdb writes the same into the
// folder of its first database.
func lostVersion(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "base", "1", versionFile))
	if err != nil {
		return 0
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return major
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// blank reports whether a file has lost its text.
func blank(text []byte) bool { return len(bytes.Trim(text, "\x00 \t\r\n")) == 0 }

// replace writes a file of the cluster, complete and durable. It makes a new one beside it rather than write into the old
// one, because root must not follow a link that the database user put there.
func (c cluster) replace(path, text string) error {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Sync(), file.Close(), c.account.own(unfinished)); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// remedies says what to do about what PostgreSQL's log says, where that is not plain from its text.
var remedies = []struct{ text, remedy string }{
	{`lock file "`, "remove it when no PostgreSQL runs on the folder"},
	{"pg_control", restore},
	{"checkpoint record", restore},
	{"is not a valid data directory", restore},
}

const restore = "restore the folder from a backup"

// remedy returns what to do about a failed start, as the end of an error message.
func remedy(dir, line string) string {
	if full(dir) { // then the log may not say so
		return ": No space left on device: free space on the disk"
	}
	for _, r := range remedies {
		if strings.Contains(line, r.text) {
			return ": " + r.remedy
		}
	}
	return ""
}

// full reports whether the disk of a folder has not a byte left for those who are not root.
func full(dir string) bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(dir, &disk) == nil && disk.Bavail == 0
}
