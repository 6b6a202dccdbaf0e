package parlor

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"time"
)

const (
	// connectTimeout limits an attempt to open a stream: the server replies at once.
	connectTimeout = 15 * time.Second
	// missedHeartbeats is how many heartbeats may be missing before a stream is lost, and
	// leastSilence is the shortest such time, because mobile networks may pause.
	missedHeartbeats = 3
	leastSilence     = 15 * time.Second
	// defaultSilence applies until sessionReady says the interval of the heartbeats, and
	// feedSilence to the feed, which does not say it. The longest interval is a minute.
	defaultSilence = 45 * time.Second
	feedSilence    = 90 * time.Second
	// firstDelay and longestDelay limit the random delay before the first attempt to reconnect and
	// before any attempt.
	firstDelay   = 500 * time.Millisecond
	longestDelay = 30 * time.Second
	// maxProblem is how much of a refusal is read, in bytes.
	maxProblem = 64 << 10
)

// FollowOptions are the options of FollowEvents and FollowAdminEvents.
type FollowOptions struct {
	// LastEventID is the ID of the last event that the caller has handled. The stream continues
	// after it. If it is empty, FollowEvents begins where the session joined each of its rooms,
	// and FollowAdminEvents with what happens next.
	LastEventID string
	// OnLost is called, if it is not nil, whenever the stream is lost or cannot be opened: with the
	// reason, and the time until the next attempt.
	OnLost func(reason error, retryIn time.Duration)
}

// RefusedError is the error of a stream that the server has refused to open.
type RefusedError struct {
	StatusCode int
	// Problem is the server's explanation. It is empty if another program replied, such as a proxy.
	Problem Problem

	retryAfter time.Duration
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the stream was refused: %d %s: %s", e.StatusCode,
		cmp.Or(string(e.Problem.Code), "without a code"), cmp.Or(e.Problem.Detail, http.StatusText(e.StatusCode)))
}

// FollowEvents opens the session's stream, and reconnects whenever the stream is lost or the server
// asks for it. It continues after the last event each time, so no event is missing or repeated; if
// the server cannot continue exactly, it says so with roomReset or inboxReset. sessionReady is the
// first event of each connection, unless that ended before it could begin.
//
// The iteration ends after connectionStateChanged, which says why the session or its stream has
// ended. It ends with an error if ctx is done, the server refuses the stream (RefusedError), a
// request cannot be made, or an event cannot be decoded. Losses of the connection, and replies with
// status 429 or 5xx, are not errors: the stream is opened again after a random time, which grows up
// to 30 s, without a limit on the attempts.
//
// The caller may take its time for an event: only the wait for the next one is watched. A session
// has one stream, so a second FollowEvents of the same session ends the first.
func (c *ClientWithResponses) FollowEvents(ctx context.Context, o FollowOptions, reqEditors ...RequestEditorFn) iter.Seq2[StreamEvent, error] {
	return func(yield func(StreamEvent, error) bool) {
		f := follower{
			options: o,
			cursor:  o.LastEventID,
			silence: defaultSilence,
			open: func(ctx context.Context, cursor *string, last RequestEditorFn) (*http.Response, error) {
				return c.StreamEvents(ctx, &StreamEventsParams{LastEventId: cursor}, append(reqEditors[:len(reqEditors):len(reqEditors)], last)...)
			},
		}
		follow(ctx, &f, yield)
	}
}

// FollowAdminEvents opens the feed of all rooms, and reconnects as FollowEvents does, until ctx is
// done. Include says what the feed contains besides the events of rooms; it may be nil.
//
// Each event has an ID: store that of the last event that was handled, to continue there after a
// restart of the program. The feed ends when its token expires and is opened again, so authenticate
// with a function that signs a token for each attempt. A token that has expired is refused with an
// error only if the next one has expired as well.
func (c *ClientWithResponses) FollowAdminEvents(ctx context.Context, o FollowOptions, include []StreamAdminEventsParamsInclude, reqEditors ...RequestEditorFn) iter.Seq2[FeedEvent, error] {
	return func(yield func(FeedEvent, error) bool) {
		f := follower{
			options: o,
			cursor:  o.LastEventID,
			silence: feedSilence,
			feed:    true,
			open: func(ctx context.Context, cursor *string, last RequestEditorFn) (*http.Response, error) {
				params := StreamAdminEventsParams{LastEventId: cursor}
				if len(include) > 0 {
					params.Include = &include
				}
				return c.StreamAdminEvents(ctx, &params, append(reqEditors[:len(reqEditors):len(reqEditors)], last)...)
			},
		}
		follow(ctx, &f, yield)
	}
}

// follower is a stream that is opened again and again.
type follower struct {
	options FollowOptions
	// open opens the stream. It calls last when the request is complete, just before it is sent.
	open func(ctx context.Context, cursor *string, last RequestEditorFn) (*http.Response, error)
	feed bool // the feed of all rooms, not the stream of a session

	cursor   string
	silence  time.Duration // how long the stream may be silent before it is lost
	retry    time.Duration // the server's retry field
	failures int           // attempts since the server last worked
	expired  bool          // the last token had expired
}

var (
	errSilent = errors.New("nothing arrived for too long")
	errClosed = errors.New("the connection was closed")
	errSlow   = errors.New("events were read too slowly")
	// errOver ends the iteration without another event.
	errOver = errors.New("the stream is over")
)

// permanentError is an error that another attempt would meet again.
type permanentError struct{ error }

// reconnectError is the end of a stream that the server wants to be opened again after this time.
type reconnectError time.Duration

func (reconnectError) Error() string { return "the server asked for a reconnect" }

func follow[E StreamEvent | FeedEvent](ctx context.Context, f *follower, yield func(E, error) bool) {
	deliver := func(received frame) error {
		var e E
		if err := received.decode(&e); err != nil {
			return permanentError{fmt.Errorf("decode the event %q: %w", received.Event, err)}
		}
		if !yield(e, nil) {
			return errOver
		}
		return nil
	}
	for {
		err := f.read(ctx, deliver)
		if errors.Is(err, errOver) {
			return
		}
		if err := f.pause(ctx, err); err != nil {
			var none E
			yield(none, err)
			return
		}
	}
}

// pause waits until the stream may be opened again, after it ended for a reason. It returns an error
// if that must not be tried.
func (f *follower) pause(ctx context.Context, reason error) error {
	var (
		after     reconnectError
		permanent permanentError
		refused   *RefusedError
		delay     time.Duration
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(reason, &permanent):
		return permanent.error
	case errors.As(reason, &after):
		delay = time.Duration(after)
	default:
		if errors.As(reason, &refused) && !f.mayOpen(refused) {
			return reason
		}
		delay = f.retry
		if refused != nil {
			delay = max(delay, refused.retryAfter)
		}
		delay += f.backoff()
		if f.options.OnLost != nil {
			f.options.OnLost(reason, delay)
		}
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mayOpen reports whether another attempt may succeed after a refusal.
func (f *follower) mayOpen(refused *RefusedError) bool {
	// The next token may be valid. If it is not either, it never will be.
	renewable := f.feed && refused.Problem.Code == "token_expired" && !f.expired
	f.expired = renewable
	return renewable || refused.StatusCode/100 != 4 || refused.StatusCode == http.StatusTooManyRequests
}

// backoff returns a random delay, whose limit grows with each attempt, so that the clients that a
// restart disconnected do not all reconnect at once.
func (f *follower) backoff() time.Duration {
	limit := min(firstDelay<<min(f.failures, 10), longestDelay)
	f.failures++
	return rand.N(limit)
}

// read opens the stream, reads it to its end, and returns why it ended.
func (f *follower) read(ctx context.Context, deliver func(frame) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(time.Hour, func() { cancel(errSilent) })
	defer watchdog.Stop()
	watchdog.Stop() // it watches the request and the reads, but not the caller's functions
	complete := false
	var cursor *string
	if f.cursor != "" {
		cursor = &f.cursor
	}
	response, err := f.open(ctx, cursor, func(_ context.Context, r *http.Request) error {
		complete = true
		r.Header.Set("Accept", "text/event-stream")
		watchdog.Reset(connectTimeout)
		return nil
	})
	watchdog.Stop()
	if err != nil && !complete {
		return permanentError{err}
	}
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	defer response.Body.Close()
	body := watchedReader{response.Body, watchdog, &f.silence}
	if response.StatusCode != http.StatusOK {
		return refusal(response, body)
	}
	// The sign-in page of a network has status 200 as well.
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
		return fmt.Errorf("the reply is not a stream of events but %q", kind)
	}
	for received, err := range frames(body) {
		if errors.Is(err, bufio.ErrTooLong) {
			return permanentError{err}
		}
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		f.retry = min(received.retry, longestDelay)
		if received.Data == nil {
			continue
		}
		if err := f.handle(received, deliver); err != nil {
			return err
		}
	}
	return errClosed
}

// handle delivers an event, and returns an error if the stream ends with it.
func (f *follower) handle(received frame, deliver func(frame) error) error {
	var data struct {
		HeartbeatSeconds int    `json:"heartbeatSeconds"`
		AfterMs          int    `json:"afterMs"`
		Event            string `json:"event"`
	}
	switch received.Event {
	case "sessionReady", "reconnect", "connectionStateChanged":
		if err := json.Unmarshal(received.Data, &data); err != nil {
			return permanentError{fmt.Errorf("decode the event %q: %w", received.Event, err)}
		}
	}
	ends := false
	switch {
	case received.Event == "reconnect":
		return reconnectError(time.Duration(max(data.AfterMs, 0)) * time.Millisecond)
	case received.Event == "connectionStateChanged" && f.feed: // the token has expired
		return reconnectError(f.backoff())
	case received.Event == "connectionStateChanged" && data.Event == "slowConsumer":
		return errSlow
	case received.Event == "connectionStateChanged":
		ends = true
	case received.Event == "sessionReady":
		f.failures = 0
		f.silence = max(missedHeartbeats*time.Duration(data.HeartbeatSeconds)*time.Second, leastSilence)
	case f.feed:
		f.failures, f.expired = 0, false
	}
	if received.ID != "" {
		f.cursor = received.ID
	}
	if err := deliver(received); err != nil {
		return err
	}
	if ends {
		return errOver
	}
	return nil
}

// refusal returns the error of a reply that is not a stream.
func refusal(response *http.Response, body io.Reader) error {
	refused := &RefusedError{StatusCode: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refused.retryAfter = time.Duration(min(max(seconds, 0), 24*3600)) * time.Second
	}
	// Another program may reply in another format, and the connection may be lost during the reply:
	// the status is useful without its explanation.
	var problem Problem
	if err := json.NewDecoder(io.LimitReader(body, maxProblem)).Decode(&problem); err == nil {
		refused.Problem = problem
	}
	return refused
}

// watchedReader reads a stream, and sets off the watchdog if nothing arrives for too long. It does
// not watch while nobody reads.
type watchedReader struct {
	stream   io.Reader
	watchdog *time.Timer
	silence  *time.Duration
}

func (r watchedReader) Read(p []byte) (int, error) {
	r.watchdog.Reset(*r.silence)
	defer r.watchdog.Stop()
	return r.stream.Read(p)
}
