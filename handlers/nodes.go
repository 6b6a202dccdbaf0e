package handlers

import (
	"context"
	"net/http"

	"parlor/room"
)

// nodeStore has the store methods of the nodes, which are the servers that share a database.
type nodeStore interface {
	NodeID() room.NodeID
	Nodes(ctx context.Context) ([]room.ListedNode, error)
}

type nodeListReply struct {
	Nodes []nodeState `json:"nodes"`
}

type nodeState struct {
	NodeID      room.NodeID    `json:"nodeID"`
	NodeName    string         `json:"nodeName"`
	Version     string         `json:"version"`
	StartedAt   room.Instant   `json:"startedAt"`
	State       room.NodeState `json:"state"`
	LeaseUntil  room.Instant   `json:"leaseUntil"`
	StreamCount int            `json:"streamCount"`
	Self        bool           `json:"self"`
	HeardSince  room.Instant   `json:"heardSince,omitzero"`
}

func (a *api) adminListNodes(w http.ResponseWriter, r *http.Request, _ room.Actor) error {
	nodes, err := a.Store.Nodes(r.Context())
	if err != nil {
		return err
	}
	heard, now := a.HeardNodes(), a.Store.Now()
	reply := nodeListReply{Nodes: make([]nodeState, 0, len(nodes))}
	for _, n := range nodes {
		state := nodeState{
			NodeID: n.Lease.Node, NodeName: n.Name, Version: n.Version, StartedAt: room.InstantOf(n.StartedAt),
			State: n.State(now), LeaseUntil: room.InstantOf(n.Until), StreamCount: n.Streams, Self: n.Lease.Node == a.Store.NodeID(),
		}
		if since, ok := heard[n.Lease.Node]; ok {
			state.HeardSince = room.InstantOf(since)
		}
		reply.Nodes = append(reply.Nodes, state)
	}
	return a.answer(w, r, http.StatusOK, reply)
}
