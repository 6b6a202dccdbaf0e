package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// Detach makes the session detached since an instant of this process's clock, unless a newer stream of
// it was opened meanwhile. It never blocks and never fails: what PostgreSQL
// does not take now is tried again until it does.
func (s *Store) Detach(id room.SessionID, streamNo int64, at time.Time) {
	s.detacher.add(detachment{id, streamNo, s.clock.databaseTime(at).Truncate(time.Millisecond)})
}

// DetachStrays detaches the sessions that the database believes to be online on
// this node and that have no stream here. There are such when the connection was
// lost while Attach committed: nobody learned the stream's number, so nobody
// could say that it ended. It also detaches those that are online on a node which is
// no more: one that was declared dead took them in before it knew, and died then.
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

type detachment struct {
	session  room.SessionID
	streamNo int64
	at       time.Time
}

// detacher writes detachments in batches: when a proxy goes away, ten thousand
// streams end in the same instant.
type detacher struct {
	store *Store

	mu      sync.Mutex // guards waiting and closed
	waiting []detachment
	closed  bool
	wake    *sync.Cond

	stop context.CancelFunc
	done chan struct{} // closed by run when it returns
}

// detachRetry is how long a failed batch waits. Sessions stay online in the
// database meanwhile, but since when they are detached is not lost.
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

// close writes what is waiting, once, and ends the detacher. What cannot be
// written now is made good by the node's lease running out.
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
		if len(left) == 0 {
			if closed {
				return
			}
			continue
		}
		if closed {
			return // the node's lease makes it good
		}
		if err != nil { // others are locked, and take no harm from waiting
			d.store.opts.Log.Warn("sessions could not be marked as detached; trying again", "sessions", len(left), "error", err)
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

// writeAll writes detachments, a batch after the other, and returns those that are left:
// their rows are locked by others, or PostgreSQL did not take them.
func (d *detacher) writeAll(ctx context.Context, all []detachment) (left []detachment, err error) {
	for batch := range slices.Chunk(all, detachBatch) {
		locked, fault := d.write(ctx, batch)
		if fault != nil {
			err = fault
			locked = batch
		}
		left = append(left, locked...)
	}
	return left, err
}

// detachSession does nothing where the session's row is locked: the others of the batch
// do not wait for it. It is a statement for each session, because there is no other plan
// for it than one lookup; one for all of them would be planned when there is hardly any.
// Of the index of sessions with a node it is not to know either.
const detachSession = `
	UPDATE sessions SET node_id = NULL, detached_at = $3
	WHERE session_id = (SELECT session_id FROM sessions
		WHERE session_id = $1 AND stream_no = $2 AND (node_id IS NULL)::int = 0 FOR NO KEY UPDATE SKIP LOCKED)`

// write detaches a batch in one transaction and one round trip, and returns those of it
// whose rows are locked.
func (d *detacher) write(ctx context.Context, batch []detachment) (locked []detachment, err error) {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	var (
		b      pgx.Batch
		missed []detachment
		ids    = make([]room.SessionID, len(batch))
	)
	for i, one := range batch {
		ids[i] = one.session
		b.Queue(detachSession, one.session, one.streamNo, one.at).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				missed = append(missed, one)
			}
			return nil
		})
	}
	err = d.store.pool.SendBatch(ctx, &b).Close()
	d.store.sessions.evict(ids...)
	if err != nil || len(missed) == 0 {
		return nil, err
	}
	return d.stillAttached(ctx, missed)
}

// stillAttached returns those of the detachments that are not done: most that were
// missed are of sessions that have ended, or have a newer stream.
func (d *detacher) stillAttached(ctx context.Context, missed []detachment) (locked []detachment, err error) {
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

// detachOrphans detaches the sessions of nodes whose lease ran out. now is read
// from the database's clock, in which leases are written. A node that has not
// itself renewed its lease for a whole leaseTime without a gap declares nobody
// dead: after an outage the others' leases have run out too, and they live. One
// that has is sure that whoever lives has renewed since; a lease that ends later
// than that can only be of a clock that was set back. The node's row goes when it has no
// session left: one that somebody keeps locked is for the next sweep.
func (s *Store) detachOrphans(ctx context.Context, now time.Time) error {
	for range sweepBatches {
		detached, err := s.detachOrphanBatch(ctx, now) // the last time it deletes the nodes
		if err != nil || detached == 0 {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

func (s *Store) detachOrphanBatch(ctx context.Context, now time.Time) (detached int, err error) {
	err = s.pool.QueryRow(ctx, `
		WITH dead AS (
			SELECT node_id, least(lease_until, $1) AS since FROM nodes
			WHERE NOT lease_until BETWEEN $1::timestamptz AND $1::timestamptz + $3::interval + $4::interval AND node_id <> $2
				AND EXISTS (SELECT FROM nodes WHERE node_id = $2 AND steady_since <= $1::timestamptz - $3::interval AND lease_until > $1)
			FOR NO KEY UPDATE SKIP LOCKED
		), orphans AS MATERIALIZED (
			SELECT session_id FROM sessions WHERE node_id = ANY (ARRAY (SELECT node_id FROM dead)) LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
		), detached AS (
			UPDATE sessions s SET node_id = NULL, detached_at = (SELECT since FROM dead WHERE dead.node_id = s.node_id)
			WHERE session_id = ANY (ARRAY (SELECT session_id FROM orphans)) RETURNING session_id
		), gone AS (
			DELETE FROM nodes WHERE node_id = ANY (ARRAY (SELECT node_id FROM dead))
				AND NOT EXISTS (SELECT FROM sessions s WHERE s.node_id = nodes.node_id OFFSET 0)
		)
		SELECT count(*) FROM detached`, now, s.nodeID, leaseTime, leaseGap, detachBatch).Scan(&detached)
	return detached, err
}
