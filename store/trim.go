package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// maxLogsScanned bounds the rooms that one sweep checks, with one index lookup for each. A
	// hundred thousand rooms are checked within two minutes.
	maxLogsScanned = 1000
	// trimBatch bounds how many events one transaction deletes. It holds the lock of the room, so
	// senders wait for it, some milliseconds.
	trimBatch = 1000
	// maxEventsTrimmed and maxLogsTrimmed bound how many events one sweep deletes, and from how
	// many logs, so that the timers are not delayed.
	maxEventsTrimmed = 20 * trimBatch
	maxLogsTrimmed   = 200
)

// Logs of rooms that are not destroyed, with what decides about trimming them. If the server has no
// retention of its own, only rooms with settings are looked at.
const (
	selectLogsToTrim = `
		SELECT l.generation, l.last_seq, r.history, r.retention_days, r.retention_count, coalesce(e.seq, 0), coalesce(e.at, now())
		FROM (%s) l CROSS JOIN LATERAL (
			SELECT history, retention_days, retention_count FROM rooms WHERE generation = l.generation LIMIT 1
		) r LEFT JOIN LATERAL (
			SELECT seq, at FROM events WHERE generation = l.generation ORDER BY seq LIMIT 1
		) e ON true ORDER BY l.generation`
	livingLogs = `
		SELECT generation, last_seq FROM logs WHERE generation > $1 AND NOT closed ORDER BY generation LIMIT $2`
	logsWithRetention = `
		SELECT o.generation, o.last_seq FROM (
			SELECT generation FROM rooms
			WHERE generation > $1 AND destroyed_at IS NULL AND (history = 'none' OR retention_days > 0 OR retention_count > 0)
			ORDER BY generation LIMIT $2
		) w CROSS JOIN LATERAL (SELECT generation, last_seq FROM logs WHERE generation = w.generation LIMIT 1) o`
)

// trimRoomLogs deletes events from the logs of rooms that are not destroyed, by the settings of each
// room. Each sweep continues where the previous one stopped, and starts again after the last room.
func (s *Store) trimRoomLogs(ctx context.Context, now time.Time) error {
	from := livingLogs
	if s.opts.MessageRetention == 0 {
		from = logsWithRetention
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(selectLogsToTrim, from), s.trimCursor, maxLogsScanned)
	if err != nil {
		return translate(err)
	}
	replays := s.lease.steadyFor(room.ReplayWindow, now)
	var (
		seen   room.LogID
		c      room.Config
		last   room.Seq
		oldest room.Seq // 0 if the log has no events
		at     time.Time
		due    []dueLog
		looked int
	)
	columns := []any{&seen, &last, &c.History, &c.RetentionDays, &c.RetentionCount, &oldest, &at}
	if _, err := pgx.ForEachRow(rows, columns, func() error {
		looked++
		if trim := c.Trim(now, s.opts.MessageRetention, last, replays); oldest > 0 && trim.Deletes(oldest, at) {
			due = append(due, dueLog{seen, trim})
		}
		return nil
	}); err != nil {
		return translate(err)
	}
	deleted := 0
	for i, log := range due {
		for n := trimBatch; n == trimBatch; deleted += n {
			if deleted >= maxEventsTrimmed || i == maxLogsTrimmed {
				s.trimCursor = log.generation - 1 // the next sweep continues here
				return nil
			}
			if n, err = s.trimRoomLog(ctx, log); err != nil {
				if err := s.ignoreLocked(err); err != nil {
					return err
				}
				break // the room is locked: continue with the others
			}
		}
	}
	s.trimCursor = seen
	if looked < maxLogsScanned {
		s.trimCursor = 0 // the next sweep starts again
	}
	return nil
}

// dueLog is a log from which events are deleted.
type dueLog struct {
	generation room.LogID
	trim       room.Trim
}

// trimRoomLog deletes the oldest events of a room's log, up to the first that is retained, and
// releases the files of their messages. It records where the log now begins, in oldest_seq for
// readers of the log and in feed_trimmed for readers of the feed. It returns the number of deleted
// events: if it is trimBatch, there may be more to delete.
func (s *Store) trimRoomLog(ctx context.Context, log dueLog) (deleted int, err error) {
	g, trim := log.generation, log.trim
	err = s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		var b pgx.Batch
		// This is a statement of its own, so that the next one sees what was committed while this
		// one waited for the lock.
		b.Queue("SELECT FROM logs WHERE generation = $1 FOR NO KEY UPDATE", g)
		b.Queue(`
			WITH oldest AS (
				SELECT seq, at FROM events WHERE generation = $1 ORDER BY seq LIMIT $3
			), gone AS (
				DELETE FROM events WHERE generation = $1 AND seq <= (SELECT max(seq) FROM oldest)
					AND seq < coalesce((SELECT min(seq) FROM oldest WHERE at >= $2 AND (seq > $5 OR at >= $6)), $4)
				RETURNING seq, xact
			), newest AS (
				SELECT seq, xact FROM gone ORDER BY seq DESC LIMIT 1
			), room AS (
				UPDATE rooms SET oldest_seq = newest.seq + 1 FROM newest WHERE generation = $1
			), feed AS (
				UPDATE feed_trimmed t SET xact = newest.xact, generation = $1, seq = newest.seq FROM newest
				WHERE (t.xact, t.generation, t.seq) < (newest.xact, $1, newest.seq)
			)
			SELECT count(*) FROM gone`, g, trim.Before, trimBatch, int64(maxSeq), trim.UpTo, trim.Replayed).
			QueryRow(func(row pgx.Row) error { return row.Scan(&deleted) })
		before := trim.Before
		if trim.UpTo > 0 && before.Before(trim.Replayed) {
			before = trim.Replayed
		}
		queueReleaseTrimmedMedia(&b, g, before, s.now())
		return room.Change{}, sendBatch(ctx, tx, &b)
	})
	return deleted, err
}

// maxSeq is higher than the seq of any event.
const maxSeq = room.Seq(1<<63 - 1)

// DefaultPeerRetention is how long inboxes retain messages if the configuration does not set it.
const DefaultPeerRetention = 7 * 24 * time.Hour

// trimBatches bounds how many transactions one sweep uses to trim inboxes.
const trimBatches = 50

// trimInboxes deletes messages older than a time from inboxes.
func (s *Store) trimInboxes(ctx context.Context, before time.Time) error {
	for range trimBatches {
		more, err := s.trimInbox(ctx, before)
		if err != nil || !more {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

// trimInbox deletes messages of one inbox, from the oldest up to the first that is retained, and
// releases their files. Conversations without a message end, and unread messages that were counted
// count no more. It reports whether there was an inbox to trim.
func (s *Store) trimInbox(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		more = false
		// The inbox is locked first. The events are then read with a new snapshot, so that none is
		// missed that was committed in between.
		in, err := scanInbox(tx.QueryRow(ctx, "SELECT "+inboxColumns+` FROM inboxes WHERE oldest_at < $1
			ORDER BY oldest_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED`, before))
		if errors.Is(err, pgx.ErrNoRows) {
			return room.Change{}, nil
		}
		if err != nil {
			return room.Change{}, err
		}
		more = true
		// If the user ever asked for conversations, all events are counted before some are deleted:
		// a recall is counted before its message is deleted.
		asked := in.CountedSeq > 0
		if asked {
			if in, err = countEvents(ctx, tx, in); err != nil || in.CountedSeq < in.LastSeq {
				return room.Change{}, err // the next transaction continues
			}
		}
		var b pgx.Batch
		b.Queue(`
			WITH oldest AS MATERIALIZED (
				SELECT seq, at, row_number() OVER (ORDER BY seq) AS n FROM (
					SELECT seq, at FROM events WHERE generation = $1 ORDER BY seq LIMIT $3 + 1
				) e
			), stays AS (
				SELECT seq, at FROM oldest WHERE at >= $2 OR n > $3 ORDER BY seq LIMIT 1
			), begins AS (
				SELECT coalesce((SELECT seq FROM stays), (SELECT max(seq) + 1 FROM oldest)) AS seq
			), gone AS (
				DELETE FROM events WHERE generation = $1 AND seq < (SELECT seq FROM begins) RETURNING *
			), ended AS (
				DELETE FROM conversations WHERE log = $1 AND last_seq > 0 AND last_seq < (SELECT seq FROM begins) RETURNING read_seq, unread
			), forgotten AS (
				DELETE FROM conversations WHERE log = $1 AND peer_id = ANY (ARRAY (SELECT DISTINCT peer_id FROM gone))
					AND last_seq = 0 AND deleted_seq < (SELECT seq FROM begins)
			), expired AS (
				SELECT peer_id, count(*) AS n FROM gone g CROSS JOIN LATERAL (
					SELECT FROM conversations WHERE log = $1 AND peer_id = g.peer_id AND last_seq >= (SELECT seq FROM begins)
						AND unread > 0 AND read_seq < g.seq LIMIT 1
				) c WHERE $4::boolean AND seq > $5 AND `+unreadMessage+` GROUP BY peer_id
			), lowered AS (
				UPDATE conversations c SET unread = unread - n FROM expired e WHERE c.log = $1 AND c.peer_id = e.peer_id
			)
			UPDATE inboxes SET oldest_seq = coalesce((SELECT seq FROM stays), last_seq + 1), oldest_at = (SELECT at FROM stays),
				unread = unread - coalesce((SELECT sum(unread) FROM ended WHERE read_seq >= $5), 0) - coalesce((SELECT sum(n) FROM expired), 0)
			WHERE log = $1`, in.Log, before, trimBatch, asked, in.ReadSeq)
		queueReleaseTrimmedMedia(&b, in.Log, before, s.now())
		return room.Change{}, sendBatch(ctx, tx, &b)
	})
	return more, err
}

// queueReleaseTrimmedMedia releases the files of messages that were trimmed from a log. The
// transaction has locked the log. The released uses are older than the time, and older than all
// events that remain in the log.
func queueReleaseTrimmedMedia(b *pgx.Batch, log room.LogID, before, now time.Time) {
	b.Queue(`WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = $1
				AND used_at < least($2, (SELECT at FROM events WHERE generation = $1 ORDER BY at LIMIT 1))
		), `+releaseMediaUses, log, before, now)
}
