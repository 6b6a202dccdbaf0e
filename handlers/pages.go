package handlers

import (
	"bytes"
	"io/fs"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
		"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	// The library that draws the contract sets styles as it goes.
	docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; " +
		"img-src 'self' data:; font-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// mountPages serves the contract and the web pages.
func (a *api) mountPages(r chi.Router) {
	started := time.Now()
	r.Get("/openapi.yaml", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/yaml") // RFC 9512
		http.ServeContent(w, r, "openapi.yaml", started, bytes.NewReader(a.Contract))
	})
	r.Get("/", a.page("index.html", pagePolicy))
	r.Get("/docs", a.page("docs.html", docsPolicy))
	r.Get("/assets/*", a.handle(func(w http.ResponseWriter, r *http.Request) error {
		return a.file(w, r, "assets/"+chi.URLParam(r, "*"))
	}))
}

// page serves one HTML file under its policy.
func (a *api) page(name, policy string) http.HandlerFunc {
	return a.handle(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Security-Policy", policy)
		return a.file(w, r, name)
	})
}

// file serves one of the built files; http.FileServer would list folders too.
func (a *api) file(w http.ResponseWriter, r *http.Request, name string) error {
	content, err := fs.ReadFile(a.Web, name)
	if err != nil {
		return errNoRoute // or the pages were not built
	}
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	return nil
}
