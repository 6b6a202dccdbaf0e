package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Messages between users are not committed in batches: each is a transaction of its own, which
// locks two inboxes. A batch that waited for the inboxes of one pair would hold up all other pairs.
// The price is a commit per message.

// PostPeerMessage sends a message to another user, if package room permits it. A message of a
// stored kind is stored in the inboxes of both users and returned as it is in the sender's; a
// message of another kind is published to the current subscribers of both. If it is a
// retry, PostPeerMessage returns the message that was stored under its ClientMessageID for the same
// receiver. Errors: those of room.PeerSend.Permit, and room.ErrMediaNotFound.
func (s *Store) PostPeerMessage(
	ctx context.Context, send room.PeerSend,
) (answer room.Message, retry bool, err error) {
	if err := send.Check(); err != nil {
		return room.Message{}, false, err
	}
	m, err := s.newMessage(send.Sender.User, send.Draft)
	if err != nil {
		return room.Message{}, false, err
	}
	if !send.Draft.Kind.Stored() {
		answer, err = s.publishPeer(ctx, &send, m)
		return answer, false, err
	}
	err = s.locks.run(ctx, []lockKey{inboxKey(m.Sender.ID), inboxKey(send.Peer)}, func() error {
		return retryDeadlocks(func() (err error) {
			answer, err = s.appendPeer(ctx, &send, m)
			return err
		})
	})
	if err != nil {
		return room.Message{}, false, s.transactionFailed(err)
	}
	return answer, answer.ID != m.ID, nil
}

// createSenderInbox creates the inbox of a user in whose name an admin writes to $2, and who may never
// have logged in.
const createSenderInbox = `
	INSERT INTO inboxes (user_id)
	SELECT $1 WHERE NOT EXISTS (SELECT FROM inboxes WHERE user_id = $1) AND EXISTS (SELECT FROM inboxes WHERE user_id = $2)
	ON CONFLICT DO NOTHING`

// appendPeerMessage reads the facts about a message of $1 for $2, and stores the message unless the
// sender's session has ended, the receiver does not exist, the message was stored before, or the
// receiver has blocked the sender. $9 is false if a block does not stop the message.
const appendPeerMessage = `
	WITH prior AS (
		SELECT seq, body FROM events
		WHERE generation = (SELECT log FROM inboxes WHERE user_id = $1) AND peer_id = $2 AND client_message_id = $3
	), facts AS (
		SELECT $4::uuid IS NOT NULL AND NOT EXISTS (SELECT FROM sessions WHERE session_id = $4 AND ` + notEnded + `) AS session_ended,
			coalesce((SELECT log FROM inboxes WHERE user_id = $2), 0) AS inbox,
			` + blockedBy + ` AS blocked
	), advanced AS (
		UPDATE inboxes SET last_seq = last_seq + 1, oldest_at = coalesce(oldest_at, $5)
		WHERE user_id IN ($1, $2) AND (SELECT NOT session_ended AND inbox <> 0 AND NOT (blocked AND $9::boolean) FROM facts) AND NOT EXISTS (SELECT FROM prior)
		RETURNING log, user_id = $1 AS own, last_seq
	), appended AS (
		INSERT INTO events (generation, seq, type, at, peer_id, client_message_id, body)
		SELECT log, last_seq, $6, $5, CASE WHEN own THEN $2 ELSE $1 END, CASE WHEN own THEN $3 END, CASE WHEN own THEN $7 ELSE $8 END
		FROM advanced
	), told AS (
		INSERT INTO user_events (kind, type, at, log, seq, body) SELECT 'peer', $6, $5, log, last_seq, $7 FROM advanced WHERE own AND $10
	)
	SELECT facts.session_ended, facts.inbox, facts.blocked, coalesce(prior.seq, 0), coalesce(prior.body, ''),
		coalesce(mine.log, 0), coalesce(mine.last_seq, 0), coalesce(theirs.last_seq, 0)
	FROM facts LEFT JOIN prior ON true LEFT JOIN advanced mine ON mine.own LEFT JOIN advanced theirs ON NOT theirs.own`

// appendPeer stores a message in both inboxes and publishes it. It returns the message as it is in
// the sender's inbox, or the earlier one that it is a retry of.
func (s *Store) appendPeer(ctx context.Context, send *room.PeerSend, m room.Message) (room.Message, error) {
	var (
		p   peerAppend
		err error
	)
	if ids := m.MediaIDs(); len(ids) > 0 {
		// Both users may read the files from the commit on, which is when the message appears.
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			if p, err = runPeerAppend(ctx, tx, send, m, s.opts.FeedPeers); err != nil || p.seq == 0 {
				return err
			}
			return recordMediaUses(ctx, tx, []mediaUse{{p.inbox, send.Peer}, {p.facts.Inbox, m.Sender.ID}}, ids, nil, m.SentAt.Time())
		})
	} else {
		p, err = runPeerAppend(ctx, s.pool, send, m, s.opts.FeedPeers)
	}
	if err != nil {
		return room.Message{}, fmt.Errorf("append a peer message: %w", err)
	}
	permit, err := send.Permit(p.facts)
	switch {
	case err != nil:
		return room.Message{}, err
	case permit.Earlier != nil:
		return *permit.Earlier, nil
	}
	own := m.With(send.Peer, p.seq)
	s.opts.Commit(room.Change{By: send.Sender.Actor, Events: []room.Event{
		peerEvent(p.inbox, own), peerEvent(permit.Log, m.With(m.Sender.ID, p.peerSeq)),
	}})
	return own, nil
}

// peerAppend is the result of appendPeerMessage.
type peerAppend struct {
	facts        room.PeerFacts
	inbox        room.LogID // of the sender
	seq, peerSeq room.Seq   // in the inboxes of sender and receiver; 0 if the message was not stored
}

// runPeerAppend runs the statements of a message between users in one round trip. If db is the
// pool, they are one transaction. The feed gets the message as it is in the sender's inbox.
func runPeerAppend(
	ctx context.Context, db batcher, send *room.PeerSend, m room.Message, toFeed bool,
) (p peerAppend, err error) {
	own, err := peerBody(m.With(send.Peer, 0))
	if err != nil {
		return p, err
	}
	theirs, err := peerBody(m.With(m.Sender.ID, 0))
	if err != nil {
		return p, err
	}
	var (
		retryID *string
		session *room.SessionID // nil if an admin sends
		earlier room.Seq
		body    string
		b       pgx.Batch
	)
	if m.ClientMessageID != "" {
		retryID = &m.ClientMessageID
	}
	if id := send.Sender.Actor.Session(); id != "" {
		session = &id
	} else {
		b.Queue(createSenderInbox, m.Sender.ID, send.Peer)
	}
	b.Queue(lockInboxes, m.Sender.ID, send.Peer)
	b.Queue(appendPeerMessage, m.Sender.ID, send.Peer, retryID, session, m.SentAt.Time(), room.TypePeerMessagesReceived, own, theirs, send.StoppedByBlock(), toFeed).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&p.facts.SessionEnded, &p.facts.Inbox, &p.facts.Blocked, &earlier, &body, &p.inbox, &p.seq, &p.peerSeq)
		})
	if err := db.SendBatch(ctx, &b).Close(); err != nil || earlier == 0 {
		return p, err
	}
	stored, err := restoreMessage(room.Event{Seq: earlier}, room.TypePeerMessagesReceived, body)
	p.facts.Earlier = &stored
	return p, err
}

// batcher is a pool or a transaction.
type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func peerBody(m room.Message) (string, error) {
	body, err := encodeBody(room.PeerMessagesReceived{MessageList: []room.Message{m}})
	return string(body), err
}

// peerEvent returns the event of a message in an inbox.
func peerEvent(inbox room.LogID, m room.Message) room.Event {
	return room.Event{
		Log: inbox, Seq: m.Seq, At: m.SentAt.Time(),
		Body: room.PeerMessagesReceived{MessageList: []room.Message{m}},
	}
}

// publishPeer publishes a message that is not stored to the current subscribers of both users.
func (s *Store) publishPeer(ctx context.Context, send *room.PeerSend, m room.Message) (room.Message, error) {
	var facts room.PeerFacts // the caller has authenticated the session
	if send.Sender.Actor.Kind == room.ActorAdmin {
		if _, err := s.pool.Exec(ctx, createSenderInbox, m.Sender.ID, send.Peer); err != nil {
			return room.Message{}, translate(err)
		}
	}
	var inbox room.LogID // of the sender
	err := s.pool.QueryRow(ctx, `SELECT coalesce((SELECT log FROM inboxes WHERE user_id = $1), 0),
		coalesce((SELECT log FROM inboxes WHERE user_id = $2), 0), `+blockedBy,
		m.Sender.ID, send.Peer).Scan(&inbox, &facts.Inbox, &facts.Blocked)
	if err != nil {
		return room.Message{}, translate(err)
	}
	permit, err := send.Permit(facts)
	if err != nil {
		return room.Message{}, err
	}
	own := m.With(send.Peer, 0)
	s.opts.Commit(room.Change{By: send.Sender.Actor, Events: []room.Event{
		peerEvent(inbox, own), peerEvent(permit.Log, m.With(m.Sender.ID, 0)),
	}})
	return own, nil
}

// inboxOf returns the log of a user's inbox. Errors: room.ErrUserNotFound.
func (s *Store) inboxOf(ctx context.Context, user room.UserID) (inbox room.LogID, err error) {
	err = s.pool.QueryRow(ctx, "SELECT log FROM inboxes WHERE user_id = $1", user).Scan(&inbox)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, room.ErrUserNotFound
	}
	return inbox, translate(err)
}

// EarlierPeerMessage returns the message that a message is a retry of; found is false if there is
// none. Errors: room.ErrMessageIDReused.
func (s *Store) EarlierPeerMessage(ctx context.Context, send room.PeerSend) (m room.Message, found bool, err error) {
	messages, err := s.peerMessages(ctx, send.Sender.Inbox, send.Peer, `
		SELECT seq, body FROM events
		WHERE generation = $1 AND type = $2 AND peer_id = $3 AND client_message_id = $4`, send.Draft.ClientMessageID)
	if err != nil || len(messages) == 0 {
		return room.Message{}, false, err
	}
	return messages[0], true, messages[0].RetriedBy(send.Draft)
}

// PeerMessagesBefore returns the messages between a session's user and a peer that precede a seq of
// the user's inbox, without those that the user has deleted: the n nearest ones at most, in
// ascending order. Errors: room.ErrUserNotFound.
func (s *Store) PeerMessagesBefore(
	ctx context.Context, session room.Session, peer room.UserID, before room.Seq, n int,
) ([]room.Message, error) {
	if _, err := s.inboxOf(ctx, peer); err != nil {
		return nil, err
	}
	return s.peerMessages(ctx, session.Inbox, peer, `
		SELECT seq, body FROM (
			SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND peer_id = $3 AND seq < $4 AND `+notDeleted+`
			ORDER BY seq DESC LIMIT $5
		) newest ORDER BY seq`, before, n)
}

// PeerMessagesAfter returns the messages that follow a seq, as PeerMessagesBefore returns those
// that precede it.
func (s *Store) PeerMessagesAfter(
	ctx context.Context, session room.Session, peer room.UserID, after room.Seq, n int,
) ([]room.Message, error) {
	if _, err := s.inboxOf(ctx, peer); err != nil {
		return nil, err
	}
	return s.peerMessages(ctx, session.Inbox, peer, `
		SELECT seq, body FROM events WHERE generation = $1 AND type = $2 AND peer_id = $3 AND seq > $4 AND `+notDeleted+`
		ORDER BY seq LIMIT $5`, after, n)
}

// UserMessages returns the messages of a span of a user's inbox, at most n, in ascending order: the
// oldest or else the newest ones, with all other users or with one. Errors: room.ErrUserNotFound.
func (s *Store) UserMessages(
	ctx context.Context, user, peer room.UserID, span room.Span, oldest bool, n int,
) ([]room.Message, error) {
	inbox, err := s.inboxOf(ctx, user)
	if err != nil {
		return nil, err
	}
	l := messageLog{log: inbox, peer: peer}
	if oldest {
		return s.spanMessages(ctx, l, span, "ASC", n)
	}
	messages, err := s.spanMessages(ctx, l, span, "DESC", n)
	slices.Reverse(messages)
	return messages, err
}

// notDeleted is the condition that the user of the inbox $1 has not deleted a message with $3.
const notDeleted = "seq > coalesce((SELECT deleted_seq FROM conversations WHERE log = $1 AND peer_id = $3), 0)"

// peerMessages reads the messages of an inbox that were exchanged with a peer.
func (s *Store) peerMessages(
	ctx context.Context, inbox room.LogID, peer room.UserID, query string, args ...any,
) ([]room.Message, error) {
	rows, err := s.pool.Query(ctx, query, append([]any{inbox, room.TypePeerMessagesReceived, peer}, args...)...)
	if err != nil {
		return nil, translate(err)
	}
	return collectMessages(rows, room.Event{Log: inbox}, room.TypePeerMessagesReceived)
}
