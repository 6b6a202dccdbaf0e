// Package migrations holds the database's schema as goose SQL files. A file is
// never edited once it has landed: what follows is a new file.
package migrations

import "embed"

// FS holds the migrations at its root.
//
//go:embed *.sql
var FS embed.FS
