// Package web contains the pages that the server shows to browsers: the room page at / and the API
// reference at /docs; and the TypeScript SDK at /sdk/parlor.js.
//
// Their sources are TypeScript. `make web` builds them into dist, which is not under version
// control. The server also compiles without them: dist then contains only .gitkeep, and the server
// has its whole API and no pages.
package web

import (
	"embed"
	"io/fs"
)

// "all:" includes .gitkeep; without it an empty dist would not compile.
//
//go:embed all:dist
var dist embed.FS

// Dist returns the built pages: index.html, docs.html and the files under assets, whose names
// contain a hash of their content; and the SDK, under sdk. It contains only .gitkeep if `make web` has not run.
func Dist() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant and valid
	}
	return sub
}
