package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Messages between users are not grouped: each is a transaction of its own. Its
// locks are those of two inboxes, and a batch that waited for one pair would
// hold up all the others; the appender's lanes are left to rooms. The price is
// a commit for each message.

// PostPeerMessage takes a message of the session for another user: one of a
// stored kind is stored in the inboxes of both and returned as the sender's has
// it, and one of another kind is told to those of both who listen now. A draft
// that was stored before under the same ClientMessageID for the same user returns
// the message of then. Errors: room.ErrMessageToSelf, room.ErrUserNotFound,
// room.ErrSessionEnded, room.ErrMessageIDReused, room.ErrMediaNotFound.
func (s *Store) PostPeerMessage(ctx context.Context, session room.Session, to room.UserID, d room.Draft) (room.Message, error) {
	if to == session.User.ID {
		return room.Message{}, room.ErrMessageToSelf
	}
	m, err := s.message(session.User, d)
	if err != nil {
		return room.Message{}, err
	}
	if !d.Kind.Stored() {
		return s.tellPeer(ctx, session, to, m)
	}
	var placed room.Message
	err = s.locks.run(ctx, []lockKey{inboxKey(session.User.ID), inboxKey(to)}, func() error {
		return retryDeadlocks(func() (err error) {
			placed, err = s.appendPeer(ctx, session, to, m)
			return err
		})
	})
	switch {
	case err != nil:
		return room.Message{}, s.transactionFailed(err)
	case placed.ID != m.ID:
		return placed, placed.RetriedBy(d)
	}
	return placed, nil
}

// lockInboxes is a statement of its own for the reason of lockLiving: what comes
// after it sees all that was stored before its locks.
const lockInboxes = `
	SELECT user_id, log, last_seq FROM inboxes WHERE user_id IN ($1, $2) ORDER BY log FOR NO KEY UPDATE`

// lockInboxesOf locks the inboxes of two users, those that there are.
func lockInboxesOf(ctx context.Context, tx pgx.Tx, a, b room.UserID) (map[room.UserID]room.Inbox, error) {
	rows, err := tx.Query(ctx, lockInboxes, a, b)
	if err != nil {
		return nil, err
	}
	var (
		user    room.UserID
		in      room.Inbox
		inboxes = make(map[room.UserID]room.Inbox, 2)
	)
	_, err = pgx.ForEachRow(rows, []any{&user, &in.Log, &in.LastSeq}, func() error {
		inboxes[user] = in
		return nil
	})
	return inboxes, err
}

// appendPeerMessage stores a message of $1 for $2, unless the sender did before
// or either side is not there.
const appendPeerMessage = `
	WITH prior AS (
		SELECT seq, body FROM events
		WHERE generation = (SELECT log FROM inboxes WHERE user_id = $1) AND peer_id = $2 AND client_message_id = $3
	), able AS (
		SELECT EXISTS (SELECT FROM sessions WHERE session_id = $4 AND ` + notEnded + `) AS session,
			EXISTS (SELECT FROM inboxes WHERE user_id = $2) AS peer
	), advanced AS (
		UPDATE inboxes SET last_seq = last_seq + 1, oldest_at = coalesce(oldest_at, $5)
		WHERE user_id IN ($1, $2) AND (SELECT session AND peer FROM able) AND NOT EXISTS (SELECT FROM prior)
		RETURNING log, user_id = $1 AS own, last_seq
	), appended AS (
		INSERT INTO events (generation, seq, type, at, peer_id, client_message_id, body)
		SELECT log, last_seq, $6, $5, CASE WHEN own THEN $2 ELSE $1 END, CASE WHEN own THEN $3 END, CASE WHEN own THEN $7 ELSE $8 END
		FROM advanced
	)
	SELECT able.session, able.peer, coalesce(prior.seq, 0), coalesce(prior.body, ''),
		coalesce(mine.log, 0), coalesce(mine.last_seq, 0), coalesce(theirs.log, 0), coalesce(theirs.last_seq, 0)
	FROM able LEFT JOIN prior ON true LEFT JOIN advanced mine ON mine.own LEFT JOIN advanced theirs ON NOT theirs.own`

// appendPeer stores the message in both inboxes and tells the hub. It returns an
// earlier message where the sender used its ClientMessageID before.
func (s *Store) appendPeer(ctx context.Context, session room.Session, to room.UserID, m room.Message) (room.Message, error) {
	own, err := peerBody(m.To(to, 0))
	if err != nil {
		return room.Message{}, err
	}
	theirs, err := peerBody(m.To(m.Sender.ID, 0))
	if err != nil {
		return room.Message{}, err
	}
	var p peerPlacement
	if ids := m.MediaIDs(); len(ids) > 0 {
		// Both sides may read the files from the commit on, and so does the message come.
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			if p, err = placePeerMessage(ctx, tx, session, to, m, own, theirs); err != nil || p.seq == 0 {
				return err
			}
			return recordMediaUses(ctx, tx, []room.LogID{p.inbox, p.theirInbox}, ids, m.SentAt)
		})
	} else {
		p, err = placePeerMessage(ctx, s.pool, session, to, m, own, theirs)
	}
	switch {
	case err != nil:
		return room.Message{}, fmt.Errorf("append a peer message: %w", err)
	case !p.live:
		return room.Message{}, room.ErrSessionEnded
	case !p.known:
		return room.Message{}, room.ErrUserNotFound
	case p.prior > 0:
		return restoreMessage(room.Event{Seq: p.prior}, room.TypePeerMessagesReceived, p.priorBody)
	}
	placed := m.To(to, p.seq)
	s.opts.Commit(room.Change{Events: []room.Event{
		peerEvent(p.inbox, placed), peerEvent(p.theirInbox, m.To(m.Sender.ID, p.theirSeq)),
	}})
	return placed, nil
}

// peerPlacement is what the database found of a message between users.
type peerPlacement struct {
	live, known   bool     // the session, and the other user
	prior         room.Seq // not zero: the message was stored before
	priorBody     string
	inbox         room.LogID
	seq, theirSeq room.Seq // zero: not stored now
	theirInbox    room.LogID
}

// placePeerMessage stores a message in both inboxes, in one round trip: as a
// transaction of its own where it is not part of one.
func placePeerMessage(ctx context.Context, q batcher, session room.Session, to room.UserID, m room.Message, own, theirs string) (p peerPlacement, err error) {
	var (
		retryID *string
		b       pgx.Batch
	)
	if m.ClientMessageID != "" {
		retryID = &m.ClientMessageID
	}
	b.Queue(lockInboxes, m.Sender.ID, to)
	b.Queue(appendPeerMessage, m.Sender.ID, to, retryID, session.ID, m.SentAt, room.TypePeerMessagesReceived, own, theirs).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&p.live, &p.known, &p.prior, &p.priorBody, &p.inbox, &p.seq, &p.theirInbox, &p.theirSeq)
		})
	err = q.SendBatch(ctx, &b).Close()
	return p, err
}

// batcher is the pool or a transaction.
type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func peerBody(m room.Message) (string, error) {
	body, err := encodeBody(room.PeerMessagesReceived{MessageList: []room.Message{m}})
	return string(body), err
}

// peerEvent is the event of a message at its place in an inbox.
func peerEvent(inbox room.LogID, m room.Message) room.Event {
	return room.Event{
		Log: inbox, Seq: m.Seq, At: m.SentAt,
		Body: room.PeerMessagesReceived{MessageList: []room.Message{m}},
	}
}

// tellPeer hands a message that is not stored to those of both sides who listen
// now.
func (s *Store) tellPeer(ctx context.Context, session room.Session, to room.UserID, m room.Message) (room.Message, error) {
	inbox, err := s.inboxOf(ctx, to)
	if err != nil {
		return room.Message{}, err
	}
	placed := m.To(to, 0)
	s.opts.Commit(room.Change{Events: []room.Event{
		peerEvent(session.Inbox, placed), peerEvent(inbox, m.To(m.Sender.ID, 0)),
	}})
	return placed, nil
}

// inboxOf is the log of a user's inbox. Errors: room.ErrUserNotFound.
func (s *Store) inboxOf(ctx context.Context, user room.UserID) (inbox room.LogID, err error) {
	err = s.pool.QueryRow(ctx, "SELECT log FROM inboxes WHERE user_id = $1", user).Scan(&inbox)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, room.ErrUserNotFound
	}
	return inbox, translate(err)
}

// PeerMessageByClientID is the message that the session's user stored under an
// ID of its own for another user. found is false where there is none.
func (s *Store) PeerMessageByClientID(ctx context.Context, session room.Session, to room.UserID, clientMessageID string) (m room.Message, found bool, err error) {
	messages, err := s.conversation(ctx, session, to, `
		SELECT seq, body FROM events
		WHERE generation = $1 AND type = $2 AND peer_id = $3 AND client_message_id = $4`, clientMessageID)
	if err != nil || len(messages) == 0 {
		return room.Message{}, false, err
	}
	return messages[0], true, nil
}

// PeerMessagesBefore is the messages between the session's user and another next
// before a seq of the former's inbox, at most n, in ascending order. Errors:
// room.ErrUserNotFound.
func (s *Store) PeerMessagesBefore(ctx context.Context, session room.Session, peer room.UserID, before room.Seq, n int) ([]room.Message, error) {
	if _, err := s.inboxOf(ctx, peer); err != nil {
		return nil, err
	}
	return s.conversation(ctx, session, peer, `
		SELECT seq, body FROM (
			SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND peer_id = $3 AND seq < $4
			ORDER BY seq DESC LIMIT $5
		) newest ORDER BY seq`, before, n)
}

// PeerMessagesAfter is PeerMessagesBefore in the other direction: the messages
// next after a seq.
func (s *Store) PeerMessagesAfter(ctx context.Context, session room.Session, peer room.UserID, after room.Seq, n int) ([]room.Message, error) {
	if _, err := s.inboxOf(ctx, peer); err != nil {
		return nil, err
	}
	return s.conversation(ctx, session, peer, `
		SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND peer_id = $3 AND seq > $4 ORDER BY seq LIMIT $5`, after, n)
}

func (s *Store) conversation(ctx context.Context, session room.Session, peer room.UserID, query string, args ...any) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{session.Inbox, room.TypePeerMessagesReceived, peer}, args...)...)
	if err != nil {
		return nil, translate(err)
	}
	return collectMessages(rows, room.Event{Log: session.Inbox}, room.TypePeerMessagesReceived)
}
