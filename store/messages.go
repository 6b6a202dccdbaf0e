package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

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
	sender := session.ID // by itself: a pointer into the session would have all of it outlive the call
	return s.post(ctx, session.User, &sender, id, d)
}

// PostMessageAs is PostMessage for a sender who need not be in the room. Errors:
// room.ErrRoomNotFound, room.ErrMessageIDReused.
func (s *Store) PostMessageAs(ctx context.Context, sender room.User, id room.RoomID, d room.Draft) (room.Message, error) {
	return s.post(ctx, sender, nil, id, d)
}

// post is PostMessage. The session, if there is one, must be in the room.
func (s *Store) post(ctx context.Context, sender room.User, session *room.SessionID, id room.RoomID, d room.Draft) (room.Message, error) {
	if d.Kind.Stored() {
		return s.append(ctx, sender, session, id, d)
	}
	g, err := s.attended(ctx, session, id)
	if err != nil {
		return room.Message{}, err
	}
	return s.tell(id, g, sender, d)
}

// append stores a message in a room's log.
func (s *Store) append(ctx context.Context, sender room.User, session *room.SessionID, id room.RoomID, d room.Draft) (room.Message, error) {
	m, err := s.message(sender, d)
	if err != nil {
		return room.Message{}, err
	}
	if err := s.useMedia(ctx, session, id, m); err != nil {
		return room.Message{}, err
	}
	body, err := encodeBody(room.MessagesReceived{MessageList: []room.Message{m}})
	if err != nil {
		return room.Message{}, err
	}
	item := &appendItem{room: id, message: m, body: body}
	if session != nil {
		item.session = *session
	}
	placed, err := s.appender.append(ctx, item)
	if err != nil {
		return room.Message{}, err
	}
	if placed.ID != m.ID {
		return placed, placed.RetriedBy(d)
	}
	return placed, nil
}

// tell hands a message that is not stored to those who listen now.
func (s *Store) tell(id room.RoomID, g room.LogID, sender room.User, d room.Draft) (room.Message, error) {
	m, err := s.message(sender, d)
	if err != nil {
		return room.Message{}, err
	}
	m = m.In(id, 0)
	s.opts.Commit(room.Change{Events: []room.Event{{
		Room: id, Log: g, At: m.SentAt,
		Body: room.MessagesReceived{MessageList: []room.Message{m}},
	}}})
	return m, nil
}

func (s *Store) message(sender room.User, d room.Draft) (room.Message, error) {
	now := s.now()
	id, err := newMessageID(now)
	if err != nil {
		return room.Message{}, err
	}
	return d.Message(id, sender, now), nil
}

// newMessageID is a UUIDv7 of exactly the instant at which the message is sent:
// that is how the message is found by its ID.
func newMessageID(sentAt time.Time) (room.MessageID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("message ID: %w", err)
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(sentAt.UnixMilli()))
	copy(id[:6], ms[2:]) // RFC 9562, section 5.7
	return room.MessageID(id.String()), nil
}

// instantOf is the instant that is in a message's ID; false where it is no ID
// that a message can have.
func instantOf(id room.MessageID) (time.Time, bool) {
	parsed, err := uuid.Parse(string(id))
	if err != nil || parsed.Version() != 7 || parsed.String() != string(id) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(parsed[:8]) >> 16)).UTC(), true
}

// MessageByClientID is the message that a sender stored under an ID of its own,
// in a room that the session is in. found is false where there is none. Errors:
// room.ErrRoomNotFound, room.ErrNotInRoom.
func (s *Store) MessageByClientID(ctx context.Context, session room.Session, id room.RoomID, clientMessageID string) (m room.Message, found bool, err error) {
	g, err := s.attended(ctx, &session.ID, id)
	if err != nil {
		return room.Message{}, false, err
	}
	messages, err := s.messages(ctx, room.Room{ID: id, Generation: g}, `
		SELECT seq, body FROM events
		WHERE generation = $1 AND type = $2 AND sender_id = $3 AND client_message_id = $4`, session.User.ID, clientMessageID)
	if err != nil || len(messages) == 0 {
		return room.Message{}, false, err
	}
	return messages[0], true, nil
}

// NewestMessages is the newest messages of a span of a room's log, at most n, in
// ascending order.
func (s *Store) NewestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error) {
	messages, err := s.spanMessages(ctx, r, span, "DESC", n)
	slices.Reverse(messages)
	return messages, err
}

// OldestMessages is the oldest messages of a span of a room's log, at most n, in
// ascending order.
func (s *Store) OldestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error) {
	return s.spanMessages(ctx, r, span, "ASC", n)
}

// VisibleAfter is the seq after which a member of the room may read its history.
// Errors: room.ErrNotInRoom.
func (s *Store) VisibleAfter(ctx context.Context, r room.Room, user room.UserID) (room.Seq, error) {
	if r.Config.HistoryVisible == room.HistoryAll {
		return 0, nil
	}
	var joined room.Seq
	err := s.pool.QueryRow(ctx, "SELECT joined_seq FROM members WHERE generation = $1 AND user_id = $2", r.Generation, user).Scan(&joined)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, room.ErrNotInRoom // out since the room was read
	}
	return joined, translate(err)
}

// logDisorder is how much later in a log an event may stand than its instant
// says: it is taken before the room's lock, with the clock of any node.
const logDisorder = time.Minute

// spanMessages reads messages of a span in an order. What was said long before it
// or long after it is left out by seq, or the way to the page would lead through
// all of that. The limit is part of the text, as in feedPage.
func (s *Store) spanMessages(ctx context.Context, r room.Room, span room.Span, order string, n int) ([]room.Message, error) {
	const page = "SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND seq > $3 AND seq < $4 %s ORDER BY seq %s LIMIT %d"
	if span.From.IsZero() && span.Until.IsZero() {
		return s.messages(ctx, r, fmt.Sprintf(page, "", order, n), span.After, span.Before)
	}
	if span.Until.IsZero() {
		span.Until = endOfTime
	}
	var after, before *room.Seq
	err := s.pool.QueryRow(ctx, `SELECT
		(SELECT seq FROM events WHERE generation = $1 AND at < $2 ORDER BY at DESC LIMIT 1),
		(SELECT seq FROM events WHERE generation = $1 AND at > $3 ORDER BY at LIMIT 1)`,
		r.Generation, span.From.Add(-logDisorder), span.Until.Add(logDisorder)).Scan(&after, &before)
	if err != nil {
		return nil, translate(err)
	}
	if after != nil {
		span.After = max(span.After, *after)
	}
	if before != nil {
		span.Before = min(span.Before, *before)
	}
	return s.messages(ctx, r, fmt.Sprintf(page, "AND at >= $5 AND at < $6", order, n), span.After, span.Before, span.From, span.Until)
}

// endOfTime is later than any event.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Store) messages(ctx context.Context, r room.Room, query string, args ...any) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{r.Generation, room.TypeMessagesReceived}, args...)...)
	if err != nil {
		return nil, translate(err)
	}
	return collectMessages(rows, room.Event{Room: r.ID, Log: r.Generation}, room.TypeMessagesReceived)
}
