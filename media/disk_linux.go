package media

import "syscall"

// freeBytes returns how many bytes this user can still write to the file system of a folder.
func freeBytes(folder string) (free int64, known bool) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		return 0, false
	}
	return int64(disk.Bavail) * disk.Bsize, true
}
