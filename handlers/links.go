package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// links builds the links in replies. If the public URL has a path, such as
// https://example.com/parlor, clients reach all paths of the server below it, and a proxy may or
// may not remove it from requests.
type links struct {
	public string // the public URL without a trailing slash; empty if requests determine it
	prefix string // the path of the public URL, escaped
}

func newLinks(publicURL string) links {
	public := strings.TrimSuffix(publicURL, "/")
	u, err := url.Parse(public)
	if err != nil {
		return links{} // cannot happen: the settings were checked
	}
	return links{public: public, prefix: u.EscapedPath()}
}

// path returns the path of one of this server's paths as clients see it. They resolve it against
// the address of their request, whatever its host.
func (l links) path(path string) string { return l.prefix + path }

// belowPrefix removes the prefix from the paths of requests. A request without the prefix is served
// as well, because a proxy may have removed it, or there is no proxy.
func (l links) belowPrefix(next http.Handler) http.Handler {
	if l.prefix == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, below := strings.CutPrefix(sentPath(r.URL), l.prefix)
		switch {
		case !below || rest != "" && rest[0] != '/':
			next.ServeHTTP(w, r)
		case rest == "":
			// The links of the page are relative, so its address must end in a slash.
			address := url.URL{Path: l.prefix + "/", RawQuery: r.URL.RawQuery}
			http.Redirect(w, r, address.String(), http.StatusPermanentRedirect)
		default:
			path, err := url.PathUnescape(rest)
			if err != nil {
				next.ServeHTTP(w, r) // cannot happen: net/http has unescaped it before
				return
			}
			address, stripped := *r.URL, *r
			address.Path, address.RawPath = path, rest
			stripped.URL = &address
			next.ServeHTTP(w, &stripped)
		}
	})
}

// baseURL returns the URL at which the client reaches the server: the public URL or, without one,
// the scheme and host of the request. A forged Host header misleads only its sender.
func (a *api) baseURL(r *http.Request) string {
	switch {
	case a.links.public != "":
		return a.links.public
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// link returns an address for a page to open. It is absolute if the server knows its public URL or
// the request came from a page of another origin. Otherwise it is a path, because the browser knows
// the page's origin better than a server behind a proxy does.
func (a *api) link(r *http.Request, path string) string {
	if a.links.public != "" || slices.Contains(a.AllowedOrigins, r.Header.Get("Origin")) {
		return a.baseURL(r) + path
	}
	return path
}
