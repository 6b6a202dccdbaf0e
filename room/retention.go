package room

import "time"

// Retention of a room's log.
const (
	// ReplayWindow is how long every event is retained, whatever a room's settings say, so that no
	// member who reconnects misses one. It is longer than a client can be gone and still be a
	// member: at most 10 minutes until its loss is noticed, MaxMemberTimeout, and the times until a
	// dead server is noticed and a sweep runs.
	ReplayWindow = 20 * time.Minute

	MaxRetentionDays  = 3650
	MaxRetentionCount = 1_000_000
)

// Lifetime says when a room is destroyed.
type Lifetime string

const (
	LifetimeUntilEmpty Lifetime = "untilEmpty" // DestroyDelay after its last member has left
	LifetimeKept       Lifetime = "kept"       // not before an admin destroys it
)

// History says whether members can read the messages of a room again.
type History string

const (
	HistoryStored History = "stored" // listed by the history, for the room's retention
	HistoryNone   History = "none"   // delivered live and replayed after a reconnect, and not listed
)

// Trim says which events at the front of a log are deleted: those before an instant, and those up
// to a seq that are also before another instant. The zero value deletes nothing.
type Trim struct {
	Before time.Time
	UpTo   Seq
	// Replayed is the instant from which on events are retained although they are up to UpTo.
	Replayed time.Time
}

// Trim returns what is deleted from the log of a room with the settings. server is the retention of
// rooms without their own, or 0 if that has no limit. last is the newest event. replays says that
// this server knows that everyone who has been gone for ReplayWindow is no longer a member; without
// it, nothing is deleted because of HistoryNone or RetentionCount.
func (c Config) Trim(now time.Time, server time.Duration, last Seq, replays bool) Trim {
	var t Trim
	const day = 24 * time.Hour
	switch {
	case c.RetentionDays > 0:
		t.Before = now.Add(-time.Duration(c.RetentionDays) * day)
	case server > 0:
		t.Before = now.Add(-server)
	}
	if !replays {
		return t
	}
	t.Replayed = now.Add(-ReplayWindow)
	if c.History == HistoryNone && t.Before.Before(t.Replayed) {
		t.Before = t.Replayed
	}
	if c.RetentionCount > 0 {
		t.UpTo = max(0, last-Seq(c.RetentionCount))
	}
	return t
}

// Deletes reports whether the event is deleted, if all events before it are.
func (t Trim) Deletes(seq Seq, at time.Time) bool {
	return at.Before(t.Before) || seq <= t.UpTo && at.Before(t.Replayed)
}
