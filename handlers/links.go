package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// links makes the links in replies. Where the public URL has a path, as https://example.com/parlor, clients reach everything
// below that path, and a proxy hands it on with the path or without.
type links struct {
	public string // the public URL without a slash at its end; empty: as requests come
	prefix string // its path, escaped
}

func newLinks(publicURL string) links {
	public := strings.TrimSuffix(publicURL, "/")
	u, err := url.Parse(public)
	if err != nil {
		return links{} // the settings were checked
	}
	return links{public: public, prefix: u.EscapedPath()}
}

// path is where something of this server is, for whoever resolves it against the address of the request, whatever host that
// went to.
func (l links) path(path string) string { return l.prefix + path }

// belowPrefix takes the prefix off the paths of requests. What comes without it is served as well: the proxy took it off, or
// there is none in between.
func (l links) belowPrefix(next http.Handler) http.Handler {
	if l.prefix == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, below := strings.CutPrefix(r.URL.EscapedPath(), l.prefix)
		switch {
		case !below || rest != "" && rest[0] != '/':
			next.ServeHTTP(w, r)
		case rest == "":
			// The page's own links are relative to the folder that it is in.
			address := url.URL{Path: l.prefix + "/", RawQuery: r.URL.RawQuery}
			http.Redirect(w, r, address.String(), http.StatusPermanentRedirect)
		default:
			path, err := url.PathUnescape(rest)
			if err != nil {
				next.ServeHTTP(w, r) // net/http has decoded it before
				return
			}
			address, stripped := *r.URL, *r
			address.Path, address.RawPath = path, rest
			stripped.URL = &address
			next.ServeHTTP(w, &stripped)
		}
	})
}

// baseURL is where the client reaches the server: the public URL, or else as the request was sent. A forged Host header only
// misleads its sender.
func (a *api) baseURL(r *http.Request) string {
	switch {
	case a.links.public != "":
		return a.links.public
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// link is an address for a page to open. It is absolute where the server knows its public URL, and where a page of another
// origin asks; elsewhere the page's own origin is better known to its browser than to a server behind a proxy.
func (a *api) link(r *http.Request, path string) string {
	if a.links.public != "" || slices.Contains(a.AllowedOrigins, r.Header.Get("Origin")) {
		return a.baseURL(r) + path
	}
	return path
}
