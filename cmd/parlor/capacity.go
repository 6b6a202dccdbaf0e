package main

import (
	"cmp"
	"fmt"
	"time"

	"parlor/handlers"
)

const (
	// minConnections is the smallest number of connections with which a server is useful.
	minConnections = 16
	// defaultMaxConnections is the maximum that is derived from the limit on open files: a million
	// connections do not fit into the memory of most machines.
	defaultMaxConnections = 100_000
)

// capacity is how the open files of the process are shared, so that client connections never take
// those that the database, health checks, uploads and downloads need.
type capacity struct {
	connections int // client connections
	perAddress  int // client connections from one address
	rejected    int // client connections over a limit, which are kept open until they are answered with 503
	operators   int // connections to the ops listener
	transfers   int // concurrent uploads and downloads
}

// ownFiles is the number of files that the program itself needs: its log, its lock, its ports,
// those of Go and of the private database's socket, and a reserve.
const ownFiles = 32

// shareFiles shares the open files. pool is the maximum number of database connections. It fails if
// there are too few files, or too few for PARLOR_MAX_CONNECTIONS.
func (c *ServeCmd) shareFiles(files, pool int) (capacity, error) {
	share := min(files/16, 64)
	// Each upload or download needs a file, or a connection to the bucket, in addition to its own
	// connection.
	p := capacity{rejected: share, operators: share, transfers: min(files/8, 4096)}
	reserve := ownFiles + pool + p.rejected + p.operators + p.transfers
	most := files - reserve
	if most < minConnections {
		return p, usageError{fmt.Errorf("the limit of %d open files (ulimit -n) is too low: %d are needed for %d connections", files, minConnections+reserve, minConnections)}
	}
	if c.MaxConnections > most {
		return p, usageError{fmt.Errorf("PARLOR_MAX_CONNECTIONS: %d connections need %d open files, but ulimit -n is %d", c.MaxConnections, c.MaxConnections+reserve, files)}
	}
	p.connections = min(most, defaultMaxConnections)
	if c.MaxConnections > 0 {
		p.connections = c.MaxConnections
	}
	p.perAddress = max(p.connections/2, 1)
	if c.ConnectionsPerAddress > 0 {
		p.perAddress = c.ConnectionsPerAddress
	}
	return p, nil
}

// limits returns the limits of the handlers.
func (c *ServeCmd) limits(p capacity) handlers.Limits {
	l := handlers.Limits{
		Streams:   cmp.Or(c.MaxStreams, p.connections),
		Transfers: p.transfers, TransfersPerAddress: max(p.transfers/2, 1),
		StreamsPerUser: cmp.Or(c.StreamsPerUser, c.SessionsPerUser),
	}
	l.StreamsPerAddress = cmp.Or(c.StreamsPerAddress, max(l.Streams/2, 1))
	return l
}

// rates returns the rate limits of users and addresses.
func (c *ServeCmd) rates() handlers.Rates {
	perSecond := func(n int) handlers.Rate { return handlers.Rate{Count: n, Window: time.Second} }
	perMinute := func(n int) handlers.Rate { return handlers.Rate{Count: n, Window: time.Minute} }
	return handlers.Rates{
		Messages: perSecond(c.MessageRate), Barrage: perSecond(c.BarrageRate), BarrageBytes: perSecond(c.BarrageBytes),
		Logins: perMinute(c.LoginRate), RoomsCreated: perMinute(c.RoomRate), Joins: perMinute(c.JoinRate), Attributes: perSecond(c.AttributeRate),
		InboxChanges: perSecond(c.InboxRate),
		Statuses:     perMinute(c.StatusRate),
		Profiles:     perMinute(c.ProfileRate),
		// A whole class or company may log in from one address at the same time.
		LoginsPerAddress: handlers.Rate{Count: 100 * c.AddressLoginRate, Window: 100 * time.Second},
	}
}
