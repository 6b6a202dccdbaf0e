package servicetest

import (
	"net/http"
	"strings"
	"testing"
)

const app = "https://app.example.com"

// corsService returns a service that allows one other origin.
func corsService(t *testing.T) *service {
	return newService(t, func(c *setup) { c.api.AllowedOrigins = []string{app} })
}

func TestCrossOriginCalls(t *testing.T) {
	t.Parallel()
	s := corsService(t)
	alice := s.login("alice")
	for _, c := range []struct {
		origin, want string
	}{
		{app, app},
		{"", ""},
		{"null", ""},
		{"*", ""},
		{"http://app.example.com", ""},
		{"https://app.example.com:8443", ""},
		{"https://example.com", ""},
		{"https://other.app.example.com", ""},
		{"https://app.example.com.evil.example", ""},
		{"https://evil.example/https://app.example.com", ""},
		{s.url, ""},
	} {
		// The application must be able to read errors, too.
		for _, who := range []*client{alice, s.anonymous()} {
			r := who.call("GET", "/v1/sessions/current", nil, func(r *http.Request) {
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
			})
			if got := r.Header.Get("Access-Control-Allow-Origin"); got != c.want {
				t.Errorf("origin %q: got status %d, allowed origin %q", c.origin, r.StatusCode, got)
			}
			if exposed := r.Header.Get("Access-Control-Expose-Headers"); c.want != "" && exposed != "Accept-Ranges, Content-Disposition, Content-Range, Etag, Location, Ratelimit, Ratelimit-Policy, Retry-After, X-Request-Id, "+
				"Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Length, Upload-Metadata, Upload-Offset" {
				t.Errorf("exposed headers are %q", exposed)
			}
			if r.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("cookies are allowed")
			}
			if !strings.Contains(strings.Join(r.Header.Values("Vary"), ","), "Origin") {
				t.Error("the reply does not vary by Origin, so caches may mix up origins")
			}
		}
	}
	stream, _ := alice.listen(header("Origin", app))
	if got := stream.reply.Header.Get("Access-Control-Allow-Origin"); got != app {
		t.Errorf("the stream allows origin %q", got)
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	s := corsService(t)
	for _, c := range []struct {
		origin, method, headers string
		allowed                 bool
	}{
		{app, "GET", "authorization, last-event-id", true},
		{app, "POST", "authorization, content-type", true},
		{app, "PUT", "authorization,content-type", true},
		{app, "DELETE", "authorization", true},
		{app, "PATCH", "authorization, content-type, if-match", true},
		{app, "POST", "", true},
		{app, "POST", "authorization,tus-resumable,upload-length,upload-metadata", true},
		{app, "PATCH", "authorization,content-type,tus-resumable,upload-offset", true},
		{app, "POST", "authorization,content-type,traceparent,tracestate,baggage,x-request-id", true},
		{app, "GET", "authorization,baggage,last-event-id,sentry-trace", true},
		{app, "GET", "authorization,x-datadog-origin,x-datadog-parent-id,x-datadog-sampling-priority,x-datadog-trace-id", true},
		{app, "GET", "authorization,b3,elastic-apm-traceparent,newrelic,uber-trace-id,x-amzn-trace-id,x-b3-sampled,x-b3-spanid,x-b3-traceid", true},
		{app, "POST", "tus-resumable,x-http-method-override", false},
		{app, "POST", "x-other", false},
		{app, "TRACE", "", false},
		{"https://evil.example", "POST", "content-type", false},
		{"null", "GET", "authorization", false},
	} {
		for _, path := range []string{"/v1/sessions", "/v1/events", roomPath("a#b", "/messages")} {
			r := s.anonymous().call("OPTIONS", path, nil, header("Origin", c.origin),
				header("Access-Control-Request-Method", c.method), func(r *http.Request) {
					if c.headers != "" {
						r.Header.Set("Access-Control-Request-Headers", c.headers)
					}
				})
			r.is(http.StatusOK)
			origin, methods := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Access-Control-Allow-Methods")
			if c.allowed != (origin == c.origin) || c.allowed != (methods == c.method) {
				t.Errorf("%s with %s from %s: got methods %q for origin %q", c.method, c.headers, c.origin, methods, origin)
			}
			if c.allowed && r.Header.Get("Access-Control-Max-Age") != "600" {
				t.Errorf("Access-Control-Max-Age is %q", r.Header.Get("Access-Control-Max-Age"))
			}
		}
	}
}

// TestCrossOriginOffByDefault checks that only the server's own pages can call it unless origins
// are configured.
func TestCrossOriginOffByDefault(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	r := alice.call("GET", "/v1/sessions/current", nil, header("Origin", app)).is(http.StatusOK)
	preflight := alice.call("OPTIONS", "/v1/sessions", nil, header("Origin", app), header("Access-Control-Request-Method", "POST"))
	preflight.refused(http.StatusMethodNotAllowed, "method_not_allowed")
	for _, r := range []reply{r, preflight} {
		for name := range r.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("reply to %s has the header %s", r.call, name)
			}
		}
	}
}
