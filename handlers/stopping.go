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
	stops *stops
}

// stops is how far the server has gone on its way down, and what is under way.
type stops struct {
	// leaving says that connections are closed with their next reply.
	leaving atomic.Bool
	// drain is closed when the feeds that are open begin to end, within spread.
	drain     chan struct{}
	drainOnce sync.Once
	spread    time.Duration // written before drain is closed
	// end is closed when no feed may stay or begin.
	end     chan struct{}
	endOnce sync.Once

	requests  atomic.Int64 // under way, with those that are transfers
	transfers atomic.Int64 // uploads and downloads under way
}

func newStops() *stops { return &stops{drain: make(chan struct{}), end: make(chan struct{})} }

// underwayPoll is how often a server that stops looks what is still under way. To
// be told instead would cost every call.
const underwayPoll = 5 * time.Millisecond

func (s *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.stops.requests.Add(1)
	defer s.stops.requests.Add(-1)
	if s.stops.leaving.Load() {
		// net/http closes the connection after this reply; over HTTP/2 it sends
		// GOAWAY. The client's next call takes a new connection, which a load
		// balancer gives to another server. Nothing is lost on the way, as where
		// an idle connection is closed just when a request comes in.
		w.Header().Set("Connection", "close")
	}
	s.Router.ServeHTTP(w, r)
}

// Leave goes on serving, and makes clients take new connections for what they
// ask next.
func (s *API) Leave() { s.stops.leaving.Store(true) }

// Drain ends the feeds that are open, each at a random moment within spread, and
// asks them to come back at once. Feeds that are opened later stay until End.
func (s *API) Drain(spread time.Duration) {
	s.stops.drainOnce.Do(func() {
		s.stops.spread = spread
		close(s.stops.drain)
	})
}

// End ends all feeds, and takes no more.
func (s *API) End() { s.stops.endOnce.Do(func() { close(s.stops.end) }) }

// AwaitTransfers returns when no upload and no download is under way, or ctx ends.
func (s *API) AwaitTransfers(ctx context.Context) {
	s.await(ctx, func() bool { return s.stops.transfers.Load() == 0 })
}

// AwaitCalls returns when nothing but uploads and downloads is under way, or ctx
// ends.
func (s *API) AwaitCalls(ctx context.Context) {
	s.await(ctx, func() bool { return s.stops.requests.Load() <= s.stops.transfers.Load() })
}

func (s *API) await(ctx context.Context, done func() bool) {
	ticker := time.NewTicker(underwayPoll)
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
func (s *API) Transfers() int { return int(s.stops.transfers.Load()) }

// transfer marks the requests that move files: they may take minutes, and can be
// resumed.
func (s *stops) transfer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.transfers.Add(1)
		defer s.transfers.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// over reports whether no feed may begin any more.
func (s *stops) over() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// draining tells a feed that begins now when to move away; nil for one that begins
// after that.
func (s *stops) draining() <-chan struct{} {
	select {
	case <-s.drain:
		return nil
	default:
		return s.drain
	}
}
