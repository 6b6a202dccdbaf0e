package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// PostMessage stores a message of the session in a room and returns it at its
// place in the log. A draft that was stored before under the same
// ClientMessageID returns the message of then. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom, room.ErrMessageIDReused.
func (s *Store) PostMessage(ctx context.Context, session room.Session, id room.RoomID, d room.Draft) (room.Message, error) {
	return s.post(ctx, session.User, &session.ID, id, d)
}

// PostMessageAs is PostMessage for a sender who need not be in the room. Errors:
// room.ErrRoomNotFound, room.ErrMessageIDReused.
func (s *Store) PostMessageAs(ctx context.Context, sender room.User, id room.RoomID, d room.Draft) (room.Message, error) {
	return s.post(ctx, sender, nil, id, d)
}

// post appends a message to a room's log; a session must be in the room.
func (s *Store) post(ctx context.Context, sender room.User, session *room.SessionID, id room.RoomID, d room.Draft) (room.Message, error) {
	messageID, err := uuid.NewV7()
	if err != nil {
		return room.Message{}, fmt.Errorf("message ID: %w", err)
	}
	m := d.Message(room.MessageID(messageID.String()), sender, s.now())
	body, err := json.Marshal(room.MessagesReceived{MessageList: []room.Message{m}})
	if err != nil {
		return room.Message{}, fmt.Errorf("encode message: %w", err)
	}
	placed, err := s.appender.append(ctx, appendItem{room: id, session: session, message: m, body: string(body)})
	if err != nil {
		return room.Message{}, err
	}
	if placed.ID != m.ID {
		return placed, placed.RetriedBy(d)
	}
	return placed, nil
}

// MessagesBefore is the messages of a room next before a seq, at most n, in
// ascending order.
func (s *Store) MessagesBefore(ctx context.Context, r room.Room, before room.Seq, n int) ([]room.Message, error) {
	return s.messages(ctx, r, `
		SELECT seq, body FROM (
			SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4
		) newest ORDER BY seq`, before, n)
}

// MessagesAfter is the messages of a room next after a seq, at most n, in
// ascending order.
func (s *Store) MessagesAfter(ctx context.Context, r room.Room, after room.Seq, n int) ([]room.Message, error) {
	return s.messages(ctx, r, `
		SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND seq > $3 ORDER BY seq LIMIT $4`, after, n)
}

func (s *Store) messages(ctx context.Context, r room.Room, query string, from room.Seq, n int) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, r.Generation, room.TypeMessagesReceived, from, n)
	if err != nil {
		return nil, translate(err)
	}
	messages, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (room.Message, error) {
		var (
			e    = room.Event{Room: r.ID, Generation: r.Generation}
			body string
		)
		if err := row.Scan(&e.Seq, &body); err != nil {
			return room.Message{}, err
		}
		e, err := restore(e, room.TypeMessagesReceived, body)
		if err != nil {
			return room.Message{}, err
		}
		return e.Body.(room.MessagesReceived).MessageList[0], nil
	})
	return messages, translate(err)
}
