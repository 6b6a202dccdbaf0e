package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/auth"
	"parlor/localpg"
	"parlor/store/storetest"
)

// sharedDatabase is a database that the test can stop, with servers.
type sharedDatabase struct {
	t        *testing.T
	ctx      context.Context
	options  localpg.Options
	pg       *localpg.Server
	servers  []*process
	watching sync.WaitGroup
}

// startSharedDatabase starts a database and servers with a memberTimeout of 5 s, until the end of
// the test.
func startSharedDatabase(t *testing.T, servers int) *sharedDatabase {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	c := &sharedDatabase{t: t, ctx: ctx, options: localpg.Options{
		Dir: filepath.Join(storetest.Folder(t), "theirs"), Settings: map[string]string{"fsync": "off"},
	}}
	t.Cleanup(func() { c.stopDatabase() })
	c.startDatabase()
	env := append(sharedEnv(t, c.pg.URL()), "PARLOR_MEMBER_TIMEOUT=5s", "PARLOR_HEARTBEAT=5s")
	for range servers {
		c.servers = append(c.servers, startParlorWith(t, storetest.Folder(t), env))
	}
	t.Cleanup(func() {
		cancel()
		c.watching.Wait()
	})
	return c
}

func (c *sharedDatabase) startDatabase() {
	c.t.Helper()
	var err error
	if c.pg, err = localpg.Start(c.ctx, c.options); err != nil {
		c.t.Fatal(err)
	}
}

func (c *sharedDatabase) stopDatabase() {
	c.t.Helper()
	if err := c.pg.Stop(); err != nil {
		c.t.Error(err)
	}
}

// query reads one value from the database.
func (c *sharedDatabase) query(sql string, args ...any) (n int) {
	c.t.Helper()
	conn, err := pgx.Connect(c.ctx, c.pg.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(c.ctx))
	if err := conn.QueryRow(c.ctx, sql, args...).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// waitUntil waits until a condition holds, and fails the test if it does not within a time.
func (c *sharedDatabase) waitUntil(limit time.Duration, what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); wait(c.ctx, 5*time.Millisecond) {
		if time.Now().After(deadline) || c.ctx.Err() != nil {
			c.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// watch logs a user in on a server, enters the hall, and keeps a stream open on that server.
func (c *sharedDatabase) watch(server int, user string) *watcher {
	c.t.Helper()
	p := c.servers[server]
	w := &watcher{client: &client{http: http.DefaultClient, base: p.url, user: user}}
	if err := w.loginWith(c.ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
		c.t.Fatal(err)
	}
	w.enter(c.ctx, c.t, "hall")
	c.watching.Go(func() {
		for c.ctx.Err() == nil {
			w.follow(c.ctx)
			wait(c.ctx, 50*time.Millisecond)
		}
	})
	c.waitUntil(10*time.Second, "the stream of "+user+" opens", func() bool { return w.count("sessionReady") == 1 })
	return w
}

// watcher records the events of a session's streams.
type watcher struct {
	*client

	mu     sync.Mutex
	lastID string
	events []string // name and data
}

// follow reads one stream to its end.
func (w *watcher) follow(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/v1/events", nil)
	if err != nil {
		return
	}
	r.Header.Set("Authorization", "Bearer "+w.key)
	if w.lastID != "" {
		r.Header.Set("Last-Event-ID", w.lastID)
	}
	reply, err := w.http.Do(r)
	if err != nil {
		return
	}
	defer reply.Body.Close()
	var name string
	for lines := bufio.NewReader(reply.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return // the rest of a line may be half an id
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			w.lastID = value
		case "data":
			w.mu.Lock()
			w.events = append(w.events, name+" "+value)
			w.mu.Unlock()
		}
	}
}

// count returns how many events begin with a text.
func (w *watcher) count(beginning string) (n int) { return len(w.of(beginning)) }

// of returns the events that begin with a text.
func (w *watcher) of(beginning string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), func(event string) bool { return !strings.HasPrefix(event, beginning) })
}

const leftEvents = "SELECT count(*) FROM events WHERE type = 'roomMemberLeft'"

// TestOutageWithTwoServers stops the database for longer than a lease and a memberTimeout. Both
// servers run, so nobody leaves, and all streams stay open.
func TestOutageWithTwoServers(t *testing.T) {
	t.Parallel()
	c := startSharedDatabase(t, 2)
	watchers := []*watcher{c.watch(0, "alice"), c.watch(1, "bob")}
	c.waitUntil(30*time.Second, "both servers have held their lease for its whole time", func() bool {
		return c.query("SELECT count(*) FROM nodes WHERE steady_since < now() - interval '16 s'") == 2
	})
	c.stopDatabase()
	wait(c.ctx, 20*time.Second)
	c.startDatabase()
	// Leases expire after 15 s, and members time out after 5 s.
	wait(c.ctx, 25*time.Second)
	for _, w := range watchers {
		if err := w.sendText(c.ctx, "hall", w.user+" is here"); err != nil {
			t.Error(err)
		}
		if opened := w.count("sessionReady"); opened != 1 {
			t.Errorf("the stream of %s was opened %d times", w.user, opened)
		}
	}
	if n := c.query(leftEvents); n != 0 {
		t.Errorf("%d members were removed", n)
	}
	if n := c.query("SELECT count(*) FROM sessions WHERE detached_at IS NOT NULL"); n != 0 {
		t.Errorf("%d sessions with an open stream count as detached", n)
	}
	for _, p := range c.servers {
		if log := p.logged(); strings.Contains(log, "lease lost") {
			t.Errorf("a running server was declared dead: %s", log)
		}
	}
}

// TestFrozenServerWakes freezes a server until everybody saw its members leave. When it continues,
// it asks its streams to reconnect, and its clients find out that they have left.
func TestFrozenServerWakes(t *testing.T) {
	t.Parallel()
	c := startSharedDatabase(t, 2)
	alice, bob := c.watch(0, "alice"), c.watch(1, "bob")
	c.waitUntil(30*time.Second, "the other server may declare servers dead", func() bool {
		return c.query("SELECT count(*) FROM nodes WHERE steady_since < now() - interval '16 s'") > 0
	})
	frozen := c.servers[1].cmd.Process
	if err := frozen.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Signal(syscall.SIGCONT) }() // it may have ended
	began := time.Now()
	c.waitUntil(30*time.Second, "bob leaves", func() bool { return alice.count("roomMemberLeft") == 1 })
	t.Logf("bob left %s after his server froze", time.Since(began))
	if err := frozen.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woke := time.Now()
	c.waitUntil(2*time.Second, "bob is asked to reconnect", func() bool { return bob.count("reconnect") == 1 })
	t.Logf("bob was asked to reconnect %s after his server continued", time.Since(woke))
	c.waitUntil(10*time.Second, "bob learns that he left", func() bool { return bob.count("roomStateChanged") > 0 })
	if got := fmt.Sprint(bob.of("roomStateChanged")); !strings.Contains(got, "etworkTimeout") {
		t.Errorf("bob is told: %s", got)
	}
	message := map[string]string{"kind": "text", "text": "am I here?"}
	if status, err := bob.call(c.ctx, http.MethodPost, "/v1/rooms/hall/messages", message, nil); err != nil || status != http.StatusConflict {
		t.Errorf("a message from a member who left: status %d, %v", status, err)
	}
}

// TestStartWithAWrongClock starts a server beside a database whose clock is ahead.
func TestStartWithAWrongClock(t *testing.T) {
	t.Parallel()
	address := ownDatabase(t)
	env := []string{"DATABASE_URL=" + address, "PARLOR_SECRET=" + string(goodSecret)}
	if got := parlor(t.Context(), t, env, "migrate"); got.code != exitOK {
		t.Fatal(got.err)
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `CREATE SCHEMA ahead; CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz
		LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '16 s' $$`); err != nil {
		t.Fatal(err)
	}
	env[0] += "&search_path=ahead,pg_catalog,public"
	got := parlor(t.Context(), t, env, "serve", "--data", storetest.Folder(t), "--listen", freeAddress(t), "--ops-listen", "", "--log-level", "error")
	if got.code != exitUsage || strings.Count(got.err, "\n") != 1 ||
		!strings.Contains(got.err, "this machine's clock is 16s behind the database's, and they may differ by 2s: synchronize both machines with NTP") {
		t.Errorf("exit code %d, %s", got.code, got.err)
	}
}
