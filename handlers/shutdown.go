package handlers

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// API is the HTTP handler of the whole service, with the methods for a graceful shutdown.
type API struct {
	chi.Router
	shutdown *shutdownState
}

// shutdownState is the progress of a graceful shutdown, and the number of requests in flight.
type shutdownState struct {
	// closeConnections reports that each connection is closed after its next reply.
	closeConnections atomic.Bool
	// drainFeeds is closed when the open feeds must end, within drainSpread.
	drainFeeds     chan struct{}
	drainFeedsOnce sync.Once
	drainSpread    time.Duration // written before drainFeeds is closed
	// endFeeds is closed when all feeds must end and no new ones may start.
	endFeeds     chan struct{}
	endFeedsOnce sync.Once

	requests  atomic.Int64 // in flight, including transfers
	transfers atomic.Int64 // uploads and downloads in flight
}

func newShutdownState() *shutdownState {
	return &shutdownState{drainFeeds: make(chan struct{}), endFeeds: make(chan struct{})}
}

// awaitPoll is how often a server that shuts down checks which requests are in flight. A
// notification would make every call more expensive.
const awaitPoll = 5 * time.Millisecond

func (s *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.shutdown.requests.Add(1)
	defer s.shutdown.requests.Add(-1)
	if s.shutdown.closeConnections.Load() {
		// net/http closes the connection after this reply, or sends GOAWAY over HTTP/2. The client
		// opens a new connection for its next call, which a load balancer sends to another server.
		// No call is lost, as it could be if an idle connection were closed just when a request
		// arrives.
		w.Header().Set("Connection", "close")
	}
	s.Router.ServeHTTP(w, r)
}

// DisableKeepAlives makes clients open a new connection for their next call. Calls are still
// served.
func (s *API) DisableKeepAlives() { s.shutdown.closeConnections.Store(true) }

// DrainFeeds ends the open feeds, each at a random moment within spread, and asks their clients to
// reconnect at once. Feeds that are opened later stay open until EndFeeds.
func (s *API) DrainFeeds(spread time.Duration) {
	s.shutdown.drainFeedsOnce.Do(func() {
		s.shutdown.drainSpread = spread
		close(s.shutdown.drainFeeds)
	})
}

// EndFeeds ends all feeds and accepts no new ones.
func (s *API) EndFeeds() { s.shutdown.endFeedsOnce.Do(func() { close(s.shutdown.endFeeds) }) }

// AwaitTransfers returns when no uploads and downloads are in flight, or when ctx ends.
func (s *API) AwaitTransfers(ctx context.Context) {
	s.await(ctx, func() bool { return s.shutdown.transfers.Load() == 0 })
}

// AwaitCalls returns when only uploads and downloads are in flight, or when ctx ends.
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

// Transfers returns the number of uploads and downloads in flight.
func (s *API) Transfers() int { return int(s.shutdown.transfers.Load()) }

// countTransfer counts the requests that transfer files. They may take minutes, and can be resumed.
func (s *shutdownState) countTransfer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.transfers.Add(1)
		defer s.transfers.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// feedsEnded reports whether EndFeeds was called: no feed may start any more.
func (s *shutdownState) feedsEnded() bool {
	select {
	case <-s.endFeeds:
		return true
	default:
		return false
	}
}

// feedDrain returns a channel that is closed when a feed that starts now must be drained. It
// returns nil if draining has already begun: such a feed stays open until EndFeeds.
func (s *shutdownState) feedDrain() <-chan struct{} {
	select {
	case <-s.drainFeeds:
		return nil
	default:
		return s.drainFeeds
	}
}
