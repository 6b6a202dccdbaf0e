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
	// healthCacheTime is how long the result of a health check is reused: load balancers ask often,
	// and each one by itself.
	healthCacheTime = time.Second
	// healthTimeout is how long PostgreSQL may take to answer a health check.
	healthTimeout = 2 * time.Second
	// reconnectPause is the minimum time between two replacements of all connections, so that a
	// database that stays read-only is not kept busy with new ones.
	reconnectPause = 5 * time.Second
)

// ErrReadOnly means that the database accepts no writes.
var ErrReadOnly = errors.New("the database accepts no writes: it is a standby, or set to read-only")

// health is the result of the last check of the database.
type health struct {
	mu      sync.Mutex // held during a check; guards checked and err
	checked time.Time
	err     error

	resetMu   sync.Mutex // guards lastReset
	lastReset time.Time  // when all connections were last replaced
}

// Ping reports whether the database can serve: it answers, accepts writes, lets Parlor's tables be
// read, has this program's schema, and no pooler gives connections to other clients between
// transactions. The result may be a second old. Errors: room.ErrUnavailable, ErrReadOnly,
// ErrPooledTransactions, ErrNotMigrated, ErrNewerSchema.
func (s *Store) Ping(ctx context.Context) error {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < healthCacheTime {
		return h.err
	}
	// Callers that wait get the same result, so the check does not end with this caller's context.
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

// check tests everything that a message needs.
func (s *Store) check(ctx context.Context) error {
	// The pooler is checked first, without prepared statements: behind one that is not in session mode,
	// those of the other checks may fail in ways that do not name it.
	if err := checkPooler(ctx, s.pool, 1); err != nil {
		return translate(err)
	}
	if err := s.CheckSchema(ctx); err != nil {
		return err
	}
	var writable bool
	// The query reads no rows: it only tests whether the tables may be read.
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

// reconnect replaces all connections as they become idle, because the name of the database may now
// lead to another server.
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
