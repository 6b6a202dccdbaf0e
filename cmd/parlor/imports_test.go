package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// importRule lists what the packages at and under a path may import outside their tests. Each list
// contains import paths, and a path includes all paths under it.
type importRule struct {
	pkg       string
	ours      []string // packages of this module
	libraries []string // packages of other modules
	standard  []string // packages of the standard library
	never     []string // exceptions from the three
	why       string
}

// module is the package in the top folder. A rule for it does not apply to the packages under it.
const module = "parlor"

var (
	none     []string
	anything = []string{""}
)

// importRules is the one-way order of the packages. .golangci.yml contains it too, so that an
// editor shows a wrong import in place. The first rule that matches applies.
var importRules = []importRule{
	{
		pkg:  "parlor/room",
		ours: none, libraries: none, standard: anything,
		never: []string{"net/http", "database/sql"},
		why:   "rules decide without I/O and are independent of the transport, so that they are the same for every caller and easy to test",
	},
	{
		pkg:  "parlor/hub",
		ours: []string{"parlor/room"}, libraries: []string{"golang.org/x/sys", "github.com/klauspost/compress"}, standard: anything,
		never: []string{"net/http", "database/sql"},
		why:   "the hub delivers frames; the handlers connect it to HTTP, and it reads logs through an interface",
	},
	{
		pkg:  "parlor/cluster/clustertest",
		ours: none, libraries: []string{"github.com/nats-io/nats-server/v2"}, standard: anything,
		why: "only tests run a NATS server",
	},
	{
		pkg:  "parlor/cluster",
		ours: []string{"parlor/hub", "parlor/room", "parlor/tcp"}, libraries: []string{"github.com/jackc/pgx/v5", "github.com/nats-io/nats.go"}, standard: anything,
		never: []string{"net/http", "database/sql"},
		why:   "a node carries changes between hubs; what it must know of the database it asks through an interface",
	},
	{
		pkg:  "parlor/tcp",
		ours: none, libraries: []string{"golang.org/x/sys"}, standard: anything,
		why: "connections end by the same rules, whatever they are for",
	},
	{
		pkg:  "parlor/bench",
		ours: []string{"parlor/room"}, libraries: []string{"golang.org/x/sys", "github.com/HdrHistogram/hdrhistogram-go"}, standard: anything,
		never: []string{"database/sql"},
		why:   "the load generator uses the server as a client does, so that it measures what clients get",
	},
	{
		pkg:  "parlor/media",
		ours: []string{"parlor/room"}, libraries: anything, standard: anything,
		never: []string{"github.com/jackc/pgx", "github.com/pressly/goose", "database/sql"},
		why:   "media stores and probes bytes; rows about files are in store",
	},
	{
		pkg:  "parlor/auth",
		ours: []string{"parlor/room"}, libraries: anything, standard: anything,
		never: []string{"github.com/jackc/pgx", "github.com/pressly/goose", "database/sql"},
		why:   "tokens are verified by keys alone, independently of the call",
	},
	{
		pkg:  "parlor/localpg",
		ours: none, libraries: anything, standard: anything,
		never: []string{"net/http"},
		why:   "a private PostgreSQL is started and stopped by the program, without knowing what is stored in it",
	},
	{
		pkg:  "parlor/store/storetest",
		ours: []string{"parlor/localpg", "parlor/store"}, libraries: anything, standard: anything,
		never: []string{"net/http"},
		why:   "tests of every package that needs a database import it, so more imports would be cycles",
	},
	{
		pkg:  "parlor/store",
		ours: []string{"parlor/room", "parlor/migrations", "parlor/tcp"}, libraries: anything, standard: anything,
		never: []string{"net/http"},
		why:   "the store applies the rules in the database for requests and timers alike; its callers notify others",
	},
	{
		pkg:  "parlor/handlers",
		ours: []string{"parlor/room", "parlor/hub", "parlor/media", "parlor/auth", "parlor/web"}, libraries: anything, standard: anything,
		never: []string{"github.com/jackc/pgx", "github.com/pressly/goose", "database/sql"},
		why:   "handlers use the database only through interfaces in the words of the rules",
	},
	{
		pkg:  "parlor/servicetest",
		ours: none, libraries: none, standard: none,
		why: "it consists of tests, and no program may depend on them",
	},
	{
		pkg:  "parlor/clients",
		ours: none, libraries: []string{"github.com/oapi-codegen/runtime"}, standard: anything,
		why: "programs that import the client must not depend on the server",
	},
	{
		pkg:  "parlor/migrations",
		ours: none, libraries: none, standard: []string{"embed"},
		why: "it only embeds files; the code that uses them is elsewhere",
	},
	{
		pkg:  "parlor/web",
		ours: none, libraries: none, standard: []string{"embed", "io/fs"},
		why: "it only embeds files; the code that uses them is elsewhere",
	},
	{
		pkg:  module,
		ours: none, libraries: none, standard: []string{"embed"},
		why: "it only embeds files; the code that uses them is elsewhere",
	},
	{
		pkg:  "parlor/cmd/parlor-bench",
		ours: []string{"parlor/room", "parlor/auth", "parlor/bench", "parlor/localpg"}, libraries: anything, standard: anything,
		why: "the compared servers are separate programs, which it starts, with their database, and uses as a client does",
	},
	{
		pkg:  "parlor/cmd",
		ours: anything, libraries: anything, standard: anything,
		why: "the program connects all packages",
	},
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()

	packages := listPackages(t)
	if len(packages) == 0 {
		t.Fatal("go list found no packages")
	}
	for _, p := range packages {
		if err := checkImports(p.ImportPath, p.Imports); err != nil {
			t.Error(err)
		}
	}
}

// TestImportRulesReject has an import that each rule must reject, so that a rule that allows
// everything is noticed.
func TestImportRulesReject(t *testing.T) {
	t.Parallel()

	for _, broken := range []struct{ pkg, imports string }{
		{"parlor/room", "parlor/store"},
		{"parlor/room", "parlor/hub"},
		{"parlor/room", "net/http"},
		{"parlor/room", "database/sql"},
		{"parlor/room", "github.com/google/uuid"},
		{"parlor/hub", "parlor/store"},
		{"parlor/hub", "parlor/handlers"},
		{"parlor/hub", "net/http"},
		{"parlor/hub", "golang.org/x/sync/singleflight"},
		{"parlor/tcp", "parlor/room"},
		{"parlor/bench", "parlor/handlers"},
		{"parlor/bench", "parlor/hub"},
		{"parlor/bench", "github.com/jackc/pgx/v5"},
		{"parlor/cmd/parlor-bench", "parlor/store"},
		{"parlor/media", "parlor/handlers"},
		{"parlor/media", "github.com/jackc/pgx/v5"},
		{"parlor/store", "parlor/hub"},
		{"parlor/store", "parlor/handlers"},
		{"parlor/store", "parlor/localpg"},
		{"parlor/store/storetest", "net/http/httptest"},
		{"parlor/store/storetest", "parlor/handlers"},
		{"parlor/localpg", "parlor/store"},
		{"parlor/auth", "parlor/handlers"},
		{"parlor/auth", "github.com/jackc/pgx/v5"},
		{"parlor/handlers", "parlor/store"},
		{"parlor/handlers", "parlor/migrations"},
		{"parlor/handlers", "github.com/jackc/pgx/v5/pgconn"},
		{"parlor/servicetest", "parlor/handlers"},
		{"parlor/handlers", "parlor/clients/go"},
		{"parlor/clients/go", "parlor/room"},
		{"parlor/clients/go", "github.com/google/uuid"},
		{"parlor/migrations", "parlor/room"},
		{"parlor/web", "net/http"},
		{"parlor", "parlor/room"},
		{"parlor/util", "fmt"},
	} {
		if checkImports(broken.pkg, []string{broken.imports}) == nil {
			t.Errorf("%s may import %s, but should not", broken.pkg, broken.imports)
		}
	}
}

// checkImports returns an error that names every import that the rule of a package rejects, and the
// reason of the rule.
func checkImports(pkg string, imports []string) error {
	i := slices.IndexFunc(importRules, func(r importRule) bool {
		return pkg == r.pkg || r.pkg != module && within(pkg, r.pkg)
	})
	if i < 0 {
		return fmt.Errorf("%s has no rule: say in importRules and .golangci.yml what it may import, and why", pkg)
	}
	rule := importRules[i]

	var errs []error
	for _, imported := range imports {
		if !rule.allows(imported) {
			errs = append(errs, fmt.Errorf("%s must not import %s: %s", pkg, imported, rule.why))
		}
	}
	return errors.Join(errs...)
}

func (r importRule) allows(imported string) bool {
	allowed := r.standard
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case first == module:
		allowed = r.ours
	case strings.Contains(first, "."): // a host name, which no package of the standard library starts with
		allowed = r.libraries
	}
	covers := func(path string) bool { return within(imported, path) }
	return slices.ContainsFunc(allowed, covers) && !slices.ContainsFunc(r.never, covers)
}

// within reports whether an import path is another one or under it. Every path is under the empty
// one.
func within(path, parent string) bool {
	return parent == "" || path == parent || strings.HasPrefix(path, parent+"/")
}

type listedPackage struct {
	ImportPath string
	Imports    []string // those of the test files are not among them
	Dir        string
	// GoFiles, TestGoFiles and XTestGoFiles are the names of the package's files, of its tests, and
	// of the tests in a package of their own.
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Dir,GoFiles,TestGoFiles,XTestGoFiles", "parlor/...")
	output, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}

	var packages []listedPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p listedPackage
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatalf("decode go list: %v", err)
		}
		packages = append(packages, p)
	}
}
