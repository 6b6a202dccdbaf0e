package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestEveryMessageOnceInOrder kills streams at random while several senders talk, and the whole server twice, without
// warning. Every receiver ends with every message, once, in order.
func TestEveryMessageOnceInOrder(t *testing.T) {
	t.Parallel()
	const senders, receivers, messages = 3, 6, 80
	p := startParlor(t, reachableFolder(t), "--member-timeout", "120s", "--message-rate", "0", "--log-level", "warn")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	var sent atomic.Int64
	var readers []*reader
	for i := range receivers {
		c := login(ctx, t, p, fmt.Sprintf("reader%d", i))
		c.enter(ctx, t, "hall")
		readers = append(readers, &reader{
			client: c, byURL: i%2 == 0,
			random: rand.New(rand.NewPCG(uint64(i), 7)),
			enough: func(r *reader) bool { return len(r.texts) == senders*messages && r.broken > 0 },
		})
	}
	var talking, reading sync.WaitGroup
	for i := range senders {
		c := login(ctx, t, p, fmt.Sprintf("sender%d", i))
		c.enter(ctx, t, "hall")
		keepStream(ctx, &talking, c)
		talking.Go(func() {
			for n := range messages {
				if err := c.say(ctx, "hall", fmt.Sprintf("%s says %d", c.user, n)); err != nil {
					t.Errorf("%s: %v", c.user, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for _, r := range readers {
		reading.Go(func() { r.read(ctx) })
	}
	for _, after := range []int64{senders * messages / 3, 2 * senders * messages / 3} {
		for sent.Load() < after && ctx.Err() == nil {
			wait(ctx, 5*time.Millisecond)
		}
		p.signal(syscall.SIGKILL)
		p.start(t, "--member-timeout", "120s", "--message-rate", "0", "--log-level", "warn")
	}
	reading.Wait()
	cancel() // the senders' streams
	talking.Wait()

	for _, r := range readers {
		if len(r.texts) != senders*messages {
			t.Errorf("%s got %d messages, want %d", r.client.user, len(r.texts), senders*messages)
		}
		if r.fault != "" {
			t.Errorf("%s: %s", r.client.user, r.fault)
		}
		if r.broken == 0 {
			t.Errorf("%s: its stream never broke", r.client.user)
		}
		for n, text := range r.texts {
			if text != readers[0].texts[n] {
				t.Fatalf("%s got %q as number %d, and %s got %q", r.client.user, text, n, readers[0].client.user, readers[0].texts[n])
			}
		}
	}
	if t.Failed() {
		t.Log(p.logged())
	}
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
	var session struct{ SessionKey, StreamURL string }
	if err := c.succeed(ctx, "POST", "/v1/sessions", map[string]string{"token": token.Token}, &session); err != nil {
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
	body := map[string]string{"kind": "text", "text": text, "clientMessageID": text}
	for ctx.Err() == nil {
		status, err := c.call(ctx, "POST", "/v1/rooms/"+room+"/messages", body, nil)
		switch {
		case err == nil && status == http.StatusCreated:
			return nil
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("status %d", status)
		}
		wait(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
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
	enough func(*reader) bool
	opened chan struct{} // if not nil, closed by the first frame

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
		body = io.LimitReader(body, int64(100+r.random.IntN(20_000)))
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
