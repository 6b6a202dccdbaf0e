package main

import (
	"context"
	"errors"
	"time"
)

const (
	// minSpread is the time over which streams are sent away, where PARLOR_DRAIN allows it, and movesPerSecond how many of
	// them the other servers are asked to take in a second where there are more than minSpread is enough for.
	minSpread      = 4 * time.Second
	movesPerSecond = 2500
	// lastCallsTimeout is how long calls may go on once the port is closed. From then on clients are shut out, so it is short:
	// what is cut is sent again by its client.
	lastCallsTimeout = 2 * time.Second
	// replyGrace is what net/http takes to write replies whose handlers have returned.
	replyGrace = 100 * time.Millisecond
	// storingTimeout is how long uploads that were cut off may take to store what came of them.
	storingTimeout = time.Second
)

// shutdown lets clients move away while the server serves on, closes the port, and cuts off what is left. A server that is
// alone ends its streams last and at once, as its clients are away until the next one is up; beside others it ends them one
// by one, and each is back at another server within an instant. delay is how long it goes on as before but for /readyz; it
// is a part of drain, half at most.
func (s *service) shutdown(drain, delay time.Duration) error {
	s.draining.Store(true)
	s.store.MarkLeaving()
	s.handlers.Leave()
	delay = min(delay, drain/2)
	s.log.Info("stopping", "streams", s.hub.Stats().Streams, "transfers", s.handlers.Transfers(), "delay", delay.String())
	<-time.After(delay) // a second signal ends the program

	ctx, cancel := context.WithTimeout(context.Background(), drain-delay)
	defer cancel()
	if others := s.store.NodeStats().Others; others > 0 {
		streams := s.hub.Stats().Streams
		spread := min(drain-delay, max(minSpread, time.Duration(streams)*time.Second/movesPerSecond))
		s.log.Info("streams are sent to other servers", "streams", streams, "others", others, "spread", spread.String())
		s.handlers.Drain(spread)
		s.hub.Drain(ctx, spread)
	}
	s.handlers.AwaitTransfers(ctx)

	err := s.closeAPI()
	if s.ops != nil {
		err = errors.Join(err, s.ops.Close()) // last: until now it tells how the end goes
	}
	return err
}

// closeAPI closes the port, ends streams and feeds, and waits for calls, but not for transfers, which may take minutes: they
// can be resumed, and the next server may be waiting for the data folder.
func (s *service) closeAPI() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastCallsTimeout)
	defer cancel()
	ended := make(chan struct{})
	s.api.RegisterOnShutdown(func() { // called once the port is closed, so that nobody comes back to this server
		defer close(ended)
		s.handlers.End()
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
