package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Detach marks the session as detached since a time of this process's clock, unless a newer stream
// of the session was opened meanwhile. It neither blocks nor fails: a write that PostgreSQL does
// not accept is retried.
func (s *Store) Detach(id room.SessionID, streamNo int64, at time.Time) {
	s.detacher.add(detachment{id, streamNo, room.InstantOf(s.clock.databaseTime(at)).Time()})
}

// DetachStrays detaches the sessions that are online on this node according to the database, but
// have no stream here. They exist if the connection was lost while OpenStream committed: nobody has
// the number of the stream, so nobody can report its end. It also detaches sessions that are online
// on a node that no longer exists. Such a node opened streams after it was declared dead and before
// it noticed, and then crashed.
func (s *Store) DetachStrays(ctx context.Context, open func(room.SessionID) bool) error {
	_, err := s.pool.Exec(ctx, `UPDATE sessions s SET node_id = NULL, detached_at = $1
		WHERE node_id IS NOT NULL AND NOT EXISTS (SELECT FROM nodes n WHERE n.node_id = s.node_id)`, s.now())
	if err != nil {
		return translate(err)
	}
	now := s.clock.process()
	rows, err := s.pool.Query(ctx, "SELECT session_id, stream_no FROM sessions WHERE node_id = $1", s.nodeID)
	if err != nil {
		return translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			id       room.SessionID
			streamNo int64
		)
		if err := rows.Scan(&id, &streamNo); err != nil {
			return translate(err)
		}
		if !open(id) {
			s.Detach(id, streamNo, now)
		}
	}
	return translate(rows.Err())
}

// A detachment is the end of a session's stream.
type detachment struct {
	session  room.SessionID
	streamNo int64
	at       time.Time
}

// A detacher writes detachments in batches: when a proxy fails, ten thousand streams end at once.
type detacher struct {
	store *Store

	mu      sync.Mutex // guards waiting and closed
	waiting []detachment
	closed  bool
	wake    *sync.Cond

	stop context.CancelFunc
	done chan struct{} // closed when run returns
}

// detachRetry is the pause before a failed batch is retried. The sessions stay online in the
// database meanwhile, but the time at which they were detached is not lost.
const detachRetry = 500 * time.Millisecond

func newDetacher(s *Store) *detacher {
	ctx, stop := context.WithCancel(context.Background())
	d := &detacher{store: s, stop: stop, done: make(chan struct{})}
	d.wake = sync.NewCond(&d.mu)
	go d.run(ctx)
	return d
}

func (d *detacher) add(detached detachment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, detached)
	d.wake.Signal()
}

// close writes the waiting detachments once, and ends the detacher. If a write fails, the sessions
// are detached when the lease of this node expires.
func (d *detacher) close() {
	d.mu.Lock()
	d.closed = true
	d.wake.Signal()
	d.mu.Unlock()
	time.AfterFunc(transactionTimeout, d.stop)
	<-d.done
	d.stop()
}

func (d *detacher) run(ctx context.Context) {
	defer close(d.done)
	for {
		d.mu.Lock()
		for len(d.waiting) == 0 && !d.closed {
			d.wake.Wait()
		}
		waiting, closed := d.waiting, d.closed
		d.waiting = nil
		d.mu.Unlock()
		left, err := d.writeAll(ctx, waiting)
		if closed {
			return // sessions that are left are detached when the lease expires
		}
		if len(left) == 0 {
			continue
		}
		if err != nil { // without an error, the rows are only locked by other transactions
			d.store.opts.Log.Warn("detach failed: retrying", "sessions", len(left), "error", err)
		}
		d.mu.Lock()
		d.waiting = append(left, d.waiting...)
		d.mu.Unlock()
		select {
		case <-time.After(detachRetry):
		case <-ctx.Done():
			return
		}
	}
}

// detachBatch bounds how many sessions one transaction detaches.
const detachBatch = 500

// writeAll writes detachments in batches. It returns those that have to be retried: their rows are
// locked by others, or PostgreSQL did not accept them.
func (d *detacher) writeAll(ctx context.Context, all []detachment) (left []detachment, err error) {
	for batch := range slices.Chunk(all, detachBatch) {
		retry, failed := d.write(ctx, batch)
		if failed != nil {
			retry, err = batch, failed
		}
		left = append(left, retry...)
	}
	return left, err
}

// detachSessions detaches sessions, except those whose rows are locked, so that the others of the
// batch do not wait for them. The condition on node_id is written so that the planner does not use
// the index of sessions with a node.
const detachSessions = `
	WITH ended AS MATERIALIZED (
		SELECT s.session_id, e.at FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS e (session_id, stream_no, at)
		JOIN sessions s ON s.session_id = e.session_id
		WHERE s.stream_no = e.stream_no AND (s.node_id IS NULL)::int = 0 FOR NO KEY UPDATE OF s SKIP LOCKED
	)
	UPDATE sessions s SET node_id = NULL, detached_at = e.at FROM ended e WHERE s.session_id = e.session_id
	RETURNING s.session_id`

// write detaches a batch in one statement, and returns the detachments whose rows are locked.
func (d *detacher) write(ctx context.Context, batch []detachment) (locked []detachment, err error) {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	ids, nos, times := make([]room.SessionID, len(batch)), make([]int64, len(batch)), make([]time.Time, len(batch))
	for i, one := range batch {
		ids[i], nos[i], times[i] = one.session, one.streamNo, one.at
	}
	rows, err := d.store.pool.Query(ctx, detachSessions, ids, nos, times)
	if err != nil {
		return nil, err
	}
	done, err := pgx.CollectRows(rows, pgx.RowTo[room.SessionID])
	if err != nil || len(done) == len(batch) {
		return nil, err
	}
	detached := make(map[room.SessionID]bool, len(done))
	for _, id := range done {
		detached[id] = true
	}
	return d.stillOnline(ctx, slices.DeleteFunc(slices.Clone(batch), func(one detachment) bool { return detached[one.session] }))
}

// stillOnline returns the detachments whose sessions are still online with the same stream, because
// their rows are locked. Most of those that were missed belong to sessions that have ended or have
// a newer stream.
func (d *detacher) stillOnline(ctx context.Context, missed []detachment) (locked []detachment, err error) {
	ids, nos := make([]room.SessionID, len(missed)), make([]int64, len(missed))
	for i, m := range missed {
		ids[i], nos[i] = m.session, m.streamNo
	}
	rows, err := d.store.pool.Query(ctx, `
		SELECT i.n FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS i (session_id, stream_no, n)
		CROSS JOIN LATERAL (
			SELECT FROM sessions WHERE session_id = i.session_id AND stream_no = i.stream_no AND (node_id IS NULL)::int = 0 LIMIT 1
		) s`, ids, nos)
	if err != nil {
		return nil, err
	}
	var n int
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error {
		locked = append(locked, missed[n-1])
		return nil
	})
	return locked, err
}

// detachOrphans detaches the sessions of dead nodes, since the time at which their nodes count as
// dead. The row of a node is deleted when it has no sessions left. A session that another
// transaction has locked is detached by a later sweep.
func (s *Store) detachOrphans(ctx context.Context) error {
	if !s.lease.deadNodes() {
		return nil
	}
	for range sweepBatches {
		detached, err := s.detachOrphanBatch(ctx) // the last call deletes the nodes
		if err != nil || detached == 0 {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

func (s *Store) detachOrphanBatch(ctx context.Context) (detached int, err error) {
	err = s.pool.QueryRow(ctx, `
		WITH dead AS (
			SELECT node_id, dead_since FROM nodes WHERE dead_since IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED
		), orphans AS MATERIALIZED (
			SELECT session_id FROM sessions WHERE node_id = ANY (ARRAY (SELECT node_id FROM dead)) LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
		), detached AS (
			UPDATE sessions s SET node_id = NULL, detached_at = (SELECT dead_since FROM dead WHERE dead.node_id = s.node_id)
			WHERE session_id = ANY (ARRAY (SELECT session_id FROM orphans)) RETURNING session_id
		), gone AS (
			DELETE FROM nodes WHERE node_id = ANY (ARRAY (SELECT node_id FROM dead))
				AND NOT EXISTS (SELECT FROM sessions s WHERE s.node_id = nodes.node_id OFFSET 0)
		)
		SELECT count(*) FROM detached`, detachBatch).Scan(&detached)
	return detached, err
}
