// Package store keeps Parlor's rules true in PostgreSQL. Each use case locks
// what it touches, loads what the rule in package room needs to know, lets it
// decide, writes and commits; only then is the hub told.
//
// Locks are always taken in the same order, so that no two transactions can
// wait for each other: the user's list of sessions, session row, user, room rows
// by ascending generation. Inboxes come last, by ascending log.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/room"
)

// Options are a store's settings. All have defaults; without a Commit nobody
// hears of anything.
type Options struct {
	// Commit is told what each committed transaction made happen. It must not
	// block. Changes of one room may arrive out of order: seq has the truth.
	Commit func(room.Change)
	// CommitUnknown is called when the connection was lost during a transaction: its
	// commit may have happened, so any log may have grown unseen. It must not
	// block.
	CommitUnknown func()
	// Reset is called when what this process knows may not be so any more:
	// another node declared it dead, so that its sessions were seen leaving, or the
	// database was restored. All its streams have to be opened anew. It is called only
	// once RenewLease was. It must not block.
	Reset func()

	// FeedRetention is how long the feed keeps the events of a destroyed room;
	// zero: an hour.
	FeedRetention time.Duration

	// MessageRetention is how long the logs of living rooms keep their events;
	// zero: for ever.
	MessageRetention time.Duration
	// SessionIdle is how long a session lasts that has neither a stream nor a room;
	// zero: 7 days.
	SessionIdle time.Duration
	// UserRetention is how long a user is known who has no session: may be sent
	// messages; zero: 90 days.
	UserRetention time.Duration
	// PeerRetention is how long inboxes keep messages; zero: 7 days.
	PeerRetention time.Duration

	// MediaPerUser and MediaTotal are how many bytes of files a user and all users
	// together may have stored, sent or not; zero: any number. Each file counts as
	// 4 KiB at least.
	MediaPerUser, MediaTotal int64

	Defaults        room.Config // of rooms that are created without settings; zero: room.DefaultConfig
	RoomsPerUser    int
	SessionsPerUser int
	// LockTimeout is how long a call waits for what another transaction keeps locked;
	// zero: 2 seconds.
	LockTimeout time.Duration
	// Origin is what the caller knows of the database's files that tells them from
	// a restored copy; empty: nothing.
	Origin string

	// Now is this process's clock, for tests. What is stored goes by the database's.
	Now func() time.Time
	// DatabaseNow is for tests: what is taken for the database's time where its
	// clock shows t.
	DatabaseNow func(t time.Time) time.Time
	Log         *slog.Logger
}

// Store is a connection pool with Parlor's use cases. Its errors are
// *room.Error for callers, room.ErrUnavailable where PostgreSQL cannot be
// reached, and anything else for what should not happen.
type Store struct {
	pool *pgxpool.Pool
	// appends is the pool of the appender's lanes.
	appends *pgxpool.Pool
	locks   *lockQueue
	health  health
	opts    Options
	// sessions caches sessions by key, and the rooms that they are in.
	sessions sessionCache
	// committed wakes the feed's readers after a commit.
	committed signal
	appender  *appender
	detacher  *detacher
	joins     joinQueue

	clock  clock
	epochs epochs
	nodeID string
	lease  lease
	// trimmed is the last room whose log was looked at for what is too old; only
	// Sweep uses it.
	trimCursor room.LogID
	// locked is the rooms that sweeps leave out for a while; only Sweep uses it.
	lockedRooms lockedRooms
	// forgotten is the last inbox that was looked at for a user who is long gone; only
	// Sweep uses it.
	inboxCursor room.LogID
	// schemaSeen is when the schema was looked at last; only Sweep uses it.
	schemaCheckedAt time.Time
	// schemaChanged is whether the schema was another program's at the last look.
	schemaChanged atomic.Bool
	closing       sync.Once
}

// Connections is how many connections to the database there may be.
func (s *Store) Connections() int {
	return int(s.pool.Config().MaxConns+s.appends.Config().MaxConns) + 1 // and the lease's
}

// Open connects to a migrated database and registers this process as a node.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	if opts.Commit == nil {
		opts.Commit = func(room.Change) {}
	}
	if opts.CommitUnknown == nil {
		opts.CommitUnknown = func() {}
	}
	if opts.Reset == nil {
		opts.Reset = func() {}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.RoomsPerUser == 0 {
		opts.RoomsPerUser = room.DefaultRoomsPerUser
	}
	if opts.SessionsPerUser == 0 {
		opts.SessionsPerUser = room.DefaultSessionsPerUser
	}
	if opts.FeedRetention == 0 {
		opts.FeedRetention = DefaultFeedRetention
	}
	if opts.SessionIdle == 0 {
		opts.SessionIdle = DefaultSessionIdle
	}
	if opts.UserRetention == 0 {
		opts.UserRetention = DefaultUserRetention
	}
	if opts.PeerRetention == 0 {
		opts.PeerRetention = DefaultPeerRetention
	}
	if opts.Defaults == (room.Config{}) {
		opts.Defaults = room.DefaultConfig()
	}
	if opts.LockTimeout == 0 {
		opts.LockTimeout = defaultLockTimeout
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("node ID: %w", err)
	}
	s := &Store{opts: opts, nodeID: id.String(), lockedRooms: make(lockedRooms)}
	if s.pool, s.appends, err = newPools(ctx, url, s.nodeID, opts.LockTimeout, s.checkEpoch); err != nil {
		return nil, err
	}
	s.locks = newLockQueue(maxTransactions(s.pool))
	s.opts.Commit = func(c room.Change) {
		s.sessions.evictChanged(c)
		opts.Commit(c)
		s.committed.raise()
	}
	s.clock = clock{process: opts.Now, convert: opts.DatabaseNow, log: opts.Log}
	s.lease.config = s.pool.Config().ConnConfig
	if err := s.start(ctx); err != nil {
		s.lease.disconnect()
		s.closePools()
		return nil, err
	}
	s.appender = newAppender(s)
	s.detacher = newDetacher(s)
	return s, nil
}

// begin looks whether this process may be a node, and makes it one.
func (s *Store) start(ctx context.Context) error {
	if err := s.lease.connect(ctx, s.checkEpoch); err != nil {
		return fmt.Errorf("connect to the database: %w", translate(err))
	}
	if _, err := s.clock.read(ctx, s.lease.conn); err != nil { // over a connection that is there, for the answer to be quick
		return err
	}
	if err := s.clock.checkSkew(); err != nil {
		return err
	}
	if err := s.repairFeed(ctx); err != nil {
		return err
	}
	r, err := s.renew(ctx)
	if err != nil {
		return fmt.Errorf("lease of node %s: %w", s.nodeID, translate(err))
	}
	s.sessions.setAlone(r.known == 0, s.now())
	s.lease.record(r, s.clock.process())
	return nil
}

// Close waits for what is under way, detaches this node's sessions and closes
// the connections. No other method may be called any more.
func (s *Store) Close() {
	s.closing.Do(func() {
		s.joins.running.Wait()
		s.appender.close()
		s.detacher.close()
		s.releaseLease()
		s.closePools()
	})
}

func (s *Store) closePools() {
	s.pool.Close()
	s.appends.Close()
}

// now is the instant of a use case, by the database's clock and with the precision
// of the wire.
func (s *Store) now() time.Time {
	return s.clock.now().Truncate(time.Millisecond)
}

// inTx runs fn in a transaction and, after the commit, hands the hub the change that fn returned, as one
// that the actor made. fn may run more than once. locks names the rows that fn locks and that other
// transactions may hold for long.
func (s *Store) inTx(ctx context.Context, by room.Actor, fn func(pgx.Tx) (room.Change, error), locks ...lockKey) error {
	return s.locks.run(ctx, locks, func() error { return s.commit(ctx, by, fn) })
}

// commit is inTx without waiting at the gate.
func (s *Store) commit(ctx context.Context, by room.Actor, fn func(pgx.Tx) (room.Change, error)) error {
	var c room.Change
	err := retryDeadlocks(func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			c, err = fn(tx)
			return err
		})
	})
	if err != nil {
		return s.transactionFailed(err)
	}
	c.By = by
	s.opts.Commit(c)
	return nil
}

// retryDeadlocks runs a transaction until PostgreSQL does not choose it as a
// deadlock's victim, maxTries times at most.
func retryDeadlocks(transaction func() error) error {
	for try := 1; ; try++ {
		if err := transaction(); !deadlocked(err) || try == maxTries {
			return err
		}
	}
}

// maxTries bounds how often a transaction is tried that PostgreSQL chose as a
// deadlock's victim. The order of locks makes that rare: only a session that is
// kicked out while it is in several rooms can be out of order.
const maxTries = 3

// failed translates the error of a transaction.
func (s *Store) transactionFailed(err error) error {
	if readOnly(err) {
		s.reconnect()
	}
	translated := translate(err)
	if errors.Is(translated, room.ErrUnavailable) && !notCommitted(err) {
		s.sessions.evictAll()
		s.opts.CommitUnknown()
	}
	return s.blameSchema(translated)
}

// send runs a batch's statements in order, in one round trip, and drops their
// results.
func send(ctx context.Context, tx pgx.Tx, b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, b).Close()
}
