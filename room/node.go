package room

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Node is a node as it describes itself to operators and to other nodes.
type Node struct {
	Lease
	// Name is the name of its machine, and Version the version of the program.
	Name, Version string
	StartedAt     time.Time
	// Leaving is set when the node is stopping.
	Leaving bool
	// Settings are those that all nodes must share. They are nil for a node of an older release.
	Settings NodeSettings
}

// String returns a node's name for operators, with what tells it from others of that name.
func (n Node) String() string {
	return fmt.Sprintf("%s (%s, version %s)", n.Name, n.Lease.Node, n.Version)
}

// NodeState says whether a node works.
type NodeState string

const (
	NodeRunning  NodeState = "running"
	NodeStopping NodeState = "stopping" // it works, and has been told to stop
	NodeLate     NodeState = "late"     // it has not renewed its lease for longer than LeaseGap
	NodeDead     NodeState = "dead"     // another node has declared it dead
)

// State returns the node's state at a time by the database's clock.
func (n Node) State(now time.Time) NodeState {
	switch {
	case n.Dead():
		return NodeDead
	case !n.Current(now):
		return NodeLate
	case n.Leaving:
		return NodeStopping
	}
	return NodeRunning
}

// ListedNode is a node as operators see it.
type ListedNode struct {
	Node
	// Streams is the number of sessions whose stream is open at the node, according to the database.
	Streams int
}

// MaxListedNodes is the maximum number of nodes in a list.
const MaxListedNodes = 256

// NodeSettings are the settings that all nodes of a database must share, by their names for
// operators. Their values are digests, so that the database contains no secrets.
type NodeSettings map[string]string

// conflict returns the first setting, in the order of names, that has another value on another node.
// A setting that only one of them has is no conflict: nodes of another release have others.
func (s NodeSettings) conflict(other NodeSettings) (setting string, found bool) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if value, has := other[name]; has && value != s[name] {
			return name, true
		}
	}
	return "", false
}

// SettingConflict means that a node may not run beside another node, because one of their settings
// differs.
type SettingConflict struct {
	Setting string
	Node    Node // the other one
}

func (e *SettingConflict) Error() string {
	return fmt.Sprintf("%s differs from that of server %s, which uses the same database: set both to the same value, or stop that server first",
		e.Setting, e.Node)
}

// Admit returns a *SettingConflict if a node with these settings may not run beside the other nodes.
// Nodes that are dead, or whose lease has expired, do not matter.
func (s NodeSettings) Admit(others []Node, now time.Time) error {
	for _, other := range others {
		if other.Dead() || other.Expired(now) {
			continue
		}
		if setting, found := s.conflict(other.Settings); found {
			return &SettingConflict{Setting: setting, Node: other}
		}
	}
	return nil
}
