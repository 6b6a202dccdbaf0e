// Package migrations contains the migrations of the database schema as SQL files for goose. A
// migration that has landed is never edited: each change is a new file. schema.sql shows the result
// of all migrations, and is not one of them.
package migrations

import "embed"

// FS contains the migrations at its root.
//
//go:embed [0-9]*.sql
var FS embed.FS
