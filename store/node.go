package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// leaseTimeout ends a renewal without an answer, so that the next one uses a new connection.
	leaseTimeout = 5 * time.Second
	// reconnectGrace is how long after an outage clients may take to reopen streams that broke. The
	// server asks them to reconnect within 4 seconds.
	reconnectGrace = 8 * time.Second
)

// A lease is the lease of this process in the database (room.Lease).
type lease struct {
	// config is that of a connection outside the pools: a renewal must not wait for slow statements
	// or for an exhausted pool.
	config *pgx.ConnConfig

	mu   sync.Mutex // held during a renewal; guards conn
	conn *pgx.Conn  // nil if it is not connected

	state sync.Mutex // guards all below
	// own is the lease as of its last renewal, and startedAt is the time of the first one, by the
	// database's clock. Both are zero before this process is registered.
	own       room.Lease
	startedAt time.Time
	// leaving is set when this process is stopping.
	leaving bool
	// failing is set if the last renewal failed.
	failing bool
	// dead is set if the database contained dead nodes at the last renewal.
	dead bool
	// others is the number of nodes that have renewed their lease lately and are not stopping, and
	// living are the other nodes whose lease has not expired.
	others int
	living []room.NodeID
}

// A renewal is the result of the renewal of a lease.
type renewal struct {
	own    room.Lease  // as it is after the renewal
	lost   bool        // the node had been declared dead
	others []room.Node // all other nodes
	dead   bool        // some of them are dead
	now    time.Time   // by the database's clock
}

// RenewLease renews the lease of this node, and finds out whether the node was declared dead, which
// others are dead, and whether there are any. One process calls it from one goroutine every
// room.LeaseInterval, and not from that of Sweep, which can take longer.
func (s *Store) RenewLease(ctx context.Context) error {
	l := &s.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	s.epochs.serving.Store(true)
	reused := l.conn != nil
	r, err := s.renew(ctx)
	if err != nil && reused && ctx.Err() == nil {
		// PostgreSQL or the network may have closed the connection, for example because this
		// machine was suspended. Its streams must not wait for the next renewal.
		r, err = s.renew(ctx)
	}
	if err != nil {
		l.setFailing()
		return fmt.Errorf("lease of node %s: %w", s.nodeID, translate(err))
	}
	s.recordRenewal(r)
	return nil
}

// recordRenewal stores what a renewal found out, and acts on it.
func (s *Store) recordRenewal(r renewal) {
	if len(r.others) == 0 {
		s.sessions.trust(s.now())
	}
	s.lease.record(r)
	if r.lost {
		s.opts.Log.Warn("lease lost: another server declared this one dead, so its streams have to reconnect")
		s.resetState()
	}
}

// renew renews the lease over a connection of its own. Everything is decided from one reading of
// all nodes and of the database's clock (room.Lease), and written only if it is still so. If this
// process is frozen in between, it therefore harms nobody. The caller holds lease.mu.
func (s *Store) renew(ctx context.Context) (r renewal, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	l := &s.lease
	defer func() {
		if err != nil {
			l.disconnect()
		}
	}()
	if err := l.connect(ctx, s.checkEpoch); err != nil {
		return r, err
	}
	if err := s.readNodes(ctx, l.conn, &r); err != nil {
		return r, err
	}
	renewed := false
	if i := slices.IndexFunc(r.others, func(n room.Node) bool { return n.Node == s.nodeID }); i >= 0 {
		r.own = r.others[i].Lease
		r.others = slices.Delete(r.others, i, i+1)
		if renewed, err = s.writeLease(ctx, &r); err != nil {
			return r, err
		}
	}
	r.dead = slices.ContainsFunc(r.others, func(n room.Node) bool { return n.Dead() })
	if !renewed {
		r.lost = l.registered()
		err = s.register(ctx, &r)
	}
	return r, err
}

// readNodes reads all nodes and the database's clock in one statement.
func (s *Store) readNodes(ctx context.Context, conn rowsQuerier, r *renewal) error {
	before := s.clock.process()
	r.others = nil
	rows, err := conn.Query(ctx, `
		SELECT clock.now, coalesce(node_id::text, ''), coalesce(lease_until, clock.now), coalesce(steady_since, clock.now), dead_since,
			coalesce(name, ''), coalesce(version, ''), coalesce(started_at, clock.now), coalesce(leaving, false), settings
		FROM (SELECT clock_timestamp() AS now) clock LEFT JOIN nodes ON true`)
	if err != nil {
		return err
	}
	var (
		n         room.Node
		deadSince *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{
		&r.now, &n.Node, &n.Until, &n.SteadySince, &deadSince, &n.Name, &n.Version, &n.StartedAt, &n.Leaving, &n.Settings,
	}, func() error {
		if n.DeadSince = timeOrZero(deadSince); n.Node != "" {
			r.others = append(r.others, n)
		}
		n.Settings = nil // the next row gets a map of its own
		return nil
	})
	if err == nil {
		r.now = s.clock.accept(r.now, before)
	}
	return err
}

// writeLease renews the lease of this node, which it has read before, and then declares others
// dead. It reports false if this node itself was declared dead.
func (s *Store) writeLease(ctx context.Context, r *renewal) (renewed bool, err error) {
	before := r.own
	r.own = before.Renew(r.now)
	tag, err := s.lease.conn.Exec(ctx, "UPDATE nodes SET lease_until = $2, steady_since = $3, leaving = $4 WHERE node_id = $1 AND dead_since IS NULL",
		r.own.Node, r.own.Until, r.own.SteadySince, s.lease.isLeaving())
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	leases := make([]room.Lease, len(r.others))
	for i, other := range r.others {
		leases[i] = other.Lease
	}
	for _, dead := range before.DeclareDead(leases, r.now) {
		if err := s.declareDead(ctx, dead, r); err != nil {
			return false, err
		}
	}
	return true, nil
}

// declareDead declares a node dead, unless it has renewed its lease since it was read.
func (s *Store) declareDead(ctx context.Context, dead room.Lease, r *renewal) error {
	tag, err := s.lease.conn.Exec(ctx, "UPDATE nodes SET dead_since = $3 WHERE node_id = $1 AND lease_until = $2 AND dead_since IS NULL",
		dead.Node, dead.Until, dead.DeadSince)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	i := slices.IndexFunc(r.others, func(n room.Node) bool { return n.Node == dead.Node })
	r.others[i].Lease = dead
	s.opts.Log.Warn("server declared dead: it did not renew its lease", "server", r.others[i].String(), "since", dead.DeadSince)
	return nil
}

// lockRegistration makes nodes register one after the other, so that each sees those before it.
const lockRegistration = "SELECT pg_advisory_xact_lock(hashtextextended('nodes', 3))"

// register registers this node: at its start, or again after it was declared dead. The other nodes
// may not have detached all of its sessions by then, and stop doing so. If a setting differs from
// that of a living node, register returns a *room.SettingConflict.
func (s *Store) register(ctx context.Context, r *renewal) error {
	return pgx.BeginFunc(ctx, s.lease.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRegistration); err != nil {
			return err
		}
		if err := s.readNodes(ctx, tx, r); err != nil {
			return err
		}
		r.others = slices.DeleteFunc(r.others, func(n room.Node) bool { return n.Node == s.nodeID })
		if err := s.opts.Settings.Admit(r.others, r.now); err != nil {
			return err
		}
		r.own = room.NewLease(s.nodeID, r.now)
		_, err := tx.Exec(ctx, `
			INSERT INTO nodes (node_id, lease_until, steady_since, leaving, name, version, started_at, settings)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (node_id) DO UPDATE SET lease_until = excluded.lease_until, steady_since = excluded.steady_since,
				leaving = excluded.leaving, dead_since = NULL`,
			r.own.Node, r.own.Until, r.own.SteadySince, s.lease.isLeaving(), s.opts.NodeName, s.opts.Version,
			s.lease.started(r.now), s.opts.Settings)
		return err
	})
}

// conflictInterval is how often a node that starts looks whether a node with other settings lives.
const conflictInterval = 500 * time.Millisecond

// begin registers this node at its start. A node with other settings may have crashed, and its
// settings may have been changed since: begin waits until that node renews its lease, which is a
// *room.SettingConflict, or until the lease has expired.
func (s *Store) begin(ctx context.Context) (r renewal, err error) {
	var before, conflict *room.SettingConflict
	for {
		r, err = s.renew(ctx)
		if !errors.As(err, &conflict) {
			return r, err
		}
		switch {
		case before == nil || before.Node.Node != conflict.Node.Node:
			s.opts.Log.Info("waiting for another server, which has other settings and may have crashed",
				"server", conflict.Node.String(), "setting", conflict.Setting)
		case !before.Node.Until.Equal(conflict.Node.Until):
			return r, err
		}
		before, conflict = conflict, nil
		select {
		case <-time.After(conflictInterval):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// record stores the result of a renewal.
func (l *lease) record(r renewal) {
	l.state.Lock()
	defer l.state.Unlock()
	if l.startedAt.IsZero() {
		l.startedAt = r.own.SteadySince
	}
	l.own, l.failing, l.dead, l.others, l.living = r.own, false, r.dead, 0, nil
	for _, n := range r.others {
		if !n.Dead() && !n.Expired(r.now) {
			l.living = append(l.living, n.Node)
		}
		if n.Current(r.now) && !n.Leaving {
			l.others++
		}
	}
}

func (l *lease) setFailing() {
	l.state.Lock()
	defer l.state.Unlock()
	l.failing = true
}

// registered reports whether this process has registered as a node.
func (l *lease) registered() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return !l.startedAt.IsZero()
}

// started returns when this process was registered first, or now if it is not registered yet.
func (l *lease) started(now time.Time) time.Time {
	l.state.Lock()
	defer l.state.Unlock()
	if l.startedAt.IsZero() {
		return now
	}
	return l.startedAt
}

// deadNodes reports whether the database contained dead nodes at the last renewal.
func (l *lease) deadNodes() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.dead
}

// clientsReconnected reports whether clients whose streams broke in an outage have had time to
// reconnect. The outage is not over before the lease was renewed. now is the database's time.
func (l *lease) clientsReconnected(now time.Time) bool {
	l.state.Lock()
	defer l.state.Unlock()
	outage := !l.own.SteadySince.Equal(l.startedAt)
	return !l.failing && (!outage || now.Sub(l.own.SteadySince) >= reconnectGrace)
}

// steadyFor reports whether the lease has been renewed without a gap for a time: sweeps have then
// removed the members who have been gone for that long. now is the database's time.
func (l *lease) steadyFor(d time.Duration, now time.Time) bool {
	l.state.Lock()
	defer l.state.Unlock()
	return !l.failing && now.Sub(l.own.SteadySince) >= d
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

// MarkLeaving makes the next renewal record that this node is stopping, so that a successor that
// runs beside it is not reported as a mistake.
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

// NodeID returns the ID of this node.
func (s *Store) NodeID() room.NodeID { return s.nodeID }

// OtherNodes returns the other nodes whose lease had not expired at the last renewal, including
// those that are stopping.
func (s *Store) OtherNodes() []room.NodeID {
	s.lease.state.Lock()
	defer s.lease.state.Unlock()
	return s.lease.living
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
