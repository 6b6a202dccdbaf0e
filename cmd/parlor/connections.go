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

// rejectionTime is how long a rejected connection may take to send a request, so that it can be
// answered.
const rejectionTime = 3 * time.Second

// connections limits the open connections to a port: in total, and from each address. No connection
// is closed in favor of another. Up to mostRejected connections over a limit are served for
// rejectionTime, so that their clients learn why they were rejected and when to retry. Others are
// closed immediately.
type connections struct {
	limit                              handlers.Limit // the name of the total limit
	most, mostPerAddress, mostRejected int            // mostPerAddress 0 means no limit
	// trusted are the proxies. Their connections belong to many clients and do not count for their
	// address.
	trusted handlers.TrustedProxies
	// limited is called for each rejected connection.
	limited func(limit handlers.Limit, from netip.Prefix)

	mu        sync.Mutex // guards all below
	open      int
	rejected  int
	byAddress map[netip.Prefix]int // only addresses with connections; created on demand
}

// Open returns the number of connections that were not rejected.
func (cs *connections) Open() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.open
}

// listener is a port whose connections are counted.
type listener struct {
	net.Listener
	connections *connections
	// proxyProtocol is set if trusted proxies send PROXY protocol headers.
	proxyProtocol bool
	log           *slog.Logger
	complain      rate.Sometimes // limits the warnings about proxies that send no header
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
		c := l.connections.admit(tcp)
		switch {
		case c == nil:
		case l.proxyProtocol && l.connections.trusts(tcp.RemoteAddr()):
			return l.throughProxy(c), nil
		default:
			return c, nil
		}
	}
}

// throughProxy returns a connection from a trusted proxy, which names the client in a PROXY
// protocol header first.
func (l *listener) throughProxy(c *conn) *proxiedConn {
	p := &proxiedConn{
		Conn:     proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTimeout)),
		counted:  c,
		listener: l,
	}
	// The library restores this deadline after it has read the header.
	_ = p.SetReadDeadline(time.Now().Add(headerTimeout))
	return p
}

// proxiedConn is a connection that counts for the address that its proxy names.
type proxiedConn struct {
	*proxyproto.Conn
	counted  *conn
	listener *listener
	once     sync.Once
}

// RemoteAddr returns the client's address. It waits until the proxy has named it: net/http calls it
// in the connection's own goroutine, before it reads.
func (p *proxiedConn) RemoteAddr() net.Addr {
	client := p.Conn.RemoteAddr()
	p.once.Do(func() {
		if p.ProxyHeader() == nil {
			p.listener.complain.Do(func() {
				p.listener.log.Warn("connection closed: a trusted proxy sent no PROXY header", "address", client.String())
			})
			return
		}
		p.counted.count(client)
	})
	return client
}

// SyscallConn, HandOver, RedirectWrites and CloseWrite are those of the underlying connection. The
// hub and net/http look for them.

func (p *proxiedConn) SyscallConn() (syscall.RawConn, error) { return p.counted.SyscallConn() }
func (p *proxiedConn) HandOver() (done func())               { return p.counted.HandOver() }
func (p *proxiedConn) RedirectWrites(to io.Writer)           { p.counted.RedirectWrites(to) }
func (p *proxiedConn) CloseWrite() error                     { return p.counted.CloseWrite() }

// conn is a connection that is counted. It embeds TCPConn because net/http closes one side of it
// and the hub takes over its socket.
type conn struct {
	*net.TCPConn
	connections *connections
	address     netip.Prefix // the address that it counts for; zero means none
	rejection   error        // why it is rejected; nil means that it is not
	cut         *time.Timer  // closes a rejected connection
	captured    io.Writer    // receives all writes, if RedirectWrites was called; nil otherwise

	mu         sync.Mutex // guards both below
	closed     bool
	handedOver bool
}

// admit counts a new connection. If there are too many, it rejects the connection, or closes it and
// returns nil if too many are being rejected.
func (cs *connections) admit(tcp *net.TCPConn) *conn {
	// net/http waits without a deadline for the first bytes, which may be those of HTTP/2. It sets
	// its own deadline afterwards.
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
		if !c.reject(handlers.ErrServerFull) {
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

// count counts a connection for its client's address. If the address has too many connections, it
// rejects the connection, or closes it and returns false if too many are being rejected.
func (c *conn) count(from net.Addr) bool {
	cs := c.connections
	if c.rejection != nil || cs.mostPerAddress == 0 || cs.trusts(from) {
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
	if c.reject(handlers.ErrTooManyConnections) {
		return true
	}
	c.mu.Lock()
	c.handedOver = true // there is nothing left to release
	c.mu.Unlock()
	_ = c.Close()
	return false
}

// trusts reports whether an address is that of a trusted proxy.
func (cs *connections) trusts(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && cs.trusted.Contain(tcp.AddrPort().Addr())
}

// addressGroup returns the group of addresses that a connection counts for.
func addressGroup(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return handlers.AddressGroup(tcp.AddrPort().Addr())
}

// reject marks the connection as rejected. It returns false if too many are being rejected.
func (c *conn) reject(why error) bool {
	cs := c.connections
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.rejected >= cs.mostRejected {
		return false
	}
	cs.rejected++
	c.rejection = why
	c.cut = time.AfterFunc(rejectionTime, func() { _ = c.Close() })
	return true
}

// Close closes the connection and stops counting it, unless its socket was handed over.
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
		c.connections.release(c.address, c.rejection != nil)
	}
	return err
}

// HandOver records that the hub has taken over the socket, which outlives the connection. The
// connection is then counted until done is called, instead of until Close. done must be called
// once.
func (c *conn) HandOver() (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.handedOver {
		return func() {}
	}
	c.handedOver = true
	cs, address, rejected := c.connections, c.address, c.rejection != nil // done does not keep c in memory
	return func() { cs.release(address, rejected) }
}

func (cs *connections) release(address netip.Prefix, rejected bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if rejected {
		cs.rejected--
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

// RedirectWrites sends what TLS writes from now on to the owner of the socket, which does not block
// (hub.WriteRedirector). There must be no concurrent write.
func (c *conn) RedirectWrites(to io.Writer) { c.captured = to }

func (c *conn) Write(p []byte) (int, error) {
	if c.captured != nil {
		return c.captured.Write(p)
	}
	return c.TCPConn.Write(p)
}

type connKey struct{}

// withConn adds the connection to the context of its requests. It is http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	if p, ok := c.(*proxiedConn); ok {
		c = p.counted
	}
	return context.WithValue(ctx, connKey{}, c)
}

// rejection returns why the connection of a request was rejected, or nil if it was not.
func rejection(ctx context.Context) error {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.rejection
	}
	return nil
}
