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

// AddMedia notes a file of a user before its bytes are stored, at most length of
// them, and names it. Who gives up on it calls DeleteMedia; else SweepMedia finds it.
// Errors: room.ErrMediaQuota.
func (s *Store) AddMedia(ctx context.Context, owner room.UserID, fileName string, length int64) (room.MediaID, error) {
	return s.addMedia(ctx, owner, fileName, length, nil)
}

func (s *Store) addMedia(ctx context.Context, owner room.UserID, fileName string, length int64, uploaded *int64) (room.MediaID, error) {
	id, err := uuid.NewRandom() // says nothing of when, and cannot be guessed
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
		// One after the other for each user, or two would each find room for one; and for
		// all, where what others are just adding may be too much.
		b.Queue("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", owner)
		if s.opts.MediaTotal > 0 {
			b.Queue("SELECT CASE WHEN (SELECT sum(bytes) FROM media_bytes_of_all) > $1::bigint THEN pg_advisory_xact_lock(hashtextextended('', 2)) END",
				s.opts.MediaTotal-nearTotal)
		}
		// What is due for the sweep is not held against anybody.
		b.Queue(`
			INSERT INTO media (media_id, owner_id, file_name, created_at, unused_since, length, uploaded)
			SELECT $1, $2, $3, $4, $4, $5::bigint, $6 FROM (
				SELECT count(*) AS files, coalesce(sum(coalesce(size, length)), 0) AS bytes FROM media
				WHERE owner_id = $2 AND unused_since > $7 AND NOT deleting
			) held WHERE files < $8 AND bytes + $5::bigint <= $9`,
			id, owner, fileName, now, length, uploaded, now.Add(-room.MediaKept), room.MaxUnsentFiles, room.MaxUnsentBytes).
			Exec(func(tag pgconn.CommandTag) error { added = tag.RowsAffected(); return nil })
		// With this file, which the insert has counted.
		b.Queue(`SELECT coalesce((SELECT bytes FROM media_bytes WHERE owner_id = $1), 0), coalesce(sum(bytes), 0)::bigint
			FROM media_bytes_of_all`, owner).QueryRow(func(row pgx.Row) error { return row.Scan(&mine, &all) })
		if err := send(ctx, tx, &b); err != nil {
			return err
		}
		if added == 0 || s.opts.MediaPerUser > 0 && mine > s.opts.MediaPerUser || s.opts.MediaTotal > 0 && all > s.opts.MediaTotal {
			return room.ErrMediaQuota
		}
		return nil
	})
	return room.MediaID(id.String()), translate(err)
}

// MediaBytes is how many bytes of files there are of all users, sent or not, until
// they are deleted.
func (s *Store) MediaBytes(ctx context.Context) (n int64, err error) {
	err = s.pool.QueryRow(ctx, "SELECT coalesce(sum(bytes), 0)::bigint FROM media_bytes_of_all").Scan(&n)
	return n, translate(err)
}

// nearTotal is how far below MediaTotal uploads begin one after the other: more than
// the transactions that are under way at once can add, with the largest files.
const nearTotal = 2 * maxConns * room.MaxMediaBytes

// FinishMedia says that a file's bytes are stored, and what they are. From now on
// it can be read and sent. Errors: room.ErrMediaNotFound where it is not being
// uploaded, or no longer.
func (s *Store) FinishMedia(ctx context.Context, m room.Media) error {
	// The day that it is kept begins anew: the upload may have taken a while.
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

// DeleteMedia forgets a file whose bytes are not stored, or not any more.
func (s *Store) DeleteMedia(ctx context.Context, id room.MediaID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM media WHERE media_id = $1 AND (size IS NULL OR deleting)", id)
	return translate(err)
}

// abandonedKept is how long bytes may still come to be stored that a bucket far away
// was sent and has not answered for.
const abandonedKept = 10 * time.Minute

// AbandonMedia is DeleteMedia where it is not known whether bytes are stored, or will
// be: the sweep deletes them in a while, and then the row.
func (s *Store) AbandonMedia(ctx context.Context, id room.MediaID) error {
	_, err := s.pool.Exec(ctx, "UPDATE media SET deleting = true, unused_since = $2 WHERE media_id = $1 AND uses = 0",
		id, s.now().Add(abandonedKept-room.MediaKept))
	return translate(err)
}

// SampleMedia is some of the files that should be stored, at most n, others each time.
func (s *Store) SampleMedia(ctx context.Context, n int) ([]room.Media, error) {
	from, err := uuid.NewRandom() // names are random, so the next ones are any
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

// MediaFor is a file that a user may read: the members of the rooms in which it
// was sent may, both sides where it was sent from user to user, and its owner for
// as long as it was not sent or a message somewhere still brings it. Errors:
// room.ErrMediaNotFound.
func (s *Store) MediaFor(ctx context.Context, user room.UserID, id room.MediaID) (room.StoredMedia, error) {
	m, err := scanMedia(s.pool.QueryRow(ctx, "SELECT "+mediaColumns+` FROM media m
		WHERE m.media_id = $1 AND m.size IS NOT NULL AND NOT m.deleting AND `+readableBy, id, user))
	if errors.Is(err, pgx.ErrNoRows) {
		return room.StoredMedia{}, room.ErrMediaNotFound
	}
	return m, translate(err)
}

// readableBy is the condition that the user $2 may read a file: one index lookup
// for the user's inbox and for each room that the user is in. A LATERAL with a
// LIMIT holds the planner to that. Left to itself it looks through all uses of the
// file, or reads all files of the inbox, as most have few and some have thousands.
//
// A file of the user's own is looked up by its uses instead, until one is found
// that is not in a destroyed room.
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
		SELECT FROM media_uses WHERE generation = l.log AND media_id = m.media_id LIMIT 1
	) used LIMIT 1) END)`

// MediaByID is those of the files that a user may read.
func (s *Store) MediaByID(ctx context.Context, user room.UserID, ids []room.MediaID) (map[room.MediaID]room.StoredMedia, error) {
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

// useMedia lets a room's members read the files that a message brings, and keeps
// these for as long as the message. It comes before the message: nobody who reads
// that is told that there is no such file. Where the session is not in the room, or
// the message was stored before and may have been recalled, it does nothing; the
// append says so. Errors: room.ErrMediaNotFound.
func (s *Store) useMedia(ctx context.Context, session *room.SessionID, id room.RoomID, m room.Message) error {
	ids := m.MediaIDs()
	if len(ids) == 0 {
		return nil
	}
	// What the closure names goes to the heap: all of m would, of every message.
	sender, clientMessageID, sentAt := m.Sender.ID, m.ClientMessageID, m.SentAt
	return s.inTx(ctx, room.Actor{}, func(tx pgx.Tx) (c room.Change, err error) {
		var g room.LogID
		err = tx.QueryRow(ctx, `SELECT generation FROM rooms r WHERE room_id = $1 AND destroyed_at IS NULL AND ($2::uuid IS NULL OR
			EXISTS (SELECT FROM attendances a WHERE a.generation = r.generation AND a.session_id = $2))
			AND NOT EXISTS (SELECT FROM events e WHERE e.generation = r.generation AND e.sender_id = $3 AND e.client_message_id = $4 OFFSET 0)`,
			id, session, sender, clientMessageID).Scan(&g)
		if errors.Is(err, pgx.ErrNoRows) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		return c, recordMediaUses(ctx, tx, []room.LogID{g}, ids, sentAt)
	})
}

// noteUses lets who reads any of some logs read files, and keeps these for as long
// as a message of that instant. Errors: room.ErrMediaNotFound.
func recordMediaUses(ctx context.Context, tx pgx.Tx, logs []room.LogID, ids []room.MediaID, sentAt time.Time) error {
	var (
		b     pgx.Batch
		found int
	)
	// The files' rows are locked first, in one order for all senders, so that the
	// next statement sees all that was done to them and their uses: one that is
	// being deleted is not used.
	b.Queue(`SELECT count(*) FROM (
			SELECT FROM media WHERE media_id = ANY ($1::uuid[]) AND size IS NOT NULL AND NOT deleting
			ORDER BY media_id FOR NO KEY UPDATE
		) locked`, ids).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
	b.Queue(`
		WITH again AS (
			UPDATE media_uses SET used_at = $3 WHERE generation = ANY ($1) AND media_id = ANY ($2::uuid[]) AND used_at < $3
		), used AS (
			INSERT INTO media_uses (generation, media_id, used_at)
			SELECT unnest($1::bigint[]), media_id, $3 FROM media
			WHERE media_id = ANY ($2::uuid[]) AND size IS NOT NULL AND NOT deleting
			ON CONFLICT DO NOTHING RETURNING media_id
		), counted AS (
			SELECT media_id, count(*) AS n FROM used GROUP BY media_id
		)
		UPDATE media m SET uses = uses + n, unused_since = NULL FROM counted c WHERE m.media_id = c.media_id`, logs, ids, sentAt)
	if err := send(ctx, tx, &b); err != nil {
		return err
	}
	if found < len(ids) {
		return room.ErrMediaNotFound
	}
	return nil
}

// mediaBatch bounds how many files one look deletes, and how many of a room's one
// transaction lets go.
const mediaBatch = 200

// mediaBatches bounds one sweep, which is followed by the next after a minute.
const mediaBatches = 50

// mediaRetry is how long a file waits for the next try whose bytes could not be
// deleted. Without it, as many of them as fit into a batch would keep all others
// from their turn.
const mediaRetry = 10 * time.Minute

// SweepMedia deletes files that nobody has sent for room.MediaKept, those that no
// message brings any more after as long, and what became of uploads that failed.
// Bytes are deleted by remove, which must not mind that they are gone: first the row
// says so, then the bytes go, then the row, and whoever is interrupted begins anew.
// Any number of processes may sweep.
func (s *Store) SweepMedia(ctx context.Context, remove func(context.Context, room.MediaID) error) error {
	for range mediaBatches {
		swept, err := s.sweepMedia(ctx, remove)
		if err != nil || swept < mediaBatch {
			return err
		}
	}
	return nil
}

func (s *Store) sweepMedia(ctx context.Context, remove func(context.Context, room.MediaID) error) (swept int, err error) {
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
	gone, kept := removeEach(ctx, "media", due, remove)
	if kept != nil {
		_, err := s.pool.Exec(ctx, "UPDATE media SET unused_since = $3 WHERE media_id = ANY ($1::uuid[]) AND media_id <> ALL ($2::uuid[]) AND deleting",
			due, gone, now.Add(mediaRetry-room.MediaKept))
		kept = errors.Join(kept, translate(err))
	}
	if len(gone) > 0 {
		// Another sweep may be deleting the same rows, in another order. What it has
		// locked is left to it: two sweeps that waited would wait for each other.
		_, err = s.pool.Exec(ctx, `DELETE FROM media WHERE media_id = ANY (ARRAY (
			SELECT media_id FROM media WHERE media_id = ANY ($1::uuid[]) AND deleting FOR UPDATE SKIP LOCKED))`, gone)
	}
	return len(due), errors.Join(kept, translate(err))
}

// removeEach deletes the bytes of files or of pieces. It returns those that are
// gone, and why others are not: of one of them, as a bucket that is away would make
// a long list of the same.
func removeEach[ID ~string](ctx context.Context, what string, due []ID, remove func(context.Context, ID) error) (gone []ID, kept error) {
	gone = []ID{} // and not nil, which PostgreSQL would compare nothing with
	for _, id := range due {
		if err := remove(ctx, id); err != nil {
			kept = fmt.Errorf("delete the %s %s: %w", what, id, err)
			continue
		}
		gone = append(gone, id)
	}
	if failed := len(due) - len(gone); failed > 1 {
		kept = fmt.Errorf("%w (and %d more)", kept, failed-1)
	}
	return gone, kept
}

// letMediaGo takes a piece of the files from destroyed rooms. It reports whether
// there may be more.
func (s *Store) releaseMedia(ctx context.Context, rooms []room.LogID, now time.Time) (more bool, err error) {
	var let int
	err = s.pool.QueryRow(ctx, `
		WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = ANY ($1) LIMIT $2
		), `+releaseMediaUses, rooms, mediaBatch, now.Add(-room.MediaKept)).Scan(&let) // due at once
	return let == mediaBatch, translate(err)
}

// letMedia is the end of a statement that takes uses from files, those that are
// due. A file of no other use is nobody's from then on, its owner's neither, and
// waits since $3 for its deletion. The files' rows are locked before, as by
// noteUses. A use that a sender meanwhile made a newer one stays.
const releaseMediaUses = `locked AS MATERIALIZED (
		SELECT d.* FROM (SELECT * FROM due ORDER BY media_id) d
		CROSS JOIN LATERAL (SELECT FROM media WHERE media_id = d.media_id LIMIT 1 FOR NO KEY UPDATE) m
	), gone AS (
		DELETE FROM media_uses u USING locked d
		WHERE (u.generation, u.media_id) = (d.generation, d.media_id) AND u.used_at = d.used_at RETURNING u.media_id
	), counted AS (
		SELECT media_id, count(*) AS n FROM gone GROUP BY media_id
	), let AS (
		UPDATE media m SET uses = uses - n, unused_since = CASE WHEN uses = n THEN $3::timestamptz END, deleting = uses = n
		FROM counted c WHERE m.media_id = c.media_id
	)
	SELECT count(*) FROM gone`

// queueUnused takes a file from a log whose row the transaction holds.
func queueReleaseMedia(b *pgx.Batch, log room.LogID, id room.MediaID, now time.Time) {
	b.Queue(`WITH due AS (
			SELECT generation, media_id, used_at FROM media_uses WHERE generation = $1 AND media_id = $2
		), `+releaseMediaUses, log, id, now)
}
