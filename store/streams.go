package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// Attach makes the session online with a new stream on this node, and returns
// where it stands. cursor is the client's, of an epoch: what it has of its user's
// inbox was delivered. A cursor of another epoch than the database's counts as
// none. Errors: room.ErrSessionEnded.
func (s *Store) OpenStream(ctx context.Context, id room.SessionID, epoch string, cursor []room.Position) (room.OpenedStream, error) {
	now := s.epoch()
	a := room.OpenedStream{Epoch: now.id, Foreign: cursor != nil && !now.includes(epoch)}
	if a.Foreign {
		cursor = nil
	}
	var (
		detachedSince *time.Time // nil where another stream is open
		b             pgx.Batch
	)
	logs, seqs := make([]room.LogID, len(cursor)), make([]room.Seq, len(cursor))
	for i, p := range cursor {
		logs[i], seqs[i] = p.Log, p.Seq
	}
	b.Queue(`WITH before AS (SELECT session_id, detached_at FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE)
		UPDATE sessions s SET stream_no = stream_no + 1, node_id = $2, detached_at = NULL
		FROM before b WHERE s.session_id = b.session_id AND `+notEnded+` RETURNING stream_no, b.detached_at`, id, s.nodeID).
		QueryRow(func(row pgx.Row) error {
			err := row.Scan(&a.StreamNo, &detachedSince)
			if errors.Is(err, pgx.ErrNoRows) {
				return room.ErrSessionEnded
			}
			return err
		})
	b.Queue("SELECT "+roomColumns+`, a.stay, a.from_seq FROM attendances a JOIN rooms r USING (generation)
		WHERE a.session_id = $1 ORDER BY generation`, id).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var in room.Presence
				var err error
				if in.Room, err = scanRoom(rows, &in.ID, &in.From); err != nil {
					return err
				}
				a.Presences = append(a.Presences, in)
			}
			return rows.Err()
		})
	b.Queue(`SELECT generation, room_id, reason, note, left_at FROM departures
		WHERE session_id = $1 ORDER BY generation`, id).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				d := room.Left{Session: id}
				var at time.Time
				if err := rows.Scan(&d.Generation, &d.Room, &d.Reason, &d.AdminReason, &at); err != nil {
					return err
				}
				unheard := detachedSince != nil && !at.Before(*detachedSince)
				if slices.Contains(logs, d.Generation) || (unheard && d.Reason.ByOthers()) {
					a.Left = append(a.Left, d)
				}
			}
			return rows.Err()
		})
	if len(cursor) > 0 {
		b.Queue(`UPDATE inboxes i SET delivered_seq = p.seq
			FROM sessions s, unnest($2::bigint[], $3::bigint[]) AS p (log, seq)
			WHERE s.session_id = $1 AND `+notEnded+` AND i.log = s.inbox AND p.log = i.log
				AND p.seq > i.delivered_seq AND p.seq <= i.last_seq`, id, logs, seqs)
	}
	b.Queue("SELECT log, last_seq, oldest_seq, delivered_seq FROM inboxes WHERE log = (SELECT inbox FROM sessions WHERE session_id = $1)", id).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&a.Inbox.Log, &a.Inbox.LastSeq, &a.Inbox.OldestSeq, &a.Inbox.DeliveredSeq)
		})
	if err := s.locks.run(ctx, []lockKey{sessionKey(id)}, func() error { return s.pool.SendBatch(ctx, &b).Close() }); err != nil {
		return room.OpenedStream{}, translate(err)
	}
	s.sessions.evict(id)
	return a, nil
}

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
