package room_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parlor/room"
)

func TestLeaseRenewal(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name          string
		since         time.Duration // since the last renewal, by the database's clock
		steady        bool
		expired       bool
		renewedLately bool
	}{
		{"at the same time", 0, true, false, true},
		{"on time", 2 * time.Second, true, false, true},
		{"late", 5 * time.Second, true, false, true},
		{"after a gap", 5*time.Second + time.Millisecond, false, false, false},
		{"at the end", 15 * time.Second, false, false, false},
		{"after the end", 15*time.Second + time.Millisecond, false, true, false},
		{"the next day", day, false, true, false},
		{"when the clock was set back a little", -time.Second, false, false, true},
		{"when the clock was set back by a gap", -5 * time.Second, false, false, true},
		{"when the clock was set back", -5*time.Second - time.Millisecond, false, true, false},
		{"when the clock was set back a day", -day, false, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := room.NewLease("a", noon.Add(-time.Minute)).Renew(noon)
			l.SteadySince = noon.Add(-time.Minute)
			now := noon.Add(test.since)
			if got := l.Expired(now); got != test.expired {
				t.Errorf("expired: %t", got)
			}
			if got := l.Current(now); got != test.renewedLately {
				t.Errorf("current: %t", got)
			}
			renewed := l.Renew(now)
			if got := renewed.SteadySince.Equal(l.SteadySince); got != test.steady {
				t.Errorf("steady since %v after a renewal at %v", renewed.SteadySince, now)
			}
			if !test.steady && !renewed.SteadySince.Equal(now) {
				t.Errorf("steady since %v, want the end of the gap", renewed.SteadySince)
			}
			if !renewed.Until.Equal(now.Add(room.LeaseTime)) {
				t.Errorf("until %v", renewed.Until)
			}
		})
	}
}

func TestWhoMayDeclareWhomDead(t *testing.T) {
	// at returns a lease that was last renewed at a time, and steadily since another one.
	at := func(renewed, steady time.Duration) room.Lease {
		return room.Lease{Node: "own", Until: noon.Add(renewed + room.LeaseTime), SteadySince: noon.Add(steady)}
	}
	const minute = -time.Minute
	deadAlready := at(minute, minute)
	deadAlready.DeadSince = noon.Add(minute)
	steady := at(-2*time.Second, minute)
	for _, test := range []struct {
		name       string
		own, other room.Lease
		since      time.Duration // since when the other is dead, if it is declared
		dead       bool
	}{
		{"a running node", steady, at(-2*time.Second, minute), 0, false},
		{"a node whose lease ends now", steady, at(-15*time.Second, minute), 0, false},
		{"a node whose lease has expired", steady, at(-16*time.Second, minute), -time.Second, true},
		{"a lease from before the clock was set back", steady, at(24*time.Hour, minute), 0, true},
		{"a node that was declared dead", steady, deadAlready, 0, false},
		{"by a node that was just started", at(-2*time.Second, -14*time.Second), at(-16*time.Second, minute), 0, false},
		{"by a node that was started long enough ago", at(-2*time.Second, -15*time.Second), at(-16*time.Second, minute), -time.Second, true},
		{"a node that was not seen since an outage", at(-2*time.Second, -20*time.Second), at(minute, minute), -20 * time.Second, true},
		{"by a node in a gap", at(-6*time.Second, minute), at(-16*time.Second, minute), 0, false},
		{"by a node that was away for long", at(minute, 2*minute), at(minute, 2*minute), 0, false},
		{"by a node after the clock was set back", at(time.Second, minute), at(-16*time.Second, minute), 0, false},
		{"by a node that is dead", deadAlready, at(-16*time.Second, minute), 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dead := test.own.DeclareDead([]room.Lease{test.other}, noon)
			if len(dead) > 0 != test.dead {
				t.Fatalf("declared dead: %v", dead)
			}
			if test.dead && (!dead[0].DeadSince.Equal(noon.Add(test.since)) || !dead[0].Dead()) {
				t.Errorf("dead since %v", dead[0].DeadSince)
			}
		})
	}
}

// TestLeaseModel runs nodes on one database, with outages of the database, frozen and killed nodes,
// and a database's clock that is set. A node that runs is never declared dead, and in the end only
// killed nodes are dead.
func TestLeaseModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const step = 500 * time.Millisecond
		type node struct {
			next    time.Duration // of the next renewal
			killed  time.Duration // zero while it runs
			thawsAt time.Duration // of a frozen node
			frozen  time.Duration // since when it was last frozen, zero if never
		}
		var (
			nodes    []*node
			leases   []room.Lease // the rows of the database
			back     time.Duration
			outage   bool
			set      time.Duration // how far the database's clock was set
			lastSet  = -time.Hour
			lastDown = -time.Hour
		)
		for i := range rapid.IntRange(2, 4).Draw(t, "nodes") {
			nodes = append(nodes, &node{next: rapid.SampledFrom([]time.Duration{0, step, 2 * step, 3 * step}).Draw(t, "phase")})
			leases = append(leases, room.NewLease(room.NodeID(rune('a'+i)), noon))
		}
		upTo := time.Duration(rapid.IntRange(30, 300).Draw(t, "seconds")) * time.Second
		for at := time.Duration(0); at < upTo; at += step {
			if !outage && rapid.IntRange(0, 80).Draw(t, "outage?") == 0 {
				outage, back = true, at+time.Duration(rapid.IntRange(1, 40).Draw(t, "outage"))*time.Second
			}
			if outage {
				lastDown = at
				outage = at < back
			}
			if rapid.IntRange(0, 300).Draw(t, "clock?") == 0 {
				set += time.Duration(rapid.IntRange(-30, 30).Draw(t, "clock")) * time.Second
				lastSet = at
			}
			now := noon.Add(at + set)
			for i, n := range nodes {
				switch fault := rapid.IntRange(0, 400).Draw(t, "fault?"); {
				case n.killed > 0:
				case fault == 0:
					n.killed = at + 1
				case fault == 1 && at >= n.thawsAt:
					n.frozen, n.thawsAt = at, at+time.Duration(rapid.IntRange(1, 40).Draw(t, "freeze"))*time.Second
				}
				if n.killed > 0 || outage || at < n.next || at < n.thawsAt {
					continue
				}
				// After an outage, the next try may come late.
				n.next = at + room.LeaseInterval + rapid.SampledFrom([]time.Duration{0, 0, step, 2 * step}).Draw(t, "late")
				own := leases[i]
				if own.Dead() { // it begins again
					leases[i] = room.NewLease(own.Node, now)
					n.frozen = 0
					continue
				}
				others := slices.Delete(slices.Clone(leases), i, i+1)
				for _, dead := range own.DeclareDead(others, now) {
					j := slices.IndexFunc(leases, func(l room.Lease) bool { return l.Node == dead.Node })
					other := nodes[j]
					// It did not run for about as long as a lease lasts.
					away := other.killed > 0 && at-other.killed >= 10*time.Second-2*step ||
						other.frozen > 0 && other.thawsAt-other.frozen >= 5*time.Second && at-other.frozen >= 10*time.Second-2*step
					if !away {
						t.Fatalf("at %v, %s declares %s dead, which ran: %+v, %+v, database last down at %v, back at %v, clock set at %v",
							at, own.Node, dead.Node, *other, dead, lastDown, back, lastSet)
					}
					leases[j] = dead
				}
				leases[i] = own.Renew(now)
			}
		}
		// In the end only what was killed is dead. Everything that runs renews its lease for a
		// while.
		for at := time.Duration(0); at < 4*room.LeaseTime; at += room.LeaseInterval {
			now := noon.Add(upTo + 40*time.Second + at + set)
			for i, n := range nodes {
				if n.killed > 0 {
					continue
				}
				if leases[i].Dead() {
					leases[i] = room.NewLease(leases[i].Node, now)
					continue
				}
				for _, dead := range leases[i].DeclareDead(slices.Delete(slices.Clone(leases), i, i+1), now) {
					leases[slices.IndexFunc(leases, func(l room.Lease) bool { return l.Node == dead.Node })] = dead
				}
				leases[i] = leases[i].Renew(now)
			}
		}
		running := slices.ContainsFunc(nodes, func(n *node) bool { return n.killed == 0 })
		for i, n := range nodes {
			if running && leases[i].Dead() != (n.killed > 0) {
				t.Fatalf("in the end: %+v, %+v", *n, leases[i])
			}
		}
	})
}
