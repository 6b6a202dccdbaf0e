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
// which the stream begins. Messages of the user's inbox up to its position in the client's cursor
// count as delivered. A cursor of another epoch than the database's is ignored. Errors:
// room.ErrSessionEnded.
func (s *Store) OpenStream(
	ctx context.Context, id room.SessionID, epoch string, cursor []room.Position,
) (room.OpenedStream, error) {
	current := s.epoch()
	opened := room.OpenedStream{Epoch: current.id, Foreign: cursor != nil && !current.includes(epoch)}
	if opened.Foreign {
		cursor = nil
	}
	var (
		detachedSince *time.Time // nil if another stream is open
		user          room.UserID
		b             pgx.Batch
	)
	logs, seqs := make([]room.LogID, len(cursor)), make([]room.Seq, len(cursor))
	for i, p := range cursor {
		logs[i], seqs[i] = p.Log, p.Seq
	}
	b.Queue(`WITH before AS (SELECT session_id, detached_at FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE)
		UPDATE sessions s SET stream_no = stream_no + 1, node_id = $2, detached_at = NULL
		FROM before b WHERE s.session_id = b.session_id AND `+notEnded+` RETURNING stream_no, b.detached_at, user_id`, id, s.nodeID).
		QueryRow(func(row pgx.Row) error {
			err := row.Scan(&opened.StreamNo, &detachedSince, &user)
			if errors.Is(err, pgx.ErrNoRows) {
				return room.ErrSessionEnded
			}
			return err
		})
	b.Queue("SELECT "+roomColumns+`, a.stay, a.from_seq FROM attendances a JOIN rooms r USING (generation)
		WHERE a.session_id = $1 ORDER BY generation`, id).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var p room.Presence
				var err error
				if p.Room, err = scanRoom(rows, &p.ID, &p.From); err != nil {
					return err
				}
				opened.Presences = append(opened.Presences, p)
			}
			return rows.Err()
		})
	// The sequence is not part of the snapshot: it may be ahead of it.
	b.Queue("SELECT coalesce(pg_sequence_last_value('attendances_stay_seq'), 0)").QueryRow(func(row pgx.Row) error {
		return row.Scan(&opened.LastPresence)
	})
	b.Queue(`SELECT generation, room_id, reason, note, left_at FROM departures
		WHERE session_id = $1 ORDER BY generation`, id).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				left := room.Left{Session: id}
				var at time.Time
				if err := rows.Scan(&left.Generation, &left.Room, &left.Reason, &left.AdminReason, &at); err != nil {
					return err
				}
				missed := detachedSince != nil && !at.Before(*detachedSince)
				if slices.Contains(logs, left.Generation) || (missed && left.Reason.ByOthers()) {
					opened.Left = append(opened.Left, left)
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
	var subscribes bool
	b.Queue(`SELECT log, last_seq, oldest_seq, delivered_seq,
			EXISTS (SELECT FROM status_subscriptions p WHERE p.subscriber_id = i.user_id OFFSET 0)
		FROM inboxes i WHERE log = (SELECT inbox FROM sessions WHERE session_id = $1)`, id).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&opened.Inbox.Log, &opened.Inbox.LastSeq, &opened.Inbox.OldestSeq, &opened.Inbox.DeliveredSeq, &subscribes)
		})
	if err := s.locks.run(ctx, []lockKey{sessionKey(id)}, func() error { return s.pool.SendBatch(ctx, &b).Close() }); err != nil {
		return room.OpenedStream{}, translate(err)
	}
	now := s.now()
	if detachedSince != nil && now.Sub(*detachedSince) > almostOffline {
		s.statuses.addUsers(user)
	}
	if subscribes {
		opened.StatusesSince = now
		if detachedSince != nil {
			opened.StatusesSince = detachedSince.UTC()
		}
	}
	s.opts.Commit(room.Change{
		By:     room.Actor{Kind: room.ActorSession, ID: string(id)},
		Opened: []room.NewStream{{Session: id, StreamNo: opened.StreamNo}},
	})
	return opened, nil
}
