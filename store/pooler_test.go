package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/store"
	"parlor/store/storetest"
)

// TestPgBouncer runs a real PgBouncer in front of the database, with its defaults except for the
// mode. In session mode everything works. Other modes are rejected at the start, and detected if
// the mode changes later.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"session", "transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			pooler := startPgBouncer(t, storetest.Database(t), mode)
			s, err := store.Open(t.Context(), pooler.address, store.Options{})
			if mode != "session" {
				if !errors.Is(err, store.ErrPooledTransactions) {
					t.Errorf("in %s mode: %v", mode, err)
				}
				if err == nil {
					s.Close()
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			f := fixture{Store: s, address: pooler.database}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					alice := newSession(t, s, fmt.Sprintf("user%d", i))
					enter(t, f, alice, roomOf(i%2))
					for range 20 {
						if _, _, err := s.PostMessage(t.Context(), toRoom(alice, roomOf(i%2), textDraft("hello"))); err != nil {
							t.Errorf("a message: %v", err)
						}
					}
				})
			}
			all.Wait()
			if err := s.Sweep(t.Context()); err != nil {
				t.Errorf("sweep: %v", err)
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			if got, err := s.Setting(t.Context(), "plan_cache_mode"); err != nil || got != "force_generic_plan" {
				t.Errorf("the plans are made by %q, %v", got, err)
			}
			checkInvariants(t, f)

			pooler.setMode(t, "transaction")
			waitUntil(t, "the mode is detected", func() bool {
				s.Reconnect() // existing connections keep their process
				return errors.Is(s.Ping(t.Context()), store.ErrPooledTransactions)
			})
		})
	}
}

// A pgBouncer is a running PgBouncer.
type pgBouncer struct {
	address, database string // its own, and that of PostgreSQL
	file, text        string // of its settings
	process           *os.Process
}

// startPgBouncer starts a PgBouncer in front of a database.
func startPgBouncer(t *testing.T, database, mode string) *pgBouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Fatalf("PgBouncer is not installed: run scripts/setup.sh pgbouncer")
		}
	}
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pooler-") // short, as the address of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // as root, it runs as another user
		t.Fatal(err)
	}
	p := &pgBouncer{database: database, file: filepath.Join(dir, "pgbouncer.ini")}
	p.text = fmt.Sprintf("[databases]\nparlor = host=%s port=%d dbname=%s user=%s\n[pgbouncer]\nlisten_port = 6432\nunix_socket_dir = %s\nauth_type = any\npool_mode = ",
		config.Host, config.Port, config.Database, config.User, dir)
	p.writeMode(t, mode)
	args := []string{p.file}
	if os.Geteuid() == 0 { // it refuses to be root
		args = append([]string{"-u", "postgres"}, args...)
	}
	cmd := exec.Command(program, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.process = cmd.Process
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	u := url.URL{Scheme: "postgres", Path: "/parlor", User: url.User(config.User)}
	u.RawQuery = url.Values{"host": {dir}, "port": {"6432"}}.Encode()
	p.address = u.String()
	waitUntil(t, "PgBouncer answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, p.address)
		if err != nil {
			return false
		}
		_ = conn.Close(ctx)
		return true
	})
	return p
}

func (p *pgBouncer) writeMode(t *testing.T, mode string) {
	t.Helper()
	if err := os.WriteFile(p.file, []byte(p.text+mode+"\n"), 0o644); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
}

// setMode changes the mode of the running PgBouncer, for new connections.
func (p *pgBouncer) setMode(t *testing.T, mode string) {
	t.Helper()
	p.writeMode(t, mode)
	if err := p.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}
