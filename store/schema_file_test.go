package store_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"parlor/store/storetest"
)

var updateSchema = flag.Bool("update", false, "write the schema into migrations/schema.sql")

const schemaFile = "../migrations/schema.sql"

const schemaHead = `-- The schema after all migrations, for readers: nothing applies this file. Written by
-- go test ./store -run TestSchemaFile -update
`

// TestSchemaFile compares migrations/schema.sql with a migrated database, and writes it with
// -update.
func TestSchemaFile(t *testing.T) {
	t.Parallel()
	want := schemaHead + dumpSchema(t, storetest.Database(t))
	if *updateSchema {
		if err := os.WriteFile(schemaFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale: run go test ./store -run TestSchemaFile -update", schemaFile)
	}
}

// dumpSchema returns the statements that pg_dump prints for a database, without what depends on the
// version of pg_dump: comments, settings and commands of psql.
func dumpSchema(t *testing.T, database string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var folder string // pg_dump refuses servers that are newer than itself, so it is the server's own
	if err := conn.QueryRow(t.Context(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&folder); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(folder, "pg_dump"), "--schema-only", "--no-owner", "--no-privileges",
		"--exclude-table=goose_db_version", "--dbname="+database)
	var errs strings.Builder
	cmd.Stderr = &errs
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v: %s", err, errs.String())
	}
	var kept strings.Builder
	blank := false
	for line := range strings.Lines(strings.ReplaceAll(string(output), "public.", "")) {
		switch {
		case strings.HasPrefix(line, "--"), strings.HasPrefix(line, "SET "), strings.HasPrefix(line, `\`),
			strings.HasPrefix(line, "SELECT pg_catalog.set_config("):
		case line == "\n":
			blank = true
		default:
			if blank {
				kept.WriteByte('\n')
			}
			blank = false
			kept.WriteString(line)
		}
	}
	return kept.String()
}
