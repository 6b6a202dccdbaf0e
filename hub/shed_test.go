package hub

import (
	"fmt"
	"slices"
	"testing"

	"parlor/room"
)

// blockedSink is a sink that takes nothing until it is open.
type blockedSink struct {
	open bool
	took []byte
}

func (p *blockedSink) write(b []byte) (int, error) {
	if !p.open {
		return 0, nil
	}
	p.took = append(p.took, b...)
	return len(b), nil
}

func (p *blockedSink) close() {}

// blockableStream returns a live stream in the room of log 1, and its sink, which is open.
func blockableStream(t *testing.T) (*Stream, *blockedSink) {
	t.Helper()
	s := newTestHub(t, overServe, Options{Workers: 1})
	s.join("alice", 1)
	s.appendAndPublish(1, 1)
	stream := s.open("alice")
	out := &blockedSink{open: true}
	started := make(chan struct{})
	start := s.streamStart("alice", cursorAt(1, 1))
	stream.worker.do(func() {
		stream.start(start, out)
		close(started)
	})
	<-started
	s.eventually("the stream is live", func() bool {
		live := make(chan bool)
		stream.worker.do(func() { live <- len(stream.subscriptions) == 1 && stream.subscriptions[0].live })
		return <-live
	})
	return stream, out
}

// TestShedOrder fills the queue of a blocked stream step by step, and checks which messages are
// still queued and which are shed.
func TestShedOrder(t *testing.T) {
	t.Parallel()
	stream, out := blockableStream(t)
	encode := func(kind room.MessageKind, priority room.Priority) *Frame {
		m := room.Message{Content: room.Content{Kind: kind, Text: "x"}, Priority: priority}
		f, err := encodeEvent(room.Event{Room: "r", Log: 1, Body: room.MessagesReceived{MessageList: []room.Message{m}}})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	kinds := []room.MessageKind{room.KindBarrage, room.KindCommand}
	priorities := []room.Priority{room.PriorityLow, room.PriorityMedium, room.PriorityHigh}
	// taken returns which messages are queued behind this many stored events.
	taken := func(queued int) (taken []string) {
		done := make(chan struct{})
		stream.worker.do(func() {
			defer close(done)
			out.open = false
			stream.unsent = []byte("x")
			for _, kind := range kinds {
				for _, priority := range priorities {
					stream.queue, stream.queuedBytes = slices.Repeat([]*Frame{{log: 1, seq: 2, carriesID: true, data: []byte("x")}}, queued), 0
					stream.deliver(1, []*Frame{encode(kind, priority)})
					if len(stream.queue) > queued {
						taken = append(taken, fmt.Sprint(kind, " ", priority))
					}
				}
			}
			stream.queue, stream.queuedBytes, stream.unsent = nil, 0, nil
		})
		<-done
		return taken
	}
	const eighth = maxQueued / 8
	for queued, want := range map[int][]string{
		0:            {"barrage low", "barrage medium", "barrage high", "command low", "command medium", "command high"},
		1:            {"barrage medium", "barrage high", "command low", "command medium", "command high"},
		eighth + 1:   {"barrage high", "command low", "command medium", "command high"},
		2*eighth + 1: {"command medium", "command high"},
		3*eighth + 1: {"command high"},
		4 * eighth:   {"command high"},
		4*eighth + 1: nil,
		maxQueued:    nil,
	} {
		if got := taken(queued); !slices.Equal(got, want) {
			t.Errorf("behind %d events: %q, want %q", queued, got, want)
		}
	}
	if shed := stream.hub.Stats().Shed; shed != 0+1+2+4+5+5+6+6 {
		t.Errorf("%d frames were counted as shed", shed)
	}
}

// TestBlockedClientQueuesLittleBarrage: a client that blocks in the middle of many gathered messages
// has no more than one write of them in its queue.
func TestBlockedClientQueuesLittleBarrage(t *testing.T) {
	t.Parallel()
	stream, out := blockableStream(t)
	done := make(chan struct{})
	stream.worker.do(func() {
		defer close(done)
		out.open = false
		frames := make([]*Frame, 100)
		for i := range frames {
			frames[i] = &Frame{log: 1, data: make([]byte, 8<<10)}
		}
		stream.deliver(1, frames)
		if queued := stream.queuedBytes + len(stream.unsent); queued > chunkBytes+8<<10 {
			t.Errorf("%d bytes are queued", queued)
		}
	})
	<-done
}
