//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

// serveFloor is the least that a server can do. It is for Linux.
func serveFloor(context.Context, string, func(net.Addr)) error {
	return errors.New("the floor is supported only on Linux")
}
