package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Recall takes a message of the session's user back. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom, room.ErrMessageNotFound,
// room.ErrNotSender, room.ErrRecallTooLate.
func (s *Store) Recall(ctx context.Context, session room.Session, id room.RoomID, message room.MessageID) error {
	return s.recall(ctx, message, session.User.ID, func(tx pgx.Tx) (room.Room, error) {
		return lockRoomWith(ctx, tx, session.ID, id)
	})
}

// RecallAny takes a message of anybody back, at any time. Errors:
// room.ErrRoomNotFound, room.ErrMessageNotFound.
func (s *Store) RecallAny(ctx context.Context, id room.RoomID, message room.MessageID) error {
	return s.recall(ctx, message, "", func(tx pgx.Tx) (room.Room, error) { return lockRoom(ctx, tx, id) })
}

// recall leaves a tombstone in the event's place, and nothing of the content: the
// room loses a file that the message brought, whoever quoted it there. It holds
// the room, so that who appends a retry meanwhile, or recalls too, finds one or
// the other.
func (s *Store) recall(ctx context.Context, id room.MessageID, by room.UserID, lock func(pgx.Tx) (room.Room, error)) error {
	return s.inTx(ctx, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lock(tx)
		if err != nil {
			return c, err
		}
		m, err := messageByID(ctx, tx, r, id)
		if err != nil {
			return c, err
		}
		file := m.Media
		if r, m, c, err = r.Recall(m, by, now); err != nil || len(c.Events) == 0 {
			return c, err
		}
		body, err := json.Marshal(room.MessagesReceived{MessageList: []room.Message{m.In("", 0)}})
		if err != nil {
			return c, fmt.Errorf("encode message: %w", err)
		}
		var b pgx.Batch
		b.Queue("UPDATE events SET body = $3 WHERE generation = $1 AND seq = $2", r.Generation, m.Seq, string(body))
		if file != nil {
			queueUnused(&b, r.Generation, file.ID, now)
		}
		if err := queueRoom(&b, r, c.Events); err != nil {
			return c, err
		}
		return c, send(ctx, tx, &b)
	})
}

// messageByID is a stored message of a room. Its ID says when it was sent, and
// there is an index for that; of the few of that millisecond it is the one that
// says so itself. Errors: room.ErrMessageNotFound.
func messageByID(ctx context.Context, q querier, r room.Room, id room.MessageID) (room.Message, error) {
	sentAt, ok := instantOf(id)
	if !ok {
		return room.Message{}, room.ErrMessageNotFound
	}
	candidates, err := messages(ctx, q, r, "SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND at = $3", sentAt)
	if err != nil {
		return room.Message{}, err
	}
	for _, m := range candidates {
		if m.ID == id {
			return m, nil
		}
	}
	return room.Message{}, room.ErrMessageNotFound
}
