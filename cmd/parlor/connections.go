package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"parlor/handlers"
)

// refusalTime is how long a connection for which there is no place may take to ask for something, in order to be told so.
const refusalTime = 3 * time.Second

// connections bounds the connections to a port that are open at once: in all, and from each address. Nobody's connection is
// closed for another's. One that is over a limit is served for refusalTime, so that its client learns why and when to try
// again; there are few places for that, and without one it is closed at once.
type connections struct {
	limit                             handlers.Limit // what the number of all is called
	most, mostPerAddress, mostRefused int            // mostPerAddress 0: any number
	// limited is told of each connection that is refused.
	limited func(handlers.Limit)

	mu        sync.Mutex // guards all below
	open      int
	refused   int
	byAddress map[netip.Prefix]int // only addresses that have some; made with the first
}

// Open is how many connections have a place.
func (cs *connections) Open() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.open
}

// listener is a port whose connections are counted.
type listener struct {
	net.Listener
	connections *connections
}

func (l listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.connections.limited(limitOpenFiles)
			}
			return nil, err
		}
		if c := l.connections.enter(accepted.(*net.TCPConn)); c != nil {
			return c, nil
		}
	}
}

// conn is a connection that is counted. What it has beside net.Conn is net's: net/http closes one side of it, and the hub takes
// its socket.
type conn struct {
	*net.TCPConn
	connections *connections
	address     netip.Prefix // what it counts for; zero: for none
	refusal     error        // why it has no place; nil: it has one
	cut         *time.Timer  // closes it, where it is refused

	mu         sync.Mutex // guards both below
	closed     bool
	handedOver bool
}

// enter gives a connection a place, or one among the refused. It closes the connection and returns nil where there is neither.
func (cs *connections) enter(tcp *net.TCPConn) *conn {
	// net/http waits without a deadline for the first bytes, to see whether they are of HTTP/2. It sets its own afterwards.
	_ = tcp.SetReadDeadline(time.Now().Add(headerTimeout))
	c := &conn{TCPConn: tcp, connections: cs}
	cs.mu.Lock()
	full := cs.open >= cs.most
	if !full {
		cs.open++
	}
	cs.mu.Unlock()
	if full {
		cs.limited(cs.limit)
		if !c.refuse(handlers.ErrServerFull) {
			_ = tcp.Close()
			return nil
		}
		return c
	}
	if !c.count(tcp.RemoteAddr()) {
		return nil
	}
	return c
}

// count counts a connection for its client's address. It closes the connection and returns false where the address has too many
// already and there is no place to say so.
func (c *conn) count(from net.Addr) bool {
	tcp, ok := from.(*net.TCPAddr)
	cs := c.connections
	if !ok || cs.mostPerAddress == 0 {
		return true
	}
	group := handlers.AddressGroup(tcp.AddrPort().Addr())
	cs.mu.Lock()
	full := cs.byAddress[group] >= cs.mostPerAddress
	if full {
		cs.open--
	} else {
		if cs.byAddress == nil {
			cs.byAddress = make(map[netip.Prefix]int)
		}
		cs.byAddress[group]++
		c.address = group
	}
	cs.mu.Unlock()
	if !full {
		return true
	}
	cs.limited(handlers.LimitConnectionsPerAddress)
	if !c.refuse(handlers.ErrTooManyConnections) {
		_ = c.TCPConn.Close()
		return false
	}
	return true
}

// refuse gives the connection a place among the refused, and reports whether there was one.
func (c *conn) refuse(why error) bool {
	cs := c.connections
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.refused >= cs.mostRefused {
		return false
	}
	cs.refused++
	c.refusal = why
	c.cut = time.AfterFunc(refusalTime, func() { _ = c.Close() })
	return true
}

// Close closes the connection and frees its place, unless its socket was handed over.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.mu.Lock()
	free := !c.closed && !c.handedOver
	c.closed = true
	c.mu.Unlock()
	if c.cut != nil {
		c.cut.Stop()
	}
	if free {
		c.connections.leave(c.address, c.refusal != nil)
	}
	return err
}

// HandOver says that somebody takes the connection's socket, which then outlives the connection. The place is freed when done
// is called, which happens once, and not by Close.
func (c *conn) HandOver() (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.handedOver {
		return func() {}
	}
	c.handedOver = true
	cs, address, refused := c.connections, c.address, c.refusal != nil // not c, which may go
	return func() { cs.leave(address, refused) }
}

func (cs *connections) leave(address netip.Prefix, refused bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if refused {
		cs.refused--
		return
	}
	cs.open--
	if !address.IsValid() {
		return
	}
	cs.byAddress[address]--
	if cs.byAddress[address] == 0 {
		delete(cs.byAddress, address)
	}
}

type connKey struct{}

// withConn lets requests know their connection. It is http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// refusal says why a request's connection has no place; nil: it has one.
func refusal(ctx context.Context) error {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.refusal
	}
	return nil
}
