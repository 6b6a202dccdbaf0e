// Package store makes the rules of package room hold in PostgreSQL. Each use case locks the rows
// that it needs, loads what the rule depends on, lets the rule decide, writes the result and
// commits. The hub is notified after the commit.
//
// All transactions take locks in the same order, so that no two of them wait for each other: a
// user's list of sessions, session rows, users, rooms by ascending generation, inboxes by ascending
// log, and files by ascending ID.
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

// Options are a store's settings. All have defaults. Without a Commit function, no committed change
// is published.
type Options struct {
	// Commit is called with the change of each committed transaction. It must not block. Changes of
	// one room may arrive out of order; the seqs of their events give the order.
	Commit func(room.Change)
	// CommitUnknown is called when the connection was lost during a transaction. The transaction
	// may have been committed, so any log may contain events that were not passed to Commit. It
	// must not block.
	CommitUnknown func()
	// Settle waits until all nodes have heard the changes that were passed to Commit.
	Settle func(context.Context)
	// Reset is called when this process can no longer trust what it knows: another node declared it
	// dead and its sessions have left their rooms, or the database was restored. All its streams
	// have to be opened again. It is not called before the first RenewLease, and must not block.
	Reset func()

	// FeedRetention is how long the feed retains the events of a destroyed room, and those of
	// users; zero means one hour.
	FeedRetention time.Duration
	// FeedPeers keeps messages between users for the feed.
	FeedPeers bool

	// MessageRetention is how long the logs of existing rooms retain their events; zero means
	// without limit.
	MessageRetention time.Duration
	// SessionIdle is how long a session without a stream and without a room lasts; zero means 7
	// days.
	SessionIdle time.Duration
	// UserRetention is how long a user without a session can still receive messages; zero means 90
	// days.
	UserRetention time.Duration
	// PeerRetention is how long inboxes retain messages; zero means 7 days.
	PeerRetention time.Duration

	// MediaPerUser and MediaTotal are the maximum bytes of files, sent or unsent, of one user and
	// of all users together; zero means no limit. Each file counts as at least 4 KiB.
	MediaPerUser, MediaTotal int64

	// Defaults is used for rooms that are created without settings; zero means room.DefaultConfig.
	Defaults room.Config
	// RoomsPerUser is how many rooms a user may be in, and SessionsPerUser how many sessions a user
	// may have; zero means room.DefaultRoomsPerUser and room.DefaultSessionsPerUser.
	RoomsPerUser, SessionsPerUser int
	// MaxRooms is how many rooms may exist, and RoomsPerCreator how many of them a user may have
	// created; zero means no limit.
	MaxRooms, RoomsPerCreator int
	// StatusVisible says whose status users may know; "" means room.StatusForEverybody.
	StatusVisible room.StatusVisibility
	// StatusSubscriptions is how many users a user may subscribe to; zero means
	// room.DefaultStatusSubscriptions.
	StatusSubscriptions int
	// LockTimeout is how long a call waits for a lock that another transaction holds; zero means 2
	// seconds.
	LockTimeout time.Duration
	// Origin identifies the database's files, so that a restored copy can be recognized. It is
	// empty if the caller has no such identification.
	Origin string

	// NodeName and Version describe this process to operators and to other nodes: the name of its
	// machine, and the version of the program.
	NodeName, Version string
	// Settings are compared with those of other nodes. Open returns a *room.SettingConflict if one
	// differs from that of a living node, and RenewLease does if this node was declared dead and
	// then finds such a node.
	Settings room.NodeSettings

	// Now is this process's clock, for tests. Stored times come from the database's clock.
	Now func() time.Time
	// DatabaseNow is for tests: it returns the time that is used as the database's when the
	// database's clock shows t.
	DatabaseNow func(t time.Time) time.Time
	Log         *slog.Logger
}

// Store is a connection pool with Parlor's use cases. Its methods return a *room.Error if the
// caller is at fault, room.ErrUnavailable if PostgreSQL cannot be reached, and any other error for
// a bug or corrupt data.
type Store struct {
	pool *pgxpool.Pool
	// appends is the connection pool of the appender's lanes.
	appends *pgxpool.Pool
	locks   *lockQueue
	health  health
	opts    Options
	// sessions caches sessions by key, and the facts that permit their unstored messages.
	sessions sessionCache
	// statuses are the users whose status the next sweep compares with the published one.
	statuses statusHints
	// committed wakes the readers of the feed after each commit.
	committed signal
	appender  *appender
	detacher  *detacher
	joins     joinQueue
	streams   batchQueue[*pendingStream]
	logins    batchQueue[*pendingLogin]

	clock  clock
	epochs epochs
	nodeID room.NodeID
	lease  lease
	// trimCursor is the last room whose log was checked for expired events. Only Sweep uses it.
	trimCursor room.LogID
	// lockedRooms are the rooms that sweeps skip for a while. Only Sweep uses it.
	lockedRooms lockedRooms
	// inboxCursor is the last inbox that was checked for an absent user. Only Sweep uses it.
	inboxCursor room.LogID
	// schemaCheckedAt is when the schema was last checked. Only Sweep uses it.
	schemaCheckedAt time.Time
	// schemaChanged is set if the last check found another program's schema.
	schemaChanged atomic.Bool
	closing       sync.Once
}

// Connections returns the maximum number of connections to the database.
func (s *Store) Connections() int {
	return int(s.pool.Config().MaxConns+s.appends.Config().MaxConns) + 1 // the connection of the lease
}

// Open connects to a migrated database and registers this process as a node.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	if opts.Commit == nil {
		opts.Commit = func(room.Change) {}
	}
	if opts.CommitUnknown == nil {
		opts.CommitUnknown = func() {}
	}
	if opts.Settle == nil {
		opts.Settle = func(context.Context) {}
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
	if opts.StatusSubscriptions == 0 {
		opts.StatusSubscriptions = room.DefaultStatusSubscriptions
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
	s := &Store{opts: opts, nodeID: room.NodeID(id.String()), lockedRooms: make(lockedRooms)}
	if s.pool, s.appends, err = newPools(ctx, url, id.String(), opts.LockTimeout, s.checkEpoch); err != nil {
		return nil, err
	}
	s.locks = newLockQueue(maxTransactions(s.pool))
	s.opts.Commit = func(c room.Change) {
		s.sessions.evictChanged(c)
		s.statuses.addEnded(c)
		opts.Commit(c)
		s.wakeFeed(c)
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

// start checks whether this process may be a node, and registers it.
func (s *Store) start(ctx context.Context) error {
	if err := s.checkClock(ctx); err != nil {
		return err
	}
	if err := s.repairFeed(ctx); err != nil {
		return err
	}
	r, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("lease of node %s: %w", s.nodeID, translate(err))
	}
	s.recordRenewal(r)
	return nil
}

// checkClock compares this machine's clock with the database's.
func (s *Store) checkClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	if err := s.lease.connect(ctx, s.checkEpoch); err != nil {
		return fmt.Errorf("connect to the database: %w", translate(err))
	}
	// This uses a connection that is already open, so that connecting does not delay the answer.
	if _, err := s.clock.read(ctx, s.lease.conn); err != nil {
		return err
	}
	return s.clock.checkSkew()
}

// Close waits for work in flight, detaches this node's sessions and closes the connections. No
// other method may be called afterwards.
func (s *Store) Close() {
	s.closing.Do(func() {
		s.joins.running.Wait()
		s.streams.running.Wait()
		s.logins.running.Wait()
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

// now returns the time of a use case, by the database's clock and with the precision of the wire.
func (s *Store) now() time.Time {
	return room.InstantOf(s.clock.now()).Time()
}

// inTx runs fn in a transaction. After the commit it publishes the change that fn returned, made by
// the actor. If the change takes something away, inTx returns when all nodes have heard it. fn may
// run more than once. locks names the locks of fn that other transactions may hold; inTx first
// waits in the lock queue for them.
func (s *Store) inTx(ctx context.Context, by room.Actor, fn func(pgx.Tx) (room.Change, error), locks ...lockKey) error {
	var c room.Change
	err := s.locks.run(ctx, locks, func() (err error) {
		c, err = s.commit(ctx, by, fn)
		return err
	})
	if err == nil && c.TakesAway() {
		s.opts.Settle(ctx)
	}
	return err
}

// commit is inTx without waiting in the lock queue and for other nodes. It returns the change.
func (s *Store) commit(ctx context.Context, by room.Actor, fn func(pgx.Tx) (room.Change, error)) (c room.Change, err error) {
	err = retryDeadlocks(func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			c, err = fn(tx)
			return err
		})
	})
	if err != nil {
		return room.Change{}, s.transactionFailed(err)
	}
	c.By = by
	s.opts.Commit(c)
	return c, nil
}

// retryDeadlocks runs a transaction again if PostgreSQL chose it as the victim of a deadlock, at
// most maxTries times in all.
func retryDeadlocks(transaction func() error) error {
	for try := 1; ; try++ {
		if err := transaction(); !deadlocked(err) || try == maxTries {
			return err
		}
	}
}

// maxTries bounds how often a transaction is tried. The order of locks makes deadlocks rare: only
// the kick of a session that is in several rooms can take locks out of order.
const maxTries = 3

// transactionFailed translates the error of a transaction, and calls CommitUnknown if the
// transaction may have been committed nevertheless.
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

// sendBatch runs the statements of a batch in order, in one round trip. An empty batch is not sent.
func sendBatch(ctx context.Context, tx pgx.Tx, b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, b).Close()
}
