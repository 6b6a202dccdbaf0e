package handlers

import "net/netip"

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
