package handlers

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// AddressGroup is what limits for each client address count by: the address itself
// of IPv4, and the /64 of IPv6, which is the least that one site gets (RFC 6177)
// and of which it may use every address.
func AddressGroup(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	group, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // an address that is not one
	}
	return group
}

// TrustedProxies is the addresses of proxies that say truly whose requests they
// pass on.
type TrustedProxies []netip.Prefix

// Contain reports whether an address is that of a trusted proxy.
func (t TrustedProxies) Contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client is the address that a request comes from: that of the connection or,
// where that is a trusted proxy, what X-Forwarded-For says. Each proxy appends the
// address that it sees, so the last one that is no trusted proxy is the client;
// what stands before it anybody may have written.
func (t TrustedProxies) client(r *http.Request) netip.Addr {
	connection, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := connection.Addr().Unmap()
	headers := r.Header["X-Forwarded-For"]
	for i := len(headers) - 1; i >= 0; i-- {
		for rest := headers[i]; rest != ""; {
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				rest, last = "", rest
			}
			if !t.Contain(client) {
				return client
			}
			next, ok := forwardedAddress(strings.TrimSpace(last))
			if !ok {
				return client // as far as the proxies can be followed
			}
			client = next
		}
	}
	return client
}

// forwardedAddress reads an address of X-Forwarded-For. Some proxies add the port,
// and with it brackets around IPv6.
func forwardedAddress(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap(), true
	}
	a, err := netip.ParseAddrPort(text)
	return a.Addr().Unmap(), err == nil
}

// client is the address that a request comes from.
func (a *api) client(r *http.Request) netip.Addr { return a.TrustedProxies.client(r) }

// clientGroup is what a request counts for. It is invalid, and counts for nothing,
// where all that is known is a trusted proxy: that stands for many.
func (a *api) clientGroup(r *http.Request) netip.Prefix {
	client := a.client(r)
	if a.TrustedProxies.Contain(client) {
		return netip.Prefix{}
	}
	return AddressGroup(client)
}
