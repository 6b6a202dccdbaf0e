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
	"testing"
	"time"

	"parlor/auth"
	"parlor/room"
)

// TestChaos kills, freezes and restarts a server, its database and the database's processes at random, and cuts and stops
// reading its streams, while senders talk in several rooms and others come and go. Every message that was acknowledged is
// then on every stream and in the history, once, at the place that was acknowledged.
//
// CHAOS_SECONDS is how long, and CHAOS_SEED repeats a run's choices; the machine's timing nothing can repeat. `make chaos`
// sets them. Without them the run is short.
func TestChaos(t *testing.T) {
	t.Parallel()
	const senders, readers, wanderers = 4, 6, 2
	rooms := []string{"hall", "foyer", "garden"}
	duration, long := 8*time.Second, false
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
	// No member leaves because its stream was away, however long the faults keep it so.
	m := &mischief{
		t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
		args: []string{"--member-timeout", "300s", "--message-rate", "0", "--log-level", "warn", "--rooms-per-user", "20"},
	}
	m.server = startParlor(t, reachableFolder(t), m.args...)

	var (
		l                           ledger
		followers                   []*reader
		talking, reading, wandering sync.WaitGroup
	)
	room := func(i int) string { return rooms[i%len(rooms)] }
	for i := range readers {
		c := login(ctx, t, m.server, fmt.Sprintf("reader%d", i))
		for _, room := range rooms {
			c.enter(ctx, t, room)
		}
		followers = append(followers, &reader{
			client: c, byURL: i%2 == 0, page: l.page(c.user, true),
			random: rand.New(rand.NewPCG(seed, uint64(i+1))), cut: 150_000,
			enough: func(r *reader) bool {
				return !slices.ContainsFunc(rooms, func(room string) bool { return !r.page.has(room, "the end") })
			},
		})
	}
	over, stop := context.WithCancel(ctx)
	defer stop()
	var speakers []*client
	for i := range senders {
		c := login(ctx, t, m.server, fmt.Sprintf("sender%d", i))
		for _, room := range rooms {
			c.enter(ctx, t, room)
		}
		speakers = append(speakers, c)
		keepStream(ctx, &wandering, c)
	}
	for _, r := range followers {
		reading.Go(func() { r.read(ctx) })
	}
	speak := func(c *client, room, text string) bool {
		seq, err := c.tell(ctx, room, text)
		if err != nil {
			t.Errorf("%s in %s: %v", c.user, room, err)
			return false
		}
		l.acknowledge(room, seq, text)
		return true
	}
	for i, c := range speakers {
		talking.Go(func() {
			for n := 0; over.Err() == nil; n++ {
				if !speak(c, room(n+i), fmt.Sprintf("%s says %d", c.user, n)) {
					return
				}
				wait(over, 5*time.Millisecond)
			}
		})
	}
	for i := range wanderers {
		c := login(ctx, t, m.server, fmt.Sprintf("wanderer%d", i))
		keepStream(ctx, &wandering, c)
		talking.Go(func() {
			for n := 0; over.Err() == nil; n++ {
				for _, step := range []string{"enter", "leave"} {
					status, err := c.call(ctx, "POST", "/v1/rooms/"+room(n+i)+"/"+step, map[string]string{}, nil)
					if err == nil && status == http.StatusInternalServerError {
						t.Errorf("%s of %s: status %d", step, c.user, status)
					}
					wait(over, 50*time.Millisecond)
				}
			}
		})
	}
	m.run(duration, long)
	stop()
	talking.Wait()
	for _, room := range rooms {
		speak(speakers[0], room, "the end")
	}
	// A stream that is without its messages for so long does not get them any more.
	late := time.AfterFunc(time.Minute, cancel)
	reading.Wait()
	late.Stop()
	if err := l.readHistory(ctx, speakers[0], rooms); err != nil {
		t.Errorf("the history: %v", err)
	}
	cancel() // the senders' and the wanderers' streams
	wandering.Wait()

	broken := 0
	for _, r := range followers {
		broken += r.broken
		if r.fault != "" {
			t.Errorf("%s: %s", r.client.user, r.fault)
		}
	}
	v := l.check()
	for _, example := range v.examples {
		t.Error(example)
	}
	if !v.clean() || broken == 0 || v.acknowledged == 0 {
		t.Fail()
	}
	if t.Failed() {
		log := m.server.logged()
		t.Logf("the end of the server's log:\n%s", log[max(0, len(log)-5000):])
	}
	t.Logf("%d faults and %d streams cut, %s", m.faults, broken, v)
}

// client is a session of a user, as a program would hold it.
type client struct {
	http                       *http.Client
	base, key, streamURL, user string
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

// loginWith is login at a server that gives no tokens away.
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

// succeed is call for what must be answered with a 2xx.
func (c *client) succeed(ctx context.Context, method, path string, body, reply any) error {
	status, err := c.call(ctx, method, path, body, reply)
	if err != nil || status/100 != 2 {
		return fmt.Errorf("%s %s by %s: status %d, %w", method, path, c.user, status, err)
	}
	return nil
}

// say sends a message until the server takes it, under one clientMessageID.
func (c *client) say(ctx context.Context, room, text string) error {
	_, err := c.tell(ctx, room, text)
	return err
}

// tell is say, and returns the message's place in the room's log.
func (c *client) tell(ctx context.Context, room, text string) (seq int64, err error) {
	body := map[string]string{"kind": "text", "text": text, "clientMessageID": text}
	for ctx.Err() == nil {
		var reply struct{ Message struct{ Seq int64 } }
		status, err := c.call(ctx, "POST", "/v1/rooms/"+room+"/messages", body, &reply)
		switch {
		case err == nil && status == http.StatusCreated:
			return reply.Message.Seq, nil
		case err == nil && status != http.StatusServiceUnavailable:
			return 0, fmt.Errorf("status %d", status)
		}
		wait(ctx, 20*time.Millisecond)
	}
	return 0, ctx.Err()
}

func (c *client) call(ctx context.Context, method, path string, body, reply any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
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

// keepStream holds a session's stream open, so that it stays in its rooms.
func keepStream(ctx context.Context, group *sync.WaitGroup, c *client) {
	r := &reader{client: c, enough: func(*reader) bool { return false }}
	group.Go(func() { r.read(ctx) })
}

// reader follows a stream until it has enough.
type reader struct {
	client *client
	byURL  bool       // as EventSource does, and the cursor in the query
	random *rand.Rand // breaks the stream every now and then; nil does not
	cut    int        // how many bytes may come before; 0: 20,000
	enough func(*reader) bool
	opened chan struct{} // if not nil, closed by the first frame
	page   *page         // if not nil, where what comes is noted, of any number of rooms; else it must be one room's

	lastID string
	seq    int64
	texts  []string
	broken int
	fault  string
}

// read connects again and again.
func (r *reader) read(ctx context.Context) {
	for ctx.Err() == nil && r.fault == "" && !r.enough(r) {
		r.connect(ctx)
		wait(ctx, 10*time.Millisecond)
	}
}

func (r *reader) connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := r.request(ctx)
	if err != nil {
		r.fault = err.Error()
		return
	}
	reply, err := r.client.http.Do(request)
	if err != nil {
		return // the server is down for the moment
	}
	defer reply.Body.Close()
	var body io.Reader = reply.Body
	if r.random != nil {
		// Anywhere, in the middle of a frame too.
		body = io.LimitReader(body, int64(100+r.random.IntN(cmp.Or(r.cut, 20_000))))
		if r.random.IntN(20) == 0 { // and some stop reading for a while before
			wait(ctx, time.Duration(r.random.IntN(3000))*time.Millisecond)
		}
	}
	var frame []string
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			r.broken++
			return // what is not complete was not received
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

// take reads one frame.
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
	if r.page != nil {
		if e.Seq != 0 {
			text := ""
			if event == "roomMessageReceived" {
				text = e.MessageList[0].Text
			}
			r.page.see(e.RoomID, e.Seq, text)
		}
		return
	}
	if e.Seq != 0 {
		if r.seq != 0 && e.Seq != r.seq+1 {
			r.fault = fmt.Sprintf("seq %d came after %d", e.Seq, r.seq)
		}
		r.seq = e.Seq
	}
}

// wait pauses a client of the real server, whose clock is the real one.
func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errors.New("waited"))
	defer cancel()
	<-ctx.Done()
}
