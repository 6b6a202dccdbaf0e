//go:build !linux

package media

// freeBytes returns false, because it is not implemented on this system. A full disk is noticed
// when a write fails.
func freeBytes(string) (free int64, known bool) { return 0, false }
