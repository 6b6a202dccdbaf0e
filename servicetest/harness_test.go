package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	contract "parlor"
	"parlor/auth"
	"parlor/handlers"
	"parlor/hub"
	"parlor/media"
	"parlor/room"
	"parlor/store"
	"parlor/store/storetest"
)

// setup holds the options of a service, which a test can change before the service starts.
type setup struct {
	database string
	store    store.Options
	hub      hub.Options
	api      handlers.Options
	server   *httptest.Server
	// start starts the server. It is (*httptest.Server).Start unless a test sets another function.
	start func(*httptest.Server)
	// front handles requests in front of the API, which it is passed. It is nil unless a test sets it.
	front func(w http.ResponseWriter, r *http.Request, api http.Handler)
	// wrap returns the store that the handlers use: the real one, or one with injected faults.
	wrap func(handlers.Store) handlers.Store
	// allowErrors permits the log to contain internal errors.
	allowErrors bool
}

// service is the whole service, wired as in the program, with its own database and port.
type service struct {
	testing.TB
	url string
	// database is the URL of the service's database.
	database string
	store    *store.Store
	hub      *hub.Hub
	tokens   *auth.Tokens
	media    *media.Bucket
	log      *logBuffer
	server   *httptest.Server
	api      *handlers.API
	// http checks every request and reply against the contract.
	http *http.Client
}

var secret = []byte("a secret of at least thirty-two bytes")

// webPages stands in for the built web pages.
var webPages = fstest.MapFS{
	"index.html":               {Data: []byte("<!doctype html><title>Parlor</title>")},
	"docs.html":                {Data: []byte("<!doctype html><title>Contract</title>")},
	"assets/page.js":           {Data: []byte("export {};\n")},
	"sdk/parlor.js":            {Data: []byte("export class Parlor {}\n")},
	"sdk/parlor.d.ts":          {Data: []byte("export declare class Parlor {}\n")},
	"sdk/chunks/uploads-A.js":  {Data: []byte("export class Uploads {}\n")},
	"sdk/compat/zim.js":        {Data: []byte("export class ZIM {}\n")},
	"sdk/compat/zim.global.js": {Data: []byte("globalThis.ZIM = class {};\n")},
}

func newService(t testing.TB, change ...func(*setup)) *service {
	t.Helper()
	s := &service{TB: t, log: &logBuffer{}, tokens: &auth.Tokens{Secret: secret}}
	c := setup{
		database: storetest.Database(t),
		server:   httptest.NewUnstartedServer(nil),
		start:    (*httptest.Server).Start,
		wrap:     func(s handlers.Store) handlers.Store { return s },
	}
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.store = store.Options{
		Commit:        func(change room.Change) { s.hub.Apply(change) },
		CommitUnknown: func() { s.hub.Resync() },
		Reset:         func() { s.hub.ReconnectAll() },
		Log:           log,
	}
	c.hub = hub.Options{Logger: log}
	c.api = handlers.Options{
		Tokens: s.tokens, RoomsPerUser: room.DefaultRoomsPerUser, Development: true,
		MediaSecret: secret, CompressStreams: true,
		Contract: contract.Contract, Errors: contract.Errors, TokenGuide: contract.TokenGuide, Web: fs.FS(webPages), Log: log,
	}
	for _, change := range change {
		change(&c)
	}
	if c.api.Media == nil {
		c.api.Media = openFolder(t, t.TempDir())
	}
	s.media = c.api.Media
	c.store.RoomsPerUser = c.api.RoomsPerUser
	s.database = c.database
	s.store = storetest.Open(t, c.database, c.store)
	c.hub.OnStreamEnd, c.hub.Now = s.store.Detach, s.store.Now
	if now := c.store.Now; now != nil { // streams end at the time of the test's clock, too
		c.hub.OnStreamEnd = func(id room.SessionID, streamNo int64, _ time.Time) { s.store.Detach(id, streamNo, now()) }
	}
	s.hub = hub.New(s.store, c.hub)
	c.api.Store, c.api.Hub = c.wrap(s.store), s.hub

	s.server = c.server
	s.api = handlers.New(c.api)
	s.server.Config.Handler = s.api
	if c.front != nil {
		s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.front(w, r, s.api) })
	}
	s.server.Config.MaxHeaderBytes = 64 << 10
	s.server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	c.start(s.server)
	s.url = s.server.URL
	s.http = s.httpClient(s.server.Client().Transport)
	t.Cleanup(func() {
		s.hub.Close()    // ends the streams, because the server waits for them
		s.api.EndFeeds() // ends the feeds, for the same reason
		s.server.Close()
		s.log.check(t, c.allowErrors)
	})
	return s
}

// httpClient returns a client that sends requests over a transport and checks them and their
// replies against the contract. It does not follow redirects, so that tests can check them.
func (s *service) httpClient(next http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     &checked{s, next},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// unchecked returns a client for requests that the contract does not cover.
func (s *service) unchecked() *client {
	return &client{service: s, http: s.server.Client()}
}

// token signs a user token.
func (s *service) token(user room.UserID, ttl time.Duration) string {
	s.Helper()
	token, err := s.tokens.Sign(room.User{ID: user}, ttl)
	if err != nil {
		s.Fatal(err)
	}
	return s.log.secret(token)
}

// client is a caller of the service. It has a session if SessionKey is set.
type client struct {
	*service
	http *http.Client
	session
}

// session is the reply of createSession.
type session struct {
	SessionID      room.SessionID
	SessionKey     string
	UserID         room.UserID
	UserName       string
	StreamURL      string
	TokenExpiresAt time.Time
	Limits         struct{ TextBytes, ExtendedDataBytes, Rooms, HeartbeatSeconds int }
}

// admin returns a client with an admin token as its key, as an application's backend has it.
func (s *service) admin() *client {
	s.Helper()
	token, err := s.tokens.SignAdmin("backend", time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	return s.anonymous().withKey(token)
}

// anonymous returns a client without a session.
func (s *service) anonymous() *client { return &client{service: s, http: s.http} }

// login creates a session for a user.
func (s *service) login(user room.UserID) *client {
	s.Helper()
	return s.loginWith(s.token(user, time.Hour))
}

// loginWith creates a session with a token.
func (s *service) loginWith(token string) *client {
	s.Helper()
	c := s.anonymous()
	c.session = as[session](c.call("POST", "/v1/sessions", object{"token": token}).is(http.StatusCreated))
	s.log.secret(c.SessionKey)
	s.log.secret(c.streamKey())
	return c
}

// streamKey returns the key in the streamURL.
func (c *client) streamKey() string {
	_, key, _ := strings.Cut(c.StreamURL, "stream_key=")
	return key
}

// withKey returns a copy of the client with another key.
func (c *client) withKey(key string) *client {
	other := *c
	other.SessionKey = c.log.secret(key)
	return &other
}

type object map[string]any

// raw is a body that is sent as it is.
type raw string

// request builds the request of a call. The body is encoded as JSON unless it is raw.
func (c *client) request(method, path string, body any, change ...func(*http.Request)) *http.Request {
	c.Helper()
	var sent io.Reader
	switch body := body.(type) {
	case nil:
	case raw:
		sent = strings.NewReader(string(body))
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			c.Fatal(err)
		}
		sent = bytes.NewReader(encoded)
	}
	address := path
	if strings.HasPrefix(path, "/") {
		address = c.url + path
	}
	r, err := http.NewRequestWithContext(context.Background(), method, address, sent)
	if err != nil {
		c.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.SessionKey != "" {
		r.Header.Set("Authorization", "Bearer "+c.SessionKey)
	}
	for _, change := range change {
		change(r)
	}
	return r
}

// call sends a request and reads the reply.
func (c *client) call(method, path string, body any, change ...func(*http.Request)) reply {
	c.Helper()
	r := c.request(method, path, body, change...)
	got, err := c.http.Do(r)
	if err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{c, method + " " + path, got, data}
}

// header returns a function that sets a request header.
func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// reply is a reply whose body has been read.
type reply struct {
	testing.TB
	call string
	*http.Response
	body []byte
}

// is stops the test unless the reply has this status.
func (r reply) is(status int) reply {
	r.Helper()
	if r.StatusCode != status {
		r.Fatalf("%s: got status %d, want %d: %s", r.call, r.StatusCode, status, r.body)
	}
	return r
}

// problem is the body of an error reply.
type problem struct {
	Type, Title, Code, Detail, RequestID string
	Status                               int
	Errors                               []struct{ Pointer, Rule, Message string }
}

// refused stops the test unless the reply is a problem with this status and code.
func (r reply) refused(status int, code string) problem {
	r.Helper()
	p := as[problem](r.is(status))
	if p.Code != code {
		r.Fatalf("%s: got problem %s, want %s: %s", r.call, p.Code, code, r.body)
	}
	return p
}

// invalid requires that the reply is invalid_request with exactly one fault.
func (r reply) invalid(pointer, rule string) {
	r.Helper()
	p := r.refused(http.StatusBadRequest, "invalid_request")
	if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer || p.Errors[0].Rule != rule {
		r.Errorf("%s: got faults %v, want only %s %s", r.call, p.Errors, pointer, rule)
	}
}

// as decodes a reply.
func as[T any](r reply) T {
	r.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		r.Fatalf("%s: %v: %s", r.call, err, r.body)
	}
	return v
}

// The helpers below make common calls, and stop the test if a call fails.

func roomPath(id room.RoomID, rest string) string {
	return "/v1/rooms/" + url.PathEscape(string(id)) + rest
}

func unescape(segment string) string {
	text, err := url.PathUnescape(segment)
	if err != nil {
		return segment
	}
	return text
}

func (c *client) enter(id room.RoomID) room.Room {
	c.Helper()
	r := c.call("POST", roomPath(id, "/enter"), nil)
	if r.StatusCode != http.StatusCreated {
		r.is(http.StatusOK)
	}
	return as[struct{ Room room.Room }](r).Room
}

func (c *client) leave(id room.RoomID) {
	c.Helper()
	c.call("POST", roomPath(id, "/leave"), nil).is(http.StatusOK)
}

func (c *client) send(id room.RoomID, text string) room.Message {
	c.Helper()
	return message(c.call("POST", roomPath(id, "/messages"), object{"kind": "text", "text": text}).is(http.StatusCreated))
}

func message(r reply) room.Message {
	r.Helper()
	return as[struct{ Message room.Message }](r).Message
}

// logout ends the session.
func (c *client) logout() {
	c.Helper()
	c.call("DELETE", "/v1/sessions/current", nil).is(http.StatusNoContent)
}

// state returns the session's state.
func (c *client) state() string {
	c.Helper()
	return as[struct{ Session struct{ State string } }](c.call("GET", "/v1/sessions/current", nil).is(http.StatusOK)).Session.State
}

// listen opens the session's stream and reads its first event, sessionReady.
func (c *client) listen(change ...func(*http.Request)) (*stream, room.SessionReady) {
	c.Helper()
	return c.listenAt("/v1/events", change...)
}

// listenAt opens a stream at a path or URL and reads its first event. A streamURL contains its own
// key.
func (c *client) listenAt(address string, change ...func(*http.Request)) (*stream, room.SessionReady) {
	c.Helper()
	s := c.open(address, change...)
	return s, expect[room.SessionReady](s)
}

// open opens a stream, and stops the test unless the status is 200.
func (c *client) open(address string, change ...func(*http.Request)) *stream {
	c.Helper()
	r := c.request("GET", address, nil, change...)
	if strings.Contains(address, "stream_key=") || strings.Contains(address, "stream_ticket=") {
		r.Header.Del("Authorization")
	}
	got, err := c.http.Do(r) //nolint:bodyclose // the reader closes it
	if err != nil {
		c.Fatal(err)
	}
	if got.StatusCode != http.StatusOK || mediaType(got) != "text/event-stream" {
		body, err := drain(got.Body)
		c.Fatalf("opening the stream: got status %d: %s, %v", got.StatusCode, body, err)
	}
	return read(c, got)
}

// stall opens the session's stream over a connection that nobody reads.
func (c *client) stall() net.Conn {
	c.Helper()
	conn, err := net.Dial("tcp", c.server.Listener.Addr().String())
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		c.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: parlor\r\nAuthorization: Bearer "+c.SessionKey+"\r\n\r\n"); err != nil {
		c.Fatal(err)
	}
	return conn
}

// resume sends a cursor in Last-Event-ID, as EventSource does.
func resume(id string) func(*http.Request) { return header("Last-Event-ID", id) }

// clock is a clock for the store that moves only when a test calls advance.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// sweep runs one sweep of the store.
func (s *service) sweep() {
	s.Helper()
	if err := s.store.Sweep(context.Background()); err != nil {
		s.Fatal(err)
	}
}

// sweepUntilEvent sweeps the store until a stream has received an event. One sweep may not be
// enough, because it skips locked rows.
func (s *service) sweepUntilEvent(waiting *stream) {
	s.Helper()
	eventually(s, "the sweep delivered an event", func() bool {
		if err := s.store.Sweep(context.Background()); err != nil {
			s.Error(err)
		}
		return len(waiting.events) > 0
	})
}

// eventually polls until a condition holds. The text says which, for the failure message.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(waitTimeout); !condition(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// logBuffer holds the log of a service, and the secrets that must not appear in it.
type logBuffer struct {
	mu      sync.Mutex // guards the fields below
	text    bytes.Buffer
	secrets []string
}

func (l *logBuffer) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logBuffer) secret(s string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets = append(l.secrets, s)
	return s
}

func (l *logBuffer) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// count returns how often a text appears in the log.
func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// failures returns the lines about calls that the server was not able to answer.
func (l *logBuffer) failures() (lines string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, `"status":5`) || strings.Contains(line, `"level":"WARN"`) {
			lines += line
		}
	}
	return lines
}

// check fails the test if the log contains a secret or, unless allowErrors is set, an internal
// error.
func (l *logBuffer) check(t testing.TB, allowErrors bool) {
	l.mu.Lock()
	text := l.text.String() // once: a test may have thousands of secrets and megabytes of log
	secrets := l.secrets
	l.mu.Unlock()
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			t.Errorf("the log contains a secret that begins with %.6s", s)
		}
	}
	if allowErrors {
		return
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("unexpected error in the log: %s", line)
		}
	}
}

// exec changes the database directly.
func (s *service) exec(sql string, args ...any) {
	s.Helper()
	conn, err := pgx.Connect(context.Background(), s.database)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		s.Fatal(err)
	}
}
