package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A node is a process that holds streams. It renews a lease while it lives;
// when the lease runs out its sessions count as detached from that instant.
const (
	// leaseTime is how late a node's sudden death is noticed at worst.
	leaseTime = 15 * time.Second
	// LeaseInterval is how often RenewLease is to be called. It leaves a node several
	// tries before its lease runs out, and lets it hear of others within sessionCacheTime.
	LeaseInterval = 2 * time.Second
	// leaseGap is how late a renewal may be and count as no gap. Where renewals
	// were later, the database may have been away for the other nodes too, and
	// their leases say nothing until they had time to renew them. Whoever is
	// within the gap keeps a lease for leaseTime-leaseGap after the outage.
	leaseGap = 5 * time.Second
	// leaseTimeout ends a renewal that gets no answer, so that the next one tries
	// over a new connection.
	leaseTimeout = 5 * time.Second
	// reconnecting is how long clients have, after an outage, to open a stream
	// again that broke meanwhile: they are told to try again within 4 s.
	reconnectGrace = 8 * time.Second
	// othersAllowed is how long another living node may be there unmentioned: as
	// long as two servers overlap when one replaces the other.
	othersGrace = time.Minute
)

// lease is this node's.
type lease struct {
	// config is of a connection beside the pool: renewing must not wait behind
	// statements that take long, or for a pool that is exhausted.
	config *pgx.ConnConfig

	mu   sync.Mutex // held during a renewal; guards conn
	conn *pgx.Conn  // nil where there is none

	state sync.Mutex // guards all below
	held  bool       // the node has had a row
	// leaving says that this process is stopping.
	leaving bool
	// backAt is when the first renewal after a gap was written.
	gapEndedAt time.Time
	// others is how many nodes renewed their lease lately and do not stop;
	// othersSince is since when there are any, and toldAt when that was logged.
	others                      int
	othersSince, othersLoggedAt time.Time
}

// renewal is what the database says of a renewed lease.
type renewal struct {
	kept   bool // the node still had its row
	steady bool // without a gap
	known  int  // other nodes, whatever becomes of them
	living int  // other nodes that renewed their lease lately and do not stop
}

// RenewLease renews the node's lease, and finds out whether this node was declared
// dead or has others beside it. One process calls it from one goroutine every
// LeaseInterval, beside Sweep, which may take long.
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
	s.sessions.setAlone(r.known == 0, s.now())
	if lost := s.lease.record(r, at); lost {
		s.opts.Log.Warn("this server was declared dead by another one; its streams have to reconnect")
		s.resetState()
	}
	s.warnOfOthers(at)
	return nil
}

// renew writes the lease over its own connection. The caller holds lease.mu.
func (s *Store) renew(ctx context.Context) (r renewal, err error) {
	l := &s.lease
	if err := l.connect(ctx, s.checkEpoch); err != nil {
		return r, err
	}
	now, err := s.clock.read(ctx, l.conn)
	if err != nil {
		return r, err
	}
	// A lease that ends later than one that is written now is of a clock that was set
	// back, and tells of a gap as well. A row that is gone is made anew.
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
		Scan(&r.kept, &r.steady, &r.known, &r.living)
	return r, err
}

// renewed notes a renewal, and reports whether the node had been declared dead.
func (l *lease) record(r renewal, at time.Time) (lost bool) {
	l.state.Lock()
	defer l.state.Unlock()
	lost = l.held && !r.kept
	if l.held && !r.steady {
		l.gapEndedAt = at
	}
	l.held = true
	l.others = r.living
	switch {
	case l.others == 0:
		l.othersSince, l.othersLoggedAt = time.Time{}, time.Time{}
	case l.othersSince.IsZero():
		l.othersSince = at
	}
	return lost
}

// warnOfOthers logs once a minute that another server is at the same database.
func (s *Store) warnOfOthers(at time.Time) {
	l := &s.lease
	l.state.Lock()
	others := l.others
	due := others > 0 && at.Sub(l.othersSince) >= othersGrace && (l.othersLoggedAt.IsZero() || at.Sub(l.othersLoggedAt) >= time.Minute)
	if due {
		l.othersLoggedAt = at
	}
	l.state.Unlock()
	if due {
		s.opts.Log.Error("another server runs on the same database: what is sent through one does not reach the streams of the other; run one server for one database",
			"otherNodes", others)
	}
}

// isBack reports whether clients whose streams broke in an outage have had time
// to come back.
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

// connect makes the connection where there is none, and looks at it. The caller holds
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

// hangUp closes the connection, for the next renewal to make another. The caller
// holds mu.
func (l *lease) disconnect() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.conn.Close(ctx) // it is of no use any more, whatever comes of this
	l.conn = nil
}

// MarkLeaving makes the node say, with its next renewal, that it stops: a successor
// beside it is no mistake.
func (s *Store) MarkLeaving() {
	s.lease.state.Lock()
	defer s.lease.state.Unlock()
	s.lease.leaving = true
}

// NodeStats is how this node stands beside the database and other nodes.
type NodeStats struct {
	// Others is how many other servers run on the same database and do not stop.
	Others int
	// ClockAhead is how far this process's clock is ahead of the database's.
	ClockAhead time.Duration
	// Timers says that timers are served: the clocks can be trusted.
	Timers bool
}

// NodeStats is as of the last renewal.
func (s *Store) NodeStats() NodeStats {
	s.lease.state.Lock()
	others := s.lease.others
	s.lease.state.Unlock()
	timers := s.clock.checkTimers() == nil
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return NodeStats{Others: others, ClockAhead: s.clock.skew, Timers: timers}
}

// startOver forgets what this node knows, and has all streams opened anew: what
// it knows may not be so any more.
func (s *Store) resetState() {
	s.sessions.evictAll()
	s.appender.evictAllTargets()
	s.opts.Reset()
}

// dropLease detaches this node's sessions at once, rather than when the lease
// would run out. Where PostgreSQL is away the lease does it.
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
		s.opts.Log.Warn("the node's lease could not be given back", "error", err)
	}
}
