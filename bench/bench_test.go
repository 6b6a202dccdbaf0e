package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parlor/room"
)

// runBench runs with the options that most tests have in common.
func runBench(t *testing.T, change func(*Options)) (*Report, error) {
	t.Helper()
	o := Options{Streams: 20, Rooms: 4, Rate: 200, Senders: 4, Duration: time.Second}
	change(&o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return Run(ctx, o)
}

// misbehavior is what a fake server does wrong.
type misbehavior struct {
	slow         bool  // streams wait before they deliver
	skip, repeat int64 // seq that each room skips or sends twice; 0 means none
	status       int   // status of the replies to messages; 0 means 201
	end          bool  // every stream ends once, after its first message
}

// fakeParlor implements just enough of the contract for a run, and can misbehave.
type fakeParlor struct {
	misbehavior
	mux         *http.ServeMux
	mu          sync.Mutex // guards all below
	rooms       map[string]*fakeRoom
	where       map[string]string // rooms of the sessions, by key
	ended       map[string]bool   // sessions whose stream was ended once
	delivered   int               // to all streams
	undelivered int               // the most deliveries that were outstanding when a message was sent
	gone        int               // number of sessions that logged out
	from        map[string]int    // number of streams by address of the client
}

type fakeRoom struct {
	generation int
	log        []string
	changed    chan struct{} // closed and replaced when the log grows
}

func startFake(t *testing.T, m misbehavior) (*Parlor, *fakeParlor) {
	t.Helper()
	f := &fakeParlor{misbehavior: m, rooms: map[string]*fakeRoom{}, where: map[string]string{}, ended: map[string]bool{}, from: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Token string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"sessionKey":"key of %s"}`, body.Token)
	})
	mux.HandleFunc("DELETE /v1/sessions/current", func(http.ResponseWriter, *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone++
	})
	mux.HandleFunc("POST /v1/rooms/{room}/enter", f.enter)
	mux.HandleFunc("POST /v1/rooms/{room}/messages", f.send)
	mux.HandleFunc("GET /v1/events", f.stream)
	f.mux = mux
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	token := func(id room.UserID) (string, error) { return string(id), nil }
	return &Parlor{URLs: []string{server.URL}, Token: token, Kind: room.KindText, Size: 50}, f
}

func (f *fakeParlor) enter(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.PathValue("room")
	if f.rooms[id] == nil {
		f.rooms[id] = &fakeRoom{generation: len(f.rooms) + 1, changed: make(chan struct{})}
	}
	f.where[r.Header.Get("Authorization")] = id
	_, _ = fmt.Fprintf(w, `{"room":{"generation":%d}}`, f.rooms[id].generation)
}

func (f *fakeParlor) send(w http.ResponseWriter, r *http.Request) {
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	var body struct{ Text string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	to := f.rooms[r.PathValue("room")]
	to.log = append(to.log, body.Text)
	f.undelivered = max(f.undelivered, 20*len(to.log)-f.delivered) // if there is one room
	close(to.changed)
	to.changed = make(chan struct{})
	w.WriteHeader(http.StatusCreated)
}

func (f *fakeParlor) stream(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	key := r.Header.Get("Authorization")
	f.mu.Lock()
	id := f.where[key]
	of := f.rooms[id]
	at := len(of.log)
	f.from[host]++
	f.mu.Unlock()
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		at = int(positionIn([]byte(last), int64(of.generation)))
	}
	_, _ = fmt.Fprintf(w, "id: %x:%s\nevent: sessionReady\ndata: {}\n\n", of.generation, base36(at))
	for {
		_ = http.NewResponseController(w).Flush()
		if f.slow {
			<-time.After(5 * time.Millisecond)
		}
		f.mu.Lock()
		changed, news := of.changed, of.log[at:]
		f.delivered += len(news)
		f.mu.Unlock()
		for _, text := range news {
			at++
			frame := fmt.Sprintf("id: %x:%s\nevent: roomMessageReceived\ndata: {\"roomID\":%q,\"generation\":%d,\"seq\":%d,\"messageList\":[{\"text\":%q}]}\n\n",
				of.generation, base36(at), id, of.generation, at, text)
			if int64(at) == f.repeat {
				frame += frame
			}
			if int64(at) != f.skip {
				_, _ = w.Write([]byte(frame))
			}
			if f.endOnce(key) {
				return
			}
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeParlor) endOnce(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.ended[key]
	f.ended[key] = true
	return f.end && !was
}

func base36(n int) string {
	text := []byte{}
	for ; n > 0; n /= 36 {
		text = append([]byte{"0123456789abcdefghijklmnopqrstuvwxyz"[n%36]}, text...)
	}
	return "0"[:max(1-len(text), 0)] + string(text)
}

func TestNothingLost(t *testing.T) {
	t.Parallel()
	target, fake := startFake(t, misbehavior{})
	report, err := runBench(t, func(o *Options) { o.Target = target })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Messages < 20 || report.Deliveries != report.Messages*5 || report.Expected != report.Deliveries {
		t.Errorf("%+v", report)
	}
	if len(report.Samples) == 0 || report.Samples[0].Phase == "" {
		t.Errorf("%+v", report.Samples)
	}
	if report.LatencyMS.Count == 0 || report.LatencyMS.P50 <= 0 || report.LatencyMS.Max > 10_000 || report.ConnectsPerSecond <= 0 {
		t.Errorf("%+v", report)
	}
	if fake.gone != 20 {
		t.Errorf("%d of 20 sessions were ended", fake.gone)
	}
}

// TestUndelivered checks that senders wait for slow streams.
func TestUndelivered(t *testing.T) {
	t.Parallel()
	for _, undelivered := range []int{1, 3} {
		target, fake := startFake(t, misbehavior{slow: true})
		report, err := runBench(t, func(o *Options) {
			o.Target, o.Rate, o.Senders, o.Rooms, o.Undelivered = target, 0, 8, 1, undelivered
		})
		if err != nil {
			t.Fatal(err)
		}
		if !report.Complete() || report.Messages == 0 || fake.undelivered > 20*undelivered || fake.undelivered <= 20*(undelivered-1) {
			t.Errorf("at most %d messages to 20 streams: %d deliveries were outstanding, %+v", undelivered, fake.undelivered, report)
		}
	}
}

// TestServersShareTheLoad runs against two addresses of one server.
func TestServersShareTheLoad(t *testing.T) {
	t.Parallel()
	target, fake := startFake(t, misbehavior{})
	var counts [2]struct{ streams, messages, others atomic.Int64 }
	target.URLs = nil
	for i := range counts {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v1/events":
				counts[i].streams.Add(1)
			case strings.HasSuffix(r.URL.Path, "/messages"):
				counts[i].messages.Add(1)
			default:
				counts[i].others.Add(1)
			}
			fake.mux.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		target.URLs = append(target.URLs, server.URL)
	}
	report, err := runBench(t, func(o *Options) { o.Target = target })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Deliveries != report.Messages*5 {
		t.Errorf("%+v", report)
	}
	for i := range counts {
		if n := counts[i].streams.Load(); n != 10 {
			t.Errorf("server %d has %d of 20 streams", i, n)
		}
		if n := counts[i].messages.Load(); n < report.Messages*2/5 || n > report.Messages*3/5 {
			t.Errorf("server %d got %d of %d messages", i, n, report.Messages)
		}
		if counts[i].others.Load() == 0 {
			t.Errorf("server %d got no other calls", i)
		}
	}
	// Each room has five streams, so about half of the deliveries are of messages through the other
	// server.
	local, cross := report.LocalMS, report.CrossMS
	if local == nil || cross == nil || local.Count < cross.Count/2 || cross.Count < local.Count/2 || local.Count+cross.Count != report.LatencyMS.Count {
		t.Errorf("latencies %+v and %+v of %+v", local, cross, report.LatencyMS)
	}
}

// TestLossesAreReported loses one message on all 20 streams, and delivers another one twice. They are
// among the first, because a busy machine sends only a few in a second.
func TestLossesAreReported(t *testing.T) {
	t.Parallel()
	target, _ := startFake(t, misbehavior{skip: 2, repeat: 4})
	report, err := runBench(t, func(o *Options) { o.Target = target })
	if err != nil {
		t.Fatal(err)
	}
	if report.Complete() || report.Lost != 20 || report.Twice != 20 {
		t.Errorf("%d lost, %d twice", report.Lost, report.Twice)
	}
}

func TestEndedStreamsReconnect(t *testing.T) {
	t.Parallel()
	target, _ := startFake(t, misbehavior{end: true})
	report, err := runBench(t, func(o *Options) { o.Target = target })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.CutByServer != 20 || report.Deliveries != report.Expected {
		t.Errorf("%+v", report)
	}
}

func TestChurnAndHerd(t *testing.T) {
	t.Parallel()
	target, _ := startFake(t, misbehavior{})
	report, err := runBench(t, func(o *Options) { o.Target, o.Churn, o.Herd = target, 0.5, true })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Reconnects < 25 || report.CutByServer != 0 || report.BackSeconds == 0 || report.CompleteSeconds < report.BackSeconds {
		t.Errorf("%+v", report)
	}
}

func TestRejectedRequests(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{http.StatusTooManyRequests: "PARLOR_MESSAGE_RATE", http.StatusForbidden: "status 403"} {
		target, fake := startFake(t, misbehavior{status: status})
		if _, err := runBench(t, func(o *Options) { o.Target = target }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: %v", status, err)
		}
		if fake.gone != 20 {
			t.Errorf("%d of 20 sessions were ended", fake.gone)
		}
	}
	if _, err := runBench(t, func(o *Options) {
		o.Target = &Plain{Subscribe: "http://127.0.0.1:1/{room}", Publish: "http://127.0.0.1:1/{room}", Size: 50}
	}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no server: %v", err)
	}
}

// TestInterrupted checks that an interrupted run reports what it has measured.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	target, _ := startFake(t, misbehavior{})
	ctx, cancel := context.WithCancel(t.Context())
	seen := &watchfulWriter{want: "measuring", then: cancel}
	report, err := Run(ctx, Options{Target: target, Streams: 10, Rooms: 2, Rate: 100, Senders: 2, Duration: time.Hour, Progress: seen})
	if !errors.Is(err, ErrInterrupted) || report == nil || report.Messages == 0 || !report.Complete() || report.MeasuredSeconds <= 0 {
		t.Errorf("%v, %+v", err, report)
	}
}

// watchfulWriter calls a function when a given word is written to it.
type watchfulWriter struct {
	want string
	then func()
}

func (w *watchfulWriter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.want) {
		w.then()
	}
	return len(b), nil
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{Target: &Parlor{URLs: []string{"http://h:1"}, Kind: "text", Size: 100}, Streams: 10, Rooms: 2, Rate: 1, Senders: 1, Duration: 1}
	}
	o := good()
	if err := o.Check(); err != nil {
		t.Error(err)
	}
	for _, step := range []struct {
		want   string
		change func(*Options)
	}{
		{"--streams", func(o *Options) { o.Streams = 0 }},
		{"--rooms", func(o *Options) { o.Rooms = 11 }},
		{"--source-addresses", func(o *Options) { o.SourceAddresses = 251 }},
		{"--rate", func(o *Options) { o.Rate = -1 }},
		{"--senders", func(o *Options) { o.Senders = 0 }},
		{"--undelivered", func(o *Options) { o.Undelivered = -1 }},
		{"--warmup", func(o *Options) { o.Warmup = -1 }},
		{"--duration", func(o *Options) { o.Duration = 0 }},
		{"--churn", func(o *Options) { o.Churn = 1.1 }},
		{"--stopped", func(o *Options) { o.Stopped = 10 }},
		{"--url", func(o *Options) { o.Target = &Parlor{URLs: []string{"https://h"}, Kind: "text", Size: 100} }},
		{"--kind", func(o *Options) { o.Target = &Parlor{URLs: []string{"http://h"}, Kind: "image", Size: 100} }},
		{"--size", func(o *Options) {
			o.Target = &Parlor{URLs: []string{"http://h"}, Kind: "barrage", Size: room.MaxBarrageBytes + 1}
		}},
		{"--subscribe-url", func(o *Options) { o.Target = &Plain{Subscribe: "http://h/x", Publish: "http://h/{room}", Size: 100} }},
		{"--publish-url", func(o *Options) { o.Target = &Plain{Subscribe: "http://h/{room}", Publish: "h/{room}", Size: 100} }},
		{"the same server", func(o *Options) {
			o.Target = &Plain{Subscribe: "http://a/{room}", Publish: "http://b/{room}", Size: 100}
		}},
	} {
		o := good()
		step.change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("%s: %v", step.want, err)
		}
	}
}
