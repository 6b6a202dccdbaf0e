// Package migrations contains the migrations of the database's schema as goose SQL files. A migration is never edited once
// it has landed: a change is a new file. schema.sql shows their result and is not a migration.
package migrations

import "embed"

// FS holds the migrations at its root.
//
//go:embed [0-9]*.sql
var FS embed.FS
