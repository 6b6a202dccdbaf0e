package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"parlor/hub"
	"parlor/room"
)

// feedStore has the store methods for the feed.
type feedStore interface {
	FeedEnd(ctx context.Context, parts room.FeedParts) (room.FeedCursor, error)
	FeedAfter(ctx context.Context, after room.FeedCursor, parts room.FeedParts, n int) (room.FeedPage, error)
	Committed() <-chan struct{}
}

const (
	// maxFeeds is how many feeds may be open at once: each polls the database by itself.
	maxFeeds = 64
	// feedPageEvents is how many events are read at once.
	feedPageEvents = 500
	// feedPoll is how often the database is polled for the commits of other processes. Those of
	// this process wake the feed at once.
	feedPoll = time.Second
	// feedBusyPoll is how long the feed waits before it reads again while it is held back by
	// transactions in progress. It doubles up to feedPoll as long as no events come, for example
	// behind a transaction that takes minutes.
	feedBusyPoll = 20 * time.Millisecond
	// feedDrainDelay and feedRestartDelay are after about which time the client of a feed is asked
	// to reconnect: to another server when this one drains, and to this one when it restarts.
	feedDrainDelay   = 100 * time.Millisecond
	feedRestartDelay = 800 * time.Millisecond
	// feedChunk is how much is encoded before it is written.
	feedChunk = 64 << 10

	defaultHeartbeat = 10 * time.Second
	// defaultFeedWriteTimeout is how long a client may read nothing before its feed is closed.
	defaultFeedWriteTimeout = 10 * time.Second
)

// streamAdminEvents serves the feed, which contains the events of all rooms, and of users if the
// request includes them.
func (a *api) streamAdminEvents(w http.ResponseWriter, r *http.Request) error {
	_, expiresAt, err := a.authenticateAdmin(r)
	if err != nil {
		return err
	}
	cursor, parts, err := readFeedQuery(r)
	if err != nil {
		return err
	}
	if err := refuseUnread(r, inQuery); err != nil {
		return err
	}
	allowStreaming(w)
	select {
	case a.feeds <- struct{}{}:
		defer func() { <-a.feeds }()
	default:
		return fmt.Errorf("%w (%d feeds are open)", room.ErrUnavailable, maxFeeds)
	}
	if a.shutdown.feedsEnded() {
		return fmt.Errorf("%w (stopping)", room.ErrUnavailable)
	}
	f := &feed{api: a, parts: parts, conn: responseConn{w, http.NewResponseController(w)}, drain: a.shutdown.feedDrain()}
	ready, err := f.start(r.Context(), cursor)
	if err != nil {
		return err
	}
	if parts.Commands {
		var stop func()
		f.commands, stop = a.Hub.WatchCommands()
		defer stop()
	}
	a.StreamOpens(r.Context())
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	expiry := time.NewTimer(a.Tokens.Until(expiresAt))
	defer expiry.Stop()
	began := time.Now()
	why := f.run(r.Context(), ready, expiry.C)
	level := slog.LevelDebug
	if errors.Is(why, errFeedTrimmed) || errors.Is(why, os.ErrDeadlineExceeded) { // the client is too slow
		level = slog.LevelInfo
	}
	a.Log.Log(r.Context(), level, "feed ended", "reason", why, "lasted", time.Since(began), "requestID", requestID(r.Context()))
	return nil
}

// The reasons for the end of a feed, other than errors of reads and writes.
var (
	errFeedExpired  = errors.New("the token expired")
	errFeedStopping = errors.New("the server is stopping")
	errFeedTrimmed  = errors.New("the next events were trimmed before the client had read them")
)

// feed is one open feed. Only the goroutine of its request uses it.
type feed struct {
	api   *api
	parts room.FeedParts
	// commands receives commands, if the feed includes them; nil otherwise.
	commands <-chan []byte
	conn     responseConn
	buf      []byte
	cursor   room.FeedCursor
	// reportedTrim is the position up to which the client knows that events were trimmed.
	reportedTrim room.FeedCursor
	// drain is closed when the feed must end within the drain time, so that the client moves to
	// another server; nil once the feed has begun to drain.
	drain <-chan struct{}
}

// start sets the position at which the feed starts and returns its first event. Without a cursor
// the feed starts with the next event.
func (f *feed) start(ctx context.Context, cursor *room.FeedCursor) (ready room.FeedReady, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	if cursor == nil {
		f.cursor, err = f.api.Store.FeedEnd(ctx, f.parts)
		return room.FeedReady{}, err
	}
	// The log is read before anything is written, so that a failure of the database is reported by
	// the status.
	page, err := f.api.Store.FeedAfter(ctx, *cursor, f.parts, 1)
	if err != nil {
		return room.FeedReady{}, err
	}
	f.reportedTrim = page.Trimmed
	oldest := room.FeedCursor{Epoch: page.Epoch}
	switch {
	case page.Foreign:
		f.cursor = oldest
		return room.FeedReady{Reason: room.ResetEpochChanged}, nil
	case page.Ahead:
		f.cursor = oldest
		return room.FeedReady{Reason: room.ResetCursorAhead}, nil
	case cursor.Before(page.Trimmed):
		ready.Reason = room.ResetLogTrimmed
	default:
		ready.Resumed = true
	}
	f.cursor = *cursor
	f.cursor.Epoch = page.Epoch // a cursor from before there were epochs has none
	return ready, nil
}

// run writes events until the feed ends, and returns why: the client has closed the connection, its
// token has expired, the server stops or the database cannot be read. A client that reconnects with
// the last id resumes from there.
func (f *feed) run(ctx context.Context, ready room.FeedReady, expired <-chan time.Time) error {
	f.buf = fmt.Appendf(f.buf, "retry: %d\n\n", 1000+rand.IntN(3000))
	f.appendEvent(ready.Type(), ready, &f.cursor)
	if err := f.flush(); err != nil {
		return err
	}
	heartbeat := time.NewTimer(f.api.Heartbeat)
	defer heartbeat.Stop()
	poll := time.NewTimer(feedPoll)
	defer poll.Stop()
	busyPoll := feedBusyPoll
	var drained <-chan time.Time // fires when a draining feed must end
	for {
		committed := f.api.Store.Committed() // before the read, so that no commit during it is missed
		page, err := f.sendNext(ctx)
		if err != nil {
			return errors.Join(err, f.reconnect(maxReconnectDelay))
		}
		if len(page.Events) > 0 {
			busyPoll = feedBusyPoll
			heartbeat.Reset(f.api.Heartbeat)
		}
		wait := busyPoll
		switch {
		case len(page.Events) == feedPageEvents:
			wait = 0 // there are more events
		case page.Busy:
			committed = nil // more commits do not end what holds the feed back
			busyPoll = min(2*busyPoll, feedPoll)
		default:
			wait, busyPoll = feedPoll, feedBusyPoll
		}
		poll.Reset(wait)
		for waits := true; waits; {
			waits = false
			select {
			case command := <-f.commands:
				if err := f.sendCommands(command); err != nil {
					return err
				}
				waits = true // a command is no reason to read the database
			case <-committed:
			case <-poll.C:
			case <-heartbeat.C:
				f.buf = append(f.buf, ":\n\n"...)
				if err := f.flush(); err != nil {
					return err
				}
				heartbeat.Reset(f.api.Heartbeat)
			case <-expired:
				f.appendEvent(room.TypeConnectionStateChanged, room.ConnectionStateChanged{
					State: "disconnected", Event: room.ConnectionTokenExpired,
				}, nil)
				return errors.Join(errFeedExpired, f.flush())
			case <-f.drain:
				f.drain = nil
				drained = time.After(rand.N(f.api.shutdown.drainSpread + time.Millisecond))
			case <-drained:
				return errors.Join(errFeedStopping, f.reconnect(feedDrainDelay))
			case <-f.api.shutdown.endFeeds:
				return errors.Join(errFeedStopping, f.reconnect(feedRestartDelay))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// sendNext reads the next events and writes them. It fails if the client is so slow that its next
// events were trimmed. When it reconnects, feedReady reports that.
func (f *feed) sendNext(ctx context.Context) (room.FeedPage, error) {
	reading, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	page, err := f.api.Store.FeedAfter(reading, f.cursor, f.parts, feedPageEvents)
	if err != nil {
		if ctx.Err() == nil {
			f.api.Log.Warn("feed read failed", "requestID", requestID(ctx), "error", err)
		}
		return page, err
	}
	if page.Foreign {
		return page, errors.New("the database was replaced")
	}
	if f.cursor.Before(page.Trimmed) && f.reportedTrim.Before(page.Trimmed) {
		return page, errFeedTrimmed
	}
	for _, e := range page.Events {
		f.appendEvent(e.Type, e.Data, &e.Cursor)
		f.cursor = e.Cursor
		if len(f.buf) >= feedChunk {
			if err := f.flush(); err != nil {
				return page, err
			}
		}
	}
	return page, f.flush()
}

// sendCommands sends a command and those that wait behind it.
func (f *feed) sendCommands(first []byte) error {
	f.buf = append(f.buf, first...)
	for len(f.buf) < feedChunk {
		select {
		case next := <-f.commands:
			f.buf = append(f.buf, next...)
		default:
			return f.flush()
		}
	}
	return f.flush()
}

// reconnect asks the client to reconnect after a random time between half of delay and delay.
func (f *feed) reconnect(delay time.Duration) error {
	f.buf = hub.AppendReconnect(f.buf, delay/2+rand.N(delay/2))
	return f.flush()
}

// appendEvent encodes an event, with its position as its id if at is not nil.
func (f *feed) appendEvent(t room.EventType, data any, at *room.FeedCursor) {
	encoded, err := json.Marshal(data)
	if err != nil {
		// The data are plain structs, which encode without errors.
		panic(fmt.Sprintf("encode %s: %v", t, err))
	}
	if at != nil {
		f.buf = append(f.buf, "id: "...)
		f.buf = appendFeedCursor(f.buf, *at)
		f.buf = append(f.buf, '\n')
	}
	f.buf = fmt.Appendf(f.buf, "event: %s\ndata: %s\n\n", t, hub.OneLine(encoded))
}

// flush sends the encoded events.
func (f *feed) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	err := f.conn.Send(f.buf, f.api.FeedWriteTimeout)
	f.buf = f.buf[:0]
	return err
}

// readFeedQuery returns the cursor in the header of a request or else in its query, and what the
// feed includes. The cursor is nil if there is none. An empty one is an error: if the feed started
// with the next event, a client that means to resume would miss events.
func readFeedQuery(r *http.Request) (*room.FeedCursor, room.FeedParts, error) {
	q := readQuery(r, "last_event_id", "include"+repeatable)
	parts := q.feedParts("include")
	text, where, sent := q.values.Get("last_event_id"), "query/last_event_id", q.has("last_event_id")
	if header := r.Header.Values("Last-Event-ID"); len(header) > 0 {
		text, where, sent = header[0], "header/Last-Event-ID", true
	}
	if !sent {
		return nil, parts, q.err()
	}
	c, ok := parseFeedCursor(text)
	if !ok {
		q.faults = append(q.faults, fault{where, "cursor", "must be an id of this feed"})
	}
	return &c, parts, q.err()
}

// feedParts returns what the feed includes besides the events of rooms.
func (q *query) feedParts(name string) (parts room.FeedParts) {
	included := map[string]*bool{"sessions": &parts.Sessions, "peers": &parts.Peers, "commands": &parts.Commands}
	for _, v := range q.values[name] {
		part := included[v]
		switch {
		case part == nil:
			q.fault(name, "oneof", "must be one of: sessions peers commands")
			return parts
		case *part:
			q.fault(name, "unique", "contains the same value twice")
			return parts
		}
		*part = true
	}
	return parts
}

// appendFeedCursor appends a position in the feed as an id: its epoch and its three numbers in base
// 36.
func appendFeedCursor(b []byte, c room.FeedCursor) []byte {
	if c.Epoch != "" {
		b = append(append(b, c.Epoch...), '.')
	}
	b = strconv.AppendUint(b, c.Xact, 36)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(c.Log), 36)
	b = append(b, '.')
	return strconv.AppendInt(b, int64(c.Seq), 36)
}

// epochForm matches an epoch.
var epochForm = regexp.MustCompile(`^[1-9a-z][0-9a-z]{3}$`)

// parseFeedCursor parses an id that appendFeedCursor wrote. Anything else is an error.
func parseFeedCursor(s string) (room.FeedCursor, bool) {
	epoch, position, found := strings.Cut(s, ".")
	if !found || strings.Count(position, ".") != 2 { // written before there were epochs
		epoch, position = "", s
	} else if !epochForm.MatchString(epoch) {
		return room.FeedCursor{}, false
	}
	xact, rest, _ := strings.Cut(position, ".")
	log, seq, _ := strings.Cut(rest, ".")
	x, err1 := strconv.ParseUint(xact, 36, 64)
	logID, err2 := strconv.ParseInt(log, 36, 64)
	n, err3 := strconv.ParseInt(seq, 36, 64)
	c := room.FeedCursor{Epoch: epoch, Xact: x, Log: room.LogID(logID), Seq: room.Seq(n)}
	return c, errors.Join(err1, err2, err3) == nil && logID >= 0 && n >= 0 && string(appendFeedCursor(nil, c)) == s
}
