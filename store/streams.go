package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"parlor/room"
)

// A pendingStream is a call that opens a stream.
type pendingStream struct {
	ctx     context.Context
	session room.SessionID
	cursor  []room.Position
	// done receives the result. It is buffered, so that sending to a caller that gave up does not
	// block.
	done chan error
	// skipped reports that a batch has left out the session, which was locked.
	skipped bool
	// settled is set by whoever is first: the caller that gives up, or the goroutine that has opened
	// the stream.
	settled atomic.Bool

	opened room.OpenedStream
	// detachedSince is when the session lost its last stream; nil if another stream is open.
	detachedSince *time.Time
	user          room.UserID
	// subscribes reports that the user has subscribed to statuses.
	subscribes bool
}

// hasRead reports whether the client's cursor has a position in a log.
func (p *pendingStream) hasRead(log room.LogID) bool {
	return slices.ContainsFunc(p.cursor, func(at room.Position) bool { return at.Log == log })
}

// OpenStream marks the session as online with a new stream on this node, and returns the state with
// which the stream begins. Messages of the user's inbox up to its position in the client's cursor
// count as delivered. A cursor of another epoch than the database's is ignored. Errors:
// room.ErrSessionEnded.
func (s *Store) OpenStream(
	ctx context.Context, id room.SessionID, epoch string, cursor []room.Position,
) (room.OpenedStream, error) {
	current := s.epoch()
	p := &pendingStream{ctx: ctx, session: id, cursor: cursor, done: make(chan error, 1)}
	p.opened = room.OpenedStream{Epoch: current.id, Foreign: cursor != nil && !current.includes(epoch)}
	if p.opened.Foreign {
		p.cursor = nil
	}
	s.streams.add(p, s.openBatch)
	select {
	case err := <-p.done:
		return p.opened, err
	case <-ctx.Done():
		if p.settled.CompareAndSwap(false, true) {
			return room.OpenedStream{}, translate(ctx.Err())
		}
		return p.opened, <-p.done // the stream is open
	}
}

// openBatch opens the streams of a batch in one transaction, and answers their callers. Sessions
// that other transactions have locked do not delay the others: each is tried again with a later
// batch, because most locks are held for milliseconds, and then gets a transaction of its own.
func (s *Store) openBatch(batch []*pendingStream) {
	batch = slices.DeleteFunc(batch, func(p *pendingStream) bool { return p.ctx.Err() != nil })
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	err := s.locks.run(ctx, nil, func() error { return s.openStreams(ctx, batch, " SKIP LOCKED") })
	var again, alone []*pendingStream
	for _, p := range batch {
		switch {
		case err != nil && !lockRefused(err):
			p.done <- translate(err)
		case err == nil && p.opened.StreamNo != 0:
		case err == nil && !p.skipped:
			p.skipped = true
			again = append(again, p)
		default:
			alone = append(alone, p)
		}
	}
	if err == nil {
		s.answerOpened(slices.DeleteFunc(batch, func(p *pendingStream) bool { return p.opened.StreamNo == 0 }))
	}
	for _, p := range again {
		s.streams.add(p, s.openBatch)
	}
	for _, p := range alone {
		s.streams.running.Go(func() { s.openAlone(p) })
	}
}

// openAlone opens a stream in a transaction that waits for the lock of its session.
func (s *Store) openAlone(p *pendingStream) {
	batch := []*pendingStream{p}
	err := s.locks.run(p.ctx, []lockKey{sessionKey(p.session)}, func() error { return s.openStreams(p.ctx, batch, "") })
	switch {
	case err != nil:
		p.done <- translate(err)
	case p.opened.StreamNo == 0:
		p.done <- room.ErrSessionEnded
	default:
		s.answerOpened(batch)
	}
}

// answerOpened publishes that streams were opened, and answers their callers. The stream of a caller
// that gave up has ended.
func (s *Store) answerOpened(batch []*pendingStream) {
	if len(batch) == 0 {
		return
	}
	var c room.Change
	now := s.now()
	for _, p := range batch {
		if p.detachedSince != nil && now.Sub(*p.detachedSince) > almostOffline {
			s.statuses.addUsers(p.user)
		}
		if p.subscribes {
			p.opened.StatusesSince = now
			if p.detachedSince != nil {
				p.opened.StatusesSince = p.detachedSince.UTC()
			}
		}
		c.Opened = append(c.Opened, room.NewStream{Session: p.session, StreamNo: p.opened.StreamNo})
	}
	if len(batch) == 1 {
		c.By = room.Actor{Kind: room.ActorSession, ID: string(batch[0].session)}
	}
	s.opts.Commit(c)
	for _, p := range batch {
		if !p.settled.CompareAndSwap(false, true) {
			s.Detach(p.session, p.opened.StreamNo, s.clock.process())
		}
		p.done <- nil
	}
}

// openSessions marks sessions as online. Its %s says what it does about locked sessions.
const openSessions = `
	WITH before AS MATERIALIZED (
		SELECT session_id, detached_at FROM sessions WHERE session_id = ANY ($1) ORDER BY session_id FOR NO KEY UPDATE%s
	)
	UPDATE sessions s SET stream_no = stream_no + 1, node_id = $2, detached_at = NULL
	FROM before b WHERE s.session_id = b.session_id AND ` + notEnded + ` RETURNING s.session_id, user_id, stream_no, b.detached_at`

// proveDelivered moves the delivered position of inboxes to those of cursors. It locks the inboxes
// in the order of their logs, as messages between users do.
const proveDelivered = `
	WITH proved AS MATERIALIZED (
		SELECT p.log, max(p.seq) AS seq
		FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS p (session_id, log, seq)
		JOIN sessions s ON s.session_id = p.session_id AND s.inbox = p.log JOIN inboxes i ON i.log = p.log
		WHERE ` + notEnded + ` AND p.seq > i.delivered_seq AND p.seq <= i.last_seq GROUP BY p.log
	), locked AS MATERIALIZED (
		SELECT i.log, p.seq FROM proved p JOIN inboxes i ON i.log = p.log ORDER BY i.log FOR NO KEY UPDATE OF i
	)
	UPDATE inboxes i SET delivered_seq = greatest(i.delivered_seq, p.seq) FROM locked p WHERE i.log = p.log`

// uuids is a parameter of type uuid[]. pgx would encode a slice of strings by reflection.
type uuids = pgtype.FlatArray[pgtype.UUID]

// openStreams runs the statements that open the streams of a batch, in one transaction and one round
// trip. A stream keeps the number 0 if its session has ended, if it is locked and the lock clause
// skips it, or if the batch has another stream of the session.
func (s *Store) openStreams(ctx context.Context, batch []*pendingStream, lockClause string) error {
	if len(batch) == 0 {
		return nil
	}
	var (
		b           pgx.Batch
		ids         = make(uuids, len(batch))
		of          = make(map[room.SessionID]*pendingStream, len(batch))
		readers     uuids // of the positions
		logs        []room.LogID
		seqs        []room.Seq
		lastStarted room.PresenceID
	)
	for i, p := range batch {
		if err := ids[i].Scan(string(p.session)); err != nil {
			return err
		}
		of[p.session] = p
		p.opened.StreamNo, p.opened.Presences, p.opened.Left = 0, nil, nil // an earlier try may have set them
		for _, at := range p.cursor {
			readers, logs, seqs = append(readers, ids[i]), append(logs, at.Log), append(seqs, at.Seq)
		}
	}
	b.Queue(fmt.Sprintf(openSessions, lockClause), ids, s.nodeID).Query(func(rows pgx.Rows) error {
		var (
			id       room.SessionID
			user     room.UserID
			no       int64
			detached *time.Time
		)
		_, err := pgx.ForEachRow(rows, []any{&id, &user, &no, &detached}, func() error {
			of[id].user, of[id].opened.StreamNo, of[id].detachedSince = user, no, detached
			return nil
		})
		return err
	})
	b.Queue("SELECT "+roomColumns+`, a.session_id, a.stay, a.from_seq FROM attendances a JOIN rooms r USING (generation)
		WHERE a.session_id = ANY ($1) ORDER BY generation`, ids).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var (
					id room.SessionID
					p  room.Presence
				)
				var err error
				if p.Room, err = scanRoom(rows, &id, &p.ID, &p.From); err != nil {
					return err
				}
				of[id].opened.Presences = append(of[id].opened.Presences, p)
			}
			return rows.Err()
		})
	// The sequence is not part of the snapshot: it may be ahead of it.
	b.Queue("SELECT coalesce(pg_sequence_last_value('attendances_stay_seq'), 0)").QueryRow(func(row pgx.Row) error {
		return row.Scan(&lastStarted)
	})
	b.Queue(`SELECT session_id, generation, room_id, reason, note, left_at FROM departures
		WHERE session_id = ANY ($1) ORDER BY generation`, ids).
		Query(func(rows pgx.Rows) error {
			var left room.Left
			var at time.Time
			_, err := pgx.ForEachRow(rows, []any{&left.Session, &left.Generation, &left.Room, &left.Reason, &left.AdminReason, &at}, func() error {
				p := of[left.Session]
				missed := p.detachedSince != nil && !at.Before(*p.detachedSince)
				if p.hasRead(left.Generation) || (missed && left.Reason.ByOthers()) {
					p.opened.Left = append(p.opened.Left, left)
				}
				return nil
			})
			return err
		})
	if len(logs) > 0 {
		b.Queue(proveDelivered, readers, logs, seqs)
	}
	b.Queue(`SELECT s.session_id, i.log, i.last_seq, i.oldest_seq, i.delivered_seq,
			EXISTS (SELECT FROM status_subscriptions p WHERE p.subscriber_id = i.user_id OFFSET 0)
		FROM sessions s JOIN inboxes i ON i.log = s.inbox WHERE s.session_id = ANY ($1)`, ids).
		Query(func(rows pgx.Rows) error {
			var (
				id         room.SessionID
				inbox      room.Inbox
				subscribes bool
			)
			_, err := pgx.ForEachRow(rows, []any{&id, &inbox.Log, &inbox.LastSeq, &inbox.OldestSeq, &inbox.DeliveredSeq, &subscribes}, func() error {
				of[id].opened.Inbox, of[id].subscribes = inbox, subscribes
				return nil
			})
			return err
		})
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	for _, p := range batch {
		p.opened.LastPresence = lastStarted
	}
	return nil
}
