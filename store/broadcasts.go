package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// broadcastPage is how many rooms get a message at once, and broadcastPause how long a broadcast
	// waits after them: it sends to less than a thousand rooms per second, so that it takes a small
	// part of what the lanes can store.
	broadcastPage  = 50
	broadcastPause = 50 * time.Millisecond
	// broadcastsKept is how long broadcasts are kept after their end.
	broadcastsKept = 7 * 24 * time.Hour
)

const broadcastColumns = `broadcast_id, prefix, sender_id, sender_name, state, client_message_id, room_count, sent, failed, created_at, ended_at`

func scanBroadcast(row pgx.Row, more ...any) (room.Broadcast, error) {
	var (
		b       room.Broadcast
		created time.Time
		ended   *time.Time
	)
	err := row.Scan(append([]any{
		&b.ID, &b.Prefix, &b.Sender.ID, &b.Sender.Name, &b.State, &b.ClientMessageID, &b.RoomCount, &b.SentCount, &b.FailedCount, &created, &ended,
	}, more...)...)
	b.CreatedAt = room.InstantOf(created)
	if ended != nil {
		b.EndedAt = room.InstantOf(*ended)
	}
	return b, err
}

// CreateBroadcast creates a broadcast, which a node begins to send within about a second. If it is a
// retry, it returns the earlier one. Errors: room.ErrMessageIDReused, room.ErrTooManyBroadcasts.
func (s *Store) CreateBroadcast(
	ctx context.Context, by room.Actor, d room.BroadcastDraft,
) (created room.Broadcast, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return room.Broadcast{}, fmt.Errorf("broadcast ID: %w", err)
	}
	clientMessageID := d.Draft.ClientMessageID
	if clientMessageID == "" {
		clientMessageID = "broadcast-" + id.String()
	}
	draft, err := json.Marshal(d.Draft)
	if err != nil {
		return room.Broadcast{}, fmt.Errorf("encode a broadcast: %w", err)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Creations take turns, so that retries find the earlier broadcast and the count is exact.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('broadcasts', 6))"); err != nil {
			return err
		}
		var stored string
		created, err = scanBroadcast(tx.QueryRow(ctx, "SELECT "+broadcastColumns+`, draft FROM broadcasts
			WHERE sender_id = $1 AND client_message_id = $2`, d.Sender.ID, clientMessageID), &stored)
		if err == nil {
			return retriedBroadcast(created, stored, d)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		created, err = scanBroadcast(tx.QueryRow(ctx, `
			INSERT INTO broadcasts (broadcast_id, prefix, sender_id, sender_name, client_message_id, draft, actor_id, request_id,
				created_at, leased_until, newest)
			SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $9, coalesce(pg_sequence_last_value('rooms_generation_seq'), 0)
			WHERE (SELECT count(*) FROM (SELECT FROM broadcasts WHERE ended_at IS NULL ORDER BY created_at LIMIT $10) b) < $10
			RETURNING `+broadcastColumns, id.String(), d.Prefix, d.Sender.ID, d.Sender.Name, clientMessageID, string(draft),
			by.ID, by.RequestID, s.now(), room.MaxBroadcasts))
		if errors.Is(err, pgx.ErrNoRows) {
			return room.ErrTooManyBroadcasts
		}
		return err
	})
	if err != nil {
		return room.Broadcast{}, translate(err)
	}
	return created, nil
}

// retriedBroadcast returns an error if a draft with the ClientMessageID of a broadcast is not a retry
// of it.
func retriedBroadcast(b room.Broadcast, stored string, again room.BroadcastDraft) error {
	earlier := room.BroadcastDraft{Prefix: b.Prefix, Sender: b.Sender}
	if err := json.Unmarshal([]byte(stored), &earlier.Draft); err != nil {
		return fmt.Errorf("broadcast %s: %w", b.ID, err)
	}
	return earlier.RetriedBy(again)
}

// Broadcast returns a broadcast. Errors: room.ErrBroadcastNotFound.
func (s *Store) Broadcast(ctx context.Context, id room.BroadcastID) (room.Broadcast, error) {
	b, err := scanBroadcast(s.pool.QueryRow(ctx, "SELECT "+broadcastColumns+" FROM broadcasts WHERE broadcast_id = $1", id))
	if errors.Is(err, pgx.ErrNoRows) {
		err = room.ErrBroadcastNotFound
	}
	return b, translate(err)
}

// Broadcasts returns the newest broadcasts, at most room.MaxListedBroadcasts, the newest first.
func (s *Store) Broadcasts(ctx context.Context) ([]room.Broadcast, error) {
	rows, err := s.pool.Query(ctx, "SELECT "+broadcastColumns+" FROM broadcasts ORDER BY broadcast_id DESC LIMIT $1", room.MaxListedBroadcasts)
	if err != nil {
		return nil, translate(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Broadcast, error) { return scanBroadcast(row) })
	return all, translate(err)
}

// StopBroadcast stops a broadcast. Rooms that the message is being sent to may still get it. It does
// nothing if the broadcast has ended. Errors: room.ErrBroadcastNotFound.
func (s *Store) StopBroadcast(ctx context.Context, id room.BroadcastID) error {
	stopped, err := s.pool.Exec(ctx, `
		UPDATE broadcasts SET state = CASE WHEN ended_at IS NULL THEN 'stopped' ELSE state END, ended_at = coalesce(ended_at, $2)
		WHERE broadcast_id = $1`, id, s.now())
	if err == nil && stopped.RowsAffected() == 0 {
		return room.ErrBroadcastNotFound
	}
	return translate(err)
}

// errBroadcastTaken ends the work on a broadcast that was stopped, or that another node works on.
var errBroadcastTaken = errors.New("the broadcast was stopped, or taken over by another node")

// SendBroadcasts sends the broadcasts that no other node is sending, one after the other. It returns
// when there are none left, or with the error of a room that has to be tried again. One process calls
// it from one goroutine only, about once a second.
func (s *Store) SendBroadcasts(ctx context.Context) error {
	for {
		job, found, err := s.claimBroadcast(ctx)
		if err != nil || !found {
			return translate(err)
		}
		for err == nil && !job.done {
			if err = s.sendPage(ctx, &job); err == nil && !job.done {
				err = pause(ctx, broadcastPause)
			}
		}
		if err != nil && !errors.Is(err, errBroadcastTaken) {
			s.releaseBroadcast(context.WithoutCancel(ctx), job.id)
			return translate(err)
		}
	}
}

// broadcastJob is a broadcast that this node sends.
type broadcastJob struct {
	id     room.BroadcastID
	prefix string
	send   room.RoomSend // without its room
	after  room.RoomID
	newest room.LogID
	done   bool
}

// claimBroadcast takes the oldest broadcast that no other node is sending. The first node counts the
// rooms that are to get it.
func (s *Store) claimBroadcast(ctx context.Context) (job broadcastJob, found bool, err error) {
	var (
		draft           string
		by              = room.Actor{Kind: room.ActorAdmin}
		clientMessageID string
		now             = s.now()
	)
	err = s.pool.QueryRow(ctx, `
		UPDATE broadcasts SET node_id = $1, leased_until = $2
		WHERE broadcast_id = (
			SELECT broadcast_id FROM broadcasts WHERE ended_at IS NULL AND (leased_until <= $3 OR node_id = $1)
			ORDER BY created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
		)
		RETURNING broadcast_id, prefix, sender_id, sender_name, client_message_id, draft, actor_id, request_id, after_room, newest`,
		s.nodeID, now.Add(room.BroadcastLease), now).
		Scan(&job.id, &job.prefix, &job.send.Sender.User.ID, &job.send.Sender.User.Name, &clientMessageID, &draft, &by.ID, &by.RequestID, &job.after, &job.newest)
	if errors.Is(err, pgx.ErrNoRows) {
		return job, false, nil
	}
	if err != nil {
		return job, false, err
	}
	if err := json.Unmarshal([]byte(draft), &job.send.Draft); err != nil {
		return job, false, fmt.Errorf("broadcast %s: %w", job.id, err)
	}
	job.send.Sender.Actor, job.send.Draft.ClientMessageID = by, clientMessageID
	_, err = s.pool.Exec(ctx, `
		UPDATE broadcasts SET room_count = (
			SELECT count(*) FROM rooms r WHERE r.destroyed_at IS NULL AND r.generation <= newest AND r.room_id BETWEEN $2 AND $2 || chr(127))
		WHERE broadcast_id = $1 AND room_count IS NULL`, job.id, job.prefix)
	return job, true, err
}

// sendPage sends a broadcast to its next rooms, and then records how far it has come. If that fails,
// or this process ends before, the rooms are tried again: those that have the message already
// recognize it by its ClientMessageID.
func (s *Store) sendPage(ctx context.Context, job *broadcastJob) error {
	rows, err := s.pool.Query(ctx, `
		SELECT room_id FROM rooms
		WHERE destroyed_at IS NULL AND room_id > $1 AND room_id BETWEEN $2 AND $2 || chr(127) AND generation <= $3
		ORDER BY room_id LIMIT $4`, job.after, job.prefix, job.newest, broadcastPage)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[room.RoomID])
	if err != nil {
		return err
	}
	results := make([]error, len(ids))
	var sending sync.WaitGroup
	for i, id := range ids {
		sending.Go(func() {
			send := job.send
			send.Room = id
			_, _, results[i] = s.PostMessage(ctx, send)
		})
	}
	sending.Wait()
	var progress room.BroadcastProgress
	for i, err := range results {
		if err := progress.Add(err); err != nil {
			return fmt.Errorf("broadcast %s to room %q: %w", job.id, ids[i], err)
		}
	}
	if len(ids) > 0 {
		job.after = ids[len(ids)-1]
	}
	now := s.now()
	job.done = len(ids) < broadcastPage
	updated, err := s.pool.Exec(ctx, `
		UPDATE broadcasts SET after_room = $3, sent = sent + $4, failed = failed + $5, leased_until = $6,
			state = CASE WHEN $7 THEN 'done' ELSE state END, ended_at = CASE WHEN $7 THEN $8::timestamptz END
		WHERE broadcast_id = $1 AND node_id = $2 AND ended_at IS NULL`,
		job.id, s.nodeID, job.after, progress.Sent, progress.Failed, now.Add(room.BroadcastLease), job.done, now)
	if err == nil && updated.RowsAffected() == 0 {
		return errBroadcastTaken
	}
	return err
}

// releaseBroadcast lets any node continue a broadcast at once.
func (s *Store) releaseBroadcast(ctx context.Context, id room.BroadcastID) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, "UPDATE broadcasts SET leased_until = $3 WHERE broadcast_id = $1 AND node_id = $2 AND ended_at IS NULL", id, s.nodeID, s.now())
	if err != nil {
		s.opts.Log.Warn("broadcast not released: another server continues it later", "broadcast", id, "error", err)
	}
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
