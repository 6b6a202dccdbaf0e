package handlers

import (
	"bytes"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// pagePolicy lets pages load only what this server serves.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// immutable lets browsers cache files without an end, because their names contain a hash.
const immutable = "public, max-age=31536000, immutable"

// mountPages serves the contract and the web pages.
func (a *api) mountPages(r chi.Router) {
	get := func(path string, h http.HandlerFunc) {
		r.Get(path, h)
		r.Head(path, h) // RFC 9110, section 9.1
	}
	get("/openapi.yaml", document("openapi.yaml", "application/yaml", a.contract())) // RFC 9512
	get("/docs/errors", document("errors.md", "text/plain; charset=utf-8", a.Errors))
	get("/docs/tokens", document("tokens.md", "text/plain; charset=utf-8", a.TokenGuide))
	get("/", a.page("index.html"))
	get("/docs", a.page("docs.html"))
	get("/assets/*", a.handle(func(w http.ResponseWriter, r *http.Request) error {
		return a.file(w, r, "assets/"+chi.URLParam(r, "*"), immutable)
	}))
	get("/sdk/*", a.handle(a.sdk))
}

// sdk serves the TypeScript SDK, the APIs of other SDKs below compat/, their types, and the chunks that
// they load on first use. Only the names of the chunks contain a hash.
func (a *api) sdk(w http.ResponseWriter, r *http.Request) error {
	name := chi.URLParam(r, "*")
	caching := "no-cache"
	switch {
	case strings.HasPrefix(name, "chunks/"):
		caching = immutable
	case strings.HasSuffix(name, ".d.ts"):
		w.Header().Set("Content-Type", "application/typescript; charset=utf-8") // the system may say that .ts is a video
	case strings.HasSuffix(name, ".global.js"): // a classic script, which nothing imports
	case strings.HasSuffix(name, ".js"):
		w.Header().Set("X-TypeScript-Types", "./"+path.Base(strings.TrimSuffix(name, ".js"))+".d.ts") // for Deno
	}
	return a.file(w, r, "sdk/"+name, caching)
}

// contract returns the contract with the path prefix of this server.
func (a *api) contract() []byte {
	if a.links.prefix == "" {
		return a.Contract
	}
	return bytes.Replace(a.Contract, []byte("servers:\n  - url: /\n"), []byte("servers:\n  - url: "+a.links.prefix+"\n"), 1)
}

// document serves a text that is part of the program. Its modification time is the start of the
// program.
func document(name, contentType string, text []byte) http.HandlerFunc {
	started := time.Now()
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		http.ServeContent(w, r, name, started, bytes.NewReader(text))
	}
}

// page serves one HTML file.
func (a *api) page(name string) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		return a.file(w, r, name, "no-cache")
	})
}

// file serves one of the built files. http.FileServer would also list directories.
func (a *api) file(w http.ResponseWriter, r *http.Request, name, caching string) error {
	content, err := fs.ReadFile(a.Web, name)
	if err != nil {
		return errNoRoute // no such file, or the pages were not built
	}
	w.Header().Set("Cache-Control", caching)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	return nil
}
