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

// repair rewrites the small files of the cluster that a crash of the machine or a full disk left
// empty, or filled with zeros if the file system kept their length. It writes what they must have
// contained. Files whose content cannot be known are left to PostgreSQL, which names them in its
// log. Nothing may serve the folder meanwhile.
func (c cluster) repair(log *slog.Logger) error {
	files := map[string]string{
		// The settings of initdb are repeated on the command line if they matter, or are
		// PostgreSQL's defaults.
		"postgresql.conf": "",
		// Settings of ALTER SYSTEM are lost. Parlor makes none.
		"postgresql.auto.conf": "",
		// As initdb writes it: every user that can reach the socket may log in, and only the
		// database user can.
		"pg_hba.conf":   "local all all trust\n",
		"pg_ident.conf": "",
	}
	// The version is repeated in the folder of each database.
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
		log.Warn("repairing an empty database file", "file", path)
		if err := c.replace(path, text); err != nil {
			return fmt.Errorf("repair the database: %w", err)
		}
	}
	return nil
}

// versionFile contains the major version, in the cluster's folder and in that of each database.
const versionFile = "PG_VERSION"

// lostVersion returns the major version of a cluster whose PG_VERSION is blank, or 0. initdb writes
// the same version into the folder of its first database.
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

// blank reports whether a file has lost its content.
func blank(text []byte) bool { return len(bytes.Trim(text, "\x00 \t\r\n")) == 0 }

// replace writes a file of the cluster durably. It creates a new file and renames it rather than
// writing into the old one, because root must not follow a link that the database user put there.
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

// remedies maps errors in PostgreSQL's log to what to do about them, unless the text itself says
// it.
var remedies = []struct{ text, remedy string }{
	{`lock file "`, "remove it if no PostgreSQL runs on the folder"},
	{"pg_control", restore},
	{"checkpoint record", restore},
	{"is not a valid data directory", restore},
}

const restore = "restore the folder from a backup"

// remedy returns what to do about a failed start, as the end of an error message.
func remedy(dir, line string) string {
	if full(dir) { // the log may not mention it then
		return ": No space left on device: free space on the disk"
	}
	for _, r := range remedies {
		if strings.Contains(line, r.text) {
			return ": " + r.remedy
		}
	}
	return ""
}

// full reports whether the disk of a folder has no space left for users other than root.
func full(dir string) bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(dir, &disk) == nil && disk.Bavail == 0
}
