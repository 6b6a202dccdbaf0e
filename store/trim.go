package store

import (
	"context"
	"errors"
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

// trimRoomLogs deletes events older than a time from the logs of rooms that are not destroyed. Each
// sweep continues where the previous one stopped, and starts again after the last room.
func (s *Store) trimRoomLogs(ctx context.Context, before time.Time) error {
	rows, err := s.pool.Query(ctx, `
		SELECT r.generation, coalesce(e.at < $2, false) FROM (
			SELECT generation FROM logs WHERE generation > $1 AND NOT closed ORDER BY generation LIMIT $3
		) r LEFT JOIN LATERAL (
			SELECT at FROM events WHERE generation = r.generation ORDER BY seq LIMIT 1
		) e ON true ORDER BY r.generation`, s.trimCursor, before, maxLogsScanned)
	if err != nil {
		return translate(err)
	}
	var (
		seen    room.LogID
		overdue bool
		due     []room.LogID
		looked  int
	)
	if _, err := pgx.ForEachRow(rows, []any{&seen, &overdue}, func() error {
		looked++
		if overdue {
			due = append(due, seen)
		}
		return nil
	}); err != nil {
		return translate(err)
	}
	deleted := 0
	for i, g := range due {
		for n := trimBatch; n == trimBatch; deleted += n {
			if deleted >= maxEventsTrimmed || i == maxLogsTrimmed {
				s.trimCursor = g - 1 // the next sweep continues here
				return nil
			}
			if n, err = s.trimRoomLog(ctx, g, before); err != nil {
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

// trimRoomLog deletes the oldest events of a room's log, up to the first that is retained, and
// releases the files of their messages. It records where the log now begins, in oldest_seq for
// readers of the log and in feed_trimmed for readers of the feed. It returns the number of deleted
// events: if it is trimBatch, there may be more to delete.
func (s *Store) trimRoomLog(ctx context.Context, g room.LogID, before time.Time) (deleted int, err error) {
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
					AND seq < coalesce((SELECT min(seq) FROM oldest WHERE at >= $2), $4)
				RETURNING seq, xact
			), newest AS (
				SELECT seq, xact FROM gone ORDER BY seq DESC LIMIT 1
			), room AS (
				UPDATE rooms SET oldest_seq = newest.seq + 1 FROM newest WHERE generation = $1
			), feed AS (
				UPDATE feed_trimmed t SET xact = newest.xact, generation = $1, seq = newest.seq FROM newest
				WHERE (t.xact, t.generation, t.seq) < (newest.xact, $1, newest.seq)
			)
			SELECT count(*) FROM gone`, g, before, trimBatch, int64(maxSeq)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&deleted) })
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
// releases their files. It reports whether there was an inbox to trim.
func (s *Store) trimInbox(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		more = false
		var inbox room.LogID
		// The inbox is locked first. The events are then read with a new snapshot, so that none is
		// missed that was committed in between.
		err := tx.QueryRow(ctx, `SELECT log FROM inboxes WHERE oldest_at < $1
			ORDER BY oldest_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED`, before).Scan(&inbox)
		if errors.Is(err, pgx.ErrNoRows) {
			return room.Change{}, nil
		}
		if err != nil {
			return room.Change{}, err
		}
		more = true
		var b pgx.Batch
		b.Queue(`
			WITH oldest AS MATERIALIZED (
				SELECT seq, at, row_number() OVER (ORDER BY seq) AS n FROM (
					SELECT seq, at FROM events WHERE generation = $1 ORDER BY seq LIMIT $3 + 1
				) e
			), stays AS (
				SELECT seq, at FROM oldest WHERE at >= $2 OR n > $3 ORDER BY seq LIMIT 1
			), gone AS (
				DELETE FROM events WHERE generation = $1 AND seq < coalesce((SELECT seq FROM stays), (SELECT max(seq) + 1 FROM oldest))
			)
			UPDATE inboxes SET oldest_seq = coalesce((SELECT seq FROM stays), last_seq + 1), oldest_at = (SELECT at FROM stays)
			WHERE log = $1`, inbox, before, trimBatch)
		queueReleaseTrimmedMedia(&b, inbox, before, s.now())
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
