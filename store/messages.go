package store

import (
	"cmp"
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

// PostMessage sends a message to a room, if package room permits it. A message of a stored kind is
// appended to the log of the room and returned with its seq; a message of another kind is published
// to the current subscribers of the room. If it is a retry, PostMessage returns the message that
// was stored under its ClientMessageID. Errors: those of room.RoomSend.Permit,
// room.ErrMediaNotFound and room.ErrMediaReaders.
func (s *Store) PostMessage(ctx context.Context, send room.RoomSend) (m room.Message, retry bool, err error) {
	if send.Draft.Kind.Stored() {
		return s.appendMessage(ctx, send)
	}
	m, err = s.publishMessage(ctx, send)
	return m, false, err
}

// appendMessage appends a message to the log of a room, after its files are made readable there.
func (s *Store) appendMessage(
	ctx context.Context, send room.RoomSend,
) (stored room.Message, retry bool, err error) {
	m, err := s.newMessage(send.Sender.User, send.Draft)
	if err != nil {
		return room.Message{}, false, err
	}
	item := &appendItem{send: send, message: m}
	if ids := m.MediaIDs(); len(ids) > 0 {
		if err := s.useMedia(ctx, &item.send, ids, m); err != nil {
			return room.Message{}, false, err
		}
	}
	item.body, err = encodeBody(room.MessagesReceived{MessageList: []room.Message{m}})
	if err != nil {
		return room.Message{}, false, err
	}
	stored, err = s.appender.append(ctx, item)
	return stored, err == nil && stored.ID != m.ID, err
}

// publishMessage publishes a message that is not stored to the current subscribers of a room.
func (s *Store) publishMessage(ctx context.Context, send room.RoomSend) (room.Message, error) {
	permit, err := s.permitUnstored(ctx, &send)
	if err != nil {
		return room.Message{}, err
	}
	m, err := s.newMessage(send.Sender.User, send.Draft)
	if err != nil {
		return room.Message{}, err
	}
	m = m.In(send.Room, 0)
	s.opts.Commit(room.Change{By: send.Sender.Actor, Events: []room.Event{{
		Room: send.Room, Log: permit.Log, At: m.SentAt.Time(),
		Body: room.MessagesReceived{MessageList: []room.Message{m}},
	}}})
	return m, nil
}

// newMessage returns a draft as a message that is sent now.
func (s *Store) newMessage(sender room.User, d room.Draft) (room.Message, error) {
	now := s.now()
	id, err := newMessageID(now)
	if err != nil {
		return room.Message{}, err
	}
	return d.Message(id, sender, now), nil
}

// newMessageID returns a UUIDv7 whose timestamp is the instant at which the message is sent, so
// that the message can be found by its ID.
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

// instantOf returns the instant that a message's ID contains; ok is false if no message can have
// the ID.
func instantOf(id room.MessageID) (time.Time, bool) {
	parsed, err := uuid.Parse(string(id))
	if err != nil || parsed.Version() != 7 || parsed.String() != string(id) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(parsed[:8]) >> 16)).UTC(), true
}

// EarlierMessage returns the message that a message is a retry of; found is false if there is none.
// Errors: those of room.RoomSend.Permit.
func (s *Store) EarlierMessage(ctx context.Context, send room.RoomSend) (m room.Message, found bool, err error) {
	facts, err := readRoomFacts(ctx, s.pool, &send)
	if err != nil {
		return room.Message{}, false, translate(err)
	}
	permit, err := send.Permit(facts[0])
	if err != nil || permit.Earlier == nil {
		return room.Message{}, false, err
	}
	return *permit.Earlier, true, nil
}

// NewestMessages returns the newest messages of a span of a room's log, at most n, in ascending
// order.
func (s *Store) NewestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error) {
	messages, err := s.spanMessages(ctx, ofRoom(r), span, "DESC", n)
	slices.Reverse(messages)
	return messages, err
}

// OldestMessages returns the oldest messages of a span of a room's log, at most n, in ascending
// order.
func (s *Store) OldestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error) {
	return s.spanMessages(ctx, ofRoom(r), span, "ASC", n)
}

// MessagesBySeq returns the messages at some seqs of a room's log, in ascending order. It omits seqs
// that are not those of stored messages.
func (s *Store) MessagesBySeq(ctx context.Context, r room.Room, seqs []room.Seq) ([]room.Message, error) {
	return s.messages(ctx, ofRoom(r), "SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND seq = ANY ($3) ORDER BY seq", seqs)
}

// MessagesByID returns the messages of a room with some IDs, in ascending order of seq. It omits IDs
// of messages that are not stored in the room. The IDs contain the instants at which the messages
// were sent, by which an index finds the few messages of these milliseconds.
func (s *Store) MessagesByID(ctx context.Context, r room.Room, ids []room.MessageID) ([]room.Message, error) {
	var sentAt []time.Time
	for _, id := range ids {
		if at, ok := instantOf(id); ok && !slices.Contains(sentAt, at) {
			sentAt = append(sentAt, at)
		}
	}
	found, err := s.messages(ctx, ofRoom(r), "SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND at = ANY ($3)", sentAt)
	found = slices.DeleteFunc(found, func(m room.Message) bool { return !slices.Contains(ids, m.ID) })
	slices.SortFunc(found, func(a, b room.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return found, err
}

// VisibleAfter returns the seq after which a member of a room may read the room's history. Errors:
// room.ErrNotInRoom.
func (s *Store) VisibleAfter(ctx context.Context, r room.Room, user room.UserID) (room.Seq, error) {
	if r.Config.HistoryVisible == room.HistoryAll {
		return 0, nil
	}
	var joined room.Seq
	err := s.pool.QueryRow(ctx, "SELECT joined_seq FROM members WHERE generation = $1 AND user_id = $2", r.Generation, user).Scan(&joined)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, room.ErrNotInRoom // the user has left since the room was read
	}
	return joined, translate(err)
}

// logDisorder bounds how far the instants of a log's events are out of order. An instant is taken
// before the lock on the log, from the clock of any node.
const logDisorder = time.Minute

// messageLog is a log with messages.
type messageLog struct {
	room room.RoomID // "" for an inbox
	log  room.LogID
	// peer selects the messages of an inbox that were exchanged with a user; "" selects all.
	peer room.UserID
}

func ofRoom(r room.Room) messageLog { return messageLog{room: r.ID, log: r.Generation} }

// messageType is the type of the events that are messages.
func (l messageLog) messageType() room.EventType {
	if l.room == "" {
		return room.TypePeerMessagesReceived
	}
	return room.TypeMessagesReceived
}

// spanMessages reads messages of a span in an order. The limit is part of the text, as in feedPage.
func (s *Store) spanMessages(
	ctx context.Context, l messageLog, span room.Span, order string, n int,
) ([]room.Message, error) {
	span, err := s.narrow(ctx, l.log, span)
	if err != nil {
		return nil, err
	}
	where, args := "", []any{span.After, span.Before}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += fmt.Sprintf(" AND "+condition, len(args)+2)
	}
	if !span.Until.IsZero() {
		and("at >= $%d", span.From)
		and("at < $%d", span.Until)
	}
	if l.peer != "" {
		and("peer_id = $%d", l.peer)
	}
	return s.messages(ctx, l, fmt.Sprintf(
		"SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND seq > $3 AND seq < $4%s ORDER BY seq %s LIMIT %d", where, order, n), args...)
}

// narrow narrows the seqs of a span to those that can have its instants, which otherwise a statement
// would look for in all events between the end of the log and the span. A span of time that it
// returns has both limits.
func (s *Store) narrow(ctx context.Context, log room.LogID, span room.Span) (room.Span, error) {
	if span.From.IsZero() && span.Until.IsZero() {
		return span, nil
	}
	if span.Until.IsZero() {
		span.Until = endOfTime
	}
	// Stored times have milliseconds, and PostgreSQL would cut off what is below a microsecond.
	span.From, span.Until = room.InstantFrom(span.From).Time(), room.InstantFrom(span.Until).Time()
	var after, before *room.Seq
	err := s.pool.QueryRow(ctx, `SELECT
		(SELECT seq FROM events WHERE generation = $1 AND at < $2 ORDER BY at DESC LIMIT 1),
		(SELECT seq FROM events WHERE generation = $1 AND at > $3 ORDER BY at LIMIT 1)`,
		log, span.From.Add(-logDisorder), span.Until.Add(logDisorder)).Scan(&after, &before)
	if err != nil {
		return span, translate(err)
	}
	if after != nil {
		span.After = max(span.After, *after)
	}
	if before != nil {
		span.Before = min(span.Before, *before)
	}
	return span, nil
}

// maxSearched is how many events of a log one search looks at: there is no index of the messages of
// a user in a room, which every message would have to be added to.
const maxSearched = 1000

// SearchMessages returns the messages of a sender in a span of a room's log, at most n, in ascending
// order: the oldest or else the newest ones. It looks at no more than maxSearched events. next is
// where the search has to be continued, as the After or else the Before of its span; 0 if the whole
// span was searched.
func (s *Store) SearchMessages(
	ctx context.Context, r room.Room, sender room.UserID, span room.Span, oldest bool, n int,
) (found []room.Message, next room.Seq, err error) {
	if span, err = s.narrow(ctx, r.Generation, span); err != nil {
		return nil, 0, err
	}
	order := "DESC"
	if oldest {
		order = "ASC"
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(`
		SELECT seq, at, CASE WHEN type = $4 AND sender_id = $5 THEN body END
		FROM events WHERE generation = $1 AND seq > $2 AND seq < $3 ORDER BY seq %s LIMIT %d`, order, maxSearched+1),
		r.Generation, span.After, span.Before, room.TypeMessagesReceived, sender)
	if err != nil {
		return nil, 0, translate(err)
	}
	defer rows.Close()
	found = []room.Message{}
	looked, last := 0, room.Seq(0)
	for rows.Next() {
		var (
			seq  room.Seq
			at   time.Time
			body *string
		)
		if err := rows.Scan(&seq, &at, &body); err != nil {
			return nil, 0, translate(err)
		}
		if looked == maxSearched || len(found) == n {
			next = last
			break
		}
		looked, last = looked+1, seq
		if body == nil || !span.Until.IsZero() && (at.Before(span.From) || !at.Before(span.Until)) {
			continue
		}
		m, err := restoreMessage(room.Event{Room: r.ID, Log: r.Generation, Seq: seq, At: at.UTC()}, room.TypeMessagesReceived, *body)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, m)
	}
	if !oldest {
		slices.Reverse(found)
	}
	return found, next, translate(rows.Err())
}

// endOfTime is later than any event.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Store) messages(ctx context.Context, l messageLog, query string, args ...any) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{l.log, l.messageType()}, args...)...)
	if err != nil {
		return nil, translate(err)
	}
	return collectMessages(rows, room.Event{Room: l.room, Log: l.log}, l.messageType())
}
