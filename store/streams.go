package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// OpenStream marks the session as online with a new stream on this node, and returns the state with
// which the stream begins. cursor is the client's: what it contains of the user's inbox counts as
// delivered. A cursor of another epoch than the database's is ignored. Errors:
// room.ErrSessionEnded.
func (s *Store) OpenStream(ctx context.Context, id room.SessionID, epoch string, cursor []room.Position) (room.OpenedStream, error) {
	now := s.epoch()
	a := room.OpenedStream{Epoch: now.id, Foreign: cursor != nil && !now.includes(epoch)}
	if a.Foreign {
		cursor = nil
	}
	var (
		detachedSince *time.Time // nil if another stream is open
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
