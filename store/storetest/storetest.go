// Package storetest provides tests with a real PostgreSQL: one server for each test binary, and a
// migrated database for each test.
package storetest

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/localpg"
	"parlor/store"
)

// server is the PostgreSQL of the test binary. The first test that needs it starts it, and Main
// stops it.
var server struct {
	start    sync.Once
	dir      string
	pg       *localpg.Server
	err      error
	database atomic.Int64
}

// Main runs the tests of a package and stops the server. A TestMain passes its result to os.Exit.
// If the tests passed, Main runs the checks on a new database: they check what the tests recorded.
func Main(m *testing.M, checks ...func(address string) error) int {
	code := m.Run()
	for _, check := range checks {
		if server.pg == nil || code != 0 || benchmarks() {
			break
		}
		if err := checkAfter(check); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if server.pg != nil {
		if err := server.pg.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if err := os.RemoveAll(server.dir); server.dir != "" && err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// New opens a store on a new database, with defaults for the options that are not set.
func New(t testing.TB, opts store.Options) *store.Store {
	t.Helper()
	return Open(t, Database(t), opts)
}

// Open opens a store on a database that Database created, until the end of the test.
func Open(t testing.TB, address string, opts store.Options) *store.Store {
	t.Helper()
	if now := opts.Now; now != nil && opts.DatabaseNow == nil { // one clock for both, unless the test is about two
		opts.DatabaseNow = func(time.Time) time.Time { return now() }
	}
	s, err := store.Open(context.Background(), address, opts)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Database creates a migrated database, which is deleted at the end of the test, and returns its
// URL. It is a copy of a database that was migrated once, because a copy takes only milliseconds.
func Database(t testing.TB) string {
	t.Helper()
	server.start.Do(startServer)
	if server.err != nil {
		t.Fatalf("PostgreSQL for tests: %v", server.err)
	}
	name := fmt.Sprintf("test_%d", server.database.Add(1))
	execute(t, "CREATE DATABASE "+name+" TEMPLATE template_parlor")
	t.Cleanup(func() { execute(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return address(name)
}

// Copy creates a copy of a database that has no connections, as the restore of a dump does, and
// returns its URL.
func Copy(t testing.TB, original string) string {
	t.Helper()
	u, err := url.Parse(original)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", server.database.Add(1))
	execute(t, "CREATE DATABASE "+name+" TEMPLATE "+strings.TrimPrefix(u.Path, "/"))
	t.Cleanup(func() { execute(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return address(name)
}

// Folder returns a folder for the files of another PostgreSQL server, until the end of the test. As
// root that server runs as another user, who cannot enter t.TempDir.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "parlor-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// benchmarks reports whether benchmarks are run.
func benchmarks() bool { return flag.Lookup("test.bench").Value.String() != "" }

func checkAfter(check func(address string) error) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.pg.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE test_after TEMPLATE template_parlor"); err != nil {
		return err
	}
	return check(address("test_after"))
}

func startServer() {
	server.err = func() error {
		// Readable by all users, because as root the server runs as another user. The cluster's own
		// folder is private.
		dir, err := os.MkdirTemp("", "parlor-test-")
		if err != nil {
			return err
		}
		server.dir = dir
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		settings := map[string]string{
			"max_connections": "400",
			// Shared memory is in files of the cluster, which are removed with it. Segments in
			// /dev/shm would stay after a kill.
			"dynamic_shared_memory_type": "mmap",
		}
		if !benchmarks() {
			// Tests may kill the server, but never the machine, so nothing has to be synced to the
			// disk. The write-ahead log is small, because the files may be in memory. Benchmarks
			// sync, as servers do in production.
			settings["max_wal_size"] = "128MB"
			settings["full_page_writes"] = "off"
			settings["fsync"] = "off"
		}
		server.pg, err = localpg.Start(context.Background(), localpg.Options{Dir: filepath.Join(dir, "postgres"), Settings: settings})
		if err != nil {
			return err
		}
		conn, err := pgx.Connect(context.Background(), server.pg.URL())
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "CREATE DATABASE template_parlor"); err != nil {
			return err
		}
		_, err = store.Migrate(context.Background(), address("template_parlor"), nil)
		return err
	}()
}

// address returns the URL of one of the server's databases.
func address(database string) string {
	u, err := url.Parse(server.pg.URL())
	if err != nil {
		panic(err) // localpg's URLs are well-formed
	}
	u.Path = "/" + database
	return u.String()
}

func execute(t testing.TB, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.pg.URL())
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}
