package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

// blockedBy is an expression: the user $2 has blocked the user $1.
const blockedBy = "EXISTS (SELECT FROM blocks WHERE log = (SELECT log FROM inboxes WHERE user_id = $2) AND user_id = $1)"

// Block makes a user refuse the messages of another user. When it returns, no further message can be
// sent. Errors: room.ErrBlockSelf, room.ErrUserNotFound, room.ErrTooManyBlocks.
func (s *Store) Block(ctx context.Context, by room.Actor, owner, user room.UserID) error {
	return s.changeBlock(ctx, by, owner, user, func(in room.Inbox, f room.BlockFacts, now time.Time, b *pgx.Batch) (room.Change, error) {
		_, c, err := in.Block(owner, user, f, now)
		if len(c.Events) > 0 {
			b.Queue("INSERT INTO blocks (log, user_id, blocked_at) VALUES ($1, $2, $3)", in.Log, user, now)
		}
		return c, err
	})
}

// Unblock makes a user accept the messages of another user again. Errors: room.ErrBlockNotFound.
func (s *Store) Unblock(ctx context.Context, by room.Actor, owner, user room.UserID) error {
	return s.changeBlock(ctx, by, owner, user, func(in room.Inbox, f room.BlockFacts, now time.Time, b *pgx.Batch) (room.Change, error) {
		_, c, err := in.Unblock(user, f, now)
		b.Queue("DELETE FROM blocks WHERE log = $1 AND user_id = $2", in.Log, user)
		return c, err
	})
}

// changeBlock locks the inbox of the owner, which senders of messages to the owner lock too, and
// stores what decide returns about the block of a user.
func (s *Store) changeBlock(
	ctx context.Context, by room.Actor, owner, user room.UserID,
	decide func(room.Inbox, room.BlockFacts, time.Time, *pgx.Batch) (room.Change, error),
) error {
	return s.inTx(ctx, by, func(tx pgx.Tx) (c room.Change, err error) {
		in, err := lockInbox(ctx, tx, owner)
		if err != nil {
			return c, err
		}
		var f room.BlockFacts
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM inboxes WHERE user_id = $2), `+
			`EXISTS (SELECT FROM blocks WHERE log = $1 AND user_id = $2), `+
			`(SELECT count(*) FROM blocks WHERE log = $1)`, in.Log, user).Scan(&f.Exists, &f.Blocked, &f.Blocks); err != nil {
			return c, err
		}
		var b pgx.Batch
		if c, err = decide(in, f, s.now(), &b); err != nil || len(c.Events) == 0 {
			return c, err
		}
		if err := queueInboxEvent(&b, user, c.Events[0]); err != nil {
			return c, err
		}
		return c, sendBatch(ctx, tx, &b)
	}, inboxKey(owner))
}

// Blocks returns users that a session's user has blocked, in the order of their IDs: at most limit
// after an ID.
func (s *Store) Blocks(
	ctx context.Context, session room.Session, after room.UserID, limit int,
) (page []room.Block, more bool, err error) {
	page, err = s.blocks(ctx, `SELECT user_id, blocked_at FROM blocks WHERE log = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`,
		session.Inbox, after, limit+1)
	if len(page) > limit {
		return page[:limit], true, err
	}
	return page, false, err
}

// BlocksByID returns those of some users that a session's user has blocked.
func (s *Store) BlocksByID(ctx context.Context, session room.Session, users []room.UserID) ([]room.Block, error) {
	return s.blocks(ctx, `SELECT user_id, blocked_at FROM blocks WHERE log = $1 AND user_id = ANY ($2::text[]) ORDER BY user_id`,
		session.Inbox, users)
}

func (s *Store) blocks(ctx context.Context, query string, args ...any) ([]room.Block, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, translate(err)
	}
	blocks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b room.Block, err error) {
		var at time.Time
		err = row.Scan(&b.User, &at)
		b.BlockedAt = room.InstantOf(at)
		return b, err
	})
	return blocks, translate(err)
}
