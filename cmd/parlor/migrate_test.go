package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/localpg"
	"parlor/store"
	"parlor/store/storetest"
)

// ownDatabase starts a PostgreSQL other than the private one, and returns its URL.
func ownDatabase(t *testing.T) string {
	t.Helper()
	pg, err := localpg.Start(t.Context(), localpg.Options{
		Dir: filepath.Join(storetest.Folder(t), "theirs"), Settings: map[string]string{"fsync": "off"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	return pg.URL()
}

func TestMigrateUpAndDown(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + ownDatabase(t)}
	newest := store.SchemaVersion()
	applied := fmt.Sprintf(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  0*%d_\w+\.sql$`, newest)
	pending := fmt.Sprintf(`(?m)^pending               0*%d_\w+\.sql$`, newest)
	for _, step := range []struct {
		args     string
		code     int
		out, err string // regular expressions
	}{
		{"migrate status", exitOK, pending, `^$`},
		{"migrate --dry-run", exitOK, `(?s)^-- 00001_create_rooms\.sql\n\n.*CREATE TABLE rooms`, `^$`},
		{"migrate status", exitOK, `^pending               00001_create_rooms\.sql\n`, `^$`},
		{"migrate down", exitOK, `^nothing to undo\n$`, `^$`},
		{"migrate --to 11", exitOK, `^applied 00001_create_rooms\.sql\n(applied .*\n)*applied 00011_\w+\.sql\n$`, `^$`},
		{"migrate --to 11", exitOK, `^no pending migrations: the schema is up to date\n$`, `^$`},
		{"migrate --to 9999", exitUsage, `^$`, `^parlor: --to: 9999 is outside`},
		{"migrate up --dry-run", exitOK, `^-- 00012_split_logs\.sql\n\n[^\x00]*CREATE TABLE logs`, `^$`},
		{"migrate", exitOK, `^applied 00012_split_logs\.sql\n`, `^$`},
		{"migrate status", exitOK, applied, `^$`},
		{"migrate down", exitUsage, `^$`, `^parlor: migrate down would undo \S+ and delete [^\n]*--yes\n$`},
		{"migrate down --dry-run", exitOK, fmt.Sprintf(`^-- 0*%d_`, newest), `^$`},
		{"migrate down --yes", exitOK, fmt.Sprintf(`^undone 0*%d_\w+\.sql\n$`, newest), `^$`},
		{"migrate status", exitOK, pending, `^$`},
		{"migrate down --to 11 --yes", exitOK, `^((undone .*\n)+|nothing to undo\n)$`, `^$`},
		{"migrate down --to 11 --yes", exitOK, `^nothing to undo\n$`, `^$`},
		{"migrate up", exitOK, `^applied 00012_split_logs\.sql\n`, `^$`},
	} {
		got := parlor(t.Context(), t, env, strings.Fields(step.args)...)
		if got.code != step.code || !regexp.MustCompile(step.out).MatchString(got.out) || !regexp.MustCompile(step.err).MatchString(got.err) {
			t.Errorf("%s: exit code %d, output %q, errors %q", step.args, got.code, got.out, got.err)
		}
	}
}

// TestServeWithOtherSchema checks that a program older than the schema neither starts nor migrates.
// If the schema changes while it runs, it is not ready, answers failing calls with 503, and
// recovers when the schema is changed back.
func TestServeWithOtherSchema(t *testing.T) {
	t.Parallel()
	address := ownDatabase(t)
	env := []string{"DATABASE_URL=" + address, "PARLOR_SECRET=" + string(goodSecret)}
	if got := parlor(t.Context(), t, env, "migrate"); got.code != exitOK {
		t.Fatal(got)
	}
	p := startParlorWith(t, storetest.Folder(t), env)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := &client{http: http.DefaultClient, base: p.url, user: "alice"}
	var session struct{ SessionKey string }
	token := strings.TrimSpace(parlor(ctx, t, env, "token", "--user", "alice").out)
	c.mustCall(ctx, t, http.MethodPost, "/v1/sessions", map[string]string{"token": token}, &session)
	c.key = session.SessionKey
	c.enter(ctx, t, "hall")

	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	execute := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	sendText := func(text string) int {
		t.Helper()
		var problem struct{ Code string }
		status, err := c.call(ctx, http.MethodPost, "/v1/rooms/hall/messages", map[string]string{"kind": "text", "text": text}, &problem)
		if err != nil || status == http.StatusServiceUnavailable && problem.Code != "unavailable" {
			t.Errorf("%s: status %d, %+v, %v", text, status, problem, err)
		}
		return status
	}
	execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	if got := get(t, p.ops+"/readyz"); !strings.Contains(got, "schema is newer than this program") {
		t.Errorf("/readyz: %q", got)
	}
	if status := sendText("fits the schema"); status != http.StatusCreated {
		t.Errorf("a call that fits the schema: status %d", status)
	}
	execute("ALTER TABLE events RENAME TO events_renamed")
	for range 3 {
		if status := sendText("does not fit"); status != http.StatusServiceUnavailable {
			t.Errorf("a call that does not fit the schema: status %d", status)
		}
	}
	for _, args := range []string{"serve", "serve --migrate", "migrate", "migrate down --yes"} {
		got := parlor(ctx, t, env, append(strings.Fields(args), "--data", t.TempDir())...)
		if got.code != exitError || !regexp.MustCompile(`(^|\n)parlor: the database's schema is newer than this program: [^\n]*\n$`).MatchString(got.err) {
			t.Errorf("%s: exit code %d, errors %q", args, got.code, got.err)
		}
	}
	if got := parlor(ctx, t, env, "migrate", "status"); !strings.Contains(got.out, "99999 (not in this program)\n") {
		t.Errorf("the status is %q", got.out)
	}
	execute("ALTER TABLE events_renamed RENAME TO events")
	execute("DELETE FROM goose_db_version WHERE version_id = 99999")
	for get(t, p.ops+"/readyz") != "ok\n" { // its result is cached for a second
		select {
		case <-ctx.Done():
			t.Fatalf("/readyz does not recover: %s", p.logged())
		case <-time.After(50 * time.Millisecond):
		}
	}
	if status := sendText("afterwards"); status != http.StatusCreated {
		t.Errorf("afterwards: status %d", status)
	}
	if log := p.logged(); strings.Count(log, "schema changed under this server") != 1 || strings.Count(log, "schema is this server's again") != 1 {
		t.Errorf("the log: %s", log)
	}
}
