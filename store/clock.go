package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"parlor/room"
)

const (
	// maxSkew is how far the clock of this process may be from the database's. Beyond it, a server
	// refuses to start, and a running server logs a warning.
	maxSkew = 2 * time.Second
	// maxTrustedSkew is the skew beyond which timers stop: one of the two clocks is wrong, and it
	// is unknown which.
	maxTrustedSkew = 10 * time.Second
	// maxStep is how far the database's clock may be from the time that this process expects by its
	// monotonic clock. Beyond it, the database's clock was set, or its machine was suspended.
	maxStep = 2 * time.Second
	// stepSettleTime is how long a clock that was set has to keep its new time before timers use
	// it.
	stepSettleTime = time.Minute
	// deleteDelay is how long nothing is deleted after that, because a deletion cannot be undone if
	// the clock turns out to be wrong.
	deleteDelay = time.Hour
	// maxReadTime is the longest that an answer may take to be used as the database's time.
	maxReadTime = time.Second
)

// ErrClockSkew means that the clock of this machine differs too much from the database's. Tokens,
// signed URLs and logs use the clock of this machine.
var ErrClockSkew = errors.New("wrong clock")

// A clock keeps the database's time. All servers share the database's clock, and every time that is
// stored, or that decides about ending, detaching or deleting, comes from it. Between two readings
// the clock advances by the monotonic clock of this process, which cannot be set. So a wall clock
// that is wrong for a moment has no effect, even if PostgreSQL runs on the same machine.
type clock struct {
	// process is the clock of this process, with its wall clock and monotonic readings.
	process func() time.Time
	// convert changes the times of the database's clock in tests; nil outside tests.
	convert func(time.Time) time.Time
	log     *slog.Logger

	mu sync.Mutex // guards all below
	// database is what the database's clock showed when process showed at.
	database, at time.Time
	// latest is the result of the last call of now.
	latest time.Time
	// skew is how far the wall clock of this process was ahead at the last reading, and skewError
	// is by how much that may be wrong, because the reading took a while.
	skew, skewError time.Duration
	warned          bool // about a skew beyond maxSkew
	// steppedAt is since when the database's clock differs from the expected time, and step is by
	// how much; zero if it does not differ.
	steppedAt time.Time
	step      time.Duration
	// stepAcceptedAt is when the new time of a clock that was set was last accepted.
	stepAcceptedAt time.Time
}

// A querier is a pool, a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// now returns the database's time, as far as this process knows it. A reading that sets the clock
// back a little makes it wait, so that what happens later in this process has no earlier time.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.database.Add(c.process().Sub(c.at))
	if back := c.latest.Sub(now); back <= 0 || back > maxStep {
		c.latest = now
	}
	return c.latest
}

// databaseTime returns the database's time at a time of this process's clock.
func (c *clock) databaseTime(at time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.database.Add(at.Sub(c.at))
}

// read reads the database's time, and updates the clock with it.
func (c *clock) read(ctx context.Context, q querier) (time.Time, error) {
	var database time.Time
	before := c.process()
	if err := q.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&database); err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", translate(err))
	}
	return c.accept(database, before), nil
}

// accept updates the clock with a reading of the database's clock that was requested at a time of
// this process's clock and has just arrived, and returns the database's time.
func (c *clock) accept(database, before time.Time) time.Time {
	took := c.process().Sub(before)
	if c.convert != nil {
		database = c.convert(database).Truncate(time.Microsecond) // as precise as PostgreSQL
	}
	database = database.UTC()
	c.record(database, before.Add(took/2), took)
	return database
}

// record updates the clock with a reading: database is what the database's clock showed when the
// clock of this process showed at, give or take half of what the reading took. A slow reading is
// ignored unless it is the first.
func (c *clock) record(database, at time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if took > maxReadTime && !c.at.IsZero() {
		return
	}
	c.skewError = took / 2
	c.recordSkew(at.Sub(database)) // by the wall clocks, because a time from the database has no monotonic reading
	if c.at.IsZero() {
		c.database, c.at = database, at
		return
	}
	step := database.Sub(c.database.Add(at.Sub(c.at)))
	switch {
	case step.Abs() <= maxStep:
		if !c.steppedAt.IsZero() {
			c.log.Info("timers run again: the database's clock is back")
		}
		c.steppedAt = time.Time{}
		c.database, c.at = database, at
	case c.steppedAt.IsZero() || (step-c.step).Abs() > maxStep:
		c.steppedAt, c.step = at, step
		c.log.Error("timers stopped: the database's clock was set",
			"step", step.String(), "settles", stepSettleTime.String())
	case at.Sub(c.steppedAt) >= stepSettleTime:
		c.steppedAt, c.stepAcceptedAt = time.Time{}, at
		c.database, c.at = database, at
		c.log.Warn("timers run again by the database's new time: nothing is deleted for a while",
			"step", step.String(), "deletesAfter", deleteDelay.String())
	}
}

// recordSkew records how far the wall clock of this process is ahead. It warns again only after the
// clock was clearly right in between. The caller holds mu.
func (c *clock) recordSkew(ahead time.Duration) {
	c.skew = ahead
	switch {
	case ahead.Abs() <= maxSkew/2:
		c.warned = false
	case ahead.Abs() > maxSkew && !c.warned && !c.at.IsZero():
		c.log.Warn("this server's clock differs from the database's: synchronize both with NTP", "ahead", ahead.String())
		c.warned = true
	}
}

// checkSkew returns ErrClockSkew if the clock is too far from the database's for a server to start.
func (c *clock) checkSkew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew.Abs()-c.skewError <= maxSkew {
		return nil
	}
	direction := "ahead of"
	if c.skew < 0 {
		direction = "behind"
	}
	return fmt.Errorf("%w: this machine's clock is %s %s the database's, and they may differ by %s: synchronize both machines with NTP",
		ErrClockSkew, c.skew.Abs().Round(100*time.Millisecond), direction, maxSkew)
}

// checkTimers returns an error if timers must not run now.
func (c *clock) checkTimers() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.steppedAt.IsZero():
		return fmt.Errorf("timers stopped: the database's clock was set by %s", c.step.Round(time.Millisecond))
	case c.skew.Abs() > maxTrustedSkew:
		return fmt.Errorf("timers stopped: this machine's clock is %s ahead of the database's", c.skew.Round(time.Millisecond))
	}
	return nil
}

// checkDeletes returns an error if nothing may be deleted by age now.
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

// nullInstant is nullTime for an instant.
func nullInstant(i room.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	return new(i.Time())
}
