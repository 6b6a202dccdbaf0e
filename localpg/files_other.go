//go:build !linux

package localpg

// Files returns an empty string, because nothing distinguishes the cluster's files from a copy on
// this system.
func (s *Server) Files() (string, error) { return "", nil }
