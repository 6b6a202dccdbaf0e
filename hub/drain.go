package hub

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"parlor/room"
)

const (
	// drainStep is how often Drain ends the streams whose turn has come.
	drainStep = 10 * time.Millisecond
	// maxDrainDelay spreads the reconnections of streams that Drain ends in the same step.
	maxDrainDelay = 100 * time.Millisecond
	// maxRestartDelay spreads the reconnections of streams that Shutdown ends over about the time
	// that a restart takes: a client that finds no server waits longer before its next attempt.
	maxRestartDelay = 800 * time.Millisecond
	// reconnectSpread is the longest delay that ReconnectAll asks for. It is shorter than half of
	// the shortest memberTimeout, so that no session leaves its rooms because of it.
	reconnectSpread = 2 * time.Second
)

// ReconnectAll asks the clients of all streams to reconnect, each after a random time of at most
// reconnectSpread, and discards all topics. It is for the case that events published to this hub
// may not be in the database, for example after a failover.
func (h *Hub) ReconnectAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		t.discard()
		h.dropTopicLocked(t)
	}
	for _, s := range h.streams {
		after := rand.N(reconnectSpread)
		s.worker.do(func() { s.closeWith(room.Reconnect{AfterMs: after.Milliseconds()}) })
	}
}

// Drain ends the streams that are open now, one after the other within spread, and asks their
// clients to reconnect at once. Because the server spreads the reconnections, and not the clients,
// each client is disconnected only for a moment. New streams are still accepted, and stay open
// until Shutdown: there may be no other server to connect to. Drain returns when it has ended all
// streams that were open, or when ctx ends.
func (h *Hub) Drain(ctx context.Context, spread time.Duration) {
	h.mu.RLock()
	streams := slices.Collect(maps.Values(h.streams))
	h.mu.RUnlock()
	rand.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	ticker := time.NewTicker(drainStep)
	defer ticker.Stop()
	for began, asked := time.Now(), 0; ; {
		due := len(streams) // the first at once, so that a few streams do not wait
		if since := time.Since(began); since < spread {
			due = min(due, 1+int(float64(due)*since.Seconds()/spread.Seconds()))
		}
		for ; asked < due; asked++ {
			streams[asked].reconnectWithin(maxDrainDelay)
		}
		if asked == len(streams) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown accepts no more streams, ends those that are open, and asks their clients to reconnect
// after about the time that a restart takes. It returns when all streams have ended, or when ctx
// ends.
func (h *Hub) Shutdown(ctx context.Context) {
	h.mu.Lock()
	h.stopAccepting()
	for _, s := range h.streams {
		s.reconnectWithin(maxRestartDelay)
	}
	h.mu.Unlock()
	select {
	case <-h.drained:
	case <-ctx.Done():
	}
}

// Close closes the streams that are still open and waits for all goroutines of the hub.
func (h *Hub) Close() {
	h.mu.Lock()
	h.stopAccepting()
	clear(h.topics) // so that later commits start no reads of logs
	h.mu.Unlock()
	h.stop()
	for _, w := range h.workers {
		w.close()
	}
	h.done.Wait()
	h.poller.close() // after the workers, whose last tasks may still register sockets
}

// stopAccepting makes OpenStream fail. The caller holds mu.
func (h *Hub) stopAccepting() {
	if h.closed {
		return
	}
	h.closed = true
	if len(h.streams) == 0 {
		close(h.drained)
	}
}
