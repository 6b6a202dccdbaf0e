package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sent counts the messages that were sent to a room.
type sent struct {
	numbers  atomic.Int64 // number of the last message
	messages atomic.Int64 // acknowledged
	sum      atomic.Int64 // of the numbers of acknowledged messages
}

// senders send messages to the rooms in turn: at a fixed rate, or each sender again as soon as it
// gets a reply.
type senders struct {
	*run
	turn atomic.Int64
	// behind is the maximum delay with which a message was sent, in nanoseconds. Latencies do not
	// include it.
	behind atomic.Int64
	failed chan error
	window window
}

// window limits how many messages are on their way to the streams.
type window struct {
	mu sync.Mutex // guards all below; held while a sender waits, so that the others wait behind it
	// sent is the number of deliveries of the messages that were sent, and missing how many of them
	// do not count any more.
	sent, missing int64
}

// enter waits until fewer messages than allowed are on their way. If nothing is delivered for a
// second, the messages were shed or lost, and are not waited for.
func (w *window) enter(ctx context.Context, r *run, stopping <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	each := int64(len(r.streams) / len(r.rooms))
	ticker := time.NewTicker(200 * time.Microsecond)
	defer ticker.Stop()
	last, since := int64(-1), time.Now()
	for {
		got := r.readers.tally().messages
		if w.sent-w.missing-got <= int64(r.Undelivered-1)*each {
			break
		}
		if got != last {
			last, since = got, time.Now()
		} else if time.Since(since) > shedTimeout {
			w.missing = w.sent - got
		}
		select {
		case <-ticker.C:
		case <-stopping:
			return
		case <-ctx.Done():
			return
		}
	}
	w.sent += each
}

func newSenders(r *run) *senders {
	// The channel has room for an error of each sender, because nothing may be receiving.
	return &senders{run: r, failed: make(chan error, r.Senders)}
}

// start starts the senders. The returned function stops them and waits for the replies to all
// messages in flight.
func (s *senders) start(ctx context.Context) (stop func() error) {
	stopping := make(chan struct{})
	began := s.clock.now()
	var (
		done    sync.WaitGroup
		tickets atomic.Int64
	)
	for range s.Senders {
		done.Go(func() {
			if err := s.work(ctx, stopping, began, &tickets); err != nil {
				s.failed <- err
			}
		})
	}
	return func() error {
		close(stopping)
		done.Wait()
		select {
		case err := <-s.failed:
			return err
		default:
			return nil
		}
	}
}

// work sends messages until stopping is closed. If there is a rate, it takes a ticket before each
// message, whose number determines when to send.
func (s *senders) work(ctx context.Context, stopping <-chan struct{}, began int64, tickets *atomic.Int64) error {
	callers := make([]*caller, len(s.servers))
	for i, address := range s.servers {
		callers[i] = newCaller(address)
		defer callers[i].close()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var request []byte
	for {
		if s.Rate > 0 {
			due := began + int64(float64(tickets.Add(1)-1)*float64(time.Second)/s.Rate)
			timer.Reset(time.Duration(due - s.clock.now()))
			select {
			case <-timer.C:
			case <-stopping:
				return nil
			case <-ctx.Done():
				return nil
			}
			raise(&s.behind, s.clock.now()-due)
		}
		if s.Undelivered > 0 {
			s.window.enter(ctx, s.run, stopping)
		}
		select {
		case <-stopping:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		var err error
		if request, err = s.sendOne(ctx, callers, request[:0]); err != nil {
			return err
		}
	}
}

// sendOne sends the next message, and returns the buffer of the request.
func (s *senders) sendOne(ctx context.Context, callers []*caller, request []byte) ([]byte, error) {
	turn := int(s.turn.Add(1) - 1)
	rm := s.rooms[turn%len(s.rooms)]
	n := rm.sent.numbers.Add(1)
	server := rm.serverOf(n, len(callers))
	var stamp [stampBytes]byte
	request = s.Target.appendMessage(request, rm, server, turn/len(s.rooms), appendStamp(stamp[:0], n, s.clock.now()))
	for deadline := time.Now().Add(settleTimeout); ; {
		// An interruption does not cancel a call, because it would be unknown whether the message
		// is in flight.
		status, reply, err := callers[server].call(context.WithoutCancel(ctx), request)
		switch {
		case err == nil && status >= 200 && status < 300:
			rm.sent.messages.Add(1)
			rm.sent.sum.Add(n)
			return request, nil
		case (err != nil || status == 503) && s.Target.canRetry() && time.Now().Before(deadline):
			// The server is unavailable.
			if err := s.pause(ctx, 50*time.Millisecond); err != nil {
				return request, nil //nolint:nilerror // the caller knows that the context has ended
			}
		case err != nil:
			return request, fmt.Errorf("send a message: %w", err)
		default:
			return request, s.Target.rejected(status, reply)
		}
	}
}

func (s *senders) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// raise sets m to a value if the value is greater.
func raise(m *atomic.Int64, to int64) {
	for old := m.Load(); to > old; old = m.Load() {
		if m.CompareAndSwap(old, to) {
			return
		}
	}
}
