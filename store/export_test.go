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

// Waiting is how many wait at a room's door, beside those who are being let in.
func (s *Store) WaitingJoins(id room.RoomID) int {
	s.joins.mu.Lock()
	defer s.joins.mu.Unlock()
	return len(s.joins.waiting[id])
}

// SetPatience says how long a migration tries to get its locks.
func (m *Migrator) SetLockTimeout(d time.Duration) { m.lockTimeout = d }

// Reconnect has all connections made anew.
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

// Setting is the value of a setting of a connection.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

// Abandon leaves a transaction alone until PostgreSQL has ended it, which it is to do
// after a time, and returns what came of it.
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

// SetTracer has all statements traced of stores that are opened from now on.
func SetTracer(t pgx.QueryTracer) { tracer = t }

// SessionSettings is what each connection of a store is set up with.
var SessionSettings = sessionSettings(time.Minute)
