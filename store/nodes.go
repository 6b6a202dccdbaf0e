package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Now returns the time by the database's clock.
func (s *Store) Now() time.Time { return s.now() }

// Heard evicts what this node has cached about the sessions of a change that another node
// committed, and wakes the readers of the feed. It does not block.
func (s *Store) Heard(c room.Change) {
	s.sessions.evictChanged(c)
	s.wakeFeed(c)
}

// wakeFeed wakes the readers of the feed after a change of any node. A new stream writes no event,
// and a herd of them must not make the readers look for one.
func (s *Store) wakeFeed(c room.Change) {
	if len(c.Opened) == 0 {
		s.committed.raise()
	}
}

// HeardAll records that this node hears all others, so that what it caches can be used for longer.
// It is called about once a second, and does not block.
func (s *Store) HeardAll() { s.sessions.trust(s.now()) }

// Missed evicts everything that another node may have changed. It is called when changes of
// other nodes may have been missed. It does not block.
func (s *Store) Missed() {
	s.sessions.evictAll()
	s.committed.raise()
}

// Nodes returns the nodes that are registered, in the order of their start, at most
// room.MaxListedNodes. Errors: room.ErrUnavailable.
func (s *Store) Nodes(ctx context.Context) ([]room.ListedNode, error) {
	nodes, err := listNodes(ctx, s.pool)
	return nodes, translate(err)
}

// ListNodes returns the nodes that are registered in a database, and the time by its clock. It is
// for a program that is not a node. Errors: those of CheckMigrated.
func ListNodes(ctx context.Context, url string) (nodes []room.ListedNode, now time.Time, err error) {
	conn, err := connectMigrated(ctx, url, "parlor nodes")
	if err != nil {
		return nil, now, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return nil, now, translate(err)
	}
	nodes, err = listNodes(ctx, conn)
	return nodes, now, translate(err)
}

func listNodes(ctx context.Context, from rowsQuerier) ([]room.ListedNode, error) {
	rows, err := from.Query(ctx, `
		SELECT node_id, name, version, started_at, lease_until, dead_since, leaving,
			(SELECT count(*) FROM sessions s WHERE s.node_id = n.node_id)
		FROM nodes n ORDER BY started_at, node_id LIMIT $1`, room.MaxListedNodes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (n room.ListedNode, err error) {
		var deadSince *time.Time
		err = row.Scan(&n.Lease.Node, &n.Name, &n.Version, &n.StartedAt, &n.Until, &deadSince, &n.Leaving, &n.Streams)
		n.DeadSince = timeOrZero(deadSince)
		return n, err
	})
}

// LogEnds returns the seqs of the newest events of logs. Logs that do not exist any more are left
// out. Errors: room.ErrUnavailable.
func (s *Store) LogEnds(ctx context.Context, logs []room.LogID) ([]room.Position, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT generation, last_seq FROM logs WHERE generation = ANY ($1)
		UNION ALL SELECT log, last_seq FROM inboxes WHERE log = ANY ($1)`, logs)
	if err != nil {
		return nil, translate(err)
	}
	ends, err := pgx.CollectRows(rows, pgx.RowToStructByPos[room.Position])
	return ends, translate(err)
}

// Standings returns what the database says about sessions, one standing for each. Errors:
// room.ErrUnavailable.
func (s *Store) Standings(ctx context.Context, sessions []room.SessionID) ([]room.Standing, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT i.id, coalesce(s.ended_at IS NOT NULL, true), coalesce(s.stream_no, 0), s.token_expires_at,
			ARRAY (SELECT stay FROM attendances a WHERE a.session_id = i.id ORDER BY stay)
		FROM unnest($1::uuid[]) AS i (id) LEFT JOIN sessions s ON s.session_id = i.id`, sessions)
	if err != nil {
		return nil, translate(err)
	}
	standings, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (st room.Standing, err error) {
		var expiresAt *time.Time
		err = row.Scan(&st.Session, &st.Ended, &st.StreamNo, &expiresAt, &st.Presences)
		st.TokenExpiresAt = timeOrZero(expiresAt)
		return st, err
	})
	return standings, translate(err)
}
