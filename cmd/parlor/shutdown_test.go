package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parlor/auth"
	"parlor/room"
	"parlor/store/storetest"
)

// TestShutdownIsAnnounced checks that /readyz fails while calls and new streams are still served.
// If there is no other server, open streams stay open until the end.
func TestShutdownIsAnnounced(t *testing.T) {
	t.Parallel()
	env := []string{"PARLOR_SECRET=" + string(goodSecret)}
	p := startParlorWith(t, storetest.Folder(t), env, "--drain", "4s", "--drain-delay", "2s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alice := loginWithSecret(ctx, t, p, "alice")
	alice.enter(ctx, t, "hall")
	old := &browserClient{client: alice}
	var reading sync.WaitGroup
	reading.Go(func() { old.connect(ctx) })
	for old.opened.Load() == 0 && ctx.Err() == nil {
		wait(ctx, 5*time.Millisecond)
	}

	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for status(ctx, p.ops+"/readyz") != http.StatusServiceUnavailable {
		if time.Since(began) > time.Second || ctx.Err() != nil {
			t.Fatal("/readyz does not fail")
		}
		wait(ctx, 5*time.Millisecond)
	}
	if err := alice.sendText(ctx, "hall", "still served"); err != nil {
		t.Error(err)
	}
	bob := loginWithSecret(ctx, t, p, "bob")
	late := &browserClient{client: bob}
	reading.Go(func() { late.connect(ctx) })
	for late.opened.Load() == 0 && ctx.Err() == nil {
		wait(ctx, 5*time.Millisecond)
	}
	reading.Wait()
	<-p.done
	if took := time.Since(began); took < 2*time.Second || p.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("the server ended after %s with %d: %s", took, p.cmd.ProcessState.ExitCode(), p.logged())
	}
	for _, v := range []*browserClient{old, late} {
		if v.pause == 0 || v.pause > time.Second {
			t.Errorf("the stream of %s ended, with a reconnect after %s", v.client.user, v.pause)
		}
	}
}

// loginWithSecret starts a session at a server whose secret is goodSecret.
func loginWithSecret(ctx context.Context, t *testing.T, p *process, user string) *client {
	t.Helper()
	c := &client{http: http.DefaultClient, base: p.url, user: user}
	if err := c.loginWith(ctx, &auth.Tokens{Secret: []byte(goodSecret)}); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDevelopmentStopsAtOnce checks that Ctrl-C at a terminal does not wait for load balancers.
func TestDevelopmentStopsAtOnce(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--drain", "10m", "--drain-delay", "5m")
	p.signal(syscall.SIGINT)
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.logged())
	}
}

// TestSecondSignal checks that a second signal ends a server that is shutting down.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := startParlorWith(t, storetest.Folder(t), nil, "--drain", "10m", "--drain-delay", "5m")
			if err := p.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			for status(t.Context(), p.ops+"/readyz") != http.StatusServiceUnavailable && t.Context().Err() == nil {
				wait(t.Context(), 5*time.Millisecond)
			}
			p.signal(s)
			if state := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != s {
				t.Errorf("the server ended with %s: %s", p.cmd.ProcessState, p.logged())
			}
		})
	}
}

// TestShutdownKnowsNewServer checks that a server that is stopped just after its successor is up
// moves its streams, and that the successor, which is stopped next, then knows that it is alone.
func TestShutdownKnowsNewServer(t *testing.T) {
	t.Parallel()
	env := sharedEnv(t, ownDatabase(t))
	first := startParlorWith(t, storetest.Folder(t), env, "--drain", "200ms", "--drain-delay", "0s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v := &browserClient{client: loginWithSecret(ctx, t, first, "alice")}
	var reading sync.WaitGroup
	reading.Go(func() { v.connect(ctx) })
	for v.opened.Load() == 0 && ctx.Err() == nil {
		wait(ctx, 5*time.Millisecond)
	}
	second := startParlorWith(t, storetest.Folder(t), env, "--drain", "200ms", "--drain-delay", "0s")
	first.signal(syscall.SIGTERM)
	reading.Wait()
	if v.pause < 0 || v.pause > 100*time.Millisecond {
		t.Errorf("the client was asked to reconnect after %s: %s", v.pause, first.logged())
	}
	second.signal(syscall.SIGTERM)
	if strings.Contains(second.logged(), "moving streams to other servers") {
		t.Errorf("the last server moved its streams: %s", second.logged())
	}
}

func status(ctx context.Context, address string) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	_ = reply.Body.Close()
	return reply.StatusCode
}

// TestShutdownCutsTransfers checks that a client that does not read its download, and one that does
// not continue its upload, do not delay the next server.
func TestShutdownCutsTransfers(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alice := login(ctx, t, p, "alice")
	file := make([]byte, 32<<20) // more than sockets hold
	var sent struct{ SignedURL string }
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/media?fileName=a.bin", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+alice.key)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(reply.Body).Decode(&sent); err != nil || reply.Body.Close() != nil {
		t.Fatalf("%s: %v", reply.Status, err)
	}

	reader := dial(t, p)
	_, err = fmt.Fprintf(reader, "GET %s HTTP/1.1\r\nHost: parlor\r\n\r\n", sent.SignedURL)
	if _, readErr := reader.Read(make([]byte, 1)); err != nil || readErr != nil {
		t.Fatal(err, readErr)
	}
	at := alice.tus(ctx, t, "POST", "/v1/media/uploads", nil, "Upload-Length", strconv.Itoa(1<<20)).Get("Location")
	sender := dial(t, p)
	if _, err := fmt.Fprintf(sender, "PATCH %s HTTP/1.1\r\nHost: parlor\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"+
		"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: 1048576\r\n\r\n%s",
		at, alice.key, strings.Repeat("x", 1<<19)); err != nil {
		t.Fatal(err)
	}
	wait(ctx, 100*time.Millisecond) // for the server to read it

	began := time.Now()
	p.signal(syscall.SIGTERM)
	// This takes some hundred milliseconds, and much more on a busy machine. It used to take 25 s.
	if took := time.Since(began); took > 10*time.Second || p.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("the server ended after %s with %d: %s", took, p.cmd.ProcessState.ExitCode(), p.logged())
	}
	if !strings.Contains(p.logged(), "cutting off uploads and downloads") {
		t.Errorf("nothing was cut off: %s", p.logged())
	}
	p.start(t)
	if got := alice.tus(ctx, t, "HEAD", at, nil).Get("Upload-Offset"); got != strconv.Itoa(1<<19) {
		t.Errorf("%s bytes of the upload were stored", got)
	}
}

func dial(t *testing.T, p *process) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestRestartUnderLoad restarts a single server under 200 streams and 100 messages per second.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	p := startParlor(t, storetest.Folder(t), "--message-rate", "0", "--log-level", "warn")
	secret, err := auth.FolderSecret(p.data, auth.UserSecretFile)
	if err != nil {
		t.Fatal(err)
	}
	w := startLoad(t, p.url, secret)
	stopped := time.Now()
	p.signal(syscall.SIGTERM)
	p.start(t, "--message-rate", "0", "--log-level", "warn")
	// On an idle machine, the streams are open again 2 s after the server is back.
	w.finish(200, time.Since(stopped)+8*time.Second)
}

// TestRollingRestart restarts two servers one after the other behind haproxy, which is configured
// as in docs/operations.md, under 200 streams and 100 messages per second. No call fails twice, and
// no member leaves.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	env := append(sharedEnv(t, ownDatabase(t)), "PARLOR_MESSAGE_RATE=0")
	args := []string{"--drain", "6s", "--drain-delay", "2s"}
	first := startParlorWith(t, storetest.Folder(t), env, args...)
	second := startParlorWith(t, storetest.Folder(t), env, args...)
	w := startLoad(t, startBalancer(t, first, second), goodSecret)
	for _, p := range []*process{first, second} {
		p.signal(syscall.SIGTERM)
		p.start(t, args...)
		for !strings.Contains(get(t, p.ops+"/metrics"), `route="/v1/rooms/{roomID}/messages"`) {
			if t.Context().Err() != nil {
				t.Fatal("the load balancer does not use the server again")
			}
			wait(t.Context(), 20*time.Millisecond)
		}
	}
	w.finish(loadClients, 10*time.Second) // 1 s on an idle machine
	for _, p := range []*process{first, second} {
		if !strings.Contains(p.logged(), "moving streams to other servers") {
			t.Errorf("all streams ended at once: %s", p.logged())
		}
	}
	if failed := w.failedTwice.Load(); failed > 0 {
		t.Errorf("%d calls failed twice", failed)
	}
}

// startBalancer runs haproxy with the frontend and the two servers of docs/operations.md, without
// TLS, and returns its URL.
func startBalancer(t *testing.T, first, second *process) string {
	t.Helper()
	frontend, _, found := strings.Cut(proxyBlocks(t)["haproxy"][0], "\nbackend ")
	servers := regexp.MustCompile("(?ms)^```haproxy servers\n(.*?)^```$").FindStringSubmatch(readOperations(t))
	if !found || servers == nil {
		t.Fatalf("%s has no frontend, or no servers, for haproxy", operationsPage)
	}
	backend := replace(t, servers[1], "10.0.0.1:8080", strings.TrimPrefix(first.url, "http://")+" port "+portOf(t, first.ops))
	backend = replace(t, backend, "10.0.0.2:8080", strings.TrimPrefix(second.url, "http://")+" port "+portOf(t, second.ops))
	return "http://" + runProxy(t, "haproxy", func(folder, listen string) []string {
		bind := replace(t, frontend, "bind :443 ssl crt /etc/haproxy/chat.example.com.pem alpn h2,http/1.1", "bind "+listen)
		noRetries := "    retries 0\n" // so that no refused connection goes unnoticed
		return []string{"-db", "-f", write(t, folder, "haproxy.cfg", bind+"\n"+backend+noRetries)}
	})
}

const (
	loadClients    = 200
	roomsOfTen     = loadClients / 10
	messagesPerSec = 100
)

// restartLoad is the load under which servers are restarted: clients with open streams, some of
// which send messages.
type restartLoad struct {
	t       *testing.T
	http    *http.Client
	clients []*browserClient
	// calls counts the messages, failed the attempts that failed, and failedTwice the messages with
	// two failed attempts.
	calls, failed, failedTwice atomic.Int64

	stopSending      context.CancelFunc
	stop             context.CancelFunc
	sending, reading sync.WaitGroup
	sent             [roomsOfTen][]string // per room, used only by its sender
}

// startLoad opens the streams and starts sending, until finish.
func startLoad(t *testing.T, address string, secret auth.Secret) *restartLoad {
	t.Helper()
	tokens := &auth.Tokens{Secret: []byte(secret)}
	w := &restartLoad{t: t, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadClients}}}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	w.stop = stop
	t.Cleanup(func() {
		stop()
		w.sending.Wait()
		w.reading.Wait()
		w.http.CloseIdleConnections()
	})
	var entering sync.WaitGroup
	for i := range loadClients {
		v := &browserClient{client: &client{http: w.http, base: address, user: fmt.Sprintf("user%d", i)}}
		w.clients = append(w.clients, v)
		if i%20 == 0 {
			entering.Wait()
		}
		entering.Go(func() {
			if err := v.enter(ctx, tokens, fmt.Sprintf("hall%d", i%roomsOfTen)); err != nil {
				t.Error(err)
			}
		})
	}
	entering.Wait()
	for _, v := range w.clients {
		w.reading.Go(func() { v.follow(ctx) })
	}
	for _, v := range w.clients {
		for v.opened.Load() == 0 && ctx.Err() == nil {
			wait(ctx, 5*time.Millisecond)
		}
	}
	sending, stopSending := context.WithCancel(ctx)
	w.stopSending = stopSending
	for i := range roomsOfTen {
		w.sending.Go(func() { w.sendMessages(sending, i) })
	}
	wait(ctx, 500*time.Millisecond)
	return w
}

// sendMessages sends messages to a room until the context ends. Failed attempts are repeated after
// the pause of real clients.
func (l *restartLoad) sendMessages(ctx context.Context, i int) {
	c := l.clients[i].client
	for n := 0; ctx.Err() == nil; n++ {
		next := time.Now().Add(time.Second * roomsOfTen / messagesPerSec)
		l.send(c, i, strconv.Itoa(n))
		wait(ctx, time.Until(next))
	}
}

func (l *restartLoad) send(c *client, i int, text string) {
	ctx := context.WithoutCancel(l.t.Context())
	body := map[string]string{"kind": "text", "text": text, "clientMessageID": text}
	l.calls.Add(1)
	for try := 1; try <= 100; try++ {
		got, err := c.call(ctx, "POST", fmt.Sprintf("/v1/rooms/hall%d/messages", i), body, nil)
		if err == nil && got == http.StatusCreated {
			l.sent[i] = append(l.sent[i], text)
			return
		}
		if err == nil && got < 500 {
			l.t.Errorf("%s sent %q: status %d", c.user, text, got)
			return
		}
		l.failed.Add(1)
		if try == 2 {
			l.failedTwice.Add(1)
		}
		wait(ctx, 300*time.Millisecond)
	}
	l.t.Errorf("%s could not send %q", c.user, text)
}

// finish stops sending, and compares what every stream received with what was sent. At least moved
// streams must have been disconnected, each for less than longest.
func (l *restartLoad) finish(moved int, longest time.Duration) {
	l.t.Helper()
	ctx := l.t.Context()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !l.allOpen(); {
		wait(ctx, 10*time.Millisecond)
	}
	l.stopSending()
	l.sending.Wait()
	for i := range roomsOfTen {
		l.send(l.clients[i].client, i, "the end")
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !l.allComplete(); {
		wait(ctx, 10*time.Millisecond)
	}
	l.stop()
	l.reading.Wait()
	var away []time.Duration
	for i, v := range l.clients {
		if v.fault != "" {
			l.t.Errorf("%s: %s", v.client.user, v.fault)
		}
		if !slices.Equal(v.texts, l.sent[i%roomsOfTen]) {
			l.t.Errorf("%s received %d of %d messages, or in another order", v.client.user, len(v.texts), len(l.sent[i%roomsOfTen]))
		}
		away = append(away, v.away...)
	}
	if len(away) < moved {
		l.t.Fatalf("%d streams were disconnected", len(away))
	}
	slices.Sort(away)
	p50, p99, most := away[len(away)/2], away[len(away)*99/100], away[len(away)-1]
	l.t.Logf("%d disconnects: p50 %s, p99 %s, longest %s; %d calls, %d tries failed, %d calls twice",
		len(away), p50.Round(time.Millisecond), p99.Round(time.Millisecond), most.Round(time.Millisecond),
		l.calls.Load(), l.failed.Load(), l.failedTwice.Load())
	if p99 > longest {
		l.t.Errorf("streams were disconnected for %s", p99)
	}
}

func (l *restartLoad) allOpen() bool {
	return !slices.ContainsFunc(l.clients, func(c *browserClient) bool { return !c.open.Load() })
}

func (l *restartLoad) allComplete() bool {
	return !slices.ContainsFunc(l.clients, func(c *browserClient) bool { return !c.ended.Load() })
}

// browserClient reads its stream as the browser client does: it reconnects when asked to, and backs
// off if the server is unavailable (web/sdk/src/stream.ts).
type browserClient struct {
	*client
	reader reader
	// opened counts the streams. open is set while one is open, and ended once the last message has
	// arrived.
	opened      atomic.Int64
	open, ended atomic.Bool

	// The fields below belong to the reading goroutine.
	texts []string
	fault string
	away  []time.Duration
	lost  time.Time     // time at which the stream was lost
	pause time.Duration // afterMs of the reconnect event; -1 means that there was none
	retry time.Duration
	fails int
}

func (c *browserClient) enter(ctx context.Context, tokens *auth.Tokens, roomID string) error {
	if err := c.loginWith(ctx, tokens); err != nil {
		return err
	}
	c.reader.client = c.client
	return c.succeed(ctx, "POST", "/v1/rooms/"+roomID+"/enter", map[string]string{}, nil)
}

// follow opens streams until the context ends.
func (c *browserClient) follow(ctx context.Context) {
	for ctx.Err() == nil && c.fault == "" {
		c.connect(ctx)
		if c.pause < 0 {
			c.pause = c.retry + rand.N(500*time.Millisecond<<min(c.fails, 6))
			c.fails++
		}
		wait(ctx, c.pause)
	}
}

// connect reads one stream to its end.
func (c *browserClient) connect(ctx context.Context) {
	c.reader.client, c.pause = c.client, -1
	defer func() {
		if c.open.Swap(false) {
			c.lost = time.Now()
		}
	}()
	r, err := c.reader.request(ctx)
	if err != nil {
		c.fault = err.Error()
		return
	}
	reply, err := c.http.Do(r)
	if err != nil {
		return
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, reply.Body)
		return
	}
	var frame []string
	for lines := bufio.NewScanner(reply.Body); lines.Scan() && c.fault == ""; {
		if lines.Text() != "" {
			frame = append(frame, lines.Text())
			continue
		}
		c.take(frame)
		frame = nil
	}
}

func (c *browserClient) take(frame []string) {
	c.reader.take(frame)
	c.fault = c.reader.fault
	if n := len(c.reader.texts); n > len(c.texts) {
		c.texts = c.reader.texts
		c.ended.Store(c.texts[n-1] == "the end")
	}
	var data string
	for _, line := range frame {
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "data":
			data = value
		case name == "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				c.fault = err.Error()
			}
			c.retry = time.Duration(ms) * time.Millisecond
		case line == "event: roomMemberLeft" || line == "event: roomStateChanged":
			c.fault = strings.Join(frame, " ")
		case line == "event: sessionReady":
			c.fails = 0
			c.opened.Add(1)
			c.open.Store(true)
			if !c.lost.IsZero() {
				c.away = append(c.away, time.Since(c.lost))
			}
		}
	}
	if slices.Contains(frame, "event: reconnect") {
		var reconnect room.Reconnect
		if err := json.Unmarshal([]byte(data), &reconnect); err != nil {
			c.fault = err.Error()
		}
		c.pause = time.Duration(reconnect.AfterMs) * time.Millisecond
	}
}
