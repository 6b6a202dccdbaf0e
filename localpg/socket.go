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

	// longestSocketPath is what fits into sockaddr_un everywhere: macOS has 104 bytes with the final zero, Linux 108.
	longestSocketPath = 103
)

// socketDir is the folder of the Unix socket.
type socketDir struct {
	path      string
	temporary bool
}

// openSocketDir returns the cluster's own folder, or a private one among the temporary files where the cluster's path
// does not do. Its name depends on the cluster's folder only, to keep the URL the same.
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

	// Everybody may write among the temporary files. A folder that another user put there would let them answer in
	// PostgreSQL's place.
	info, err := os.Lstat(path)
	if err != nil {
		return socketDir{}, fmt.Errorf("socket folder: %w", err)
	}
	if uid, _ := ownerOf(info); !info.IsDir() || info.Mode().Perm() != 0o700 || uid != c.account.uid {
		return socketDir{}, fmt.Errorf("socket folder %s belongs to somebody else: remove it", path)
	}
	return socketDir{path: path, temporary: true}, nil
}

// temporarySocketDir is the folder among the temporary files, of the cluster in a folder.
func temporarySocketDir(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return filepath.Join(os.TempDir(), "parlor-"+hex.EncodeToString(sum[:6]))
}

// usableForSocket tells whether a socket fits into the folder. pgx splits host names at commas.
func usableForSocket(dir string) bool {
	return len(filepath.Join(dir, socketName)) <= longestSocketPath && !strings.Contains(dir, ",")
}

// remove deletes a temporary folder if it is empty, as PostgreSQL leaves it.
func (d socketDir) remove() {
	if d.temporary {
		_ = os.Remove(d.path)
	}
}
