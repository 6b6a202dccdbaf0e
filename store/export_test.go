package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"parlor/room"
)

// ReadableBy is the condition that the user $2 may read the media m.
const ReadableBy = readableBy

// WaitingJoins returns how many joins wait for the next transaction of a room.
func (s *Store) WaitingJoins(id room.RoomID) int {
	s.joins.mu.Lock()
	defer s.joins.mu.Unlock()
	return len(s.joins.waiting[id])
}

// CachedSessions returns how many sessions are cached, also those that are not used any more.
func (s *Store) CachedSessions() int {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return len(s.sessions.sessions)
}

// SetLockTimeout sets how long a migration tries to get its locks.
func (m *Migrator) SetLockTimeout(d time.Duration) { m.lockTimeout = d }

// Reconnect replaces all connections.
func (s *Store) Reconnect() {
	s.pool.Reset()
	s.appends.Reset()
}

// Warm uses all connections at once.
func (s *Store) Warm(ctx context.Context) error {
	var all []*pgxpool.Conn
	defer func() {
		for _, conn := range all {
			conn.Release()
		}
	}()
	for range s.pool.Config().MaxConns {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		all = append(all, conn)
	}
	return nil
}

// Setting returns the value of a connection's setting.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

// Abandon leaves a transaction idle until PostgreSQL ends it, which should happen after a time, and
// returns the error of the next statement.
func (s *Store) Abandon(ctx context.Context, after time.Duration) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = "+milliseconds(after)); err != nil {
			return err
		}
		for range 400 {
			if readable(tx.Conn().PgConn().Conn()) {
				break
			}
			<-time.After(after / 2)
		}
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
}

// SetTracer traces all statements of stores that are opened from now on.
func SetTracer(t pgx.QueryTracer) { tracer = t }

// SessionSettings are the statements that set up each connection of a store.
var SessionSettings = sessionSettings(time.Minute)
