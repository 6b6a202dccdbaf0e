package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// PostMessage takes a message of the session for a room: one of a stored kind is
// stored and returned at its place in the log, and one of another kind is told
// to those who listen now. A draft that was stored before under the same
// ClientMessageID returns the message of then. Errors: room.ErrRoomNotFound,
// room.ErrNotInRoom, room.ErrMessageIDReused.
func (s *Store) PostMessage(ctx context.Context, session room.Session, id room.RoomID, d room.Draft) (room.Message, error) {
	if d.Kind.Stored() {
		return s.append(ctx, session.User, &session.ID, id, d)
	}
	in, err := s.RoomByID(ctx, session.ID, id)
	if err != nil {
		return room.Message{}, err
	}
	return s.tell(in, session.User, d)
}

// PostMessageAs is PostMessage for a sender who need not be in the room. Errors:
// room.ErrRoomNotFound, room.ErrMessageIDReused.
func (s *Store) PostMessageAs(ctx context.Context, sender room.User, id room.RoomID, d room.Draft) (room.Message, error) {
	if d.Kind.Stored() {
		return s.append(ctx, sender, nil, id, d)
	}
	in, err := s.LivingRoom(ctx, id)
	if err != nil {
		return room.Message{}, err
	}
	return s.tell(in, sender, d)
}

// append stores a message in a room's log. The session, if there is one, must be
// in the room.
func (s *Store) append(ctx context.Context, sender room.User, session *room.SessionID, id room.RoomID, d room.Draft) (room.Message, error) {
	m, err := s.message(sender, d)
	if err != nil {
		return room.Message{}, err
	}
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

// tell hands a message that is not stored to those who listen now.
func (s *Store) tell(in room.Room, sender room.User, d room.Draft) (room.Message, error) {
	m, err := s.message(sender, d)
	if err != nil {
		return room.Message{}, err
	}
	m = m.In(in.ID, 0)
	s.o.Commit(room.Change{Events: []room.Event{{
		Room: in.ID, Generation: in.Generation, At: m.SentAt,
		Body: room.MessagesReceived{MessageList: []room.Message{m}},
	}}})
	return m, nil
}

func (s *Store) message(sender room.User, d room.Draft) (room.Message, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return room.Message{}, fmt.Errorf("message ID: %w", err)
	}
	return d.Message(room.MessageID(id.String()), sender, s.now()), nil
}

// MessageByClientID is the message that a sender stored under an ID of its own,
// in a room that the session is in. found is false where there is none. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom.
func (s *Store) MessageByClientID(ctx context.Context, session room.Session, id room.RoomID, clientMessageID string) (m room.Message, found bool, err error) {
	in, err := s.RoomByID(ctx, session.ID, id)
	if err != nil {
		return room.Message{}, false, err
	}
	messages, err := s.messages(ctx, in, `
		SELECT seq, body FROM events
		WHERE generation = $1 AND type = $2 AND sender_id = $3 AND client_message_id = $4`, session.User.ID, clientMessageID)
	if err != nil || len(messages) == 0 {
		return room.Message{}, false, err
	}
	return messages[0], true, nil
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

func (s *Store) messages(ctx context.Context, r room.Room, query string, args ...any) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{r.Generation, room.TypeMessagesReceived}, args...)...)
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
