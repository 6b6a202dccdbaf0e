package main

import (
	"cmp"
	"fmt"
	"time"

	"parlor/handlers"
)

const (
	// minConnections is the least with which a server is of any use.
	minConnections = 16
	// defaultMaxConnections bounds what the limit on open files would allow: a million connections do not fit into the
	// memory of most machines.
	defaultMaxConnections = 100_000
)

// places is how the files that the process may open are shared out, so that neither the database, nor an operator's look at the
// server, nor a file of a user has to wait for the clients' connections.
type places struct {
	connections int // of clients
	perAddress  int // of them
	refused     int // of clients that are told that there is no place
	operators   int // connections to the ops listener
	transfers   int // uploads and downloads
}

// ownFiles is what the program itself has open: its log, its lock, its ports, what Go and the private database's socket take,
// and some for the moment.
const ownFiles = 32

// sharePlaces shares out the files that may be open. pool is how many connections to the database there may be. Errors: there are
// too few, or fewer than PARLOR_MAX_CONNECTIONS asks for.
func (c *ServeCmd) sharePlaces(files, pool int) (places, error) {
	share := min(files/16, 64)
	// Each upload or download has a file or a connection to the bucket beside its own.
	p := places{refused: share, operators: share, transfers: min(files/8, 4096)}
	reserve := ownFiles + pool + p.refused + p.operators + p.transfers
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

// limits is what the handlers allow.
func (c *ServeCmd) limits(p places) handlers.Limits {
	l := handlers.Limits{
		Streams:   cmp.Or(c.MaxStreams, p.connections),
		Transfers: p.transfers, TransfersPerAddress: max(p.transfers/2, 1),
		StreamsPerUser: cmp.Or(c.StreamsPerUser, c.SessionsPerUser),
	}
	l.StreamsPerAddress = cmp.Or(c.StreamsPerAddress, max(l.Streams/2, 1))
	return l
}

// rates is how often users and addresses may do what the handlers limit.
func (c *ServeCmd) rates() handlers.Rates {
	perSecond := func(n int) handlers.Rate { return handlers.Rate{Count: n, Window: time.Second} }
	perMinute := func(n int) handlers.Rate { return handlers.Rate{Count: n, Window: time.Minute} }
	return handlers.Rates{
		Messages: perSecond(c.MessageRate), Barrage: perSecond(c.BarrageRate), BarrageBytes: perSecond(c.BarrageBytes),
		Logins: perMinute(c.LoginRate), RoomsCreated: perMinute(c.RoomRate), Joins: perMinute(c.JoinRate), Attributes: perSecond(c.AttributeRate),
		// A whole class or company may log in at once from one address.
		LoginsPerAddress: handlers.Rate{Count: 100 * c.AddressLoginRate, Window: 100 * time.Second},
	}
}
