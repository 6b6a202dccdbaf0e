package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// TestLockQueue: two transactions at a time may want the same lock. Calls behind them wait here and
// fail with them, other locks are not affected, and a call that gives up leaves no trace.
func TestLockQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newLockQueue(4)
		locked := &pgconn.PgError{Code: "55P03"}
		var inside atomic.Int32
		run := func(ctx context.Context, result error, keys ...lockKey) <-chan error {
			done := make(chan error, 1)
			go func() {
				done <- g.run(ctx, keys, func() error {
					inside.Add(1)
					<-time.After(time.Second)
					inside.Add(-1)
					return result
				})
			}()
			synctest.Wait()
			return done
		}
		first, second := run(t.Context(), locked, roomKey("stalled")), run(t.Context(), locked, roomKey("stalled"), sessionKey("s"))
		waiting := run(t.Context(), nil, roomKey("stalled"))
		ctx, giveUp := context.WithCancel(t.Context())
		cancelled := run(ctx, nil, roomKey("stalled"))
		if n := inside.Load(); n != 2 {
			t.Errorf("%d transactions are in flight, want 2", n)
		}
		giveUp()
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that gave up: %v", err)
		}
		if err := g.run(t.Context(), []lockKey{roomKey("other")}, func() error { return nil }); err != nil {
			t.Errorf("another room: %v", err)
		}
		for _, c := range []<-chan error{first, second} {
			if err := <-c; !lockRefused(err) {
				t.Errorf("a transaction that got no lock: %v", err)
			}
		}
		if err := <-waiting; !errors.Is(err, room.ErrUnavailable) || !errors.Is(err, errLocked) {
			t.Errorf("a call that waited behind it: %v", err)
		}
		all := make([]<-chan error, 6)
		for i := range all { // one after the other, once the lock is free
			all[i] = run(t.Context(), nil, roomKey("stalled"))
		}
		for _, c := range all {
			if err := <-c; err != nil {
				t.Errorf("afterwards: %v", err)
			}
		}
		if len(g.keys) > 0 || len(g.inFlight) > 0 {
			t.Errorf("%d locks and %d transactions are left", len(g.keys), len(g.inFlight))
		}
	})
}
