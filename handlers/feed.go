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

// feedStore reads the events of all rooms.
type feedStore interface {
	FeedEnd(ctx context.Context) (room.FeedCursor, error)
	FeedAfter(ctx context.Context, after room.FeedCursor, n int) (room.FeedPage, error)
	Committed() <-chan struct{}
}

const (
	// maxFeeds bounds the feeds that are open at once: each asks the database
	// for itself.
	maxFeeds = 64
	// feedPageEvents is how many events are read at once.
	feedPageEvents = 500
	// feedPoll is how late another process's commits may be seen: this one's
	// wake the feed at once.
	feedPoll = time.Second
	// feedBusyPoll is from one look to the next while transactions are under way
	// that hold the feed back. It doubles up to feedTick while nothing comes, as
	// behind a transaction that takes minutes.
	feedBusyPoll = 20 * time.Millisecond
	// feedDrainDelay and feedRestartPause are how long a feed is asked to stay away:
	// from a server that others stand beside, and from one that stops now.
	feedDrainDelay   = 100 * time.Millisecond
	feedRestartDelay = 800 * time.Millisecond
	// feedChunk is how much is encoded before it is written.
	feedChunk = 64 << 10

	defaultHeartbeat = 10 * time.Second
	// defaultFeedWriteTimeout ends a feed whose reader takes nothing.
	defaultFeedWriteTimeout = 10 * time.Second
)

// streamAdminEvents is the feed: the events of all rooms, for servers.
func (a *api) streamAdminEvents(w http.ResponseWriter, r *http.Request) error {
	_, expiresAt, err := a.authenticateAdmin(r)
	if err != nil {
		return err
	}
	cursor, err := readFeedCursor(r)
	if err != nil {
		return err
	}
	if err := allowStreaming(w, r); err != nil {
		return err
	}
	select {
	case a.feeds <- struct{}{}:
		defer func() { <-a.feeds }()
	default:
		return fmt.Errorf("%w (%d feeds are open)", room.ErrUnavailable, maxFeeds)
	}
	if a.shutdown.feedsEnded() {
		return fmt.Errorf("%w (stopping)", room.ErrUnavailable)
	}
	f := &feed{api: a, conn: responseConn{w, http.NewResponseController(w)}, drain: a.shutdown.feedDrain()}
	ready, err := f.start(r.Context(), cursor)
	if err != nil {
		return err
	}
	a.StreamOpens(r.Context())
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	expiry := time.NewTimer(a.Tokens.Until(expiresAt))
	defer expiry.Stop()
	began := time.Now()
	why := f.run(r.Context(), ready, expiry.C)
	level := slog.LevelDebug
	if errors.Is(why, errFeedTrimmed) || errors.Is(why, os.ErrDeadlineExceeded) { // for somebody to look at that server
		level = slog.LevelInfo
	}
	a.Log.Log(r.Context(), level, "feed ended", "reason", why, "lasted", time.Since(began), "requestID", requestID(r.Context()))
	return nil
}

// Why a feed ended that could be read and written.
var (
	errFeedExpired  = errors.New("the token expired")
	errFeedStopping = errors.New("the server is stopping")
	errFeedTrimmed  = errors.New("the reader was overtaken by the purge")
)

// feed is one open feed. Its request's goroutine does everything.
type feed struct {
	api    *api
	conn   responseConn
	buf    []byte
	cursor room.FeedCursor
	// reportedTrim is how far what was purged has been told.
	reportedTrim room.FeedCursor
	// feedDrain is closed when the feed is to move to another server; nil where
	// that has been and gone.
	drain <-chan struct{}
}

// start finds where the feed begins and what it says of that. Without a cursor
// it begins now.
func (f *feed) start(ctx context.Context, cursor *room.FeedCursor) (ready room.FeedReady, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	if cursor == nil {
		f.cursor, err = f.api.Store.FeedEnd(ctx)
		return room.FeedReady{}, err
	}
	// A look, for which nothing is written yet, so that a database that does not
	// answer is told by the status.
	page, err := f.api.Store.FeedAfter(ctx, *cursor, 1)
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
	f.cursor.Epoch = page.Epoch // where the cursor is of a server that knew no epochs
	return ready, nil
}

// run writes until the feed ends, and says why: the reader went, its token ran
// out, the server stops or the database cannot answer. Whoever comes back with the
// last id goes on where it was.
func (f *feed) run(ctx context.Context, ready room.FeedReady, expired <-chan time.Time) error {
	f.buf = fmt.Appendf(f.buf, "retry: %d\n\n", 1000+rand.IntN(3000))
	f.appendEvent(ready.Type(), ready, &f.cursor)
	if err := f.flush(); err != nil {
		return err
	}
	beat := time.NewTimer(f.api.Heartbeat)
	defer beat.Stop()
	again := time.NewTimer(feedPoll)
	defer again.Stop()
	pause := feedBusyPoll
	var leave <-chan time.Time // when a feed that moves to another server ends
	for {
		committed := f.api.Store.Committed() // taken first: what commits during the look wakes the next one
		page, err := f.sendNext(ctx)
		if err != nil {
			return errors.Join(err, f.reconnect(maxReconnectDelay))
		}
		if len(page.Events) > 0 {
			pause = feedBusyPoll
			beat.Reset(f.api.Heartbeat)
		}
		wait := pause
		switch {
		case len(page.Events) == feedPageEvents:
			wait = 0 // there is more
		case page.Busy:
			committed = nil // whatever commits, it stays held back for now
			pause = min(2*pause, feedPoll)
		default:
			wait, pause = feedPoll, feedBusyPoll
		}
		again.Reset(wait)
		select {
		case <-committed:
		case <-again.C:
		case <-beat.C:
			f.buf = append(f.buf, ":\n\n"...)
			if err := f.flush(); err != nil {
				return err
			}
			beat.Reset(f.api.Heartbeat)
		case <-expired:
			f.appendEvent(room.TypeConnectionStateChanged, room.ConnectionStateChanged{
				State: "disconnected", Event: room.ConnectionTokenExpired,
			}, nil)
			return errors.Join(errFeedExpired, f.flush())
		case <-f.drain:
			f.drain = nil
			leave = time.After(rand.N(f.api.shutdown.drainSpread + time.Millisecond))
		case <-leave:
			return errors.Join(errFeedStopping, f.reconnect(feedDrainDelay))
		case <-f.api.shutdown.endFeeds:
			return errors.Join(errFeedStopping, f.reconnect(feedRestartDelay))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendNext reads a page and writes it. It fails where the reader is so slow that
// what it needs next is purged: coming back, it is told.
func (f *feed) sendNext(ctx context.Context) (room.FeedPage, error) {
	reading, cancel := context.WithTimeoutCause(ctx, callTimeout, errCallTimeout)
	defer cancel()
	page, err := f.api.Store.FeedAfter(reading, f.cursor, feedPageEvents)
	if err != nil {
		if ctx.Err() == nil {
			f.api.Log.Warn("the feed could not be read", "requestID", requestID(ctx), "error", err)
		}
		return page, err
	}
	if page.Foreign {
		return page, errors.New("the database is another one")
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

// reconnect ends the feed with the request to come back after a random time of up
// to atMost, and of half of that at least.
func (f *feed) reconnect(atMost time.Duration) error {
	f.buf = hub.AppendReconnect(f.buf, atMost/2+rand.N(atMost/2))
	return f.flush()
}

// appendEvent encodes an event; what has a place carries it as its id. JSON holds no
// raw line breaks, so the data is one line.
func (f *feed) appendEvent(t room.EventType, data any, at *room.FeedCursor) {
	encoded, err := json.Marshal(data)
	if err != nil {
		// These are plain structs that the store has just decoded.
		panic(fmt.Sprintf("encode %s: %v", t, err))
	}
	if at != nil {
		f.buf = append(f.buf, "id: "...)
		f.buf = appendFeedCursor(f.buf, *at)
		f.buf = append(f.buf, '\n')
	}
	f.buf = fmt.Appendf(f.buf, "event: %s\ndata: %s\n\n", t, encoded)
}

// flush sends what was encoded.
func (f *feed) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	err := f.conn.Send(f.buf, f.api.FeedWriteTimeout)
	f.buf = f.buf[:0]
	return err
}

// readFeedCursor is the cursor that the request sends, in the header or, where
// that is not there, in the query; nil where there is none. One that is empty
// is refused: to begin now where somebody means to go on would lose events.
func readFeedCursor(r *http.Request) (*room.FeedCursor, error) {
	q := readQuery(r, "last_event_id")
	text, where, sent := q.values.Get("last_event_id"), "query/last_event_id", q.has("last_event_id")
	if header := r.Header.Values("Last-Event-ID"); len(header) > 0 {
		text, where, sent = header[0], "header/Last-Event-ID", true
	}
	if !sent {
		return nil, q.err()
	}
	c, ok := parseFeedCursor(text)
	if !ok {
		q.faults = append(q.faults, fault{where, "cursor", "must be an id of this feed"})
	}
	return &c, q.err()
}

// appendFeedCursor writes a place in the feed as an id: its epoch and its three
// numbers in base 36.
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

// epochForm is how an epoch is written.
var epochForm = regexp.MustCompile(`^[1-9a-z][0-9a-z]{3}$`)

// parseFeedCursor takes what appendFeedCursor writes and nothing else.
func parseFeedCursor(s string) (room.FeedCursor, bool) {
	epoch, place, of := strings.Cut(s, ".")
	if !of || strings.Count(place, ".") != 2 { // a server that knew no epochs wrote it
		epoch, place = "", s
	} else if !epochForm.MatchString(epoch) {
		return room.FeedCursor{}, false
	}
	xact, rest, _ := strings.Cut(place, ".")
	generation, seq, _ := strings.Cut(rest, ".")
	x, err1 := strconv.ParseUint(xact, 36, 64)
	g, err2 := strconv.ParseInt(generation, 36, 64)
	n, err3 := strconv.ParseInt(seq, 36, 64)
	c := room.FeedCursor{Epoch: epoch, Xact: x, Log: room.LogID(g), Seq: room.Seq(n)}
	return c, errors.Join(err1, err2, err3) == nil && g >= 0 && n >= 0 && string(appendFeedCursor(nil, c)) == s
}
