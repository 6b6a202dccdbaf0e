package handlers

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// API is the whole service as one handler, with what a server needs that stops.
type API struct {
	chi.Router
	shutdown *shutdownState
}

// shutdown is how far the server has gone on its way down, and what is under way.
type shutdownState struct {
	// closeConnections says that connections are closed with their next reply.
	closeConnections atomic.Bool
	// drainFeeds is closed when the feeds that are open begin to end, within spread.
	drainFeeds     chan struct{}
	drainFeedsOnce sync.Once
	drainSpread    time.Duration // written before drain is closed
	// endFeeds is closed when no feed may stay or begin.
	endFeeds     chan struct{}
	endFeedsOnce sync.Once

	requests  atomic.Int64 // under way, with those that are transfers
	transfers atomic.Int64 // uploads and downloads under way
}

func newShutdownState() *shutdownState {
	return &shutdownState{drainFeeds: make(chan struct{}), endFeeds: make(chan struct{})}
}

// awaitPoll is how often a server that stops looks what is still under way. To
// be told instead would cost every call.
const awaitPoll = 5 * time.Millisecond

func (s *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.shutdown.requests.Add(1)
	defer s.shutdown.requests.Add(-1)
	if s.shutdown.closeConnections.Load() {
		// net/http closes the connection after this reply; over HTTP/2 it sends
		// GOAWAY. The client's next call takes a new connection, which a load
		// balancer gives to another server. Nothing is lost on the way, as where
		// an idle connection is closed just when a request comes in.
		w.Header().Set("Connection", "close")
	}
	s.Router.ServeHTTP(w, r)
}

// DisableKeepAlives goes on serving, and makes clients take new connections for what they
// ask next.
func (s *API) DisableKeepAlives() { s.shutdown.closeConnections.Store(true) }

// DrainFeeds ends the feeds that are open, each at a random moment within spread, and
// asks them to come back at once. Feeds that are opened later stay until End.
func (s *API) DrainFeeds(spread time.Duration) {
	s.shutdown.drainFeedsOnce.Do(func() {
		s.shutdown.drainSpread = spread
		close(s.shutdown.drainFeeds)
	})
}

// EndFeeds ends all feeds, and takes no more.
func (s *API) EndFeeds() { s.shutdown.endFeedsOnce.Do(func() { close(s.shutdown.endFeeds) }) }

// AwaitTransfers returns when no upload and no download is under way, or ctx ends.
func (s *API) AwaitTransfers(ctx context.Context) {
	s.await(ctx, func() bool { return s.shutdown.transfers.Load() == 0 })
}

// AwaitCalls returns when nothing but uploads and downloads is under way, or ctx
// ends.
func (s *API) AwaitCalls(ctx context.Context) {
	s.await(ctx, func() bool { return s.shutdown.requests.Load() <= s.shutdown.transfers.Load() })
}

func (s *API) await(ctx context.Context, done func() bool) {
	ticker := time.NewTicker(awaitPoll)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Transfers is how many uploads and downloads are under way.
func (s *API) Transfers() int { return int(s.shutdown.transfers.Load()) }

// countTransfer marks the requests that move files: they may take minutes, and can be
// resumed.
func (s *shutdownState) countTransfer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.transfers.Add(1)
		defer s.transfers.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// feedsEnded reports whether no feed may begin any more.
func (s *shutdownState) feedsEnded() bool {
	select {
	case <-s.endFeeds:
		return true
	default:
		return false
	}
}

// feedDrain tells a feed that begins now when to move away; nil for one that begins
// after that.
func (s *shutdownState) feedDrain() <-chan struct{} {
	select {
	case <-s.drainFeeds:
		return nil
	default:
		return s.drainFeeds
	}
}
