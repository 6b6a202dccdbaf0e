package handlers

import (
	"net/http"
	"testing"
)

func TestAcceptsGzip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fields []string // Accept-Encoding
		want   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"gzip, deflate, br, zstd"}, true}, // browsers
		{[]string{"gzip"}, true},
		{[]string{"x-gzip"}, true},
		{[]string{"GZip;Q=0.5"}, true},
		{[]string{"br", "deflate ,gzip ; q=0.001"}, true},
		{[]string{"*"}, true},
		{[]string{"*;q=0.5, identity;q=0.5"}, true},
		{[]string{"identity;q=0, *"}, true},
		{[]string{"gzip;q=0"}, false},
		{[]string{"gzip;q=0.000, *"}, false},
		{[]string{"*;q=0, gzip"}, true},
		{[]string{"*;q=0"}, false},
		{[]string{"identity;q=0"}, false},
		{[]string{"br;q=1, deflate"}, false},
		{[]string{"identity, gzip;q=0.5"}, false},
		{[]string{"gzip, identity"}, true},
		{[]string{"gzip;q=2"}, false},
		{[]string{"gzip;q=NaN"}, false},
		{[]string{"gzip;q=-1"}, false},
		{[]string{"gzip;q="}, false},
		{[]string{"gzip;level=9"}, false},
		{[]string{"gzipped, not-gzip"}, false},
		{[]string{";;,,;q=1"}, false},
	} {
		if got := acceptsGzip(http.Header{"Accept-Encoding": tt.fields}); got != tt.want {
			t.Errorf("Accept-Encoding %q: gzip is accepted: %t", tt.fields, got)
		}
	}
}
