package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"parlor/hub"
	"parlor/room"
)

// reader is the client of a session. It opens its stream again whenever that ends.
type reader struct {
	world   *world
	id      room.SessionID
	ctx     context.Context
	stop    context.CancelFunc
	stopped chan struct{}

	mu     sync.Mutex  // guards all below
	node   room.NodeID // where it opens the next stream
	hangUp context.CancelFunc
	rest   []byte
	lastID string
	got    map[room.LogID][]room.Seq
	hidden map[position]bool // those of got of which it received only the position
	all    []string          // the data of all events
}

// position is a position in a log.
type position struct {
	log room.LogID
	seq room.Seq
}

// userOf returns the user of a session.
func userOf(id room.SessionID) room.UserID { return room.UserID(id) }

func (w *world) open(id room.SessionID, node room.NodeID) *reader {
	return w.openStreams(id, node, 1_000_000)
}

// openStreams opens a limited number of streams, one after the other.
func (w *world) openStreams(id room.SessionID, node room.NodeID, streams int) *reader {
	r := &reader{world: w, id: id, node: node, stopped: make(chan struct{}), hangUp: func() {}, got: make(map[room.LogID][]room.Seq), hidden: make(map[position]bool)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	go r.run(streams)
	return r
}

func (r *reader) run(streams int) {
	defer close(r.stopped)
	for ; streams > 0 && r.ctx.Err() == nil; streams-- {
		ctx, hangUp := context.WithCancel(r.ctx)
		r.mu.Lock()
		r.hangUp, r.rest = hangUp, nil
		at := r.world.node(r.node)
		var cursor hub.Cursor
		if r.lastID != "" {
			var err error
			if _, cursor, err = hub.ParseID(r.lastID); err != nil {
				panic(err)
			}
		}
		r.mu.Unlock()
		r.connect(ctx, at, cursor)
		hangUp()
		sleep(r.ctx, 10*time.Millisecond)
	}
}

func (w *world) node(id room.NodeID) *testNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

// connect reads one stream to its end.
func (r *reader) connect(ctx context.Context, at *testNode, cursor hub.Cursor) {
	stream, err := at.hub.OpenStream(r.id, userOf(r.id), 0)
	if err != nil {
		return
	}
	start := &hub.StreamStart{Cursor: cursor, TokenExpiresAt: time.Now().Add(time.Hour)}
	err = at.read(func(w *world) {
		s := w.session(r.id)
		s.streamNo++
		start.OpenedStream = room.OpenedStream{Epoch: "test", StreamNo: s.streamNo, LastPresence: w.presence}
		for _, p := range s.presences {
			p.Room.LastSeq, p.Room.OldestSeq = room.Seq(len(w.logs[p.Room.Generation])), 1
			start.Presences = append(start.Presences, p)
		}
	})
	if err != nil {
		stream.Abort()
		return
	}
	at.Apply(room.Change{Opened: []room.NewStream{{Session: r.id, StreamNo: start.StreamNo}}})
	_ = stream.Serve(ctx, start, r) // the end of the hub ends the stream too
}

// Send implements hub.Conn.
func (r *reader) Send(p []byte, _ time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = append(r.rest, p...)
	for {
		frame, rest, found := bytes.Cut(r.rest, []byte("\n\n"))
		if !found {
			return nil
		}
		r.rest = rest
		var event string
		for line := range strings.Lines(string(frame)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch name {
			case "id":
				r.lastID = value
			case "event":
				event = value
			case "data":
				r.all = append(r.all, value)
				var e struct {
					Generation room.LogID
					Seq        room.Seq
				}
				if err := json.Unmarshal([]byte(value), &e); err != nil {
					return err
				}
				if e.Seq > 0 {
					r.got[e.Generation] = append(r.got[e.Generation], e.Seq)
					r.hidden[position{e.Generation, e.Seq}] = event == string(room.TypeRoomSeqAdvanced)
				}
			}
		}
	}
}

// events returns the data of all events.
func (r *reader) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// received reports whether an event contains a text.
func (r *reader) received(text string) bool {
	return slices.ContainsFunc(r.events(), func(data string) bool { return strings.Contains(data, text) })
}

// close ends the stream for good.
func (r *reader) close() {
	r.stop()
	<-r.stopped
}
