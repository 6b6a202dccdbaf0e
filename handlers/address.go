package handlers

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// AddressGroup returns the group of addresses that share the limits for a client address: the
// address itself for IPv4, and its /64 for IPv6. A site gets at least a /64 (RFC 6177), so that one
// client may use all addresses in it.
func AddressGroup(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	group, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // a is not valid
	}
	return group
}

// TrustedProxies are the addresses of proxies whose X-Forwarded-For header is trusted.
type TrustedProxies []netip.Prefix

// Contain reports whether an address is that of a trusted proxy.
func (t TrustedProxies) Contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client returns the address of the client that sent a request: that of the connection or, if that
// is a trusted proxy, one of X-Forwarded-For. Each proxy appends the address that it sees, so the
// client is the last address that is not a trusted proxy. Any address before it may be forged.
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
				return client // the last proxy with a valid entry
			}
			client = next
		}
	}
	return client
}

// forwardedAddress parses an address of X-Forwarded-For. Some proxies add the port, and then
// brackets around IPv6.
func forwardedAddress(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap(), true
	}
	a, err := netip.ParseAddrPort(text)
	return a.Addr().Unmap(), err == nil
}

// client returns the address of the client that sent a request.
func (a *api) client(r *http.Request) netip.Addr { return a.TrustedProxies.client(r) }

// clientGroup returns the address group whose limits a request counts against. It is invalid if
// only the address of a trusted proxy is known, because that stands for many clients.
func (a *api) clientGroup(r *http.Request) netip.Prefix {
	client := a.client(r)
	if a.TrustedProxies.Contain(client) {
		return netip.Prefix{}
	}
	return AddressGroup(client)
}
