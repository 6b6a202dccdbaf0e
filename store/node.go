package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A node is a process that holds streams. It renews a lease while it runs. When the lease expires,
// its sessions count as detached from that time on.
const (
	// leaseTime is the longest time until the crash of a node is noticed.
	leaseTime = 15 * time.Second
	// LeaseInterval is how often RenewLease has to be called. It allows a node several tries before
	// its lease expires, and makes it notice other nodes within sessionCacheTime.
	LeaseInterval = 2 * time.Second
	// leaseGap is the longest delay of a renewal that does not count as a gap. After a longer
	// delay, the database may have been unavailable to the other nodes too, so their leases mean
	// nothing until they had time to renew them. A node without a gap still has leaseTime-leaseGap
	// of its lease after such an outage.
	leaseGap = 5 * time.Second
	// leaseTimeout ends a renewal without an answer, so that the next one uses a new connection.
	leaseTimeout = 5 * time.Second
	// reconnectGrace is how long after an outage clients may take to reopen streams that broke. The
	// server asks them to reconnect within 4 seconds.
	reconnectGrace = 8 * time.Second
)

// A lease is the lease of this node.
type lease struct {
	// config is that of a connection outside the pools: a renewal must not wait for slow statements
	// or for an exhausted pool.
	config *pgx.ConnConfig

	mu   sync.Mutex // held during a renewal; guards conn
	conn *pgx.Conn  // nil if it is not connected

	state sync.Mutex // guards all below
	held  bool       // the node has had a row
	// leaving is set when this process is stopping.
	leaving bool
	// gapEndedAt is the time of the first renewal after the latest gap.
	gapEndedAt time.Time
	// others is the number of nodes that have renewed their lease lately and are not stopping.
	others int
}

// A renewal is what the database returns for a renewed lease.
type renewal struct {
	kept   bool // the node still had a row
	steady bool // without a gap
	others int  // all other nodes
	active int  // other nodes that have renewed their lease lately and are not stopping
}

// RenewLease renews the lease of this node, and finds out whether the node was declared dead and
// whether there are other nodes. One process calls it from one goroutine every LeaseInterval, and
// not from that of Sweep, which can take longer.
func (s *Store) RenewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	s.epochs.serving.Store(true)
	r, err := s.renew(ctx)
	if err != nil {
		s.lease.disconnect()
		return fmt.Errorf("lease of node %s: %w", s.nodeID, translate(err))
	}
	at := s.clock.process()
	s.sessions.setAlone(r.others == 0, s.now())
	if lost := s.lease.record(r, at); lost {
		s.opts.Log.Warn("lease lost: another server declared this one dead, so its streams have to reconnect")
		s.resetState()
	}
	return nil
}

// renew writes the lease over the connection of the lease. The caller holds lease.mu.
func (s *Store) renew(ctx context.Context) (r renewal, err error) {
	l := &s.lease
	if err := l.connect(ctx, s.checkEpoch); err != nil {
		return r, err
	}
	now, err := s.clock.read(ctx, l.conn)
	if err != nil {
		return r, err
	}
	// A lease that ends later than a new one was written before the database's clock was set back,
	// and counts as a gap too. A deleted row is inserted again.
	err = l.conn.QueryRow(ctx, `
		WITH before AS (
			SELECT steady_since, lease_until BETWEEN $2::timestamptz + $3::interval - $4::interval AND $2::timestamptz + $3::interval AS steady
			FROM nodes WHERE node_id = $1
		), renewed AS (
			INSERT INTO nodes (node_id, lease_until, steady_since, leaving) VALUES ($1, $2::timestamptz + $3::interval, $2, $5)
			ON CONFLICT (node_id) DO UPDATE SET lease_until = excluded.lease_until, leaving = excluded.leaving,
				steady_since = CASE WHEN (SELECT steady FROM before) THEN nodes.steady_since ELSE excluded.steady_since END
		)
		SELECT EXISTS (SELECT FROM before), coalesce((SELECT steady FROM before), false), count(*),
			count(*) FILTER (WHERE lease_until BETWEEN $2::timestamptz + $3::interval - $4::interval AND $2::timestamptz + $3::interval + $4::interval AND NOT leaving)
		FROM nodes WHERE node_id <> $1`, s.nodeID, now, leaseTime, leaseGap, l.isLeaving()).
		Scan(&r.kept, &r.steady, &r.others, &r.active)
	return r, err
}

// record stores the result of a renewal, and reports whether the node had been declared dead.
func (l *lease) record(r renewal, at time.Time) (lost bool) {
	l.state.Lock()
	defer l.state.Unlock()
	lost = l.held && !r.kept
	if l.held && !r.steady {
		l.gapEndedAt = at
	}
	l.held = true
	l.others = r.active
	return lost
}

// clientsReconnected reports whether clients whose streams broke in an outage have had time to
// reconnect.
func (l *lease) clientsReconnected(at time.Time) bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.gapEndedAt.IsZero() || at.Sub(l.gapEndedAt) >= reconnectGrace
}

func (l *lease) isLeaving() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.leaving
}

// connect connects unless there is a connection, and checks the new connection. The caller holds
// mu.
func (l *lease) connect(ctx context.Context, check func(context.Context, *pgx.Conn) error) (err error) {
	if l.conn != nil {
		return nil
	}
	if l.conn, err = pgx.ConnectConfig(ctx, l.config); err != nil {
		l.conn = nil
		return err
	}
	return check(ctx, l.conn)
}

// disconnect closes the connection, so that the next renewal opens a new one. The caller holds mu.
func (l *lease) disconnect() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.conn.Close(ctx) // the connection is not used again, even if this fails
	l.conn = nil
}

// MarkLeaving makes the next renewal record that this node is stopping, so that other nodes that stop
// do not move their streams to it.
func (s *Store) MarkLeaving() {
	s.lease.state.Lock()
	defer s.lease.state.Unlock()
	s.lease.leaving = true
}

// NodeStats describes this node in relation to the database and to other nodes.
type NodeStats struct {
	// Others is the number of other servers that use the same database and are not stopping.
	Others int
	// ClockAhead is how far the clock of this process is ahead of the database's.
	ClockAhead time.Duration
	// Timers is set if timers are running, because the clocks can be trusted.
	Timers bool
}

// NodeStats returns the state as of the last renewal.
func (s *Store) NodeStats() NodeStats {
	s.lease.state.Lock()
	others := s.lease.others
	s.lease.state.Unlock()
	timers := s.clock.checkTimers() == nil
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return NodeStats{Others: others, ClockAhead: s.clock.skew, Timers: timers}
}

// resetState clears the caches of this node and makes all streams reconnect, because what they are
// based on may be wrong.
func (s *Store) resetState() {
	s.sessions.evictAll()
	s.appender.evictAllFacts()
	s.opts.Reset()
}

// releaseLease detaches the sessions of this node at once, rather than when its lease expires. If
// PostgreSQL is unavailable, they are detached when the lease expires.
func (s *Store) releaseLease() {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	s.lease.disconnect()
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		WITH gone AS (DELETE FROM nodes WHERE node_id = $1)
		UPDATE sessions SET node_id = NULL, detached_at = $2 WHERE node_id = $1`, s.nodeID, s.now())
	if err != nil {
		s.opts.Log.Warn("lease not released", "error", err)
	}
}
