package servicetest

import (
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	contract "parlor"
)

func TestPages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.anonymous()
	for _, p := range []struct {
		path, contentType, body, policy string
	}{
		{"/", "text/html; charset=utf-8", string(webPages["index.html"].Data), "script-src 'self'; style-src 'self'; connect-src 'self'"},
		{"/docs", "text/html; charset=utf-8", string(webPages["docs.html"].Data), "script-src 'self'; style-src 'self'; connect-src 'self'"},
		{"/assets/page.js", "text/javascript; charset=utf-8", string(webPages["assets/page.js"].Data), "frame-ancestors 'none'"},
		{"/sdk/parlor.js", "text/javascript; charset=utf-8", string(webPages["sdk/parlor.js"].Data), "frame-ancestors 'none'"},
		{"/sdk/parlor.d.ts", "application/typescript; charset=utf-8", string(webPages["sdk/parlor.d.ts"].Data), "frame-ancestors 'none'"},
		{"/docs/errors", "text/plain; charset=utf-8", string(contract.Errors), "frame-ancestors 'none'"},
		{"/docs/tokens", "text/plain; charset=utf-8", string(contract.TokenGuide), "frame-ancestors 'none'"},
		{"/openapi.yaml", "application/yaml", string(contract.Contract), "frame-ancestors 'none'"},
	} {
		r := c.call("GET", p.path, nil).is(http.StatusOK)
		if string(r.body) != p.body || r.Header.Get("Content-Type") != p.contentType {
			t.Errorf("%s is %s: %.80s", p.path, r.Header.Get("Content-Type"), r.body)
		}
		if head := c.call("HEAD", p.path, nil).is(http.StatusOK); len(head.body) > 0 || head.Header.Get("Content-Type") != p.contentType {
			t.Errorf("HEAD of %s is %s: %.80s", p.path, head.Header.Get("Content-Type"), head.body)
		}
		if policy := r.Header.Get("Content-Security-Policy"); !strings.Contains(policy, p.policy) || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("the policy of %s is %s", p.path, policy)
		}
		if strings.Contains(r.Header.Get("Content-Security-Policy"), "script-src 'self' '") {
			t.Errorf("%s allows scripts of other origins", p.path)
		}
	}
	for path, want := range map[string]string{"/sdk/parlor.js": "no-cache", "/sdk/chunks/uploads-A.js": "public, max-age=31536000, immutable"} {
		if caching := c.call("GET", path, nil).Header.Get("Cache-Control"); caching != want {
			t.Errorf("%s has Cache-Control %q", path, caching)
		}
	}
	for path, want := range map[string]string{"/sdk/parlor.js": "./parlor.d.ts", "/sdk/compat/zim.js": "./zim.d.ts", "/sdk/compat/zim.global.js": ""} {
		if types := c.call("GET", path, nil).is(http.StatusOK).Header.Get("X-TypeScript-Types"); types != want {
			t.Errorf("%s has X-TypeScript-Types %q", path, types)
		}
	}
	modified := c.call("GET", "/openapi.yaml", nil).Header.Get("Last-Modified")
	c.call("GET", "/openapi.yaml", nil, header("If-Modified-Since", modified)).is(http.StatusNotModified)
}

// TestAssetsAreFilesOnly checks that there are no directory listings, and that files outside of
// assets cannot be read.
func TestAssetsAreFilesOnly(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, path := range []string{"/assets/", "/assets", "/assets/other.js", "/assets/../index.html", "/assets/..%2findex.html", "/assets/%2e%2e/openapi.yaml", "/assets/page.js/", "/sdk/", "/sdk/chunks", "/sdk/other.js", "/sdk/..%2findex.html"} {
		if r := s.anonymous().call("GET", path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got status %d: %s", path, r.StatusCode, r.body)
		}
	}
}

// TestWithoutWebPages checks that the API works if the web pages were not built.
func TestWithoutWebPages(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.Web = fstest.MapFS{".gitkeep": {}} })
	for _, path := range []string{"/", "/docs", "/assets/page.js"} {
		s.anonymous().call("GET", path, nil).refused(http.StatusNotFound, "not_found")
	}
	s.login("alice").enter("lobby")
}
