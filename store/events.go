package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// encodeBody returns the body of an event as it is stored.
func encodeBody(b room.Body) ([]byte, error) {
	encoded, err := room.AppendBody(nil, b)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", b.Type(), err)
	}
	return encoded, nil
}

// allLogs selects the logs of rooms and the inboxes of users, with the columns that readers need.
const allLogs = `(
	SELECT generation AS log, room_id, last_seq, oldest_seq FROM rooms JOIN logs USING (generation)
	UNION ALL SELECT log, '', last_seq, oldest_seq FROM inboxes
)`

// Tail returns the newest events of a log, at most n. Errors: room.ErrRoomNotFound.
func (s *Store) Tail(ctx context.Context, log room.LogID, n int) (room.LogPage, error) {
	return s.page(ctx, log, `
		SELECT l.room_id, l.last_seq, l.oldest_seq, e.seq, e.type, e.at, e.body
		FROM `+allLogs+` l LEFT JOIN LATERAL (
			SELECT * FROM events WHERE generation = l.log ORDER BY seq DESC LIMIT $2
		) e ON true WHERE l.log = $1 ORDER BY e.seq`, n)
}

// EventsAfter returns the next events of a log after a seq, at most n. Errors:
// room.ErrRoomNotFound.
func (s *Store) EventsAfter(ctx context.Context, log room.LogID, after room.Seq, n int) (room.LogPage, error) {
	return s.page(ctx, log, `
		SELECT l.room_id, l.last_seq, l.oldest_seq, e.seq, e.type, e.at, e.body
		FROM `+allLogs+` l LEFT JOIN LATERAL (
			SELECT * FROM events WHERE generation = l.log AND seq > $3 ORDER BY seq LIMIT $2
		) e ON true WHERE l.log = $1 ORDER BY e.seq`, n, after)
}

// page reads the state of a log and some of its events in one statement, so that both are from the
// same snapshot.
func (s *Store) page(ctx context.Context, log room.LogID, query string, args ...any) (room.LogPage, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{log}, args...)...)
	if err != nil {
		return room.LogPage{}, translate(err)
	}
	defer rows.Close()
	var (
		p     room.LogPage
		found bool
	)
	for rows.Next() {
		var (
			id   room.RoomID
			seq  *room.Seq
			t    *room.EventType
			at   *time.Time
			body *string
		)
		if err := rows.Scan(&id, &p.LastSeq, &p.OldestSeq, &seq, &t, &at, &body); err != nil {
			return room.LogPage{}, translate(err)
		}
		found = true
		if seq == nil {
			continue // a log without events
		}
		e, err := restore(room.Event{Room: id, Log: log, Seq: *seq, At: at.UTC()}, *t, *body)
		if err != nil {
			return room.LogPage{}, err
		}
		p.Events = append(p.Events, e)
	}
	if err := rows.Err(); err != nil {
		return room.LogPage{}, translate(err)
	}
	if !found {
		return room.LogPage{}, room.ErrRoomNotFound
	}
	return p, nil
}

// restore decodes the body of a stored event. A stored message does not contain its room and seq,
// so they are set from the event.
func restore(e room.Event, t room.EventType, body string) (room.Event, error) {
	var err error
	if e.Body, err = room.DecodeBody(t, []byte(body)); err != nil {
		return e, fmt.Errorf("log %d, seq %d: %w", e.Log, e.Seq, err)
	}
	switch received := e.Body.(type) {
	case room.MessagesReceived:
		for i, m := range received.MessageList {
			received.MessageList[i] = m.In(e.Room, e.Seq)
		}
	case room.PeerMessagesReceived:
		for i, m := range received.MessageList {
			received.MessageList[i] = m.With(m.Peer, e.Seq)
		}
	}
	return e, nil
}

// restoreMessage returns the message of a stored event.
func restoreMessage(e room.Event, t room.EventType, body string) (room.Message, error) {
	e, err := restore(e, t, body)
	if err != nil {
		return room.Message{}, err
	}
	return room.MessagesOf(e.Body)[0], nil
}

// collectMessages reads messages from rows with their seqs and bodies. log contains the room and
// the log of all of them.
func collectMessages(rows pgx.Rows, log room.Event, t room.EventType) ([]room.Message, error) {
	messages, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Message, error) {
		var body string
		e := log
		if err := row.Scan(&e.Seq, &body); err != nil {
			return room.Message{}, err
		}
		return restoreMessage(e, t, body)
	})
	return messages, translate(err)
}

// nextXact is the feed position of the next event in a log: the number of the transaction, or that
// of the log's newest event if it is higher. A transaction that got its number early may get the
// log's lock late, but the feed must have the events of a log in the log's order.
const nextXact = "greatest(last_xact, pg_current_xact_id())"
