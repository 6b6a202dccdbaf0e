package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parlor/hub"
	"parlor/room"
)

// world is a database in memory, and a bus that connects the nodes that use it.
type world struct {
	mu       sync.Mutex // guards all below
	logs     map[room.LogID][]room.Event
	sessions map[room.SessionID]*session
	presence room.PresenceID // the newest
	nodes    map[room.NodeID]*testNode
	away     bool // reads fail

	// routed says that the bus carries the packets of a log only to the nodes that follow it.
	routed bool

	// The bus loses, repeats or delays the next packets. A node that is cut off neither sends nor
	// hears, and notices it. A deaf one notices it after a time.
	lose, repeat, delay int
	cut, deaf           map[room.NodeID]bool
	recut               chan struct{} // closed and replaced when cut changes
}

type session struct {
	streamNo  int64
	ended     bool
	presences map[room.LogID]room.Presence
}

// testNode is a hub with its node.
type testNode struct {
	*Node
	id    room.NodeID
	hub   *hub.Hub
	world *world
	hear  func([]byte)        // nil while it does not listen
	logs  map[room.LogID]bool // that it follows
	// evicted counts how often the node has evicted what it caches, and trusted says that it may
	// keep what it caches from now on.
	evicted atomic.Int64
	trusted atomic.Bool
	// woken counts how often readers of the feed were woken.
	woken atomic.Int64
	// sends counts calls of Send, and interval is the shortest time between two of them.
	sends, interval atomic.Int64
	stop            context.CancelFunc
	done            chan struct{}
}

func newWorld(routed bool, nodes ...room.NodeID) *world {
	w := &world{
		routed: routed,
		logs:   make(map[room.LogID][]room.Event), sessions: make(map[room.SessionID]*session), nodes: make(map[room.NodeID]*testNode),
		cut: make(map[room.NodeID]bool), deaf: make(map[room.NodeID]bool), recut: make(chan struct{}),
	}
	for _, id := range nodes {
		w.start(id)
	}
	return w
}

func (w *world) start(id room.NodeID) {
	n := &testNode{id: id, world: w, logs: make(map[room.LogID]bool), done: make(chan struct{})}
	n.hub = hub.New(n, hub.Options{
		OnStreamEnd: func(room.SessionID, int64, time.Time) {}, Workers: 1,
		Follow: func(log room.LogID) { n.Node.Follow(log) }, Unfollow: func(log room.LogID) { n.Node.Unfollow(log) },
	})
	var carrier Carrier = n
	if w.routed {
		carrier = routingNode{n}
	}
	n.Node = New(id, n.hub, n, carrier, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	w.mu.Lock()
	w.nodes[id] = n
	w.mu.Unlock()
	go func() {
		n.Run(ctx)
		close(n.done)
	}()
}

// remove removes a node from the database.
func (w *world) remove(id room.NodeID) *testNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[id]
	delete(w.nodes, id)
	return n
}

// close stops all nodes.
func (w *world) close() {
	for _, n := range w.nodes {
		n.stop()
		<-n.done
		n.hub.Close()
	}
}

// commit runs a transaction and returns its change, which the caller applies at a node.
func (w *world) commit(do func(c *room.Change)) (c room.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do(&c)
	return c
}

func roomOf(log room.LogID) room.RoomID { return room.RoomID(fmt.Sprintf("room-%d", log)) }

// append adds a message to a log, to some users or to all. The caller holds mu.
func (w *world) append(c *room.Change, log room.LogID, to ...room.UserID) room.Seq {
	seq := room.Seq(len(w.logs[log]) + 1)
	m := room.Message{Content: room.Content{Kind: room.KindText, Text: fmt.Sprint(seq)}, To: to}
	e := room.Event{Room: roomOf(log), Log: log, Seq: seq, Body: room.MessagesReceived{MessageList: []room.Message{m.In(roomOf(log), seq)}}}
	w.logs[log] = append(w.logs[log], e)
	c.Events = append(c.Events, e)
	return seq
}

// sendBarrage adds a message that is not stored. The caller holds mu.
func (w *world) sendBarrage(c *room.Change, log room.LogID, text string) {
	m := room.Message{Content: room.Content{Kind: room.KindBarrage, Text: text}}
	c.Events = append(c.Events, room.Event{Room: roomOf(log), Log: log, Body: room.MessagesReceived{MessageList: []room.Message{m.In(roomOf(log), 0)}}})
}

// join adds a session to a room. The caller holds mu.
func (w *world) join(c *room.Change, id room.SessionID, log room.LogID) {
	w.presence++
	p := room.Presence{ID: w.presence, From: room.Seq(len(w.logs[log])), Room: room.Room{ID: roomOf(log), Generation: log}}
	w.session(id).presences[log] = p
	c.Joined = append(c.Joined, room.Joined{Session: id, Room: roomOf(log), Generation: log, Presence: p.ID, From: p.From, Call: room.RoomEnter})
}

// leave removes a session from a room. The caller holds mu.
func (w *world) leave(c *room.Change, id room.SessionID, log room.LogID) {
	p := w.session(id).presences[log]
	delete(w.session(id).presences, log)
	c.Left = append(c.Left, room.Left{Session: id, Room: roomOf(log), Generation: log, Presence: p.ID, Reason: room.ReasonKicked})
}

// session returns a session, which it creates if there is none. The caller holds mu.
func (w *world) session(id room.SessionID) *session {
	s := w.sessions[id]
	if s == nil {
		s = &session{presences: make(map[room.LogID]room.Presence)}
		w.sessions[id] = s
	}
	return s
}

// heal makes the bus and the database work.
func (w *world) heal() {
	w.mu.Lock()
	w.lose, w.repeat, w.delay, w.away = 0, 0, 0, false
	clear(w.deaf)
	w.mu.Unlock()
	w.setCut("", false)
}

// setCut cuts a node off from the bus, or connects it, or all if id is empty.
func (w *world) setCut(id room.NodeID, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == "" {
		clear(w.cut)
	} else {
		w.cut[id] = cut
	}
	close(w.recut)
	w.recut = make(chan struct{})
}

// faulty reports whether something that nodes send may not arrive.
func (w *world) faulty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lose > 0 || w.delay > 0 || len(w.cut) > 0 || len(w.deaf) > 0 || w.away
}

var errAway = errors.New("away")

// Listen implements Carrier.
func (n *testNode) Listen(ctx context.Context, ready func(), hear func([]byte)) error {
	w := n.world
	w.mu.Lock()
	if w.cut[n.id] {
		w.mu.Unlock()
		return errAway
	}
	n.hear = hear
	w.mu.Unlock()
	ready()
	for silent := 0; ; {
		w.mu.Lock()
		cut, recut := w.cut[n.id], w.recut
		if silent++; !w.deaf[n.id] {
			silent = 0
		}
		if cut || silent > int(unheardAfter/time.Second) || ctx.Err() != nil {
			n.hear = nil
			delete(w.deaf, n.id) // the next connection is a new one
			w.mu.Unlock()
			return errAway
		}
		w.mu.Unlock()
		select {
		case <-recut:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// latency is how long a packet takes.
const latency = 5 * time.Millisecond

// Send implements Carrier.
func (n *testNode) Send(_ context.Context, packets []Packet) error {
	w := n.world
	n.sends.Add(1)
	<-time.After(latency)
	for i, p := range packets {
		w.mu.Lock()
		if w.cut[n.id] {
			w.mu.Unlock()
			return errAway // some packets were sent, and are sent again
		}
		times := 1
		switch {
		case w.lose > 0:
			w.lose--
			times = 0
		case w.repeat > 0:
			w.repeat--
			times = 2
		}
		delayed := w.delay > 0 && i%2 == 0
		if w.delay > 0 {
			w.delay--
		}
		var hear []func([]byte)
		for _, other := range w.nodes {
			if other.hear != nil && !w.deaf[other.id] && (p.Log == 0 || other.logs[p.Log]) {
				hear = append(hear, slices.Repeat([]func([]byte){other.hear}, times)...)
			}
		}
		w.mu.Unlock()
		deliver := func() {
			for _, h := range hear {
				h(p.Text)
			}
		}
		if delayed {
			time.AfterFunc(300*time.Millisecond, deliver)
		} else {
			deliver()
		}
	}
	return nil
}

// PacketBytes implements Carrier. Messages are often split.
func (n *testNode) PacketBytes() int { return 500 }

// Interval implements Carrier.
func (n *testNode) Interval() time.Duration { return time.Duration(n.interval.Load()) }

// routingNode is a testNode with a bus that routes.
type routingNode struct{ *testNode }

// spread is how long it takes until the packets of a log that was followed are heard.
const spread = spreadTime / 2

// Follow implements Router.
func (n routingNode) Follow(_ context.Context, logs []room.LogID) error {
	<-time.After(latency)
	time.AfterFunc(spread, func() { n.setLogs(logs, true) })
	return nil
}

// Unfollow implements Router.
func (n routingNode) Unfollow(logs []room.LogID) { n.setLogs(logs, false) }

func (n routingNode) setLogs(logs []room.LogID, followed bool) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	for _, log := range logs {
		n.logs[log] = followed
	}
}

// read runs a read of the database.
func (n *testNode) read(do func(w *world)) error {
	w := n.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return errAway
	}
	do(w)
	return nil
}

// OtherNodes implements Database.
func (n *testNode) OtherNodes() []room.NodeID {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(n.world.nodes)), func(id room.NodeID) bool { return id == n.id })
}

// LogEnds implements Database.
func (n *testNode) LogEnds(_ context.Context, logs []room.LogID) (ends []room.Position, err error) {
	err = n.read(func(w *world) {
		for _, log := range logs {
			ends = append(ends, room.Position{Log: log, Seq: room.Seq(len(w.logs[log]))})
		}
	})
	return ends, err
}

// Standings implements Database.
func (n *testNode) Standings(_ context.Context, ids []room.SessionID) (standings []room.Standing, err error) {
	err = n.read(func(w *world) {
		for _, id := range ids {
			s := w.session(id)
			st := room.Standing{Session: id, Ended: s.ended, StreamNo: s.streamNo, TokenExpiresAt: time.Now().Add(time.Hour)}
			for _, p := range s.presences {
				st.Presences = append(st.Presences, p.ID)
			}
			slices.Sort(st.Presences)
			standings = append(standings, st)
		}
	})
	return standings, err
}

// Now implements Database.
func (n *testNode) Now() time.Time { return time.Now() }

// Heard implements Database.
func (n *testNode) Heard(room.Change) { n.woken.Add(1) }

// Missed implements Database.
func (n *testNode) Missed() {
	n.evicted.Add(1)
	n.trusted.Store(false)
}

// HeardAll implements Database.
func (n *testNode) HeardAll() { n.trusted.Store(true) }

// Tail implements hub.LogReader.
func (n *testNode) Tail(ctx context.Context, log room.LogID, count int) (room.LogPage, error) {
	var last room.Seq
	if err := n.read(func(w *world) { last = room.Seq(len(w.logs[log])) }); err != nil {
		return room.LogPage{}, err
	}
	return n.EventsAfter(ctx, log, max(0, last-room.Seq(count)), count)
}

// EventsAfter implements hub.LogReader.
func (n *testNode) EventsAfter(_ context.Context, log room.LogID, after room.Seq, count int) (page room.LogPage, err error) {
	err = n.read(func(w *world) {
		events := w.logs[log]
		page = room.LogPage{LastSeq: room.Seq(len(events)), OldestSeq: 1}
		if int(after) < len(events) {
			page.Events = slices.Clone(events[after:min(int(after)+count, len(events))])
		}
	})
	return page, err
}
