//go:build go1.25

package parlor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeServer replies to the attempts to open a stream. It is safe for use by one stream.
type fakeServer struct {
	// attempts are the requests, and times are when they arrived.
	attempts []*http.Request
	times    []time.Time
	replies  []func(*http.Request) (*http.Response, error)
}

// Do replies to the n-th attempt with the n-th reply, and with the last one from then on.
func (s *fakeServer) Do(r *http.Request) (*http.Response, error) {
	n := min(len(s.attempts), len(s.replies)-1)
	s.attempts, s.times = append(s.attempts, r), append(s.times, time.Now())
	return s.replies[n](r)
}

func (s *fakeServer) client() *ClientWithResponses {
	return &ClientWithResponses{&Client{Server: "https://chat.example.com/", Client: s}}
}

// pauses returns the times between the attempts.
func (s *fakeServer) pauses() (pauses []time.Duration) {
	for i := range s.times[1:] {
		pauses = append(pauses, s.times[i+1].Sub(s.times[i]))
	}
	return pauses
}

type reply = func(*http.Request) (*http.Response, error)

// step is a time to wait and what is then sent.
type step struct {
	after time.Duration
	text  string
}

// stream replies with a stream, which ends after the steps unless the last text is "open".
func stream(steps ...step) reply {
	return func(r *http.Request) (*http.Response, error) {
		body, w := io.Pipe()
		go func() {
			for _, s := range steps {
				select {
				case <-time.After(s.after):
				case <-r.Context().Done():
				}
				if s.text == "open" {
					<-r.Context().Done()
				}
				if r.Context().Err() != nil {
					w.CloseWithError(context.Canceled) // as net/http does, without the cause
					return
				}
				if _, err := io.WriteString(w, s.text); err != nil {
					return
				}
			}
			_ = w.Close()
		}()
		return response(http.StatusOK, "text/event-stream", canceledBody{body, r.Context()}), nil
	}
}

// canceledBody is a body that cannot be read when its request was canceled, as those of net/http.
type canceledBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b canceledBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}

func refuse(status int, code string, header ...string) reply {
	return func(*http.Request) (*http.Response, error) {
		body := fmt.Sprintf(`{"type":"/docs/errors#%s","title":"x","status":%d,"code":%q,"detail":"Because."}`, code, status, code)
		r := response(status, "application/problem+json", io.NopCloser(strings.NewReader(body)))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r, nil
	}
}

func response(status int, contentType string, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: body}
}

const (
	ready     = "retry: 2000\n\nevent: sessionReady\nid: 1:1\ndata: {\"sessionID\":\"0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10\",\"resumed\":true,\"rooms\":[],\"heartbeatSeconds\":10}\n\n"
	loggedOut = "event: connectionStateChanged\ndata: {\"state\":\"disconnected\",\"event\":\"loggedOut\"}\n\n"
)

func message(n int) string {
	return fmt.Sprintf("event: roomSeqAdvanced\nid: 1:%d\ndata: {\"roomID\":\"r\",\"generation\":1,\"seq\":%d}\n\n", n, n)
}

// followed returns the IDs and names of all events, and the error with which they end.
func followed[E StreamEvent | FeedEvent](events func(yield func(E, error) bool)) (got []string, failed error) {
	for e, err := range events {
		if err != nil {
			return got, err
		}
		switch e := any(e).(type) {
		case StreamEvent:
			got = append(got, described(e.Event, e.Id))
		case FeedEvent:
			got = append(got, described(e.Event, e.Id))
		}
	}
	return got, nil
}

func described(event string, id *string) string {
	if id == nil {
		return event
	}
	return event + " " + *id
}

// TestFollowContinues checks that a stream continues after its last event, however it ended, and
// waits as long as the server says.
func TestFollowContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := message(4)
		s := &fakeServer{replies: []reply{
			stream(step{0, ready}, step{0, message(2)}, step{0, message(3) + cut[:len(cut)-2]}),
			stream(step{0, ready[:30]}, step{0, ready[30:] + message(4)}, step{0, "retry: 1\nevent: reconnect\ndata: {\"afterMs\":1234}\n\n"}, step{0, message(9)}, step{0, "open"}),
			stream(step{0, ready + "event: connectionStateChanged\ndata: {\"state\":\"disconnected\",\"event\":\"slowConsumer\"}\n\n"}),
			func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") },
			stream(step{0, ready + loggedOut + message(9)}),
		}}
		var reasons []string
		var delays []time.Duration
		o := FollowOptions{LastEventID: "1:0", OnLost: func(reason error, retryIn time.Duration) {
			reasons, delays = append(reasons, reason.Error()), append(delays, retryIn)
		}}
		got, err := followed(s.client().FollowEvents(t.Context(), o, Bearer("sk_1")))
		want := []string{
			"sessionReady 1:1", "roomSeqAdvanced 1:2", "roomSeqAdvanced 1:3", "sessionReady 1:1", "roomSeqAdvanced 1:4",
			"sessionReady 1:1", "sessionReady 1:1", "connectionStateChanged",
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q and error %v", got, err)
		}
		var cursors []string
		for _, r := range s.attempts {
			cursors = append(cursors, r.URL.Query().Get("last_event_id"))
			if r.Header.Get("Authorization") != "Bearer sk_1" || r.Header.Get("Accept") != "text/event-stream" {
				t.Errorf("sent the headers %v", r.Header)
			}
		}
		if !slices.Equal(cursors, []string{"1:0", "1:3", "1:4", "1:1", "1:1"}) {
			t.Errorf("continued after %q", cursors)
		}
		if want := []string{errClosed.Error(), errSlow.Error(), "no route to host"}; !slices.Equal(reasons, want) {
			t.Errorf("lost because of %q", reasons)
		}
		p := s.pauses()
		if p[0] != delays[0] || p[0] < 2*time.Second || p[0] > 2500*time.Millisecond {
			t.Errorf("after the end, waited for %s", p[0])
		}
		if p[1] != 1234*time.Millisecond {
			t.Errorf("waited for %s, and the server asked for 1.234 s", p[1])
		}
	})
}

// TestFollowNoticesSilence checks that a connection is replaced on which nothing arrives, not even a
// heartbeat, and not because the caller is slow.
func TestFollowNoticesSilence(t *testing.T) {
	const beat = 10 * time.Second
	for name, test := range map[string]struct {
		steps   []step
		handles time.Duration // how long the caller takes for an event
		lost    time.Duration // when the connection is lost
		reason  error
	}{
		"no heartbeats":             {[]step{{0, ready}, {0, "open"}}, 0, 3 * beat, errSilent},
		"heartbeats":                {[]step{{0, ready}, {3*beat - 1, ":\n\n"}, {3*beat - 1, ":\n\n"}, {beat, ""}}, 0, 7*beat - 2, errClosed},
		"half a heartbeat":          {[]step{{0, ready}, {3*beat - 1, ":"}, {0, "open"}}, 0, 6*beat - 1, errSilent},
		"nothing at all":            {[]step{{0, "open"}}, 0, defaultSilence, errSilent},
		"short heartbeats":          {[]step{{0, strings.Replace(ready, ":10}", ":1}", 1)}, {0, "open"}}, 0, leastSilence, errSilent},
		"a caller that takes hours": {[]step{{0, ready}, {0, message(2)}}, 9 * time.Hour, 18 * time.Hour, errClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeServer{replies: []reply{stream(test.steps...), stream(step{0, loggedOut})}}
				start := time.Now()
				var lost time.Duration
				var reason error
				o := FollowOptions{OnLost: func(err error, _ time.Duration) { lost, reason = time.Since(start), err }}
				for e, err := range s.client().FollowEvents(t.Context(), o) {
					if err != nil {
						t.Fatal(err)
					}
					if e.Event != "connectionStateChanged" {
						<-time.After(test.handles)
					}
				}
				if lost != test.lost || !errors.Is(reason, test.reason) {
					t.Errorf("lost after %s: %v", lost, reason)
				}
			})
		})
	}
	t.Run("no reply", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeServer{replies: []reply{
				func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
				stream(step{0, loggedOut}),
			}}
			var reason error
			o := FollowOptions{OnLost: func(err error, _ time.Duration) { reason = err }}
			if _, err := followed(s.client().FollowEvents(t.Context(), o)); err != nil || !errors.Is(reason, errSilent) {
				t.Errorf("lost because of %v, ended with %v", reason, err)
			}
			if p := s.pauses()[0]; p < connectTimeout || p > connectTimeout+firstDelay {
				t.Errorf("the next attempt was after %s", p)
			}
		})
	})
}

// TestFollowBacksOff checks that attempts become rarer, and frequent again when the server worked.
func TestFollowBacksOff(t *testing.T) {
	const failures = 200
	test := func(t *testing.T, works string, follow func(*ClientWithResponses) error) {
		s := &fakeServer{}
		for range failures {
			s.replies = append(s.replies, refuse(http.StatusServiceUnavailable, "unavailable")) //nolint:bodyclose // these are functions
		}
		s.replies = append(s.replies, stream(step{0, works}), refuse(http.StatusBadGateway, ""), refuse(http.StatusForbidden, "not_admin")) //nolint:bodyclose // these are functions
		var refused *RefusedError
		if err := follow(s.client()); !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
			t.Fatal(err)
		}
		p := s.pauses()
		for i, limit := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second} {
			if p[i] > limit {
				t.Errorf("pause %d is %s", i, p[i])
			}
		}
		late := p[20:failures]
		if longest := slices.Max(late); longest > longestDelay || longest < longestDelay/2 || slices.Min(late) > longestDelay/2 {
			t.Errorf("late pauses are %s to %s", slices.Min(late), longest)
		}
		// The retry field of the stream, and a back-off from the beginning.
		if p[failures] > 2500*time.Millisecond || p[failures+1] > 3*time.Second {
			t.Errorf("pauses after the stream are %s", p[failures:])
		}
	}
	t.Run("stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, ready, func(c *ClientWithResponses) error {
				_, err := followed(c.FollowEvents(t.Context(), FollowOptions{}))
				return err
			})
		})
	})
	t.Run("feed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, "retry: 2000\n\n"+message(1), func(c *ClientWithResponses) error {
				_, err := followed(c.FollowAdminEvents(t.Context(), FollowOptions{}, nil))
				return err
			})
		})
	})
}

// TestFollowRefusals checks which refusals end a stream.
func TestFollowRefusals(t *testing.T) {
	unsigned := errors.New("cannot sign")
	html := func(*http.Request) (*http.Response, error) {
		return response(http.StatusOK, "text/html", io.NopCloser(strings.NewReader(ready))), nil
	}
	plain := func(status int) reply {
		return func(*http.Request) (*http.Response, error) {
			return response(status, "text/plain", io.NopCloser(strings.NewReader("no"))), nil
		}
	}
	expired := refuse(http.StatusUnauthorized, "token_expired")
	event := step{0, message(1)}
	ends := refuse(http.StatusForbidden, "not_admin")
	for name, test := range map[string]struct {
		feed     bool
		replies  []reply
		editor   error
		attempts int
		events   int
		status   int
		code     ProblemCode
	}{
		"the session has ended":                     {replies: []reply{refuse(401, "session_ended")}, attempts: 1, status: 401, code: "session_ended"},
		"the session's token has expired":           {replies: []reply{expired}, attempts: 1, status: 401, code: "token_expired"},
		"not found":                                 {replies: []reply{plain(404)}, attempts: 1, status: 404},
		"too many streams, and a proxy's errors":    {replies: []reply{refuse(429, "too_many_streams"), plain(502), plain(500), html, ends}, attempts: 5, status: 403, code: "not_admin"},
		"the feed's token has expired for good":     {feed: true, replies: []reply{expired, expired, ends}, attempts: 2, status: 401, code: "token_expired"},
		"the feed's token expires again and again":  {feed: true, replies: []reply{expired, stream(event), expired, stream(event), ends}, attempts: 5, events: 2, status: 403, code: "not_admin"},
		"the feed's token expires while it is open": {feed: true, replies: []reply{stream(event, step{0, loggedOut}), ends}, attempts: 2, events: 1, status: 403, code: "not_admin"},
		"the feed is refused":                       {feed: true, replies: []reply{refuse(409, "not_in_feed")}, attempts: 1, status: 409, code: "not_in_feed"},
		"no token":                                  {editor: unsigned, replies: []reply{html}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeServer{replies: test.replies}
				sign := func(context.Context, *http.Request) error { return test.editor }
				var got []string
				var err error
				if test.feed {
					got, err = followed(s.client().FollowAdminEvents(t.Context(), FollowOptions{}, nil, sign))
				} else {
					got, err = followed(s.client().FollowEvents(t.Context(), FollowOptions{}, sign))
				}
				if len(s.attempts) != test.attempts || len(got) != test.events {
					t.Errorf("%d attempts, events %q", len(s.attempts), got)
				}
				if test.editor != nil {
					if !errors.Is(err, test.editor) {
						t.Errorf("got error %v", err)
					}
					return
				}
				var refused *RefusedError
				if !errors.As(err, &refused) || refused.StatusCode != test.status || refused.Problem.Code != test.code || !strings.Contains(err.Error(), string(test.code)) {
					t.Errorf("got error %v", err)
				}
			})
		})
	}
	t.Run("Retry-After", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeServer{replies: []reply{refuse(429, "too_many_streams", "Retry-After", "60"), stream(step{0, loggedOut})}}
			if _, err := followed(s.client().FollowEvents(t.Context(), FollowOptions{})); err != nil {
				t.Error(err)
			}
			if p := s.pauses()[0]; p < time.Minute || p > time.Minute+firstDelay {
				t.Errorf("waited for %s", p)
			}
		})
	})
}

// TestFollowFeed checks that the feed delivers all events with what was included, and continues.
func TestFollowFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first = "id: k3.1a.2f\nevent: feedReady\ndata: {\"resumed\":true}\n\n"
		const barrage = "event: roomMessageReceived\ndata: {\"roomID\":\"r\",\"generation\":1,\"messageList\":[]}\n\n"
		s := &fakeServer{replies: []reply{
			stream(step{0, first + barrage}, step{feedSilence - 1, ":\n\n"}, step{0, "open"}),
			stream(step{0, "event: reconnect\ndata: {\"afterMs\":0}\n\n"}),
			refuse(403, "not_admin"),
		}}
		got, err := followed(s.client().FollowAdminEvents(t.Context(), FollowOptions{}, []StreamAdminEventsParamsInclude{"sessions", "commands"}))
		if want := []string{"feedReady k3.1a.2f", "roomMessageReceived"}; !slices.Equal(got, want) || err == nil {
			t.Errorf("got %q and error %v", got, err)
		}
		for i, want := range []string{"include=sessions&include=commands", "include=sessions&include=commands&last_event_id=k3.1a.2f", "include=sessions&include=commands&last_event_id=k3.1a.2f"} {
			if got := s.attempts[i].URL.Query().Encode(); got != want {
				t.Errorf("attempt %d has the parameters %s", i, got)
			}
		}
		if p := s.pauses(); p[0] < 2*feedSilence-1 || p[0] > 2*feedSilence+firstDelay || p[1] != 0 {
			t.Errorf("paused for %s", p)
		}
	})
}

// TestFollowEnds checks that nothing is left when the caller cancels, leaves the loop, or an event
// cannot be decoded. synctest fails if a goroutine is.
func TestFollowEnds(t *testing.T) {
	waiting := func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }
	for _, test := range []struct {
		name  string
		reply reply
		after time.Duration
	}{
		{"while it waits for events", stream(step{0, ready}, step{0, "open"}), time.Second},
		{"while it waits for a reply", waiting, time.Second},
		{"while it waits for an attempt", refuse(503, "unavailable", "Retry-After", "60"), time.Second},
		{"before the first attempt", waiting, 0},
		{"while it waits for the next id", stream(step{0, ready + "id: 1:2\n"}, step{0, "open"}), time.Second},
	} {
		t.Run("canceled "+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.after)
				defer cancel()
				s := &fakeServer{replies: []reply{test.reply}}
				start := time.Now()
				o := FollowOptions{OnLost: func(reason error, _ time.Duration) {
					if ctx.Err() != nil {
						t.Errorf("lost because of %v", reason)
					}
				}}
				if _, err := followed(s.client().FollowEvents(ctx, o)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != test.after {
					t.Errorf("ended with %v after %s", err, time.Since(start))
				}
			})
		})
	}
	t.Run("break", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeServer{replies: []reply{stream(step{0, ready + message(2)}, step{0, "open"})}}
			for _, err := range s.client().FollowEvents(t.Context(), FollowOptions{}) {
				if err != nil {
					t.Error(err)
				}
				break
			}
			if s.attempts[0].Context().Err() == nil {
				t.Error("the request was not canceled")
			}
		})
	})
	for name, text := range map[string]string{
		"no JSON":       "event: roomMemberLeft\nid: 1:2\ndata: {\n\n",
		"not an object": "event: sessionReady\nid: 1:2\ndata: []\n\n",
		"a long line":   "data: " + strings.Repeat("x", maxLine) + "\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeServer{replies: []reply{stream(step{0, text}, step{0, "open"})}}
				got, err := followed(s.client().FollowEvents(t.Context(), FollowOptions{}))
				if err == nil || len(got) != 0 || len(s.attempts) != 1 {
					t.Errorf("got %q and error %v after %d attempts", got, err, len(s.attempts))
				}
			})
		})
	}
}
