package cluster

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"parlor/room"
)

func TestHear(t *testing.T) {
	// A step is a packet, and what it leads to.
	type step struct {
		number, previous, part, parts uint64

		text    string
		message string // "" if none is complete
		missed  bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"in order", []step{{1, 0, 1, 1, "a", "a", true}, {2, 1, 1, 1, "b", "b", false}, {3, 2, 1, 1, "c", "c", false}}},
		{"from the middle", []step{{40, 39, 1, 1, "a", "a", true}, {41, 40, 1, 1, "b", "b", false}}},
		{"one lost", []step{{1, 0, 1, 1, "a", "a", true}, {3, 2, 1, 1, "c", "c", true}, {4, 3, 1, 1, "d", "d", false}}},
		{"repeated", []step{{1, 0, 1, 1, "a", "a", true}, {1, 0, 1, 1, "a", "", false}, {2, 1, 1, 1, "b", "b", false}, {1, 0, 1, 1, "a", "", false}}},
		{"reordered", []step{{1, 0, 1, 1, "a", "a", true}, {3, 2, 1, 1, "c", "c", true}, {2, 1, 1, 1, "b", "", false}}},
		{"parts", []step{{1, 0, 1, 3, "a", "", true}, {2, 1, 2, 3, "b", "", false}, {3, 2, 3, 3, "c", "abc", false}, {4, 3, 1, 1, "d", "d", false}}},
		{"a part lost", []step{{1, 0, 1, 3, "a", "", true}, {3, 2, 3, 3, "c", "", true}, {4, 3, 1, 1, "d", "d", false}}},
		{"the first part lost", []step{{1, 0, 1, 1, "a", "a", true}, {3, 2, 2, 3, "b", "", true}, {4, 3, 3, 3, "c", "", true}, {5, 4, 1, 2, "d", "", false}, {6, 5, 2, 2, "e", "de", false}}},
		{"a repeated part", []step{{1, 0, 1, 2, "a", "", true}, {1, 0, 1, 2, "a", "", false}, {2, 1, 2, 2, "b", "ab", false}}},
		{"for other logs, not heard", []step{{1, 0, 1, 1, "a", "a", true}, {3, 1, 1, 1, "c", "c", false}, {7, 3, 1, 1, "d", "d", false}}},
		{"for a log, after a lost one for all", []step{{1, 0, 1, 1, "a", "a", true}, {3, 2, 1, 1, "c", "c", true}, {4, 2, 1, 1, "d", "d", false}}},
		{"for a log, in parts, one lost", []step{{1, 0, 1, 1, "a", "a", true}, {2, 1, 1, 3, "b", "", false}, {4, 1, 3, 3, "d", "", true}, {5, 1, 1, 1, "e", "e", false}}},
		{"a message that never ends", []step{{1, 0, 1, 2, "a", "", true}, {2, 1, 1, 1, "b", "b", false}, {3, 2, 2, 2, "c", "", true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &peer{}
			for i, s := range tt.steps {
				message, missed := p.hear(packet{node: "n", number: s.number, previous: s.previous, part: s.part, parts: s.parts, content: []byte(s.text)}, time.Now())
				if string(message) != s.message || missed != s.missed {
					t.Errorf("packet %d: message %q, missed %t", i, message, missed)
				}
			}
		})
	}
}

func TestLongMessage(t *testing.T) {
	p, part := &peer{}, strings.Repeat("x", maxMessageBytes/2)
	for i, wantMissed := range []bool{true, false, true, true} {
		message, missed := p.hear(packet{node: "n", number: uint64(i + 1), previous: uint64(i), part: uint64(i + 1), parts: 4, content: []byte(part)}, time.Now())
		if len(message) > 0 || missed != wantMissed || len(p.parts) > maxMessageBytes {
			t.Errorf("part %d: a message of %d bytes, missed %t, %d bytes are kept", i+1, len(message), missed, len(p.parts))
		}
	}
}

func TestPeers(t *testing.T) {
	ps, start := make(peers), time.Now()
	hear := func(node room.NodeID, number uint64, at time.Duration) {
		ps.get(node).hear(packet{node: node, number: number, previous: number - 1, part: 1, parts: 1}, start.Add(at))
	}
	want := func(at time.Duration, known, unheard, reported []room.NodeID) {
		t.Helper()
		now := start.Add(at)
		var nodes []room.NodeID
		for node := range ps {
			nodes = append(nodes, node)
		}
		slices.Sort(nodes)
		if got := ps.unheard(now); !slices.Equal(nodes, known) || !slices.Equal(got, unheard) {
			t.Errorf("after %s: nodes %v, unheard %v", at, nodes, got)
		}
		if got := ps.unheardFor(reportAfter, now); !slices.Equal(got, reported) {
			t.Errorf("after %s, reported: %v", at, got)
		}
	}
	hear("a", 1, 0) // heard, but not listed: it has just started
	want(0, []room.NodeID{"a"}, nil, nil)
	ps.list([]room.NodeID{"a", "b"}, start)
	want(0, []room.NodeID{"a", "b"}, []room.NodeID{"b"}, nil)
	hear("b", 1, time.Second)
	want(time.Second, []room.NodeID{"a", "b"}, nil, nil)
	hear("b", 2, 5*time.Second)
	want(6*time.Second, []room.NodeID{"a", "b"}, []room.NodeID{"a"}, nil)
	hear("b", 3, 26*time.Second)
	want(26*time.Second, []room.NodeID{"a", "b"}, []room.NodeID{"a"}, []room.NodeID{"a"})
	want(26*time.Second, []room.NodeID{"a", "b"}, []room.NodeID{"a"}, nil) // reported only once
	heardSince := func(at time.Duration, want map[room.NodeID]time.Duration) {
		t.Helper()
		got := make(map[room.NodeID]time.Duration)
		for node, since := range ps.heardSince(start.Add(at)) {
			got[node] = since.Sub(start)
		}
		if !maps.Equal(got, want) {
			t.Errorf("after %s, heard since %v", at, got)
		}
	}
	heardSince(26*time.Second, map[room.NodeID]time.Duration{"b": 26 * time.Second}) // after a pause
	hear("b", 4, 28*time.Second)
	heardSince(28*time.Second, map[room.NodeID]time.Duration{"b": 26 * time.Second})
	heardSince(31*time.Second, nil)
	ps.list([]room.NodeID{"b"}, start.Add(27*time.Second))
	want(27*time.Second, []room.NodeID{"b"}, nil, nil)
	ps.list(nil, start.Add(28*time.Second)) // it is still heard
	want(28*time.Second, []room.NodeID{"b"}, nil, nil)
	ps.list(nil, start.Add(40*time.Second))
	want(40*time.Second, nil, nil, nil)

	for i := range 2 * maxPeers {
		ps.get(room.NodeID(strings.Repeat("n", i+1)))
	}
	if len(ps) != maxPeers {
		t.Errorf("%d nodes are kept", len(ps))
	}
}
