package localpg

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files returns a value that identifies the cluster's files. It stays the same after a restart, but
// differs for a copy, such as a folder that was restored from a backup. It is empty if the file
// system does not store creation times.
//
// It consists of the inode and the creation time of the control file. PostgreSQL writes that file
// in place, and no copy tool skips it as unchanged.
func (s *Server) Files() (string, error) {
	const wanted = unix.STATX_INO | unix.STATX_BTIME
	var info unix.Statx_t
	control := filepath.Join(s.cluster.dir, "global", "pg_control")
	if err := unix.Statx(unix.AT_FDCWD, control, 0, wanted, &info); err != nil {
		return "", fmt.Errorf("%s: %w", control, err)
	}
	if info.Mask&wanted != wanted {
		return "", nil
	}
	return fmt.Sprintf("%d@%d.%09d", info.Ino, info.Btime.Sec, info.Btime.Nsec), nil
}
