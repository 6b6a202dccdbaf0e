package room

import (
	"errors"
	"testing"
	"time"
)

func TestAdmitNodes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	settings := NodeSettings{"PARLOR_MEDIA_URL": "m", "PARLOR_SECRET": "s", "PARLOR_SECRETS (kid a)": "a"}
	node := func(id NodeID, age time.Duration, settings NodeSettings) Node {
		return Node{Lease: NewLease(id, now.Add(-age)), Name: "web-" + string(id), Version: "v1", Settings: settings}
	}
	dead := node("1", time.Second, NodeSettings{"PARLOR_SECRET": "x"})
	dead.DeadSince = now
	leaving := node("1", time.Second, NodeSettings{"PARLOR_SECRET": "x"})
	leaving.Leaving = true
	for _, tt := range []struct {
		name    string
		others  []Node
		setting string // that differs; empty if the node may run
		other   NodeID
	}{
		{"alone", nil, "", ""},
		{"the same settings", []Node{node("1", time.Second, settings)}, "", ""},
		{"an older release", []Node{node("1", time.Second, nil)}, "", ""},
		{"fewer settings", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRET": "s"})}, "", ""},
		{"more settings", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRETS (kid b)": "b"})}, "", ""},
		{"another secret", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRET": "x"})}, "PARLOR_SECRET", "1"},
		{"another secret of the same kid", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRETS (kid a)": "x"})}, "PARLOR_SECRETS (kid a)", "1"},
		{"no value is a value", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRET": ""})}, "PARLOR_SECRET", "1"},
		{"two differ", []Node{node("1", time.Second, NodeSettings{"PARLOR_SECRET": "x", "PARLOR_MEDIA_URL": "y"})}, "PARLOR_MEDIA_URL", "1"},
		{"the second node", []Node{node("1", time.Second, settings), node("2", time.Second, NodeSettings{"PARLOR_SECRET": "x"})}, "PARLOR_SECRET", "2"},
		{"a stopping node", []Node{leaving}, "PARLOR_SECRET", "1"},
		{"nearly expired", []Node{node("1", LeaseTime, NodeSettings{"PARLOR_SECRET": "x"})}, "PARLOR_SECRET", "1"},
		{"expired", []Node{node("1", LeaseTime+time.Millisecond, NodeSettings{"PARLOR_SECRET": "x"})}, "", ""},
		{"dead", []Node{dead}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := settings.Admit(tt.others, now)
			var conflict *SettingConflict
			switch {
			case tt.setting == "" && err != nil:
				t.Error(err)
			case tt.setting != "" && (!errors.As(err, &conflict) || conflict.Setting != tt.setting || conflict.Node.Node != tt.other):
				t.Errorf("Admit = %v", err)
			}
		})
	}
}

func TestNodeState(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		renewed       time.Duration // before now
		leaving, dead bool
		want          NodeState
	}{
		{2 * time.Second, false, false, NodeRunning},
		{LeaseGap, false, false, NodeRunning},
		{LeaseGap + time.Millisecond, false, false, NodeLate},
		{LeaseTime + time.Millisecond, false, false, NodeLate},
		{-time.Hour, false, false, NodeLate}, // the database's clock was set back
		{2 * time.Second, true, false, NodeStopping},
		{LeaseGap + time.Millisecond, true, false, NodeLate},
		{time.Minute, false, true, NodeDead},
		{time.Minute, true, true, NodeDead},
	} {
		n := Node{Lease: NewLease("1", now.Add(-tt.renewed)), Leaving: tt.leaving}
		if tt.dead {
			n.DeadSince = n.Until
		}
		if got := n.State(now); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}
