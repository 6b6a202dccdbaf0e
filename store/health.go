package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parlor/room"
)

const (
	// healthKept is how long the answer of a health check is given again: balancers ask
	// often, and each for itself.
	healthCacheTime = time.Second
	// healthTimeout is how long PostgreSQL may take to answer a health check.
	healthTimeout = 2 * time.Second
	// reconnectPause is the least time between two times that all connections are made
	// anew, so that a database that stays read-only is not kept busy with them.
	reconnectPause = 5 * time.Second
)

// ErrReadOnly says that the database takes no writes.
var ErrReadOnly = errors.New("the database takes no writes: it is a standby, or set to be read-only")

// health is what the last check of the database found.
type health struct {
	mu      sync.Mutex // held during a check; guards checked and err
	checked time.Time
	err     error

	resetMu   sync.Mutex // guards reset
	lastReset time.Time  // when all connections were made anew
}

// Ping reports whether the database can serve: it answers, takes writes, lets Parlor's
// tables be read, has this program's schema, and no pooler gives connections to others
// between transactions. The answer may be a second old. Errors: room.ErrUnavailable,
// ErrReadOnly, ErrPooledTransactions, ErrNotMigrated, ErrNewerSchema.
func (s *Store) Ping(ctx context.Context) error {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < healthCacheTime {
		return h.err
	}
	// Whoever waits gets the same answer, so it does not end with this one's patience.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()
	err := s.check(ctx)
	switch {
	case err != nil && h.err == nil:
		s.opts.Log.Error("health check failed", "component", "database", "error", err)
	case err == nil && h.err != nil:
		s.opts.Log.Info("health check succeeds again", "component", "database")
	}
	h.checked, h.err = time.Now(), err
	return err
}

// check asks for what every send needs.
func (s *Store) check(ctx context.Context) error {
	if err := s.CheckSchema(ctx); err != nil {
		return err
	}
	if err := checkPooler(ctx, s.pool, 1); err != nil {
		return translate(err)
	}
	var writable bool
	// The rows are nobody's: what is asked is whether the tables may be read.
	err := s.pool.QueryRow(ctx, `
		SELECT NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::boolean,
			(SELECT count(*) FROM (SELECT FROM rooms LIMIT 0) r, (SELECT FROM logs LIMIT 0) l, (SELECT FROM events LIMIT 0) e,
				(SELECT FROM sessions LIMIT 0) s)`).Scan(&writable, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the database cannot be read (%w)", room.ErrUnavailable, err)
	case !writable:
		s.reconnect()
		return ErrReadOnly
	}
	return nil
}

// reconnect has all connections made anew as they come free: the name of the database
// may lead to another server by now.
func (s *Store) reconnect() {
	h := &s.health
	h.resetMu.Lock()
	defer h.resetMu.Unlock()
	if time.Since(h.lastReset) < reconnectPause {
		return
	}
	h.lastReset = time.Now()
	s.pool.Reset()
	s.appends.Reset()
}
