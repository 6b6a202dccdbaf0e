package media

import "syscall"

// freeBytes is how much this user may still write on the file system of a folder.
func freeBytes(folder string) (free int64, known bool) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		return 0, false
	}
	return int64(disk.Bavail) * disk.Bsize, true
}
