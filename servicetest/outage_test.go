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

	"github.com/golang-jwt/jwt/v5"

	"parlor/room"
	"parlor/store/storetest"
)

// databaseLink forwards a store's connections to PostgreSQL, so that a test can cut them.
type databaseLink struct {
	server   string // PostgreSQL's socket
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	down  bool
	conns map[net.Conn]struct{}
}

// newDatabaseLink starts a link to a database, and returns it with the database's URL through it.
func newDatabaseLink(t *testing.T, database string) (*databaseLink, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	socket := ".s.PGSQL." + query.Get("port")
	l := &databaseLink{server: filepath.Join(query.Get("host"), socket), conns: make(map[net.Conn]struct{})}
	dir, err := os.MkdirTemp("", "line-") // short, because the path of a Unix socket is limited to about 100 bytes
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

// connect registers both ends of a connection, unless the link is down.
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

// forward copies data until one end is closed, and then closes the other end.
func (l *databaseLink) forward(from, to net.Conn) {
	_, _ = io.Copy(to, from) // a cut connection is expected to fail
	_ = from.Close()
	_ = to.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, from)
}

// cut closes all connections and rejects new ones.
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

// TestDatabaseOutage checks that during an outage each call fails with an error that allows a retry
// and streams stay open, and that everything works again afterwards.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	l, address := newDatabaseLink(t, storetest.Database(t))
	// The clock stands still, so that sessions stay in the cache after their login, and a call gets
	// as far as its own query.
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
	s.store.Missed() // empties the session cache
	for _, call := range calls {
		c := s.loginWith(s.signed(func(c jwt.MapClaims) {
			everyGrant(c)
			c["sub"] = "bob"
		}))
		known[call.id] = c
	}

	l.cut()
	began := time.Now()
	for _, call := range calls {
		if call.id == "createDevelopmentToken" {
			call.by(unknown, nil).is(http.StatusCreated) // needs no database
			continue
		}
		for _, who := range []*client{known[call.id], unknown} {
			r := call.by(call.caller(who), nil)
			r.refused(http.StatusServiceUnavailable, "unavailable")
			if r.Header.Get("Retry-After") != "1" {
				t.Errorf("%s: Retry-After is %q", call, r.Header.Get("Retry-After"))
			}
		}
	}
	if n, most := s.log.count(`"msg":"unavailable"`), 1+int(time.Since(began)/time.Second); n < 1 || n > most {
		t.Errorf("%d log lines about unavailable, want 1 to %d", n, most)
	}
	if n := s.log.count(`"level":"INFO","msg":"request"`); n > s.log.count(`"msg":"unavailable"`) {
		t.Errorf("%d log lines about failed requests", n)
	}
	// EventSource would not reconnect after a status other than 200.
	native := s.anonymous().open(unknown.StreamURL)
	if after := expect[room.Reconnect](native).AfterMs; after < 1000 || after > 4000 {
		t.Errorf("EventSource is asked to reconnect after %d ms", after)
	}
	native.end()
	eventually(t, "only the stream that was open is left", func() bool { return s.hub.Stats().Streams == 1 })

	l.restore()
	again := object{"kind": "text", "text": "after", "clientMessageID": "1"}
	eventually(t, "calls succeed again", func() bool {
		return alice.call("POST", roomPath("lobby", "/messages"), again).StatusCode == http.StatusCreated
	})
	if got := stream.text(); got != "after" {
		t.Errorf("the stream received %q", got)
	}
	alice.call("GET", roomPath("lobby", ""), nil).is(http.StatusOK)
}
