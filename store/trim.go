package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// DefaultMessageRetention is how long logs are kept where the server's settings
// do not say.
const DefaultMessageRetention = 7 * 24 * time.Hour

const (
	// trimRooms bounds the rooms that one sweep looks at, which is an index
	// lookup each: a hundred thousand rooms are looked at within two minutes.
	maxLogsScanned = 1000
	// trimBatch bounds how many events one transaction deletes. It holds the
	// room meanwhile, so writers wait for as long: some milliseconds.
	trimBatch = 1000
	// trimMost and trimLogs bound what one sweep deletes, and of how many logs:
	// it has timers to serve besides.
	maxEventsTrimmed = 20 * trimBatch
	maxLogsTrimmed   = 200
)

// trim deletes from the logs of living rooms what happened before an instant. It
// goes round all rooms, a piece with each sweep.
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
				s.trimCursor = g - 1 // the next sweep goes on here
				return nil
			}
			if n, err = s.trimRoomLog(ctx, g, before); err != nil {
				if err := s.ignoreLocked(err); err != nil {
					return err
				}
				break // it is locked: the others go on
			}
		}
	}
	s.trimCursor = seen
	if looked < maxLogsScanned {
		s.trimCursor = 0 // all were looked at: round again
	}
	return nil
}

// trimRoom deletes the oldest events of a room's log, up to the first that
// is to stay, and says from where on the log is kept: to who follows it by
// oldest_seq, and to readers of the feed by feed_trimmed. The files of the messages
// go with them. It returns how many it deleted: with trimBatch there may be more.
func (s *Store) trimRoomLog(ctx context.Context, g room.LogID, before time.Time) (deleted int, err error) {
	err = s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		var b pgx.Batch
		// A statement of its own, so that the next one sees what happened while it
		// waited for the lock.
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
		return room.Change{}, send(ctx, tx, &b)
	})
	return deleted, err
}

// maxSeq is beyond every event.
const maxSeq = room.Seq(1<<63 - 1)

// DefaultPeerRetention is how long inboxes keep messages where nobody says
// otherwise.
const DefaultPeerRetention = 7 * 24 * time.Hour

// trimBatches bounds the trimming of inboxes of one sweep.
const trimBatches = 50

// trimInboxes deletes the messages of inboxes that are older than an instant, a
// bounded piece at a time.
func (s *Store) trimInboxes(ctx context.Context, before time.Time) error {
	for range trimBatches {
		more, err := s.trimInbox(ctx, before)
		if err != nil || !more {
			return s.ignoreLocked(err)
		}
	}
	return nil
}

// trimInbox deletes a piece of one inbox, from its oldest event up to the first
// that stays, and lets the files of the messages go. It reports whether there was
// anything to do.
func (s *Store) trimInbox(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.sweepTx(ctx, func(tx pgx.Tx) (room.Change, error) {
		more = false
		var inbox room.LogID
		// First the lock, and then with a new snapshot the events: none can come
		// in between that would be passed over.
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
		return room.Change{}, send(ctx, tx, &b)
	})
	return more, err
}

// queueTrimmed takes from a log that the transaction holds the files of messages
// that it has trimmed: of those that were sent before an instant, and before all
// that the log still has.
func queueReleaseTrimmedMedia(b *pgx.Batch, log room.LogID, before, now time.Time) {
	b.Queue(`WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = $1
				AND used_at < least($2, (SELECT at FROM events WHERE generation = $1 ORDER BY at LIMIT 1))
		), `+releaseMediaUses, log, before, now)
}
