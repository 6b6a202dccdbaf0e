package store

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// Conversations are not touched when a message is stored. They include the events of their inbox up
// to its counted_seq, and are brought up to date when the user asks for them, under the lock of the
// inbox. So messages cost nothing for users who do not ask, and what an earlier release stored is
// counted too.

// countBatch bounds how many events one statement adds to the conversations of an inbox. Senders
// wait for its lock, some milliseconds.
const countBatch = 1000

// byPeer is an expression: the peer of an event of an inbox has sent its message, or recalled it.
const byPeer = `coalesce(body::json #>> '{messageList,0,sender,userID}', body::json #>> '{operatedInfo,userID}') = peer_id`

// unreadMessage is the condition that an event is a message of the peer that was not recalled.
const unreadMessage = `type = 'peerMessageReceived' AND ` + byPeer + ` AND body::json #>> '{messageList,0,recalled}' IS NULL`

// countEvents adds the next events of an inbox that the transaction has locked to its
// conversations, at most countBatch.
func countEvents(ctx context.Context, tx pgx.Tx, in room.Inbox) (room.Inbox, error) {
	if in.CountedSeq == in.LastSeq {
		return in, nil
	}
	rows, err := tx.Query(ctx, `
		SELECT seq, type, peer_id, `+byPeer+`, coalesce((body::json ->> 'recalledSeq')::bigint, 0) FROM events
		WHERE generation = $1 AND seq > $2 AND type IN ($3, $4) ORDER BY seq LIMIT $5`,
		in.Log, in.CountedSeq, room.TypePeerMessagesReceived, room.TypePeerMessageRecalled, countBatch)
	if err != nil {
		return in, err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e room.PeerEvent, err error) {
		return e, row.Scan(&e.Seq, &e.Type, &e.Peer, &e.ByPeer, &e.RecalledSeq)
	})
	if err != nil {
		return in, err
	}
	var peers []room.UserID
	for _, e := range events {
		peers = append(peers, e.Peer)
	}
	conversations, err := readConversations(ctx, tx, in, peers)
	if err != nil {
		return in, err
	}
	changed := make(map[room.UserID]room.Conversation)
	for _, e := range events {
		before := conversations[e.Peer]
		after := before.Apply(e, in.OldestSeq)
		in.Unread += after.Unread - before.Unread
		if after != before {
			conversations[e.Peer], changed[e.Peer] = after, after
		}
	}
	in.CountedSeq = in.LastSeq
	if len(events) == countBatch {
		in.CountedSeq = events[countBatch-1].Seq
	}
	var b pgx.Batch
	queueConversations(&b, in.Log, slices.Collect(maps.Values(changed))...)
	queueCounts(&b, in)
	return in, sendBatch(ctx, tx, &b)
}

// readConversations reads the conversations of an inbox with some users, whether they exist or not.
func readConversations(
	ctx context.Context, tx pgx.Tx, in room.Inbox, peers []room.UserID,
) (map[room.UserID]room.Conversation, error) {
	rows, err := tx.Query(ctx, "SELECT peer_id, last_seq, read_seq, deleted_seq, unread FROM conversations WHERE log = $1 AND peer_id = ANY ($2::text[])",
		in.Log, peers)
	if err != nil {
		return nil, err
	}
	found := make(map[room.UserID]room.Conversation)
	for _, peer := range peers {
		found[peer] = room.Conversation{Peer: peer, ReadSeq: in.ReadSeq}
	}
	var c room.Conversation
	_, err = pgx.ForEachRow(rows, []any{&c.Peer, &c.LastSeq, &c.ReadSeq, &c.DeletedSeq, &c.Unread}, func() error {
		found[c.Peer] = c.ReadWith(in.ReadSeq)
		return nil
	})
	return found, err
}

// queueConversations stores conversations of an inbox that the transaction has locked.
func queueConversations(b *pgx.Batch, inbox room.LogID, changed ...room.Conversation) {
	var (
		peers               []room.UserID
		last, read, deleted []room.Seq
		unread              []int
	)
	for _, c := range changed {
		peers = append(peers, c.Peer)
		last, read, deleted = append(last, c.LastSeq), append(read, c.ReadSeq), append(deleted, c.DeletedSeq)
		unread = append(unread, c.Unread)
	}
	b.Queue(`
		INSERT INTO conversations (log, peer_id, last_seq, read_seq, deleted_seq, unread)
		SELECT $1, unnest($2::text[]), unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::bigint[]), unnest($6::bigint[])
		ON CONFLICT (log, peer_id) DO UPDATE SET last_seq = excluded.last_seq, read_seq = excluded.read_seq,
			deleted_seq = excluded.deleted_seq, unread = excluded.unread`,
		inbox, peers, last, read, deleted, unread)
}

// queueCounts stores what an inbox that the transaction has locked says about all conversations.
func queueCounts(b *pgx.Batch, in room.Inbox) {
	b.Queue("UPDATE inboxes SET counted_seq = $2, read_seq = $3, unread = $4 WHERE log = $1", in.Log, in.CountedSeq, in.ReadSeq, in.Unread)
}

// Conversations returns the conversations of a session's user whose newest messages precede a seq of
// the user's inbox: the n newest at most, the newest first.
func (s *Store) Conversations(
	ctx context.Context, session room.Session, before room.Seq, n int,
) (room.ConversationPage, error) {
	return s.conversations(ctx, session, `SELECT * FROM conversations WHERE log = i.log AND last_seq > 0 AND last_seq >= i.oldest_seq
		AND last_seq < $2 ORDER BY last_seq DESC LIMIT $3`, before, n)
}

// Conversation returns a page with the conversation of a session's user with another user. Errors:
// room.ErrNoConversation.
func (s *Store) Conversation(ctx context.Context, session room.Session, peer room.UserID) (room.ConversationPage, error) {
	page, err := s.conversations(ctx, session, `SELECT * FROM conversations WHERE log = i.log AND peer_id = $2 AND last_seq >= i.oldest_seq LIMIT 1`, peer)
	if err == nil && len(page.List) == 0 {
		err = room.ErrNoConversation
	}
	return page, err
}

// conversations brings the conversations of a session's user up to date and reads some of them.
func (s *Store) conversations(
	ctx context.Context, session room.Session, selected string, args ...any,
) (page room.ConversationPage, err error) {
	page, last, err := s.readPage(ctx, session.Inbox, selected, args...)
	if err != nil || page.Seq == last {
		return page, err
	}
	err = s.withConversations(ctx, room.Actor{}, session.User.ID, func(_ pgx.Tx, _ *pgx.Batch, in room.Inbox) (room.Inbox, room.Change, error) {
		return in, room.Change{}, nil
	})
	if err != nil {
		return page, err
	}
	page, _, err = s.readPage(ctx, session.Inbox, selected, args...)
	return page, err
}

// readPage reads some conversations as they were counted, and the last seq of the inbox, in one
// statement and so at one point in time. A conversation whose newest message is missing was trimmed
// by a server of the previous release, and is left out.
func (s *Store) readPage(
	ctx context.Context, inbox room.LogID, selected string, args ...any,
) (page room.ConversationPage, last room.Seq, err error) {
	rows, err := s.pool.Query(ctx, `
		SELECT i.counted_seq, i.last_seq, i.unread, i.read_seq, c.peer_id, c.last_seq, c.read_seq, c.unread, e.body
		FROM inboxes i LEFT JOIN LATERAL (`+selected+`) c ON true
		LEFT JOIN LATERAL (SELECT body FROM events WHERE generation = c.log AND seq = c.last_seq LIMIT 1) e ON true
		WHERE i.log = $1 ORDER BY c.last_seq DESC`, append([]any{inbox}, args...)...)
	if err != nil {
		return page, 0, translate(err)
	}
	defer rows.Close()
	page.List = []room.ListedConversation{}
	for rows.Next() {
		var (
			all           room.Seq
			peer          *room.UserID
			lastSeq, read *room.Seq
			unread        *int
			body          *string
		)
		if err := rows.Scan(&page.Seq, &last, &page.TotalUnreadCount, &all, &peer, &lastSeq, &read, &unread, &body); err != nil {
			return page, 0, translate(err)
		}
		if body == nil {
			continue
		}
		m, err := restoreMessage(room.Event{Log: inbox, Seq: *lastSeq}, room.TypePeerMessagesReceived, *body)
		if err != nil {
			return page, 0, err
		}
		c := room.Conversation{ReadSeq: *read, Unread: *unread}.ReadWith(all)
		page.List = append(page.List, room.ListedConversation{Peer: *peer, UnreadCount: c.Unread, ReadSeq: c.ReadSeq, LastMessage: m})
	}
	return page, last, translate(rows.Err())
}

// ReadConversation marks the messages of a user with another user as read up to a seq of the user's
// inbox. Errors: room.ErrNoConversation, room.ErrSeqAhead.
func (s *Store) ReadConversation(ctx context.Context, by room.Actor, user, peer room.UserID, upTo room.Seq) error {
	return s.withConversations(ctx, by, user, func(tx pgx.Tx, b *pgx.Batch, in room.Inbox) (room.Inbox, room.Change, error) {
		c, err := readConversation(ctx, tx, in, peer)
		if err != nil {
			return in, room.Change{}, err
		}
		if err := in.CheckRead(c, upTo); err != nil {
			return in, room.Change{}, err
		}
		n := c.Unread
		if upTo < c.LastSeq {
			// Each message is counted here once, because the next call begins after it.
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM events WHERE generation = $1 AND peer_id = $2 AND seq > $3 AND seq <= $4 AND "+unreadMessage,
				in.Log, peer, c.ReadSeq, upTo).Scan(&n); err != nil {
				return in, room.Change{}, err
			}
		}
		in, c, change := in.Read(c, upTo, n, s.now())
		queueConversations(b, in.Log, c)
		return in, change, nil
	})
}

// ReadAllConversations marks all messages to a user as read.
func (s *Store) ReadAllConversations(ctx context.Context, by room.Actor, user room.UserID) error {
	return s.withConversations(ctx, by, user, func(_ pgx.Tx, _ *pgx.Batch, in room.Inbox) (room.Inbox, room.Change, error) {
		in, change := in.ReadAll(s.now())
		return in, change, nil
	})
}

// DeleteConversation deletes the messages with another user for a user, who can no longer read their
// files either. Errors: room.ErrNoConversation.
func (s *Store) DeleteConversation(ctx context.Context, by room.Actor, user, peer room.UserID) error {
	return s.withConversations(ctx, by, user, func(tx pgx.Tx, b *pgx.Batch, in room.Inbox) (room.Inbox, room.Change, error) {
		c, err := readConversation(ctx, tx, in, peer)
		if err != nil {
			return in, room.Change{}, err
		}
		now := s.now()
		in, c, change, err := in.Delete(c, now)
		if err != nil {
			return in, room.Change{}, err
		}
		queueConversations(b, in.Log, c)
		queueReleasePeerMedia(b, in.Log, peer, now)
		return in, change, nil
	})
}

func readConversation(ctx context.Context, tx pgx.Tx, in room.Inbox, peer room.UserID) (room.Conversation, error) {
	found, err := readConversations(ctx, tx, in, []room.UserID{peer})
	return found[peer], err
}

// withConversations counts all events of a user's inbox, in transactions of a batch, runs change in
// the last one, and stores the event of the change.
func (s *Store) withConversations(
	ctx context.Context, by room.Actor, user room.UserID,
	change func(pgx.Tx, *pgx.Batch, room.Inbox) (room.Inbox, room.Change, error),
) error {
	for counted := false; !counted; {
		err := s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
			in, err := lockInbox(ctx, tx, user)
			if err != nil {
				return c, err
			}
			in, err = countEvents(ctx, tx, in)
			if counted = in.CountedSeq == in.LastSeq; err != nil || !counted {
				return c, err
			}
			var b pgx.Batch
			if in, c, err = change(tx, &b, in); err != nil || len(c.Events) == 0 {
				return c, err
			}
			peer := room.UserID("") // the event is about all peers
			if changed, ok := c.Events[0].Body.(room.ConversationChanged); ok {
				peer = changed.Peer
			}
			queueCounts(&b, in)
			if err := queueInboxEvent(&b, peer, c.Events[0]); err != nil {
				return c, err
			}
			return c, sendBatch(ctx, tx, &b)
		}, inboxKey(user))
		if err != nil {
			return err
		}
	}
	return nil
}
