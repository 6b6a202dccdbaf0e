package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Recall recalls a message of a session's user. Errors: room.ErrRoomNotFound, room.ErrNotInRoom,
// room.ErrMessageNotFound, room.ErrNotSender, room.ErrRecallTooLate.
func (s *Store) Recall(
	ctx context.Context, by room.Actor, user room.UserID, id room.RoomID, message room.MessageID,
) error {
	return s.recall(ctx, by, id, message, user, func(tx pgx.Tx) (room.Room, error) {
		return lockJoinedRoom(ctx, tx, by.Session(), id)
	})
}

// RecallAny recalls a message of any user, at any time, for an admin. Errors: room.ErrRoomNotFound,
// room.ErrMessageNotFound.
func (s *Store) RecallAny(ctx context.Context, by room.Actor, id room.RoomID, message room.MessageID) error {
	return s.recall(ctx, by, id, message, "", func(tx pgx.Tx) (room.Room, error) { return lockRoom(ctx, tx, id) })
}

// recall replaces the message's event by a tombstone without its content. The readers of the message
// lose its file too, even if another message quotes it. The room is locked, so that a concurrent
// retry or recall finds either the message or the tombstone.
func (s *Store) recall(
	ctx context.Context, by room.Actor, id room.RoomID, message room.MessageID, sender room.UserID,
	lock func(pgx.Tx) (room.Room, error),
) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		r, err := lock(tx)
		if err != nil {
			return c, err
		}
		m, err := messageByID(ctx, tx, room.Event{Room: r.ID, Log: r.Generation}, room.TypeMessagesReceived, message)
		if err != nil {
			return c, err
		}
		recalled := m
		if r, m, c, err = r.Recall(m, sender, now); err != nil || len(c.Events) == 0 {
			return c, err
		}
		body, err := encodeBody(room.MessagesReceived{MessageList: []room.Message{m.In("", 0)}})
		if err != nil {
			return c, err
		}
		var b pgx.Batch
		b.Queue("UPDATE events SET body = $3 WHERE generation = $1 AND seq = $2", r.Generation, m.Seq, string(body))
		queueReleaseMedia(&b, r.Generation, recalled, now)
		if err := queueRoom(&b, r, c.Events); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, roomKey(id))
}

// RecallPeer recalls a message of a session's user to another user, in the inboxes of both. The
// inboxes lose the message's file too, even if another message quotes it. Errors:
// room.ErrUserNotFound, room.ErrMessageNotFound, room.ErrNotSender, room.ErrRecallTooLate.
func (s *Store) RecallPeer(ctx context.Context, by room.Actor, user, peer room.UserID, id room.MessageID) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		now := s.now()
		inboxes, err := lockInboxesOf(ctx, tx, user, peer)
		if err != nil {
			return c, err
		}
		if _, ok := inboxes[peer]; !ok {
			return c, room.ErrUserNotFound
		}
		var b pgx.Batch
		for _, side := range [2]struct{ user, peer room.UserID }{{user, peer}, {peer, user}} {
			in := inboxes[side.user]
			m, err := messageByID(ctx, tx, room.Event{Log: in.Log}, room.TypePeerMessagesReceived, id)
			switch {
			case errors.Is(err, room.ErrMessageNotFound) && side.user == peer:
				continue // already trimmed
			case err != nil:
				return c, err
			case m.Peer != side.peer:
				return c, room.ErrMessageNotFound
			}
			toFeed := s.opts.FeedPeers && side.user == user
			if err := recallIn(&b, in, m, user, now, toFeed, &c); err != nil {
				return c, err
			}
		}
		return c, sendBatch(ctx, tx, &b)
	}, inboxKey(user), inboxKey(peer))
}

// recallIn replaces a message by a tombstone in an inbox that the transaction has locked. The feed
// gets the recall as it is in the sender's inbox.
func recallIn(
	b *pgx.Batch, in room.Inbox, m room.Message, by room.UserID, now time.Time, toFeed bool, c *room.Change,
) error {
	recalled := m
	_, m, change, err := in.Recall(m, by, now)
	if err != nil || len(change.Events) == 0 {
		return err
	}
	tombstone, err := peerBody(m.With(m.Peer, 0))
	if err != nil {
		return err
	}
	b.Queue("UPDATE events SET body = $3 WHERE generation = $1 AND seq = $2", in.Log, m.Seq, tombstone)
	b.Queue("UPDATE user_events SET body = $3 WHERE log = $1 AND seq = $2", in.Log, m.Seq, tombstone)
	queueReleaseMedia(b, in.Log, recalled, now)
	*c = c.And(change)
	recall := change.Events[0]
	if toFeed {
		body, err := encodeBody(recall.Body)
		if err != nil {
			return err
		}
		b.Queue("INSERT INTO user_events (kind, type, at, log, seq, body) VALUES ('peer', $1, $2, $3, $4, $5)",
			room.TypePeerMessageRecalled, now, in.Log, recall.Seq, string(body))
	}
	return queueInboxEvent(b, m.Peer, recall)
}

// messageByID returns a stored message of a log. The ID contains the instant at which the message
// was sent, by which an index finds the few messages of that millisecond; one of them has the ID.
// Errors: room.ErrMessageNotFound.
func messageByID(
	ctx context.Context, tx pgx.Tx, log room.Event, t room.EventType, id room.MessageID,
) (room.Message, error) {
	sentAt, ok := instantOf(id)
	if !ok {
		return room.Message{}, room.ErrMessageNotFound
	}
	rows, err := tx.Query(ctx, "SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND at = $3", log.Log, t, sentAt)
	if err != nil {
		return room.Message{}, err
	}
	candidates, err := collectMessages(rows, log, t)
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
