package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/auth"
	"parlor/room"
)

// TestChaos kills, freezes and restarts servers, their database and single processes of the database
// at random, cuts streams and stops reading them, while some users post in several rooms and others
// enter and leave. With several servers, clients move between them, and networks lose what servers,
// the database, NATS and clients send each other. Every acknowledged message must then be on every
// stream and in the history exactly once, with its seq; one to some members on theirs only.
//
// CHAOS_SECONDS is the duration, and CHAOS_SEED repeats the choices of a run, but not the timing of
// the machine. `make chaos` sets them. Without them the run is short.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		servers int
		nats    bool
	}{{"1 server", 1, false}, {"3 servers", 3, false}, {"3 servers and NATS", 3, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.servers > 1 && runInNamespace(t) {
				return
			}
			runChaos(t, tt.servers, tt.nats)
		})
	}
}

func runChaos(t *testing.T, servers int, nats bool) {
	const senders, readers, joiners = 4, 6, 2
	rooms := []string{"hall", "foyer", "garden"}
	duration, long := 8*time.Second, false
	cut := 150_000
	if servers > 1 {
		// Each cut moves a stream. Readers that are cut more often are slower than the senders on a
		// fast machine, and are not complete in time.
		cut = 40_000
	}
	if text := os.Getenv("CHAOS_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 {
			t.Fatalf("CHAOS_SECONDS: %q is not a number of seconds", text)
		}
		duration, long = time.Duration(seconds)*time.Second, seconds >= 60
	}
	seed := rand.Uint64()
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	t.Logf("chaos for %s; CHAOS_SEED=%d repeats its choices", duration, seed)
	ctx, cancel := context.WithTimeout(t.Context(), duration+3*time.Minute)
	defer cancel()
	// The member timeout is so long that no fault makes a member leave.
	m := &faultInjector{
		t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
		args: []string{"--member-timeout", "300s", "--message-rate", "0", "--log-level", "warn", "--rooms-per-user", "20"},
	}
	m.start(servers, nats)
	defer m.logFailure()
	users := 0
	login := func(name string, i int) *client {
		users++
		c := loginWithSecret(ctx, t, m.servers[users%servers], fmt.Sprint(name, i))
		c.turn = users
		for _, p := range m.servers {
			c.servers = append(c.servers, p.url)
		}
		return c
	}

	var (
		l                           = ledger{mayLeave: "joiner"}
		readerClients               []*reader
		sending, reading, streaming sync.WaitGroup
	)
	room := func(i int) string { return rooms[i%len(rooms)] }
	var behind atomic.Int64 // readers that have not received almost the end
	behind.Add(readers)
	for i := range readers {
		c := login("reader", i)
		for _, room := range rooms {
			c.enter(ctx, t, room)
		}
		var almost sync.Once
		readerClients = append(readerClients, &reader{
			client: c, byURL: i%2 == 0, record: l.addReader(c.user, c.user, true),
			random: rand.New(rand.NewPCG(seed, uint64(i+1))), cut: cut,
			enough: func(r *reader) bool {
				has := func(last string) bool {
					return !slices.ContainsFunc(rooms, func(room string) bool { return !r.record.endsWith(room, last) })
				}
				if has("almost the end") {
					almost.Do(func() { behind.Add(-1) })
				}
				return has("the end")
			},
		})
	}
	sendCtx, stop := context.WithCancel(ctx)
	defer stop()
	var senderClients []*client
	for i := range senders {
		c := login("sender", i)
		for _, room := range rooms {
			c.enter(ctx, t, room)
		}
		senderClients = append(senderClients, c)
		keepStream(ctx, t, &streaming, c)
	}
	for _, r := range readerClients {
		reading.Go(func() { r.read(ctx) })
	}
	send := func(c *client, room, text string, to ...string) bool {
		seq, err := c.post(ctx, room, text, to...)
		if err != nil {
			t.Errorf("%s in %s: %v", c.user, room, err)
			return false
		}
		var audience []string
		if to != nil {
			audience = append(to, c.user)
		}
		l.acknowledge(room, seq, text, audience)
		return true
	}
	for i, c := range senderClients {
		sending.Go(func() {
			for n := 0; sendCtx.Err() == nil; n++ {
				var to []string
				if n%3 == 0 { // to some members
					to = []string{fmt.Sprint("reader", n%readers), fmt.Sprint("reader", (n+1)%readers)}
				}
				if !send(c, room(n+i), fmt.Sprintf("%s sends %d", c.user, n), to...) {
					return
				}
				wait(sendCtx, 5*time.Millisecond)
			}
		})
	}
	for i := range joiners {
		c := login("joiner", i)
		keepStream(ctx, t, &streaming, c)
		sending.Go(func() {
			for n := 0; sendCtx.Err() == nil; n++ {
				for _, step := range []string{"enter", "leave"} {
					c.move()
					status, err := c.call(ctx, "POST", "/v1/rooms/"+room(n+i)+"/"+step, map[string]string{}, nil)
					if err == nil && status == http.StatusInternalServerError {
						t.Errorf("%s of %s: status %d", step, c.user, status)
					}
					wait(sendCtx, 50*time.Millisecond)
				}
			}
		})
	}
	m.run(duration, long)
	stop()
	sending.Wait()
	for _, room := range rooms {
		send(senderClients[0], room, "almost the end")
	}
	for caughtUp := time.Now().Add(time.Minute); behind.Load() > 0 && time.Now().Before(caughtUp); {
		wait(ctx, 10*time.Millisecond)
	}
	// The last messages are lost on the bus. No stream that is opened later makes up for that.
	hearAgain := m.deafen()
	for _, room := range rooms {
		send(senderClients[0], room, "the end")
	}
	// A stream that lacks its messages after a minute does not receive them any more.
	late := time.AfterFunc(time.Minute, cancel)
	ended := time.Now()
	reading.Wait()
	if late.Stop() {
		t.Logf("all streams were complete %s after the last message", time.Since(ended).Round(time.Millisecond))
	} else {
		t.Error("not all streams were complete a minute after the last message")
	}
	hearAgain()
	broken := 0
	for _, r := range readerClients {
		broken += r.broken
		if r.fault != "" {
			t.Errorf("%s: %s", r.client.user, r.fault)
		}
	}
	// A lease of a server that was killed may last for another 15 s.
	heard, cancelHeard := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancelHeard()
	awaitBus(heard, t, m.servers)
	if err := l.readHistory(ctx, senderClients[0], rooms); err != nil {
		t.Errorf("the history: %v", err)
	}
	cancel() // ends the streams of the senders and joiners
	streaming.Wait()

	v := l.check()
	for _, example := range v.examples {
		t.Error(example)
	}
	if !v.clean() || broken == 0 || v.acknowledged == 0 {
		t.Fail()
	}
	t.Logf("%d faults and %d streams cut, %s", m.faults, broken, v)
}

// client is a session of a user.
type client struct {
	http                       *http.Client
	base, key, streamURL, user string
	// servers are the URLs of several servers, of which the client uses another one each turn. If
	// there are none, it always uses base.
	servers []string
	turn    int
}

// move makes the client use the next of its servers.
func (c *client) move() {
	if len(c.servers) == 0 {
		return
	}
	c.turn++
	base := c.servers[c.turn%len(c.servers)]
	c.streamURL = strings.Replace(c.streamURL, c.base, base, 1)
	c.base = base
}

func login(ctx context.Context, t *testing.T, p *process, user string) *client {
	t.Helper()
	c := &client{http: http.DefaultClient, base: p.url, user: user}
	if err := c.login(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// login starts a session of the user.
func (c *client) login(ctx context.Context) error {
	var token struct{ Token string }
	if err := c.succeed(ctx, "POST", "/dev/token", map[string]string{"userID": c.user}, &token); err != nil {
		return err
	}
	return c.begin(ctx, token.Token)
}

// loginWith starts a session at a server that is not in development mode.
func (c *client) loginWith(ctx context.Context, tokens *auth.Tokens) error {
	token, err := tokens.Sign(room.User{ID: room.UserID(c.user)}, time.Hour)
	if err != nil {
		return err
	}
	return c.begin(ctx, token)
}

// begin starts a session with a token.
func (c *client) begin(ctx context.Context, token string) error {
	var session struct{ SessionKey, StreamURL string }
	if err := c.succeed(ctx, "POST", "/v1/sessions", map[string]string{"token": token}, &session); err != nil {
		return err
	}
	c.key, c.streamURL = session.SessionKey, session.StreamURL
	return nil
}

func (c *client) enter(ctx context.Context, t *testing.T, room string) {
	t.Helper()
	c.mustCall(ctx, t, "POST", "/v1/rooms/"+room+"/enter", map[string]string{}, nil)
}

func (c *client) mustCall(ctx context.Context, t *testing.T, method, path string, body, reply any) {
	t.Helper()
	if err := c.succeed(ctx, method, path, body, reply); err != nil {
		t.Fatal(err)
	}
}

// succeed makes a call, and returns an error if the status of the reply is not 2xx.
func (c *client) succeed(ctx context.Context, method, path string, body, reply any) error {
	status, err := c.call(ctx, method, path, body, reply)
	if err != nil || status/100 != 2 {
		return fmt.Errorf("%s %s by %s: status %d, %w", method, path, c.user, status, err)
	}
	return nil
}

// sendText sends a message, and retries with the same clientMessageID until the server accepts it.
func (c *client) sendText(ctx context.Context, room, text string) error {
	_, err := c.post(ctx, room, text)
	return err
}

// post does the same as sendText, to some users or to all, and returns the seq of the message.
func (c *client) post(ctx context.Context, room, text string, to ...string) (seq int64, err error) {
	body := map[string]any{"kind": "text", "text": text, "clientMessageID": text}
	if to != nil {
		body["to"] = to
	}
	for ctx.Err() == nil {
		c.move()
		var reply struct {
			Message struct{ Seq int64 }
			Code    string
		}
		status, err := c.call(ctx, "POST", "/v1/rooms/"+room+"/messages", body, &reply)
		switch {
		case err == nil && status == http.StatusCreated:
			return reply.Message.Seq, nil
		case err == nil && status != http.StatusServiceUnavailable:
			return 0, fmt.Errorf("status %d, %s", status, reply.Code)
		}
		wait(ctx, 20*time.Millisecond)
	}
	return 0, ctx.Err()
}

func (c *client) call(ctx context.Context, method, path string, body, reply any) (int, error) {
	var text []byte // none if there is no body
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	got, err := c.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer got.Body.Close()
	if reply != nil {
		err = json.NewDecoder(got.Body).Decode(reply)
	}
	return got.StatusCode, err
}

// keepStream keeps a session's stream open, so that it stays in its rooms.
func keepStream(ctx context.Context, t *testing.T, group *sync.WaitGroup, c *client) {
	own := *c
	// The record, which nobody checks, allows for several rooms.
	r := &reader{client: &own, enough: func(*reader) bool { return false }, record: new(ledger).addReader(c.user, c.user, false)}
	group.Go(func() {
		if r.read(ctx); r.fault != "" {
			t.Errorf("the stream of %s: %s", c.user, r.fault)
		}
	})
}

// reader follows a stream, reconnecting, until enough returns true.
type reader struct {
	client *client
	byURL  bool       // key and cursor are in the query, as with EventSource
	random *rand.Rand // cuts the stream at random; nil means never
	cut    int        // maximum number of bytes before a cut; 0 means 20,000
	enough func(*reader) bool
	opened chan struct{} // closed by the first frame, if not nil
	record *readerRecord // records the events of any number of rooms; if nil, the session must be in one room

	lastID string
	seq    int64
	texts  []string
	broken int
	fault  string
}

// read opens streams until the context ends or the reader has enough.
func (r *reader) read(ctx context.Context) {
	for ctx.Err() == nil && r.fault == "" && !r.enough(r) {
		r.connect(ctx)
		wait(ctx, 10*time.Millisecond)
	}
}

func (r *reader) connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.client.move()
	request, err := r.request(ctx)
	if err != nil {
		r.fault = err.Error()
		return
	}
	reply, err := r.client.http.Do(request)
	if err != nil {
		return // the server is unavailable
	}
	defer reply.Body.Close()
	var body io.Reader = reply.Body
	if r.random != nil {
		// The stream is cut at any byte, even within a frame.
		body = io.LimitReader(body, int64(100+r.random.IntN(cmp.Or(r.cut, 20_000))))
		if r.random.IntN(20) == 0 { // and some stop reading for a while first
			wait(ctx, time.Duration(r.random.IntN(3000))*time.Millisecond)
		}
	}
	var frame []string
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			r.broken++
			return // an incomplete frame was not received
		}
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			frame = append(frame, line)
			continue
		}
		r.take(frame)
		frame = nil
		if r.fault != "" || r.enough(r) {
			return
		}
	}
}

func (r *reader) request(ctx context.Context) (*http.Request, error) {
	if r.byURL {
		return http.NewRequestWithContext(ctx, http.MethodGet, r.client.streamURL+"&last_event_id="+url.QueryEscape(r.lastID), nil)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.client.base+"/v1/events", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+r.client.key)
	if r.lastID != "" {
		request.Header.Set("Last-Event-ID", r.lastID)
	}
	return request, nil
}

// take handles one frame.
func (r *reader) take(frame []string) {
	if r.opened != nil {
		close(r.opened)
		r.opened = nil
	}
	var event, id, data string
	for _, line := range frame {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		}
	}
	if id != "" {
		r.lastID = id
	}
	var e struct {
		RoomID      string
		Seq         int64
		MessageList []struct{ Text string }
		MemberList  []struct{ UserID string }
	}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			r.fault = fmt.Sprintf("%s: %v", data, err)
			return
		}
	}
	switch event {
	case "roomReset", "connectionStateChanged":
		r.fault = event + ": " + data
		return
	case "roomMessageReceived":
		r.texts = append(r.texts, e.MessageList[0].Text)
	}
	if r.record != nil {
		if e.Seq != 0 {
			text := ""
			if event == "roomMessageReceived" {
				text = e.MessageList[0].Text
			}
			r.record.add(e.RoomID, e.Seq, text)
			for _, member := range e.MemberList {
				r.record.addMember(e.RoomID, member.UserID, event == "roomMemberJoined")
			}
		}
		return
	}
	if e.Seq != 0 {
		if r.seq != 0 && e.Seq != r.seq+1 {
			r.fault = fmt.Sprintf("seq %d follows %d", e.Seq, r.seq)
		}
		r.seq = e.Seq
	}
}

// wait pauses a client. The server is a real process, so the clock is real too.
func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errors.New("waited"))
	defer cancel()
	<-ctx.Done()
}
