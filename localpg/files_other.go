//go:build !linux

package localpg

// Files is empty: nothing tells the cluster's files from a copy of them here.
func (s *Server) Files() (string, error) { return "", nil }
