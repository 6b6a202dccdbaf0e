package store

import (
	"context"
	"fmt"
	"time"
)

// A node is a process that holds streams. It renews a lease while it lives;
// when the lease runs out its sessions count as detached from that instant.
const (
	// leaseTime is how late a node's sudden death is noticed at worst.
	leaseTime = 15 * time.Second
	// leaseRenewal leaves a node several tries before its lease runs out, and lets
	// it hear of others within knownFor.
	leaseRenewal = 2 * time.Second
)

func (s *Store) renewLease(ctx context.Context, now time.Time) error {
	until := now.Add(leaseTime)
	var others bool
	err := s.pool.QueryRow(ctx, `
		WITH renewed AS (
			INSERT INTO nodes (node_id, lease_until) VALUES ($1, $2)
			ON CONFLICT (node_id) DO UPDATE SET lease_until = excluded.lease_until
		) SELECT EXISTS (SELECT FROM nodes WHERE node_id <> $1)`, s.nodeID, until).Scan(&others)
	if err != nil {
		return fmt.Errorf("lease of node %s: %w", s.nodeID, translate(err))
	}
	s.leaseUntil = until
	s.known.alone(others, now)
	return nil
}

// dropLease detaches this node's sessions at once, rather than when the lease
// would run out. Where PostgreSQL is away the lease does it.
func (s *Store) dropLease() {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		WITH gone AS (DELETE FROM nodes WHERE node_id = $1)
		UPDATE sessions SET node_id = NULL, detached_at = $2 WHERE node_id = $1`, s.nodeID, s.now())
	if err != nil {
		s.o.Log.Warn("the node's lease could not be given back", "error", err)
	}
}

// detachOrphans detaches the sessions of nodes whose lease ran out.
func (s *Store) detachOrphans(ctx context.Context, now time.Time) error {
	_, err := s.pool.Exec(ctx, `
		WITH dead AS (
			SELECT node_id, lease_until FROM nodes WHERE lease_until <= $1 FOR NO KEY UPDATE SKIP LOCKED
		), gone AS (
			DELETE FROM nodes USING dead WHERE nodes.node_id = dead.node_id
		)
		UPDATE sessions s SET node_id = NULL, detached_at = dead.lease_until
		FROM dead WHERE s.node_id = dead.node_id`, now)
	return translate(err)
}
