package servicetest

import (
	"net/http"
	"strings"
	"testing"
)

// TestBasePath checks that everything works below a path, behind a proxy that keeps the path and
// behind one that removes it, and that each link in a reply leads back to the server.
func TestBasePath(t *testing.T) {
	t.Parallel()
	const host, prefix = "https://example.com", "/parlor"
	for name, seen := range map[string]string{"handed on": prefix, "taken off": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, func(c *setup) { c.api.PublicURL = host + prefix + "/" })
			c := s.unchecked() // the paths in openapi.yaml do not include the base path
			c.session = as[session](c.call("POST", seen+"/v1/sessions", object{"token": s.token("alice", 1e12)}).is(http.StatusCreated))
			s.log.secret(c.SessionKey)
			s.log.secret(c.streamKey())
			follow := func(link string) string { // as the proxy does
				t.Helper()
				path, below := strings.CutPrefix(strings.TrimPrefix(link, host), prefix+"/")
				if !below {
					t.Errorf("the link %s is not below the base path", link)
				}
				return seen + "/" + path
			}
			stream, err := c.http.Get(s.url + follow(c.StreamURL))
			if err != nil || stream.StatusCode != http.StatusOK {
				t.Fatalf("the stream: %v, %v", stream, err)
			}
			_ = stream.Body.Close()
			if !strings.HasPrefix(c.StreamURL, host) {
				t.Errorf("streamURL is %s", c.StreamURL)
			}

			created := c.call("POST", seen+"/v1/rooms", object{"roomID": "a#%2Fb"}).is(http.StatusCreated)
			if at := created.Header.Get("Location"); at != prefix+"/v1/rooms/a%23%252Fb" {
				t.Errorf("Location of the room is %s", at)
			} else {
				c.call("GET", follow(at), nil).is(http.StatusOK)
			}
			c.call("POST", seen+"/v1/rooms/c%3Fd%25/enter", object{}).is(http.StatusCreated)
			c.call("POST", seen+"/v1/rooms/c%3Fd%25/messages", object{"kind": "text", "text": "hello"}).is(http.StatusCreated)

			m := as[struct{ SignedURL string }](c.call("POST", seen+"/v1/media?fileName=a%20b.txt", raw("words")).is(http.StatusCreated))
			if opened := s.unchecked().call("GET", follow(m.SignedURL), nil).is(http.StatusOK); string(opened.body) != "words" || !strings.HasPrefix(m.SignedURL, host) {
				t.Errorf("%s opens %q", m.SignedURL, opened.body)
			}
			upload := c.call("POST", seen+"/v1/media/uploads", nil, header("Tus-Resumable", "1.0.0"), header("Upload-Length", "5")).is(http.StatusCreated)
			c.call("HEAD", follow(upload.Header.Get("Location")), nil, header("Tus-Resumable", "1.0.0")).is(http.StatusOK)

			p := c.call("GET", seen+"/v1/rooms/nowhere", nil).refused(http.StatusNotFound, "room_not_found")
			c.call("GET", seen+"/v1/rooms/a%2F..%2Fb", nil).invalid("path/roomID", "roomID") // one segment, which is not a valid ID
			page, _, _ := strings.Cut(p.Type, "#")
			c.call("GET", follow(page), nil).is(http.StatusOK)
			c.call("PUT", seen+"/v1/rooms/nowhere", nil).refused(http.StatusMethodNotAllowed, "method_not_allowed")

			for _, path := range []string{"/", "/docs", "/assets/page.js", "/?room=x"} {
				c.call("GET", seen+path, nil).is(http.StatusOK)
			}
			if contract := c.call("GET", seen+"/openapi.yaml", nil).is(http.StatusOK); !strings.Contains(string(contract.body), "servers:\n  - url: /parlor\n") {
				t.Error("openapi.yaml has no servers entry with the path")
			}
			for _, path := range []string{"/parlors", "/parlors/v1/rooms", "/parlor" + prefix + "/docs", "/parlor//docs", "/Parlor/docs", "/parlor%2Fdocs"} {
				c.call("GET", path, nil).refused(http.StatusNotFound, "not_found")
			}
		})
	}
}

// TestBasePathRedirect checks that the page's address ends in a slash, because the page's links are
// relative.
func TestBasePathRedirect(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *setup) { c.api.PublicURL = "https://example.com/teams/parlor" })
	c := s.unchecked()
	c.http.CheckRedirect = s.http.CheckRedirect
	r := c.call("GET", "/teams/parlor?room=a%2Fb&name=x", nil).is(http.StatusPermanentRedirect)
	if to := r.Header.Get("Location"); to != "/teams/parlor/?room=a%2Fb&name=x" {
		t.Errorf("redirected to %s", to)
	}
}

// TestSignedURLsForOtherOrigins checks that signed URLs are absolute for pages of other origins,
// where an <img> would resolve a path against the page's origin.
func TestSignedURLsForOtherOrigins(t *testing.T) {
	t.Parallel()
	s := corsService(t)
	alice := s.login("alice")
	id := string(alice.upload("a.txt", []byte("words")).Media.ID)
	for origin, want := range map[string]string{app: s.url + "/v1/media/", "": "/v1/media/", "https://evil.example": "/v1/media/", s.url: "/v1/media/"} {
		m := as[struct{ SignedURL string }](alice.call("GET", "/v1/media/"+id, nil, header("Origin", origin)).is(http.StatusOK))
		if !strings.HasPrefix(m.SignedURL, want) {
			t.Errorf("for a page of %q: %s", origin, m.SignedURL)
		}
	}
	s = newService(t, func(c *setup) { c.api.PublicURL = "https://chat.example.com" })
	alice = s.login("alice")
	if m := alice.upload("a.txt", []byte("words")); !strings.HasPrefix(m.SignedURL, "https://chat.example.com/v1/media/") {
		t.Errorf("with a public URL: %s", m.SignedURL)
	}
}
