package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parlor/room"
)

// AddMedia adds a file of a user, of at most length bytes, before its bytes are stored, and returns
// its ID. A caller that gives up calls DeleteMedia; otherwise SweepMedia deletes it. Errors:
// room.ErrMediaQuota.
func (s *Store) AddMedia(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error) {
	return s.addMedia(ctx, owner, fileName, length, nil)
}

func (s *Store) addMedia(
	ctx context.Context, owner room.UserID, fileName string, length int64, uploaded *int64,
) (room.MediaID, error) {
	id, err := uuid.NewRandom() // random, so that it cannot be guessed and does not reveal the time
	if err != nil {
		return "", fmt.Errorf("media ID: %w", err)
	}
	now := s.now()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var (
			b         pgx.Batch
			added     int64
			mine, all int64
		)
		// Additions of one user are serialized, because two could otherwise both pass the quota.
		// Near the total quota, those of all users are serialized too.
		b.Queue("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", owner)
		if s.opts.MediaTotal > 0 {
			b.Queue("SELECT CASE WHEN (SELECT sum(bytes) FROM media_bytes_of_all) > $1::bigint THEN pg_advisory_xact_lock(hashtextextended('', 2)) END",
				s.opts.MediaTotal-nearTotal)
		}
		// Files that are due for the sweep do not count.
		b.Queue(`
			INSERT INTO media (media_id, owner_id, file_name, created_at, unused_since, length, uploaded)
			SELECT $1, $2, $3, $4, $4, $5::bigint, $6 FROM (
				SELECT count(*) AS files, coalesce(sum(coalesce(size, length)), 0) AS bytes FROM media
				WHERE owner_id = $2 AND unused_since > $7 AND NOT deleting
			) unsent WHERE files < $8 AND bytes + $5::bigint <= $9`,
			id, owner, fileName, now, length, uploaded, now.Add(-room.MediaKept), room.MaxUnsentFiles, room.MaxUnsentBytes).
			Exec(func(tag pgconn.CommandTag) error { added = tag.RowsAffected(); return nil })
		// The sums include this file.
		b.Queue(`SELECT coalesce((SELECT bytes FROM media_bytes WHERE owner_id = $1), 0), coalesce(sum(bytes), 0)::bigint
			FROM media_bytes_of_all`, owner).QueryRow(func(row pgx.Row) error { return row.Scan(&mine, &all) })
		if err := sendBatch(ctx, tx, &b); err != nil {
			return err
		}
		if added == 0 || s.opts.MediaPerUser > 0 && mine > s.opts.MediaPerUser || s.opts.MediaTotal > 0 && all > s.opts.MediaTotal {
			return room.ErrMediaQuota
		}
		return nil
	})
	return room.MediaID(id.String()), translate(err)
}

// MediaBytes returns the total size of all files that are not deleted yet, sent or not, in bytes.
func (s *Store) MediaBytes(ctx context.Context) (n int64, err error) {
	err = s.pool.QueryRow(ctx, "SELECT coalesce(sum(bytes), 0)::bigint FROM media_bytes_of_all").Scan(&n)
	return n, translate(err)
}

// nearTotal is how far below MediaTotal additions are serialized: more than all concurrent
// transactions can add, with the largest files.
const nearTotal = 2 * maxConns * room.MaxMediaBytes

// FinishMedia records that the bytes of a file are stored, and its type. From then on it can be
// read and sent. It returns room.ErrMediaNotFound if the file is not, or no longer, being uploaded.
func (s *Store) FinishMedia(ctx context.Context, m room.Media) error {
	// The time for which it is kept unsent begins now, because the upload may have taken a while.
	done, err := s.pool.Exec(ctx, `
		UPDATE media SET size = $2, content_type = $3, width = $4, height = $5, duration_ms = $6, video_codec = $7,
			audio_codec = $8, unused_since = $9
		WHERE media_id = $1 AND size IS NULL AND NOT deleting`,
		m.ID, m.Size, m.ContentType, m.Width, m.Height, int64(m.Duration*1000+0.5), m.VideoCodec, m.AudioCodec, s.now())
	if err == nil && done.RowsAffected() == 0 {
		return fmt.Errorf("finish the media %s: %w", m.ID, room.ErrMediaNotFound)
	}
	return translate(err)
}

// DeleteMedia deletes the row of a file whose bytes are not, or no longer, stored.
func (s *Store) DeleteMedia(ctx context.Context, id room.MediaID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM media WHERE media_id = $1 AND (size IS NULL OR deleting)", id)
	return translate(err)
}

// abandonedKept is how long a remote bucket may take to store bytes that it was sent and did not
// acknowledge.
const abandonedKept = 10 * time.Minute

// AbandonMedia is used in place of DeleteMedia if it is unknown whether bytes are, or will be,
// stored. After a while, the sweep deletes them and then the row.
func (s *Store) AbandonMedia(ctx context.Context, id room.MediaID) error {
	_, err := s.pool.Exec(ctx, "UPDATE media SET deleting = true, unused_since = $2 WHERE media_id = $1 AND uses = 0",
		id, s.now().Add(abandonedKept-room.MediaKept))
	return translate(err)
}

// SampleMedia returns at most n files that should be stored, different ones each time.
func (s *Store) SampleMedia(ctx context.Context, n int) ([]room.Media, error) {
	from, err := uuid.NewRandom() // IDs are random, so the next IDs after a random one are a random sample
	if err != nil {
		return nil, fmt.Errorf("media ID: %w", err)
	}
	const some = "SELECT media_id, size FROM media WHERE size IS NOT NULL AND NOT deleting AND media_id"
	rows, err := s.pool.Query(ctx, "("+some+" >= $1 ORDER BY media_id LIMIT $2) UNION ALL ("+some+" < $1 ORDER BY media_id LIMIT $2) LIMIT $2", from, n)
	if err != nil {
		return nil, translate(err)
	}
	sample, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m room.Media, err error) {
		return m, row.Scan(&m.ID, &m.Size)
	})
	return sample, translate(err)
}

const mediaColumns = `m.media_id, m.owner_id, m.file_name, m.created_at, m.size, m.content_type, m.width, m.height,
	m.duration_ms, m.video_codec, m.audio_codec`

func scanMedia(row pgx.Row) (room.StoredMedia, error) {
	var (
		m  room.StoredMedia
		ms int64
	)
	err := row.Scan(&m.ID, &m.Owner, &m.FileName, &m.CreatedAt, &m.Size, &m.ContentType, &m.Width, &m.Height,
		&ms, &m.VideoCodec, &m.AudioCodec)
	m.CreatedAt, m.Duration = m.CreatedAt.UTC(), float64(ms)/1000
	return m, err
}

// MediaFor returns a file if a user may read it. A file can be read by the members of the rooms and
// by both users of the conversations to which it was sent, and by its owner until none of its
// messages is left. If it was sent to some members of a room, only these can read it there. Errors:
// room.ErrMediaNotFound.
func (s *Store) MediaFor(ctx context.Context, user room.UserID, id room.MediaID) (room.StoredMedia, error) {
	m, err := scanMedia(s.pool.QueryRow(ctx, "SELECT "+mediaColumns+` FROM media m
		WHERE m.media_id = $1 AND m.size IS NOT NULL AND NOT m.deleting AND `+readableBy, id, user))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.StoredMedia{}, room.ErrMediaNotFound
	}
	return m, translate(err)
}

// readableBy is the condition that the user $2 may read a file. It takes one index lookup for the
// user's inbox and one for each room that the user is in. LATERAL with a LIMIT forces the planner
// to do so: otherwise it reads all uses of the file, or all files of the inbox, because most
// inboxes have few and some have thousands.
//
// For a file of the user's own, it reads the uses of the file until it finds one that is not in a
// destroyed room.
const readableBy = `(CASE WHEN m.owner_id = $2 THEN m.uses = 0 OR EXISTS (
	SELECT FROM media_uses u WHERE u.media_id = m.media_id
		AND NOT EXISTS (SELECT FROM rooms r WHERE r.generation = u.generation AND (r.destroyed_at IS NULL)::int = 0 OFFSET 0)
) ELSE (
	SELECT true FROM (
		SELECT log FROM inboxes WHERE user_id = $2
		UNION ALL SELECT b.generation FROM members b CROSS JOIN LATERAL (
			SELECT FROM rooms WHERE generation = b.generation AND (destroyed_at IS NULL)::int = 1 LIMIT 1
		) r WHERE b.user_id = $2
	) l, LATERAL (
		SELECT FROM media_uses u WHERE u.generation = l.log AND u.media_id = m.media_id AND (u.for_all OR EXISTS (
			SELECT FROM media_readers WHERE generation = u.generation AND media_id = u.media_id AND user_id = $2 OFFSET 0
		)) LIMIT 1
	) used LIMIT 1) END)`

// MediaByID returns the files that a user may read, by ID, and omits the others.
func (s *Store) MediaByID(
	ctx context.Context, user room.UserID, ids []room.MediaID,
) (map[room.MediaID]room.StoredMedia, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+mediaColumns+` FROM media m
		WHERE m.media_id = ANY ($1::uuid[]) AND m.size IS NOT NULL AND NOT m.deleting AND `+readableBy, ids, user)
	if err != nil {
		return nil, translate(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.StoredMedia, error) { return scanMedia(row) })
	media := make(map[room.MediaID]room.StoredMedia, len(found))
	for _, m := range found {
		media[m.ID] = m
	}
	return media, translate(err)
}

// useMedia makes the files of a message readable in its room, for those who may see the message, and
// keeps them for as long as the message. It precedes the message, so that every reader of the
// message finds the files. A retry changes nothing: its message may have been recalled. Errors:
// those of room.RoomSend.Permit, room.ErrMediaNotFound and room.ErrMediaReaders.
func (s *Store) useMedia(ctx context.Context, send *room.RoomSend, ids []room.MediaID, m room.Message) error {
	return s.inTx(ctx, send.Sender.Actor, func(tx pgx.Tx) (c room.Change, err error) {
		facts, err := readRoomFacts(ctx, tx, send)
		if err != nil {
			return c, err
		}
		permit, err := send.Permit(facts[0])
		if err != nil || permit.Earlier != nil {
			return c, err
		}
		return c, recordMediaUses(ctx, tx, []mediaUse{{log: permit.Log}}, ids, m.Audience(), m.SentAt.Time())
	})
}

// A mediaUse is a place where files are used: the log of a room, or an inbox with the peer of the
// conversation.
type mediaUse struct {
	log  room.LogID
	peer room.UserID
}

// recordMediaUses allows some readers of logs to read files, or all if readers is nil, and keeps the
// files for as long as a message sent at that time. Errors: room.ErrMediaNotFound,
// room.ErrMediaReaders.
func recordMediaUses(
	ctx context.Context, tx pgx.Tx, uses []mediaUse, ids []room.MediaID, readers []room.UserID, sentAt time.Time,
) error {
	var (
		b           pgx.Batch
		found, most int
		logs        = make([]room.LogID, len(uses))
		peers       = make([]room.UserID, len(uses))
	)
	for i, u := range uses {
		logs[i], peers[i] = u.log, u.peer
	}
	// The rows of the files are locked first, in the same order by all senders, so that the next
	// statement sees all changes to them and their uses. A file that is being deleted cannot be
	// used.
	b.Queue(`SELECT count(*) FROM (
			SELECT FROM media WHERE media_id = ANY ($1::uuid[]) AND size IS NOT NULL AND NOT deleting
			ORDER BY media_id FOR NO KEY UPDATE
		) locked`, ids).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
	b.Queue(`
		WITH again AS (
			UPDATE media_uses SET used_at = greatest(used_at, $3), for_all = for_all OR $4,
				peer_id = nullif(($5::text[])[array_position($1::bigint[], generation)], '')
			WHERE generation = ANY ($1) AND media_id = ANY ($2::uuid[]) AND (used_at < $3 OR NOT for_all AND $4)
		), used AS (
			INSERT INTO media_uses (generation, media_id, used_at, for_all, peer_id)
			SELECT unnest($1::bigint[]), media_id, $3, $4, nullif(unnest($5::text[]), '') FROM media
			WHERE media_id = ANY ($2::uuid[]) AND size IS NOT NULL AND NOT deleting
			ON CONFLICT DO NOTHING RETURNING media_id
		), counted AS (
			SELECT media_id, count(*) AS n FROM used GROUP BY media_id
		)
		UPDATE media m SET uses = uses + n, unused_since = NULL FROM counted c WHERE m.media_id = c.media_id`,
		logs, ids, sentAt, readers == nil, peers)
	if readers != nil {
		b.Queue(`
			INSERT INTO media_readers (generation, media_id, user_id)
			SELECT generation, media_id, unnest($3::text[]) FROM media_uses
			WHERE generation = ANY ($1) AND media_id = ANY ($2::uuid[]) AND NOT for_all
			ON CONFLICT DO NOTHING`, logs, ids, readers)
		b.Queue(`
			SELECT coalesce(max(n), 0) FROM (
				SELECT count(*) AS n FROM media_readers
				WHERE generation = ANY ($1) AND media_id = ANY ($2::uuid[]) GROUP BY generation, media_id
			) of_each`, logs, ids).QueryRow(func(row pgx.Row) error { return row.Scan(&most) })
	}
	if err := sendBatch(ctx, tx, &b); err != nil {
		return err
	}
	switch {
	case found < len(ids):
		return room.ErrMediaNotFound
	case most > room.MaxFileReaders:
		return room.ErrMediaReaders
	}
	return nil
}

// mediaBatch bounds how many files are deleted at once, and how many uses of a room are released in
// one transaction.
const mediaBatch = 200

// mediaBatches bounds one sweep. The next one follows a minute later.
const mediaBatches = 50

// mediaRetry is how long a file whose bytes could not be deleted waits for the next attempt.
// Without it, a batch of such files would block all others.
const mediaRetry = 10 * time.Minute

// SweepMedia deletes files that were not sent within room.MediaKept, files whose last message was
// deleted, and what failed uploads left behind. remove deletes the bytes, and must succeed if there
// are none. The row is marked first, then the bytes are deleted, and then the row, so an
// interrupted sweep can be repeated. Any number of processes may sweep.
func (s *Store) SweepMedia(ctx context.Context, remove func(context.Context, room.MediaID) error) error {
	for range mediaBatches {
		swept, err := s.sweepMedia(ctx, remove)
		if err != nil || swept < mediaBatch {
			return err
		}
	}
	return nil
}

func (s *Store) sweepMedia(
	ctx context.Context, remove func(context.Context, room.MediaID) error,
) (swept int, err error) {
	if ok, err := s.mayDelete(ctx); !ok {
		return 0, err
	}
	now := s.now()
	rows, err := s.pool.Query(ctx, `
		UPDATE media SET deleting = true WHERE media_id IN (
			SELECT media_id FROM media WHERE unused_since <= $1
			ORDER BY unused_since LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
		RETURNING media_id`, now.Add(-room.MediaKept), mediaBatch)
	if err != nil {
		return 0, translate(err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[room.MediaID])
	if err != nil {
		return 0, translate(err)
	}
	deleted, failed := removeEach(ctx, "media", due, remove)
	if failed != nil {
		_, err := s.pool.Exec(ctx, "UPDATE media SET unused_since = $3 WHERE media_id = ANY ($1::uuid[]) AND media_id <> ALL ($2::uuid[]) AND deleting",
			due, deleted, now.Add(mediaRetry-room.MediaKept))
		failed = errors.Join(failed, translate(err))
	}
	if len(deleted) > 0 {
		// Another sweep may be deleting the same rows in another order. Rows that it has locked are
		// skipped, because two sweeps would otherwise deadlock.
		_, err = s.pool.Exec(ctx, `DELETE FROM media WHERE media_id = ANY (ARRAY (
			SELECT media_id FROM media WHERE media_id = ANY ($1::uuid[]) AND deleting FOR UPDATE SKIP LOCKED))`, deleted)
	}
	return len(due), errors.Join(failed, translate(err))
}

// removeEach deletes the bytes of files or parts. It returns those that were deleted, and an error
// if there are others. The error is that of one of them, because an unreachable bucket would cause
// the same one for all.
func removeEach[ID ~string](
	ctx context.Context, what string, due []ID, remove func(context.Context, ID) error,
) (deleted []ID, failed error) {
	deleted = []ID{} // not nil, which would be NULL in the query
	for _, id := range due {
		if err := remove(ctx, id); err != nil {
			failed = fmt.Errorf("delete the %s %s: %w", what, id, err)
			continue
		}
		deleted = append(deleted, id)
	}
	if n := len(due) - len(deleted); n > 1 {
		failed = fmt.Errorf("%w (and %d more)", failed, n-1)
	}
	return deleted, failed
}

// releaseMedia releases a batch of the uses of files in destroyed rooms. It reports whether there
// may be more.
func (s *Store) releaseMedia(ctx context.Context, rooms []room.LogID, now time.Time) (more bool, err error) {
	var released int
	err = s.pool.QueryRow(ctx, `
		WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = ANY ($1) LIMIT $2
		), `+releaseMediaUses, rooms, mediaBatch, now.Add(-room.MediaKept)).Scan(&released) // due at once
	return released == mediaBatch, translate(err)
}

// releaseMediaUses is the end of a statement that deletes the uses in due. A file without any other
// use cannot be read from then on, even by its owner, and waits from $3 on to be deleted. The rows
// of the files are locked first, as in recordMediaUses. A use that a sender has renewed in the
// meantime is kept.
const releaseMediaUses = `locked AS MATERIALIZED (
		SELECT d.* FROM (SELECT * FROM due ORDER BY media_id) d
		CROSS JOIN LATERAL (SELECT FROM media WHERE media_id = d.media_id LIMIT 1 FOR NO KEY UPDATE) m
	), gone AS (
		DELETE FROM media_uses u USING locked d
		WHERE (u.generation, u.media_id) = (d.generation, d.media_id) AND u.used_at = d.used_at RETURNING u.media_id
	), counted AS (
		SELECT media_id, count(*) AS n FROM gone GROUP BY media_id
	), released AS (
		UPDATE media m SET uses = uses - n, unused_since = CASE WHEN uses = n THEN $3::timestamptz END, deleting = uses = n
		FROM counted c WHERE m.media_id = c.media_id
	)
	SELECT count(*) FROM gone`

// queueReleasePeerMedia releases the files of a conversation in an inbox that the transaction has
// locked. A file that was also sent in another conversation belongs to that of its newest message.
func queueReleasePeerMedia(b *pgx.Batch, inbox room.LogID, peer room.UserID, now time.Time) {
	b.Queue(`WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = $1 AND peer_id = $2
		), `+releaseMediaUses, inbox, peer, now)
}

// queueReleaseMedia releases the file of a recalled message in a log, if it has one: nobody who could
// see the message can read the file there any more, even if another message contains it. If the
// message was sent to some members, other readers of the file keep it. The transaction must hold
// the lock on the row of the log.
func queueReleaseMedia(b *pgx.Batch, log room.LogID, m room.Message, now time.Time) {
	if m.Media == nil {
		return
	}
	readers := m.Audience()
	if readers != nil {
		b.Queue(`WITH locked AS MATERIALIZED (SELECT FROM media WHERE media_id = $2 FOR NO KEY UPDATE)
			DELETE FROM media_readers WHERE generation = $1 AND media_id = $2 AND user_id = ANY ($3) AND EXISTS (SELECT FROM locked)`,
			log, m.Media.ID, readers)
	}
	b.Queue(`WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses u WHERE generation = $1 AND media_id = $2
				AND ($4 OR NOT for_all AND NOT EXISTS (
					SELECT FROM media_readers WHERE generation = u.generation AND media_id = u.media_id OFFSET 0))
		), `+releaseMediaUses, log, m.Media.ID, now, readers == nil)
}
