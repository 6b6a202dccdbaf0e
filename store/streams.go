package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Attach makes the session online with a new stream on this node, and returns
// where it stands. cursor is the client's: what it has of its user's inbox was
// delivered. Errors: room.ErrSessionEnded.
func (s *Store) Attach(ctx context.Context, id room.SessionID, cursor []room.Position) (room.Attachment, error) {
	var (
		a             room.Attachment
		detachedSince *time.Time // nil where another stream is open
		b             pgx.Batch
	)
	logs, seqs := make([]room.Generation, len(cursor)), make([]room.Seq, len(cursor))
	for i, p := range cursor {
		logs[i], seqs[i] = p.Log, p.Seq
	}
	b.Queue(`WITH before AS (SELECT session_id, detached_at FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE)
		UPDATE sessions s SET stream_no = stream_no + 1, node_id = $2, detached_at = NULL
		FROM before b WHERE s.session_id = b.session_id AND ended_at IS NULL RETURNING stream_no, b.detached_at`, id, s.nodeID).
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
				var in room.Attendance
				var err error
				if in.Room, err = scanRoom(rows, &in.Stay, &in.From); err != nil {
					return err
				}
				a.Attendances = append(a.Attendances, in)
			}
			return rows.Err()
		})
	b.Queue(`SELECT generation, room_id, reason, note, left_at FROM departures
		WHERE session_id = $1 ORDER BY generation`, id).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				d := room.Departure{Session: id}
				var at time.Time
				if err := rows.Scan(&d.Generation, &d.Room, &d.Reason, &d.Note, &at); err != nil {
					return err
				}
				unheard := detachedSince != nil && !at.Before(*detachedSince)
				if slices.Contains(logs, d.Generation) || (unheard && d.Reason.ByOthers()) {
					a.Departures = append(a.Departures, d)
				}
			}
			return rows.Err()
		})
	if len(cursor) > 0 {
		b.Queue(`UPDATE inboxes i SET delivered_seq = p.seq
			FROM sessions s, unnest($2::bigint[], $3::bigint[]) AS p (log, seq)
			WHERE s.session_id = $1 AND s.ended_at IS NULL AND i.log = s.inbox AND p.log = i.log
				AND p.seq > i.delivered_seq AND p.seq <= i.last_seq`, id, logs, seqs)
	}
	b.Queue("SELECT log, last_seq, oldest_seq, delivered_seq FROM inboxes WHERE log = (SELECT inbox FROM sessions WHERE session_id = $1)", id).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&a.Inbox.Log, &a.Inbox.LastSeq, &a.Inbox.OldestSeq, &a.Inbox.DeliveredSeq)
		})
	if err := s.gate.run(ctx, []lockKey{sessionKey(id)}, func() error { return s.pool.SendBatch(ctx, &b).Close() }); err != nil {
		return room.Attachment{}, translate(err)
	}
	s.known.forget(id)
	return a, nil
}

// Detach makes the session detached since an instant of this process's clock, unless a newer stream of
// it was opened meanwhile. It never blocks and never fails: what PostgreSQL
// does not take now is tried again until it does.
func (s *Store) Detach(id room.SessionID, streamNo int64, at time.Time) {
	s.detacher.add(detachment{id, streamNo, s.clock.when(at).Truncate(time.Millisecond)})
}

// DetachStrays detaches the sessions that the database believes to be online on
// this node and that have no stream here. There are such when the connection was
// lost while Attach committed: nobody learned the stream's number, so nobody
// could say that it ended.
func (s *Store) DetachStrays(ctx context.Context, open func(room.SessionID) bool) error {
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
	time.AfterFunc(appendTimeout, d.stop)
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
		batch, closed := d.waiting, d.closed
		d.waiting = nil
		d.mu.Unlock()
		if err := d.write(ctx, batch); err != nil && !closed {
			d.store.o.Log.Warn("sessions could not be marked as detached; trying again", "sessions", len(batch), "error", err)
			d.mu.Lock()
			d.waiting = append(batch, d.waiting...)
			d.mu.Unlock()
			select {
			case <-time.After(detachRetry):
			case <-ctx.Done():
				return
			}
			continue
		}
		if closed {
			return
		}
	}
}

func (d *detacher) write(ctx context.Context, batch []detachment) error {
	if len(batch) == 0 {
		return nil
	}
	var (
		ids   = make([]room.SessionID, len(batch))
		nos   = make([]int64, len(batch))
		times = make([]time.Time, len(batch))
	)
	for i, b := range batch {
		ids[i], nos[i], times[i] = b.session, b.streamNo, b.at
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	// Rows are locked in the order of their IDs, as everywhere many sessions
	// are changed at once.
	_, err := d.store.pool.Exec(ctx, `
		WITH gone AS (
			SELECT s.session_id, i.at
			FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS i (session_id, stream_no, at)
			JOIN sessions s ON s.session_id = i.session_id AND s.stream_no = i.stream_no
			WHERE s.node_id IS NOT NULL
			ORDER BY s.session_id FOR NO KEY UPDATE OF s
		)
		UPDATE sessions s SET node_id = NULL, detached_at = gone.at
		FROM gone WHERE s.session_id = gone.session_id`, ids, nos, times)
	d.store.known.forget(ids...)
	return err
}
