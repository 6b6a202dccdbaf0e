// Package web holds the built pages: the demo and the contract's readable form. `make web` builds them; until then the
// folder is empty and the server has no pages, only its API.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Dist is the built pages, with index.html at its root.
func Dist() fs.FS {
	pages, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a valid path
	}
	return pages
}
