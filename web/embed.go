// Package web holds the pages that the server shows to browsers: the room page
// at / and the API reference at /docs.
//
// Their sources are TypeScript; `make web` builds them into dist, which is not
// under version control. The server also compiles without having built them:
// dist then holds nothing but .gitkeep, index.html does not exist, and the
// server has no page to show while its API works as ever.
package web

import (
	"embed"
	"io/fs"
)

// "all:" includes .gitkeep, without which an empty dist would not compile.
//
//go:embed all:dist
var dist embed.FS

// Dist returns the built pages: index.html, docs.html and the files under
// assets, whose names change with their content. It is empty but for .gitkeep
// where `make web` has not run.
func Dist() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant and valid
	}
	return sub
}
