package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sent is what was sent to a room.
type sent struct {
	numbers  atomic.Int64 // given out
	messages atomic.Int64 // acknowledged
	sum      atomic.Int64 // of the acknowledged ones' numbers
}

// senders send messages to the rooms in turn: at a fixed rate, or each the next as soon as the last is answered.
type senders struct {
	*run
	turn atomic.Int64
	// behind is the longest that a message was sent after its time, in nanoseconds. Latencies do not include it.
	behind atomic.Int64
	failed chan error
}

func newSenders(r *run) *senders {
	return &senders{run: r, failed: make(chan error, r.Senders)} // room for all: nobody may be listening
}

// start lets the senders begin. The returned function stops them and waits until each message under way is answered.
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

// work is one sender. With a rate, a sender that is free takes the next ticket, whose number says when it is due.
func (s *senders) work(ctx context.Context, stopping <-chan struct{}, began int64, tickets *atomic.Int64) error {
	address, err := s.Target.address()
	if err != nil {
		return err
	}
	c := newCaller(address)
	defer c.close()
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
		select {
		case <-stopping:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		if request, err = s.sendOne(ctx, c, request[:0]); err != nil {
			return err
		}
	}
}

// sendOne sends the next message, and returns the request's buffer.
func (s *senders) sendOne(ctx context.Context, c *caller, request []byte) ([]byte, error) {
	turn := int(s.turn.Add(1) - 1)
	h := s.halls[turn%len(s.halls)]
	n := h.sent.numbers.Add(1)
	var stamp [stampBytes]byte
	request = s.Target.appendMessage(request, h, turn/len(s.halls), appendStamp(stamp[:0], n, s.clock.now()))
	for deadline := time.Now().Add(patience); ; {
		// Not even an interruption cuts a call off: nobody would know whether the message is on its way.
		status, reply, err := c.call(context.WithoutCancel(ctx), request)
		switch {
		case err == nil && status >= 200 && status < 300:
			h.sent.messages.Add(1)
			h.sent.sum.Add(n)
			return request, nil
		case (err != nil || status == 503) && s.Target.again() && time.Now().Before(deadline):
			// The server is away for the moment.
			if err := s.pause(ctx, 50*time.Millisecond); err != nil {
				return request, nil //nolint:nilerror // who ended the context says why
			}
		case err != nil:
			return request, fmt.Errorf("send a message: %w", err)
		default:
			return request, s.Target.refused(status, reply)
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

// raise sets a maximum.
func raise(m *atomic.Int64, to int64) {
	for old := m.Load(); to > old; old = m.Load() {
		if m.CompareAndSwap(old, to) {
			return
		}
	}
}
