package main

import (
	"context"
	"errors"
	"time"
)

const (
	// minSpread is the time over which streams are moved to other servers, if PARLOR_DRAIN allows
	// it. movesPerSecond is how many of them the other servers are asked to take per second if
	// minSpread is too short.
	minSpread      = 4 * time.Second
	movesPerSecond = 2500
	// lastCallsTimeout is how long calls may take once the port is closed. It is short because
	// clients cannot connect from then on. Clients retry calls that are cut off.
	lastCallsTimeout = 2 * time.Second
	// leavingTimeout is how long a stopping server waits for the database to tell it of other
	// servers.
	leavingTimeout = time.Second
	// replyGrace is the time that net/http needs to write replies whose handlers have returned.
	replyGrace = 100 * time.Millisecond
	// storingTimeout is how long uploads that were cut off may take to store what they received.
	storingTimeout = time.Second
)

// shutdown lets clients move to other servers, closes the port, and cuts off what is left. A server
// that is alone ends its streams last and all at once, because clients cannot reconnect until the
// next server is up. If there are others, it ends them one by one, and each client reconnects to
// another server immediately. delay is the part of drain, at most half, in which the server works
// as usual except that /readyz fails.
func (s *service) shutdown(drain, delay time.Duration) error {
	s.draining.Store(true)
	s.handlers.DisableKeepAlives()
	delay = min(delay, drain/2)
	delayed := time.After(delay)
	s.log.Info("stopping", "streams", s.hub.Stats().Streams, "transfers", s.handlers.Transfers(), "delay", delay.String())
	s.leave()
	<-delayed // a second signal ends the program

	ctx, cancel := context.WithTimeout(context.Background(), drain-delay)
	defer cancel()
	if others := s.store.NodeStats().Others; others > 0 {
		streams := s.hub.Stats().Streams
		// The last clients are on another server before the port closes.
		spread := min((drain-delay)*9/10, max(minSpread, time.Duration(streams)*time.Second/movesPerSecond))
		s.log.Info("moving streams to other servers", "streams", streams, "others", others, "spread", spread.String())
		s.handlers.DrainFeeds(spread)
		s.hub.Drain(ctx, spread)
	}
	s.handlers.AwaitTransfers(ctx)

	err := s.closeAPI()
	if s.ops != nil {
		err = errors.Join(err, s.ops.Close()) // last, so that the metrics show the shutdown
	}
	return err
}

// leave tells other servers that this one is stopping, and learns of those that started a moment
// ago: the last renewal of the lease may be two seconds old.
func (s *service) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leavingTimeout)
	defer cancel()
	s.store.MarkLeaving()
	if err := s.store.RenewLease(ctx); err != nil {
		s.log.Warn("lease renewal failed", "error", err)
	}
}

// closeAPI closes the port, ends streams and feeds, and waits for calls. It does not wait for
// transfers, which may take minutes: they can be resumed, and the next server may be waiting for
// the data folder.
func (s *service) closeAPI() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastCallsTimeout)
	defer cancel()
	ended := make(chan struct{})
	// This is called when the port is closed, so that no client reconnects to this server.
	s.api.RegisterOnShutdown(func() {
		defer close(ended)
		s.handlers.EndFeeds()
		s.hub.Shutdown(ctx)
		s.handlers.AwaitCalls(ctx)
		time.AfterFunc(replyGrace, cancel)
	})
	err := s.api.Shutdown(ctx)
	<-ended
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if n := s.handlers.Transfers(); n > 0 {
		s.log.Warn("cutting off uploads and downloads", "transfers", n)
	}
	err = s.api.Close()
	storing, cancelStoring := context.WithTimeout(context.Background(), storingTimeout)
	defer cancelStoring()
	s.handlers.AwaitTransfers(storing)
	return err
}
