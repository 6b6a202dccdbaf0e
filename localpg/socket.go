package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	socketPort = "5432"
	socketName = ".s.PGSQL." + socketPort

	// longestSocketPath is the longest path that fits into sockaddr_un on all systems: macOS has
	// 104 bytes with the terminating zero, Linux 108.
	longestSocketPath = 103
)

// socketDir is the folder of the Unix socket.
type socketDir struct {
	path      string
	temporary bool
}

// openSocketDir returns the cluster's own folder, or a private temporary folder if the cluster's
// path is not usable. The name depends only on the cluster's folder, so that the URL stays the
// same.
func openSocketDir(c cluster) (socketDir, error) {
	if usableForSocket(c.dir) {
		return socketDir{path: c.dir}, nil
	}
	path := temporarySocketDir(c.dir)
	if !usableForSocket(path) {
		return socketDir{}, fmt.Errorf("both %s and %s are too long for a Unix socket: choose a shorter data folder", c.dir, path)
	}
	err := os.Mkdir(path, 0o700)
	switch {
	case err == nil:
		if err := c.account.own(path); err != nil {
			return socketDir{}, fmt.Errorf("socket folder: %w", err)
		}
	case !errors.Is(err, fs.ErrExist):
		return socketDir{}, fmt.Errorf("socket folder: %w", err)
	}

	// Every user may write to the folder for temporary files. A socket folder that another user
	// created there would let that user answer in place of PostgreSQL.
	info, err := os.Lstat(path)
	if err != nil {
		return socketDir{}, fmt.Errorf("socket folder: %w", err)
	}
	if uid, _ := ownerOf(info); !info.IsDir() || info.Mode().Perm() != 0o700 || uid != c.account.uid {
		return socketDir{}, fmt.Errorf("socket folder %s belongs to another user: remove it", path)
	}
	return socketDir{path: path, temporary: true}, nil
}

// temporarySocketDir returns the temporary folder for the socket of a cluster.
func temporarySocketDir(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return filepath.Join(os.TempDir(), "parlor-"+hex.EncodeToString(sum[:6]))
}

// usableForSocket reports whether a socket in the folder has a usable path. pgx splits host names
// at commas.
func usableForSocket(dir string) bool {
	return len(filepath.Join(dir, socketName)) <= longestSocketPath && !strings.Contains(dir, ",")
}

// remove deletes a temporary folder if it is empty, as it is after PostgreSQL has ended.
func (d socketDir) remove() {
	if d.temporary {
		_ = os.Remove(d.path)
	}
}
