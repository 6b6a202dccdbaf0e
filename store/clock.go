package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// maxApart is how far this process's clock may be from the database's. A server
	// refuses to start beyond it, and warns where it comes to that later.
	maxSkew = 2 * time.Second
	// maxTrusted is how far they may be apart until timers stand still: one of the
	// two clocks is wrong, and nobody can say which.
	maxTrustedSkew = 10 * time.Second
	// maxStep is how far the database's clock may be from where this process's
	// steady clock expects it. One that is further off was set, or its machine
	// was suspended.
	maxStep = 2 * time.Second
	// leapSettles is how long a clock that was set must keep to its new time
	// until timers go by it.
	stepSettleTime = time.Minute
	// leapDeletes is how long nothing is deleted after that: what is deleted does
	// not come back when somebody notices that the clock is wrong.
	deleteDelay = time.Hour
	// maxReading is how long an answer may take that this process's own reckoning
	// is set by.
	maxReadTime = time.Second
)

// clock is the database's time. There is one of it for all servers, and every
// instant that is stored, or that decides about ending, detaching or deleting, is
// taken from here. Between two readings it goes on by this process's steady clock,
// which nobody can set, so that a wall clock that is wrong for a moment changes
// nothing: not even where PostgreSQL runs on the same machine.
type clock struct {
	// process is this process's clock: its wall clock and its steady one.
	process func() time.Time
	// convert is what a test makes of the database's clock; nil elsewhere.
	convert func(time.Time) time.Time
	log     *slog.Logger

	mu sync.Mutex // guards all below
	// database is what the database's clock showed when process showed at.
	database, at time.Time
	// offset is how far this process's wall clock was ahead at the last reading.
	skew   time.Duration
	warned bool // that it is beyond maxApart
	// leaptAt is since when the database's clock is not where it is expected, leap
	// how far it is off; zero where it goes as it should.
	steppedAt time.Time
	step      time.Duration
	// movedAt is when a leap was last followed.
	stepAcceptedAt time.Time
}

// querier is the pool, a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// now is the database's time, as far as this process knows it.
func (c *clock) now() time.Time { return c.databaseTime(c.process()) }

// when is the database's time at an instant of this process's clock.
func (c *clock) databaseTime(at time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.database.Add(at.Sub(c.at))
}

// read asks for the database's time, and sets now by it.
func (c *clock) read(ctx context.Context, q querier) (time.Time, error) {
	var database time.Time
	before := c.process()
	if err := q.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&database); err != nil {
		return time.Time{}, fmt.Errorf("the database's clock: %w", translate(err))
	}
	took := c.process().Sub(before)
	if c.convert != nil {
		database = c.convert(database)
	}
	database = database.UTC()
	c.record(database, before.Add(took/2), took)
	return database, nil
}

// take takes a reading: what the database's clock showed when this process's
// showed at, give or take half of what it took. One that took long is no better than
// what is known, unless it is the first.
func (c *clock) record(database, at time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if took > maxReadTime && !c.at.IsZero() {
		return
	}
	c.recordSkew(at.Sub(database)) // of wall clocks: what the database says has no other
	if c.at.IsZero() {
		c.database, c.at = database, at
		return
	}
	leap := database.Sub(c.database.Add(at.Sub(c.at)))
	switch {
	case leap.Abs() <= maxStep:
		if !c.steppedAt.IsZero() {
			c.log.Info("the database's clock is back; timers are served again")
		}
		c.steppedAt = time.Time{}
		c.database, c.at = database, at
	case c.steppedAt.IsZero() || (leap-c.step).Abs() > maxStep:
		c.steppedAt, c.step = at, leap
		c.log.Error("the database's clock was set; timers stand still until it is back or has settled",
			"leap", leap.String(), "settles", stepSettleTime.String())
	case at.Sub(c.steppedAt) >= stepSettleTime:
		c.steppedAt, c.stepAcceptedAt = time.Time{}, at
		c.database, c.at = database, at
		c.log.Warn("timers go by the database's new time; nothing is deleted for a while",
			"leap", leap.String(), "deletesAfter", deleteDelay.String())
	}
}

// compare notes how far this process's wall clock is ahead. The caller holds mu.
func (c *clock) recordSkew(offset time.Duration) {
	c.skew = offset
	apart := offset.Abs() > maxSkew
	if apart && !c.warned && !c.at.IsZero() {
		c.log.Warn("this server's clock is not the database's; set one of them right", "ahead", offset.String())
	}
	c.warned = apart
}

// apart returns an error where a server must not start: its clock is too far from the
// database's.
func (c *clock) checkSkew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew.Abs() <= maxSkew {
		return nil
	}
	return fmt.Errorf("this machine's clock is %s ahead of the database's; they may be %s apart: set one of them right",
		c.skew.Round(time.Millisecond), maxSkew)
}

// timers returns why nothing may be done now for being due, or nil.
func (c *clock) checkTimers() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.steppedAt.IsZero():
		return fmt.Errorf("timers stand still: the database's clock was set by %s", c.step.Round(time.Millisecond))
	case c.skew.Abs() > maxTrustedSkew:
		return fmt.Errorf("timers stand still: this machine's clock is %s ahead of the database's", c.skew.Round(time.Millisecond))
	}
	return nil
}

// deletes returns why nothing may be deleted now for being old, or nil.
func (c *clock) checkDeletes() error {
	if err := c.checkTimers(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := c.process().Sub(c.stepAcceptedAt); !c.stepAcceptedAt.IsZero() && since < deleteDelay {
		return fmt.Errorf("nothing is deleted for %s: the database's clock was set", (deleteDelay - since).Round(time.Second))
	}
	return nil
}

// timeOrZero returns the instant of a column, in UTC, or the zero time for NULL.
func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// nullTime returns the value of a column for an instant: NULL for the zero time.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
