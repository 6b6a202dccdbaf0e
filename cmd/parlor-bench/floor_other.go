//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

// serveFloor fails, because the floor runs only on Linux.
func serveFloor(context.Context, string, func(net.Addr)) error {
	return errors.New("the floor is supported only on Linux")
}
