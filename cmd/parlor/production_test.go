package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"parlor/store/storetest"
)

// TestServeWithOwnDatabase follows the steps of an operator: a database and a secret, migrate,
// serve.
func TestServeWithOwnDatabase(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + ownDatabase(t) + "&pool_max_conns=8", "PARLOR_SECRET=" + string(goodSecret)}
	data := storetest.Folder(t)

	got := parlor(context.Background(), t, env, "serve", "--data", data, "--listen", freeAddress(t), "--ops-listen", "")
	if got.code != exitError || !strings.Contains(got.err, "run `parlor migrate`") {
		t.Fatalf("before migrating: exit code %d, %s", got.code, got.err)
	}
	for _, want := range []string{"applied 00001_", "no pending migrations"} {
		got = parlor(context.Background(), t, env, "migrate")
		if got.code != exitOK || !strings.HasPrefix(got.out, want) {
			t.Fatalf("migrate: exit code %d, %s%s; want %s", got.code, got.out, got.err, want)
		}
	}
	p := startParlorWith(t, data, env)
	if postgresOf(data) != 0 {
		t.Error("a private PostgreSQL was started as well")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := &client{http: http.DefaultClient, base: p.url}
	status, err := c.call(ctx, http.MethodPost, "/dev/token", map[string]string{"userID": "alice"}, nil)
	if err != nil || status != http.StatusNotFound {
		t.Errorf("a development token in production: status %d, %v", status, err)
	}
	token := strings.TrimSpace(parlor(ctx, t, env, "token", "--user", "alice").out)
	var session struct{ SessionKey string }
	c.mustCall(ctx, t, http.MethodPost, "/v1/sessions", map[string]string{"token": token}, &session)
	c.key = session.SessionKey
	c.enter(ctx, t, "hall")
	if err := c.sendText(ctx, "hall", "hello"); err != nil {
		t.Error(err)
	}
}
