package room

import "time"

// A node is a running server. It renews a lease while it runs. When the lease has expired, another
// node may declare it dead, and its sessions count as detached from then on.
const (
	// LeaseTime is the longest time until the crash of a node is noticed.
	LeaseTime = 15 * time.Second
	// LeaseInterval is how often a node renews its lease. It allows a node several tries before its
	// lease expires.
	LeaseInterval = 2 * time.Second
	// LeaseGap is the longest delay of a renewal that does not count as a gap. After a longer
	// delay, the database may have been unavailable to the other nodes too, so their leases mean
	// nothing until they had time to renew them. A node without a gap still has LeaseTime-LeaseGap
	// of its lease after such an outage.
	LeaseGap = 5 * time.Second
)

// A Lease is a node's claim to be alive. All its times are the database's, and so is the current
// time of its methods: the clocks of the nodes have no part in it.
type Lease struct {
	Node NodeID
	// Until is when the lease expires.
	Until time.Time
	// SteadySince is since when the lease has been renewed without a gap.
	SteadySince time.Time
	// DeadSince is since when the node counts as dead, or zero. A node that was declared dead and
	// still runs has to begin again with a new lease.
	DeadSince time.Time
}

// NewLease returns the first lease of a node.
func NewLease(node NodeID, now time.Time) Lease {
	return Lease{Node: node, Until: now.Add(LeaseTime), SteadySince: now}
}

// Renew returns the lease with its full time again.
func (l Lease) Renew(now time.Time) Lease {
	if l.gap(now) {
		l.SteadySince = now
	}
	l.Until = now.Add(LeaseTime)
	return l
}

// gap reports whether the last renewal is too long ago. A lease that ends later than a new one was
// written before the database's clock was set back, and counts as a gap too.
func (l Lease) gap(now time.Time) bool {
	left := l.Until.Sub(now)
	return left < LeaseTime-LeaseGap || left > LeaseTime
}

// Dead reports whether the node was declared dead.
func (l Lease) Dead() bool { return !l.DeadSince.IsZero() }

// Expired reports whether the lease has expired. A lease that ends later than a new one, by more
// than a gap, has expired too: it was written before the database's clock was set back.
func (l Lease) Expired(now time.Time) bool {
	left := l.Until.Sub(now)
	return left < 0 || left > LeaseTime+LeaseGap
}

// Current reports whether the node lives and has renewed its lease lately.
func (l Lease) Current(now time.Time) bool {
	return !l.Dead() && !l.Expired(now) && l.Until.Sub(now) >= LeaseTime-LeaseGap
}

// DeclareDead returns the leases of the nodes that the owner of this lease may declare dead now,
// with DeadSince set. All leases must have been read from the database at once, this one as it was
// before its renewal.
//
// A node declares others dead only after it has renewed its own lease for a whole LeaseTime without
// a gap. After an outage of the database the leases of all nodes have expired, although the nodes
// run. After LeaseTime without a gap, every running node has renewed its lease.
//
// A node that has not renewed its lease since an outage counts as dead since the outage, because it
// could not have renewed it before.
func (l Lease) DeclareDead(others []Lease, now time.Time) (dead []Lease) {
	if l.Dead() || l.gap(now) || now.Sub(l.SteadySince) < LeaseTime {
		return nil
	}
	for _, other := range others {
		if other.Dead() || !other.Expired(now) {
			continue
		}
		other.DeadSince = other.Until
		switch {
		case now.Before(other.Until):
			other.DeadSince = now
		case other.Until.Before(l.SteadySince):
			other.DeadSince = l.SteadySince
		}
		dead = append(dead, other)
	}
	return dead
}
