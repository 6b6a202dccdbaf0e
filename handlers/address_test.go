package handlers

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestAddressGroup(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := AddressGroup(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("group of %s: got %s, want %s", address, got, want)
		}
	}
	if got := AddressGroup(netip.Addr{}); got.IsValid() {
		t.Errorf("group of the zero address: got %s", got)
	}
}

// TestClientAddress checks that only trusted proxies are believed, and each only about the address
// that it appended.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := TrustedProxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")}
	for _, c := range []struct {
		connection string
		headers    []string
		want       string
	}{
		{"192.0.2.1:1000", nil, "192.0.2.1"},
		{"[2001:db8::1]:1000", nil, "2001:db8::1"},
		{"[::ffff:192.0.2.1]:1000", nil, "192.0.2.1"},
		{"192.0.2.1:1000", []string{"198.51.100.1"}, "192.0.2.1"}, // not a trusted proxy
		{"10.0.0.1:1000", nil, "10.0.0.1"},
		{"10.0.0.1:1000", []string{""}, "10.0.0.1"},
		{"10.0.0.1:1000", []string{"192.0.2.1"}, "192.0.2.1"},
		{"[fd00::1]:1000", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[::ffff:10.0.0.1]:1000", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1000", []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"}, // the client wrote the first
		{"10.0.0.1:1000", []string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1000", []string{"198.51.100.1, 192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		{"10.0.0.1:1000", []string{"198.51.100.1,192.0.2.1", "10.9.9.9"}, "192.0.2.1"},
		{"10.0.0.1:1000", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"}, // a client within the trusted network
		{"10.0.0.1:1000", []string{"192.0.2.1:4711"}, "192.0.2.1"},
		{"10.0.0.1:1000", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"10.0.0.1:1000", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"10.0.0.1:1000", []string{"192.0.2.1, unknown"}, "10.0.0.1"}, // the rest cannot be parsed
		{"10.0.0.1:1000", []string{"192.0.2.1, unknown, 10.2.2.2"}, "10.2.2.2"},
		{"10.0.0.1:1000", []string{"192.0.2.1,"}, "10.0.0.1"},
		{"pipe", nil, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.connection, Header: http.Header{}}
		for _, h := range c.headers {
			r.Header.Add("X-Forwarded-For", h)
		}
		if got := trusted.client(r).String(); got != c.want {
			t.Errorf("%s, forwarded for %q: got client %s, want %s", c.connection, c.headers, got, c.want)
		}
	}
}
