package store

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	// gatherTime is the longest time that the first lane waits for more messages. A transaction for
	// one message takes a third of it.
	gatherTime = time.Millisecond
	// maxGather is the largest number of messages that the first lane waits for. In a batch of so
	// many, the fixed cost of a transaction is less than that of the messages.
	maxGather = 16
	// crowdWindow is how long a crowd remembers how many callers there were at once: between one
	// and two windows.
	crowdWindow = 100 * time.Millisecond
)

// crowd knows how many callers there are at the same time.
type crowd struct {
	callers atomic.Int64
	// The fields below are guarded by the appender's mu.
	most    [2]int64 // callers at once, in the current window and in the one before
	beganAt time.Time
}

// record records how many callers there are.
func (c *crowd) record(now time.Time) {
	switch age := now.Sub(c.beganAt); {
	case age >= 2*crowdWindow:
		c.most, c.beganAt = [2]int64{}, now
	case age >= crowdWindow:
		c.most, c.beganAt = [2]int64{0, c.most[0]}, now
	}
	c.most[0] = max(c.most[0], c.callers.Load())
}

// half returns half of the largest number of callers at once. A batch for half of the callers can
// be committed while the others, if they wait for replies, prepare their next messages. One caller,
// or two, never wait for others.
func (c *crowd) half() int { return int(slices.Max(c.most[:])+1) / 2 }
