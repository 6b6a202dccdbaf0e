package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/time/rate"

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
	// trusted is the proxies, whose connections are those of many clients and do not count for their address.
	trusted handlers.TrustedProxies
	// limited is called for each connection that is refused.
	limited func(limit handlers.Limit, from netip.Prefix)

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
	// proxyProtocol says that trusted proxies send the PROXY protocol.
	proxyProtocol bool
	log           *slog.Logger
	complain      rate.Sometimes // of a proxy that does not send it
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.connections.limited(limitOpenFiles, netip.Prefix{})
			}
			return nil, err
		}
		tcp := accepted.(*net.TCPConn)
		c := l.connections.enter(tcp)
		switch {
		case c == nil:
		case l.proxyProtocol && l.connections.trusts(tcp.RemoteAddr()):
			return l.throughProxy(c), nil
		default:
			return c, nil
		}
	}
}

// throughProxy is a connection from a trusted proxy, which says by the PROXY protocol whose it is before anything else.
func (l *listener) throughProxy(c *conn) *proxiedConn {
	p := &proxiedConn{
		Conn:     proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTimeout)),
		counted:  c,
		listener: l,
	}
	// The library restores this deadline after it has read its header.
	_ = p.SetReadDeadline(time.Now().Add(headerTimeout))
	return p
}

// proxiedConn is a connection that counts for the address which its proxy names.
type proxiedConn struct {
	*proxyproto.Conn
	counted  *conn
	listener *listener
	once     sync.Once
}

// RemoteAddr is the client's address. It waits for the proxy to name it: net/http asks in the connection's own goroutine, before
// it reads.
func (p *proxiedConn) RemoteAddr() net.Addr {
	client := p.Conn.RemoteAddr()
	p.once.Do(func() {
		if p.ProxyHeader() == nil {
			p.listener.complain.Do(func() {
				p.listener.log.Warn("a trusted proxy sent no PROXY header, so its connection is closed", "address", client.String())
			})
			return
		}
		p.counted.count(client)
	})
	return client
}

// SyscallConn, HandOver, RedirectWrites and CloseWrite are those of the connection below: what the hub and net/http look for.

func (p *proxiedConn) SyscallConn() (syscall.RawConn, error) { return p.counted.SyscallConn() }
func (p *proxiedConn) HandOver() (done func())               { return p.counted.HandOver() }
func (p *proxiedConn) RedirectWrites(to io.Writer)           { p.counted.RedirectWrites(to) }
func (p *proxiedConn) CloseWrite() error                     { return p.counted.CloseWrite() }

// conn is a connection that is counted. What it has beside net.Conn is net's: net/http closes one side of it, and the hub takes
// its socket.
type conn struct {
	*net.TCPConn
	connections *connections
	address     netip.Prefix // what it counts for; zero: for none
	refusal     error        // why it has no place; nil: it has one
	cut         *time.Timer  // closes it, where it is refused
	captured    io.Writer    // gets what is written, where the hub has the socket; nil: it has not

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
		cs.limited(cs.limit, addressGroup(tcp.RemoteAddr()))
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
	cs := c.connections
	if c.refusal != nil || cs.mostPerAddress == 0 || cs.trusts(from) {
		return true
	}
	group := addressGroup(from)
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
	cs.limited(handlers.LimitConnectionsPerAddress, group)
	if c.refuse(handlers.ErrTooManyConnections) {
		return true
	}
	c.mu.Lock()
	c.handedOver = true // it has no place to free
	c.mu.Unlock()
	_ = c.Close()
	return false
}

// trusts reports whether an address is that of a trusted proxy.
func (cs *connections) trusts(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && cs.trusted.Contain(tcp.AddrPort().Addr())
}

// addressGroup is what a connection counts for.
func addressGroup(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return handlers.AddressGroup(tcp.AddrPort().Addr())
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

// RedirectWrites lets what TLS writes from now on go to somebody who has the socket, and writes without waiting (hub.WriteRedirector). Nobody may
// be writing meanwhile.
func (c *conn) RedirectWrites(to io.Writer) { c.captured = to }

func (c *conn) Write(p []byte) (int, error) {
	if c.captured != nil {
		return c.captured.Write(p)
	}
	return c.TCPConn.Write(p)
}

type connKey struct{}

// withConn lets requests know their connection. It is http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	if p, ok := c.(*proxiedConn); ok {
		c = p.counted
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
