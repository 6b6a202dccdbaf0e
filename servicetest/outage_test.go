package servicetest

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"parlor/room"
	"parlor/store/storetest"
)

// line is what a store's connections to PostgreSQL go through, so that a test
// can cut it.
type databaseLink struct {
	server   string // PostgreSQL's socket
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards all below
	down  bool
	conns map[net.Conn]struct{}
}

// newLine makes a line to a database and returns the database's URL over it.
func newDatabaseLink(t *testing.T, database string) (*databaseLink, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	socket := ".s.PGSQL." + query.Get("port")
	l := &databaseLink{server: filepath.Join(query.Get("host"), socket), conns: make(map[net.Conn]struct{})}
	dir, err := os.MkdirTemp("", "line-") // short, as the address of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	if l.listener, err = net.Listen("unix", filepath.Join(dir, socket)); err != nil {
		t.Fatal(err)
	}
	l.running.Go(l.run)
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.cut()
		l.running.Wait()
		_ = os.RemoveAll(dir)
	})
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	return l, u.String()
}

func (l *databaseLink) run() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("unix", l.server)
		if err != nil || !l.connect(client, server) {
			_ = client.Close()
			continue
		}
		l.running.Go(func() { l.forward(client, server) })
		l.running.Go(func() { l.forward(server, client) })
	}
}

// connect remembers a connection's two ends, unless the line is down.
func (l *databaseLink) connect(client, server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		_ = server.Close()
		return false
	}
	l.conns[client], l.conns[server] = struct{}{}, struct{}{}
	return true
}

// forward copies until one end is closed, and then closes the other.
func (l *databaseLink) forward(from, to net.Conn) {
	_, _ = io.Copy(to, from) // a line that breaks is what it is for
	_ = from.Close()
	_ = to.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, from)
}

// cut breaks all connections and lets no new ones through.
func (l *databaseLink) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *databaseLink) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// TestDatabaseOutage: every call says that it may be tried again, streams
// stay, and afterwards all goes on.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	l, address := newDatabaseLink(t, storetest.Database(t))
	// A clock that stands still keeps a key that was used known without a look
	// into the database, so that a call gets as far as its own query.
	now := time.Now()
	s := newService(t, func(c *setup) {
		c.database = address
		c.store.Now = func() time.Time { return now }
	})
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	calls := samples(s)
	known, unknown := make(map[string]*client), s.login("carol")
	for _, call := range calls {
		c := s.login("bob")
		c.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)
		known[call.id] = c
	}

	l.cut()
	for _, call := range calls {
		if call.id == "createDevelopmentToken" {
			call.by(unknown, nil).is(http.StatusCreated) // asks for nothing
			continue
		}
		for _, who := range []*client{known[call.id], unknown} {
			r := call.by(call.caller(who), nil)
			r.refused(http.StatusServiceUnavailable, "unavailable")
			if r.Header.Get("Retry-After") != "1" {
				t.Errorf("%s: try again after %q seconds", call, r.Header.Get("Retry-After"))
			}
		}
	}
	// EventSource would not come back from another status than 200.
	native := s.anonymous().open(unknown.StreamURL)
	if after := expect[room.Reconnect](native).AfterMs; after < 1000 || after > 4000 {
		t.Errorf("EventSource is to come back after %d ms", after)
	}
	native.end()
	eventually(t, "no stream is left of those that did not begin", func() bool { return s.hub.Stats().Streams == 1 })

	l.restore()
	again := object{"kind": "text", "text": "after", "clientMessageID": "1"}
	eventually(t, "the database answers", func() bool {
		return alice.call("POST", roomPath("lobby", "/messages"), again).StatusCode == http.StatusCreated
	})
	if got := stream.text(); got != "after" {
		t.Errorf("the stream goes on with %q", got)
	}
	alice.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)
}
