//go:build !linux

package bench

import (
	"context"
	"errors"
	"net"
)

// Floor is the least that a server can do. It is for Linux.
func Floor(context.Context, string, func(net.Addr)) error {
	return errors.New("the floor is for Linux")
}
